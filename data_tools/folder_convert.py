"""Convert any folder of videos, GIFs and folders of frames, as deep as they may lie.

    python data_tools/folder_convert.py --videos_dir DIR --image_size 64 --out_dir OUT

A folder that holds pictures and no videos is one video, its pictures in natural order (2 before 10). Linked folders are
followed. The largest centred square of each frame is kept and scaled (Lanczos).

What lies below a folder named train, validation, val, valid or test belongs to that split. Of all else, --validation
and --test say which share goes there; the name of a file decides (by a hash), so that it stays where it is when others
come and go.

--scene_cuts takes a video apart where neighbouring frames, as scaled, differ by more than so many gray levels of 255 on
average over pixels and colours; 30, which it is if no number is given, lies well above most motion. Then --stride
leaves out frames, --max_frames cuts what is longer, and what is shorter than --min_frames is left out; if that is all
of a file, it is listed as skipped. Pieces of a file are named FILE#0, FILE#1 ... and belong to the same split.

A file that is cut short or damaged gives what can be read of it, and is listed. A video of more than 128 MB of frames,
as scaled (12 minutes of 64 x 64 pixels), is read in parts of so many, and a piece ends where a part does.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from lgcvd.convert import Video, add_options, convert, main, new_parser, source_path
from lgcvd.data import find, split_named
from lgcvd.errors import UserError
from lgcvd.shards import Recording
from lgcvd.video import MAX_FPS, MIN_FPS, opened, read_pixels

SCENE_CUT = 30.0
"""Mean absolute difference of neighbouring frames, from 0 to 255, above which a new scene begins."""


PART_BYTES = 128 << 20
"""Pixels, as scaled, that are read of a video at once; up to twice as many of its end."""


@dataclass(frozen=True)
class Cut:
    """How videos are made smaller and taken apart."""

    image_size: int
    channels: int
    fps: float | None = None
    """Take, at every 1/fps second, the frame that is on the screen; folders of frames are taken to have this rate."""
    stride: int = 1
    min_frames: int = 2
    max_frames: int | None = None
    scene_cuts: float | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "stride", "min_frames"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, not {getattr(self, name)}.")
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise UserError(f"--max_frames must be at least --min_frames ({self.min_frames}), not {self.max_frames}.")
        if self.fps is not None and not MIN_FPS <= self.fps <= MAX_FPS:
            raise UserError(f"--fps must be between {MIN_FPS:g} and {MAX_FPS:g} frames a second, not {self.fps:g}.")
        if self.scene_cuts is not None and not 0 < self.scene_cuts <= 255:
            raise UserError(f"--scene_cuts must be above 0 and at most 255 gray levels, not {self.scene_cuts:g}.")

    @property
    def part(self) -> int:
        """Frames that are read at once: so many that --stride and --max_frames come out as if all were."""
        step = self.stride * (self.max_frames or 1)
        return max(1, PART_BYTES // (self.image_size**2 * self.channels) // step) * step

    def pieces(self, frames: np.ndarray) -> list[np.ndarray]:
        """Frames (T, H, W, C) in pieces, all of at least ``min_frames``."""
        scenes = [frames]
        if self.scene_cuts is not None:
            changes = [_change(before, after) for before, after in pairwise(frames)]
            scenes = np.split(frames, np.flatnonzero(np.array(changes) > self.scene_cuts) + 1)
        pieces = []
        for scene in scenes:
            scene = scene[:: self.stride]
            step = self.max_frames or len(scene)
            pieces += [scene[i : i + step] for i in range(0, len(scene), step)]
        return [piece for piece in pieces if len(piece) >= self.min_frames]


def _change(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.abs(after.astype(np.int16) - before).mean())


def list_videos(folder: Path, cut: Cut, validation: float, test: float) -> list[Video]:
    """A video for every part of a file or folder of frames, in order of name."""
    if min(validation, test) < 0 or validation + test > 1:
        raise UserError(f"--validation and --test are shares, at most 1 together, not {validation:g} and {test:g}.")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: check the name.")
    found = sorted((_name(path, folder), path, pictures) for path, pictures in find(folder))
    with ThreadPoolExecutor() as pool:  # reading the first bytes of many files is mostly waiting
        counts = pool.map(lambda entry: _expected(cut, *entry[1:]), found)
        counts = list(tqdm(counts, "looking", len(found), leave=False, disable=None, unit="file", mininterval=0.5))
    videos = []
    for (name, path, _), count in zip(found, counts, strict=True):
        split, parts = _split(name, validation, test), max(1, count // cut.part)
        for i in range(parts):
            start, last = i * cut.part, i == parts - 1
            unique = name if parts == 1 else f"{name}#{i}"
            load = partial(load_video, unique, path, cut, start, None if last else cut.part)
            expected = count - start if last else cut.part
            videos.append(Video(unique, split, load, -(-expected // cut.stride)))
    return videos


def _name(path: Path, folder: Path) -> str:
    """The path below ``folder``, written the same on any machine; the folder's name for itself."""
    name = path.relative_to(folder).as_posix() if path != folder else folder.resolve().name
    return unicodedata.normalize("NFC", name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _split(name: str, validation: float, test: float) -> str:
    for part in name.split("/"):
        if split := split_named(part):
            return split
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "test" if place < test else "validation" if place < test + validation else "train"


def _expected(cut: Cut, path: Path, pictures: int | None) -> int:
    """About how many frames there are at ``cut.fps``; 0 if that cannot be told."""
    if pictures is not None:
        return pictures
    try:
        with opened(path) as (container, stream):
            rate = float(stream.average_rate or 0)
            if container.duration:
                return round(container.duration / av.time_base * (cut.fps or rate))
            packets = sum(packet.size > 0 for packet in container.demux(stream))
            return round(packets * (cut.fps / rate if cut.fps and rate else 1))
    except (UserError, av.error.FFmpegError, OSError, UnicodeError):
        return 0  # what is wrong will be told when it is read


def load_video(name: str, path: Path, cut: Cut, start: int = 0, count: int | None = None) -> list[Recording]:
    """The pieces of ``count`` frames of a video, or of all from ``start`` on; ``UserError`` if there are none.

    Each is (T, image_size, image_size, channels).
    """
    size = (cut.image_size, cut.image_size)
    try:
        pixels = read_pixels(
            path,
            size,
            cut.channels,
            fps=cut.fps,
            start=start,
            max_frames=count or 10**9,
            min_frames=cut.min_frames,
        )
    except UnicodeError as error:
        raise UserError("its name cannot be read: rename it.") from error
    pieces = cut.pieces(pixels.frames.transpose(0, 2, 3, 1))
    if not pieces:
        raise UserError(
            f"{path.name} has {len(pixels.frames)} frames and no piece of {cut.min_frames}: take a longer clip, or a "
            "smaller --stride or --min_frames."
        )
    fps = None if path.is_dir() and not cut.fps else pixels.fps / cut.stride
    names = [name] if len(pieces) == 1 else [f"{name}#{i}" for i in range(len(pieces))]
    notes = [*[""] * (len(pieces) - 1), pixels.damage]
    return [Recording(n, piece, fps, note=note) for n, piece, note in zip(names, pieces, notes, strict=True)]


def run(arguments: Sequence[str] | None = None) -> int:
    """Convert what the command line asks for; return the exit code."""
    parser = new_parser(__doc__)
    parser.add_argument("--videos_dir", type=source_path, required=True, help="folder of videos or folders of frames")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="1: gray, 3: colour")
    parser.add_argument("--fps", type=float, help="frames a second to take; all if not given")
    parser.add_argument("--stride", type=int, default=1, help="take every so many of the frames")
    parser.add_argument("--min_frames", type=int, default=2, help="leave out what is shorter")
    parser.add_argument("--max_frames", type=int, help="cut what is longer")
    parser.add_argument(
        "--scene_cuts", type=float, nargs="?", const=SCENE_CUT, metavar="GRAY_LEVELS", help="take apart at scene cuts"
    )
    parser.add_argument("--validation", type=float, default=0.05, help="share of the videos in no split's folder")
    parser.add_argument("--test", type=float, default=0.05, help="share of the videos in no split's folder")
    add_options(parser)
    options = parser.parse_args(arguments)
    cut = Cut(**{name: getattr(options, name) for name in Cut.__dataclass_fields__})
    videos = list_videos(options.videos_dir, cut, options.validation, options.test)
    settings = asdict(cut) | {"validation": options.validation, "test": options.test}
    shape = (cut.image_size, cut.image_size, cut.channels)
    return convert(videos, shape, options, source="videos", settings=settings, folder=options.videos_dir)


if __name__ == "__main__":
    main(run)
