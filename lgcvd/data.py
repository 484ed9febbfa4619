"""Clip data sets. Every item is a clip (T, C, H, W), uint8; ``open`` finds out what kind of data a path holds.

Video files and HDF5 shards (see ``lgcvd.shards`` for the two layouts that are read and written) are ``Videos``, out of
which ``Windows`` cuts clips; moving digits are made on the fly. Items depend on a seed and their index and on nothing
else: any number of workers of a ``DataLoader`` gives the same clips.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lgcvd.digits import CANVAS, MovingDigits, Split
from lgcvd.errors import UserError
from lgcvd.shards import SUFFIXES, open_shards, shard_paths
from lgcvd.video import PICTURES, VIDEOS, read_pixels

GENERATED = {"digits": "reflect", "stochastic-digits": "stochastic"}
"""Names of data that are made on the fly: name -> motion."""

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",  # of MCVD's sets
    "valid": "validation",
    "test": "test",
}
"""What a split is called, here and elsewhere -> split."""

MOST_TOLD = 5
"""Videos of which ``remarks`` tells each that they are broken; of all others it tells how many they are."""

MOST_DECODED = 4 << 30
"""Bytes of frames that are kept in memory when videos are read straight from their files."""


class Videos(Protocol):
    """A set of videos."""

    split: str
    """What it says of itself; may be empty."""
    names: Sequence[str]
    lengths: Sequence[int]
    fps: Sequence[float | None]
    skipped: Sequence[tuple[str, str]]
    """What could not be had, and why."""
    notes: Sequence[tuple[str, str]]
    """Which videos are not whole, and what of them is missing."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, W, C of the first video; ``UserError`` if there is none."""

    def read(self, video: int, window: range) -> np.ndarray:
        """Frames of a video: (len(window), H, W, C) uint8."""


class Shards:
    """HDF5 files of ``lgcvd.shards`` as one set of videos."""

    def __init__(self, paths: Sequence[Path]):
        self._shards = open_shards(paths)
        self._ends = list(accumulate(len(shard) for shard in self._shards))
        self.names = [name for shard in self._shards for name in shard.names]
        self.lengths = [length for shard in self._shards for length in shard.lengths]
        self.fps = [rate for shard in self._shards for rate in shard.fps]
        self.skipped = [entry for shard in self._shards for entry in shard.skipped]
        self.notes = [entry for shard in self._shards for entry in shard.notes]
        splits = {shard.split for shard in self._shards}
        self.split = splits.pop() if len(splits) == 1 else ""

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        for shard in self._shards:
            if len(shard):
                return shard.shape(0)
        raise UserError(f"{self._shards[0].path.parent} holds no videos: convert it again.")

    def __repr__(self) -> str:
        return _in_words(self)

    def read(self, video: int, window: range) -> np.ndarray:
        shard = bisect_right(self._ends, video)
        return self._shards[shard].read(video - (self._ends[shard - 1] if shard else 0), window)


class VideoFiles:
    """Videos and folders of pictures, name -> path, decoded into memory, cut and scaled to ``shape`` (H, W, C).

    What cannot be read is ``skipped``; ``UserError`` if that is all. fps: as for ``lgcvd.video.read_clip``.
    """

    def __init__(self, paths: dict[str, Path], shape: tuple[int, int, int], fps: float | None = None):
        self.split, self.shape, size = "", shape, 0
        self._frames, self.names, self.fps, self.skipped, self.notes = [], [], [], [], []
        for name, path in paths.items():
            try:
                pixels = read_pixels(path, shape[:2], shape[2], fps=fps, max_frames=10**9)
            except UserError as error:
                self.skipped.append((name, str(error)))
                if len(self.skipped) == len(paths):
                    raise
                continue
            self._frames.append(pixels.frames.transpose(0, 2, 3, 1))
            self.names.append(name)
            self.fps.append(None if path.is_dir() and not fps else pixels.fps)
            if pixels.damage:
                self.notes.append((name, pixels.damage))
            size += self._frames[-1].nbytes
            if size > MOST_DECODED:
                raise UserError(
                    f"the videos hold more than {MOST_DECODED >> 30} GB of frames: take fewer, or convert "
                    "them with data_tools/folder_convert.py first."
                )
        self.lengths = [len(frames) for frames in self._frames]

    def __repr__(self) -> str:
        return _in_words(self)

    def read(self, video: int, window: range) -> np.ndarray:
        return self._frames[video][window.start : window[-1] + 1 : window.step]


@dataclass(frozen=True)
class Windows(Dataset):
    """Clips of ``frames`` frames, cut out of ``videos``: (frames, C, H, W) uint8.

    In order, item ``i`` is the i-th of all windows, every ``step`` frames and the last start of each video included.
    With ``draws``, all windows come up once in a random order, then all in another one, and so on; ``flip``,
    ``jitter``, ``shift`` and ``speeds`` change item ``i`` by (seed, i).
    """

    videos: Videos
    frames: int
    stride: int = 1
    """Of the video's frames, every so many is taken."""
    step: int = 1
    """Frames between the starts of two windows."""
    draws: int | None = None
    """Length of a set of random windows; None: every window, in order."""
    flip: bool = False
    """Mirror half of the random windows."""
    jitter: float = 0.0
    """Random windows get a brightness, contrast and saturation that differ by up to this share."""
    shift: int = 0
    """Random windows move by up to so many pixels along each axis, their edges are repeated (Kostrikov et al. 2021)."""
    speeds: int = 1
    """Random windows take every, every second ... or every so-many-th frame of those that ``stride`` leaves, as far as
    the video goes: they are up to so many times as fast."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "step", "speeds"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.jitter < 1:
            raise UserError(f"jitter must be at least 0 and below 1, not {self.jitter}.")
        if not 0 <= self.shift < min(self.videos.shape[:2]):
            raise UserError(f"shift must be at least 0 and below the size of the frames, not {self.shift}.")
        if (self.flip or self.jitter or self.shift or self.speeds > 1) and self.draws is None:
            raise UserError("flip, jitter, shift and speeds change random windows only: set draws.")
        if not self.windows:
            raise UserError(
                f"no video is long enough for {self.frames} frames at stride {self.stride}: the longest has "
                f"{max(self.videos.lengths)} frames, and {self.reach} are needed."
            )

    @property
    def reach(self) -> int:
        """Frames of the video from a window's first to its last."""
        return (self.frames - 1) * self.stride + 1

    @property
    def left_out(self) -> str:
        """A sentence on the videos that are too short for a window; empty if there are none."""
        short = sum(length < self.reach for length in self.videos.lengths)
        of = len(self.videos.lengths)
        return f"{short} of {of} videos are shorter than {self.reach} frames and left out." if short else ""

    @property
    def windows(self) -> int:
        """How many there are, whatever is made of them."""
        return self._ends[-1]

    @cached_property
    def _ends(self) -> list[int]:
        """Windows in all videos up to each."""
        return list(accumulate(self._starts(length) for length in self.videos.lengths))

    def _starts(self, length: int) -> int:
        return 0 if length < self.reach else 1 + -(-(length - self.reach) // self.step)

    def __len__(self) -> int:
        return self.windows if self.draws is None else self.draws

    def place(self, window: int) -> tuple[int, int]:
        """Video and first frame of one of all windows."""
        video = bisect_right(self._ends, window)
        within = window - (self._ends[video - 1] if video else 0)
        return video, min(within * self.step, self.videos.lengths[video] - self.reach)

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self.draws is None:
            return self._window(index)
        rng = np.random.default_rng([self.seed, index])
        times, place = divmod(index, self.windows)
        window = int(_order(self.windows, self.seed, times)[place])
        clip = self._window(window, int(rng.integers(self.speeds)) + 1 if self.speeds > 1 else 1)
        if self.flip and rng.random() < 0.5:
            clip = clip.flip(-1)
        if self.jitter:
            clip = _jittered(clip, *rng.uniform(1 - self.jitter, 1 + self.jitter, size=3))
        if self.shift:
            clip = _shifted(clip, *rng.integers(-self.shift, self.shift + 1, size=2))
        return clip

    def _window(self, index: int, speed: int = 1) -> Tensor:
        """One of all windows, ``speed`` times as fast if its video is long enough, else as fast as it allows."""
        video, start = self.place(index)
        if self.frames > 1:
            speed = min(speed, (self.videos.lengths[video] - 1 - start) // (self.reach - 1))
        frames = self.videos.read(video, range(start, start + speed * (self.reach - 1) + 1, speed * self.stride))
        if frames.shape[1:] != self.videos.shape:
            raise UserError(
                f"{self.videos.names[video]} has frames of {_size(frames.shape[1:])}, the first video of "
                f"{_size(self.videos.shape)}: convert them to one size."
            )
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


@lru_cache(maxsize=2)
def _order(windows: int, seed: int, times: int) -> np.ndarray:
    """In which random windows come up when they have all been shown so many times."""
    return np.random.default_rng([seed, times, 1]).permutation(windows)


def different_items(data: Dataset) -> int:
    """How many items of ``data``, from any multiple of this number on, are all of different clips."""
    return min(len(data), data.windows) if isinstance(data, Windows) else len(data)


def _jittered(clip: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """The same change of colour for all frames of a clip."""
    pixels = clip.float() * brightness
    mean = pixels.mean()
    pixels = mean + contrast * (pixels - mean)
    gray = pixels.mean(1, keepdim=True)
    return (gray + saturation * (pixels - gray)).round().clamp(0, 255).byte()


def _shifted(clip: Tensor, down: int, right: int) -> Tensor:
    """All frames of a clip moved alike, their edges repeated."""
    rows, columns = (
        (torch.arange(size) - by).clamp(0, size - 1) for size, by in zip(clip.shape[-2:], (down, right), strict=True)
    )
    return clip[..., rows, :][..., columns]


def open(
    what: str | Path, *, frames: int, shape: tuple[int, int, int], split: Split = "train", **options: object
) -> Dataset:
    """Clips (frames, C, H, W) uint8 of ``shape`` (H, W, C) from whatever ``what`` is.

    - "digits" or "stochastic-digits": moving digits, made on the fly;
    - an HDF5 file, or a folder of them;
    - a folder of videos and folders of pictures, see ``videos_below``;
    - a folder with a folder for each split, of either.

    ``options`` are those of ``Windows`` (stride, draws, flip, speeds, seed ...); moving digits know ``seed`` only.
    Raises ``UserError`` for data that are missing, damaged, of another size or too short.
    """
    if str(what) in GENERATED:
        return _digits(str(what), frames, shape, split, **options)
    splits = split_folders(Path(what))
    if splits and split not in splits:
        raise UserError(f"{what} has no folder {split}, only {', '.join(splits)}: make one, or give the other itself.")
    path = splits.get(split, Path(what))
    videos = open_videos(path, shape)
    if videos.shape != shape:
        raise UserError(
            f"{path} has frames of {_size(videos.shape)}, and {_size(shape)} are wanted: convert the source again "
            "with that --image_size, or set the model's size and channels."
        )
    try:
        return Windows(videos, frames, **options)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def described(data: Dataset) -> str:
    """All that decides the items of ``data``, if it is a dataclass that tells it; else nothing.

    What has its default is left out, so that an option that is newer than a run does not make its data others.
    """
    if not is_dataclass(data):
        return ""
    values = {
        field.name: getattr(data, field.name) for field in fields(data) if getattr(data, field.name) != field.default
    }
    return f"{type(data).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def remarks(data: Dataset) -> list[str]:
    """What whoever uses ``data`` should know: videos that are broken, or too short for a clip; a line each."""
    if not isinstance(data, Windows):
        return []
    lines = []
    for kind, entries in {"skipped": data.videos.skipped, "incomplete": data.videos.notes}.items():
        lines += [f"{kind} {name}: {said}" for name, said in entries[:MOST_TOLD]]
        lines += [f"{kind} {len(entries) - MOST_TOLD} more"] if len(entries) > MOST_TOLD else []
    return [*lines, data.left_out] if data.left_out else lines


def videos_told_apart(data: Dataset) -> dict[str, str]:
    """What tells the videos of ``data`` from others of the same number and size, as a setting: {"videos": digest}.

    Of the names and lengths, which are the same wherever the videos lie. Nothing where there are no videos.
    """
    if not isinstance(data, Windows):
        return {}
    listed = json.dumps([list(data.videos.names), list(data.videos.lengths)])
    return {"videos": f"sha256 {hashlib.sha256(listed.encode()).hexdigest()[:16]}"}


def split_named(folder: str) -> Split | None:
    """The split that a folder's name tells, in large or small letters; None if it tells none."""
    return SPLIT_NAMES.get(folder.lower())


def own_split(path: Path, videos: Videos) -> Split | None:
    """The split that ``videos`` are by the name of their folder, or by what their files say; None if nothing tells."""
    return split_named(path.absolute().name) or split_named(videos.split)


def split_folders(path: Path) -> dict[Split, Path]:
    """The folder of each split that a data set has; none where it is not divided."""
    if not path.is_dir():
        return {}
    folders = sorted((folder for folder in path.iterdir() if split_named(folder.name)), key=_by_split_name)
    found: dict[Split, Path] = {}
    for folder in folders:
        if folder.is_dir():
            found.setdefault(split_named(folder.name), folder)
    return found


def _by_split_name(folder: Path) -> tuple[int, bool]:
    """In the order of ``SPLIT_NAMES``, small letters first."""
    name = folder.name.lower()
    return [*SPLIT_NAMES].index(name), folder.name != name


def open_videos(path: Path, shape: tuple[int, int, int]) -> Videos:
    """An HDF5 file, or a folder of them, or of videos and pictures, which are cut and scaled to ``shape`` (H, W, C)."""
    if not path.exists():
        raise UserError(f"there is no data {path}: give a folder, an HDF5 file, or one of {', '.join(GENERATED)}.")
    if path.is_dir():
        shards = shard_paths(path)
        return Shards(shards) if shards else VideoFiles(_named_below(path), shape)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no HDF5 file ({', '.join(SUFFIXES)}): give one, or the folder of the videos.")
    return Shards([path])


def _named_below(folder: Path) -> dict[str, Path]:
    paths = videos_below(folder)
    if not paths:
        raise UserError(
            f"{folder} holds no HDF5 shards, no videos ({', '.join(VIDEOS)}) and no pictures: check the name."
        )
    return {path.relative_to(folder).as_posix() if path != folder else folder.resolve().name: path for path in paths}


def videos_below(folder: Path) -> list[Path]:
    """Videos (``lgcvd.video.VIDEOS``) and folders of pictures anywhere below a folder, or the folder itself."""
    return sorted(path for path, _ in find(folder))


def find(folder: Path) -> Iterator[tuple[Path, int | None]]:
    """Videos and folders of pictures below a folder, with the number of pictures of the latter.

    A folder that holds pictures and no videos is one video. Linked folders are followed, each folder is looked into
    once, hidden ones and hidden files are left out.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # a folder that is linked as well as there has its own name where that can be told early
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")),
            key=lambda name: (os.path.islink(os.path.join(place, name)), name),
        )
        names = [name for name in names if not name.startswith(".")]
        kinds = [os.path.splitext(name)[1].lower() for name in names]
        if any(kind in VIDEOS for kind in kinds):
            yield from ((Path(place, name), None) for name, kind in zip(names, kinds, strict=True) if kind in VIDEOS)
        elif pictures := sum(kind in PICTURES for kind in kinds):
            yield Path(place), pictures


def _digits(
    name: str, frames: int, shape: tuple[int, int, int], split: Split, seed: int = 0, **foreign: object
) -> Dataset:
    if foreign:
        raise UserError(f"the digits are made on the fly: leave out {', '.join(foreign)}, for videos only.")
    height, width, channels = shape
    if channels != 1 or height != width or CANVAS % height:
        raise UserError(
            f"the digits are gray squares whose size divides {CANVAS}, and {_size(shape)} are wanted: give "
            "other data, or take a gray model of such a size (in training --model.channels 1 --model.image-size 64 64)."
        )
    return MovingDigits(split=split, frames=frames, image_size=height, motion=GENERATED[name], seed=seed)


def _in_words(videos: Videos) -> str:
    return f"{len(videos.names)} videos, {sum(videos.lengths)} frames of {_size(videos.shape)}"


def _size(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height}x{width} pixels with {channels} channel{'s' * (channels > 1)}"
