"""Clips to try a model on: some that come with the package, and two of real hands that are fetched when asked for."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from lgcvd import video
from lgcvd.digits import MovingDigits
from lgcvd.errors import UserError
from lgcvd.files import ASSETS, draft

DIGITS = [("reflect", 2), ("reflect", 9), ("reflect", 11), ("stochastic", 3), ("stochastic", 7), ("stochastic", 10)]
"""Motion and index of the clips that are made on the fly, from digits that no training saw, apart at the start."""
PUSHING = ASSETS / "examples"
"""Clips of simulated pushing."""
DREAMED = [ASSETS / "dreams" / f"hands-dreamed-{number}.gif" for number in (1, 2)]
"""Clips for models of hands: robot-hands made them from nothing (data_tools/dream_examples.py)."""

REPOSITORY = "YifanTian07/G1-policy-train"
"""On GitHub (MIT): episodes of a humanoid robot whose hands grasp a can."""
SOURCE = f"https://raw.githubusercontent.com/{REPOSITORY}/d1d3bb45f16a99eb3220c88b4f84f6c92d306f88"
SOURCE_VARIABLE = "LGCVD_HANDS_URL"
"""Environment variable that names another place with the same files."""
HANDS_SIZE, HANDS_FPS = (64, 64), 10.0
"""As models of hands see them: the centre, and every third of the 30 frames a second."""
TIMEOUT = 20
"""Seconds that the other side may be silent."""
BLOCK = 1 << 18


@dataclass(frozen=True)
class RemoteClip:
    """A clip that lies elsewhere and is fetched only when asked for."""

    name: str
    path: str
    """Below ``SOURCE``."""
    size: int
    """Bytes."""
    sha256: str

    @property
    def file(self) -> Path:
        """Where it lies once it is fetched."""
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "lgcvd" / Path(self.path).name

    @property
    def fetched(self) -> bool:
        """Whether the file is there, whole and unaltered."""
        file = self.file
        if not file.is_file() or file.stat().st_size != self.size:
            return False
        return hashlib.sha256(file.read_bytes()).hexdigest() == self.sha256


HANDS = (
    RemoteClip(
        "hands-1",
        "videos/chunk-000/observation.images.cam_high/episode_000005.mp4",
        3_523_251,
        "e7d0fa9e5ab0bff0e7d8cd2980f854454deb22580cc13830bcc0ea09f1b7c23f",
    ),
    RemoteClip(
        "hands-2",
        "videos/chunk-000/observation.images.cam_high/episode_000019.mp4",
        3_883_077,
        "1a631368038e502d3fa1409067661dd60a90402be3a1955cc54ad607b68b6e5d",
    ),
)
"""Two episodes that no training saw."""


def is_of_hands(data: str) -> bool:
    """Whether a model knows hands, by what its ``About.data`` says."""
    return "robot_hands" in data or REPOSITORY in data


def write_examples(folder: Path) -> dict[int, list[Path]]:
    """Write the clips that come with the package, for models with 1 and with 3 channels.

    They are GIF files of 64 x 64 pixels, 10 frames a second; those of one channel keep their pixels as they are.
    """
    gray, colour = [], []
    for source in sorted(PUSHING.glob("*.gif")):
        colour.append(_copied(source, folder))
    for number, (motion, index) in enumerate(DIGITS, 1):
        gray.append(folder / f"moving-digits-{number}.gif")
        video.write_video(gray[-1], video.from_uint8(MovingDigits("test", motion=motion)[index]), video.PICTURE_FPS)
    return {1: gray, 3: colour}


def write_dreams(folder: Path) -> list[Path]:
    """Write the clips for models of hands that come with the package."""
    return [_copied(source, folder) for source in DREAMED]


def _copied(source: Path, folder: Path) -> Path:
    with draft(folder / source.name) as part:
        shutil.copyfile(source, part)
    return folder / source.name


def write_hands(clip: RemoteClip, folder: Path) -> Path:
    """Write a clip that was fetched as models of hands see it, like the other examples: a GIF."""
    hands = video.read_clip(clip.file, HANDS_SIZE, 3, fps=HANDS_FPS)
    path = folder / f"{clip.name}.gif"
    video.write_video(path, hands.frames, hands.fps)
    return path


def fetch(clip: RemoteClip) -> Iterator[int]:
    """Bring ``clip`` to its place, block by block; yields how many of its bytes are there.

    A clip that is there already is not asked for again. The file appears once it is whole and its checksum is right.
    Raises ``UserError`` with another way to the clip if there is no network, what comes is another file, or it cannot
    be kept.
    """
    if clip.fetched:
        yield clip.size
        return
    source = os.environ.get(SOURCE_VARIABLE) or SOURCE
    host = urlsplit(source).hostname or source
    own = "take a clip of your own"
    by_hand = f"put {clip.file.name} of github.com/{REPOSITORY} at {clip.file} yourself, or {own}"
    done, digest = 0, hashlib.sha256()
    with draft(clip.file, f"make room, set XDG_CACHE_HOME to another folder, or {own}") as part:
        with part.open("wb") as out:
            failed = f"{clip.name} cannot be fetched from {host}", f"try again with a network, or {by_hand}"
            for block in _blocks(f"{source}/{clip.path}", clip.size, *failed):
                out.write(block)
                done += len(block)
                digest.update(block)
                yield done
        if (done, digest.hexdigest()) != (clip.size, clip.sha256):
            what = f"{done:,} bytes instead of {clip.size:,}" if done != clip.size else "another checksum"
            raise UserError(f"what {host} sent for {clip.name} is not that clip ({what}): try again, or {by_hand}.")


def _blocks(url: str, size: int, failed: str, remedy: str) -> Iterator[bytes]:
    """What is at ``url``, not much more than ``size`` bytes of it; ``UserError`` where nothing comes, or no more."""
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:
            left = size + 1
            while left > 0 and (block := answer.read(min(BLOCK, left))):
                left -= len(block)
                yield block
    except (OSError, HTTPException, ValueError) as error:  # the last one: no address
        raise UserError(f"{failed} ({getattr(error, 'reason', None) or error}): {remedy}.") from error
