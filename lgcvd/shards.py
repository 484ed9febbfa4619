"""Videos in HDF5 shards: the layout that the field shares, and a faster one of our own. Written whole or not at all.

A set is a folder of ``shard_0001.hdf5``, ``shard_0002.hdf5``, ...; each file carries the attributes ``source`` (name of
the data set) and ``split``, data sets ``skipped`` and ``notes`` (JSON in UTF-8: names of what could not be read, or not
to its end, and why), and in one of two layouts any number of videos, uint8:

"array", our own, written by default: one chunked array a video, so that a window is one read.

    videos/<i>          (T, H, W, C), lzf, chunks of 4 frames
    actions/<i>         (T, A) float32, where the source has actions
    frames, fps, names  T, frames a second (nan: unknown) and name of every video: what a reader asks for first

"frames", of MCVD (Voleti et al. 2022) and the sets that its authors publish: one array a frame.

    len/<i>             T
    <i>/<t>             (H, W, C), lzf; their gray frames are (H, W)
    <i>.attrs           name and fps (ours; theirs have none)

A reader tells them apart by ``len``.

We write HDF5 1.10, whose structure has checksums, and Fletcher-32 checksums of all pixels and numbers: HDF5 itself
compares them and refuses what is damaged. Older files, such as the published ones, have none, and HDF5 can crash or go
round for ever in a damaged one; so their structure is first walked through in a process of its own.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from lgcvd.errors import UserError
from lgcvd.files import draft
from lgcvd.video import MAX_PIXELS

Layout = Literal["array", "frames"]

CHUNK = 4
"""Frames a chunk."""

SUFFIXES = (".hdf5", ".h5")

WALK = """
import sys, h5py
for path in sys.argv[1:]:
    print(path, flush=True)
    with h5py.File(path) as file:
        file.attrs.get("source"), file.attrs.get("split")
        file.visit(lambda name: None)
"""
"""Program that goes through all groups of files, and the heads of all data sets, 10 microseconds each."""
WALK_SECONDS = 60.0
"""Longest that it may take for a file; one of a million frames takes a quarter of it."""


@dataclass(frozen=True)
class Recording:
    """A video with what is kept beside it."""

    name: str
    """Unique in its set."""
    frames: np.ndarray
    """(T, H, W, C) uint8; C is 1 or 3."""
    fps: float | None = None
    """Frames a second, if known."""
    actions: np.ndarray | None = None
    """(T, A) float32: what moved things between a frame and the next."""
    note: str = ""
    """A sentence on what is missing; empty if the video is whole."""

    def __post_init__(self) -> None:
        check_frames(self.frames, self.name)
        if self.actions is not None and (self.actions.ndim != 2 or len(self.actions) != len(self.frames)):
            raise UserError(
                f"{self.name}: {len(self.frames)} frames have {self.actions.shape} actions; give one a frame."
            )


def check_frames(frames: np.ndarray | h5py.Dataset, name: str) -> None:
    """Raise ``UserError`` unless this is (T, H, W, C) uint8, not empty, with 1 or 3 channels."""
    if frames.dtype != np.uint8:
        raise UserError(f"{name}: frames must be uint8, not {frames.dtype}.")
    if frames.ndim != 4 or 0 in frames.shape or frames.shape[3] not in (1, 3):
        raise UserError(f"{name}: frames must be (T, H, W, 1 or 3) with T of at least 1, not {frames.shape}.")
    if frames.shape[1] * frames.shape[2] > MAX_PIXELS:
        raise UserError(f"{name}: frames of {frames.shape[1]}x{frames.shape[2]} pixels are larger than can be read.")


def write_shard(
    path: Path,
    recordings: Iterable[Recording],
    *,
    source: str,
    split: str,
    layout: Layout = "array",
    skipped: Sequence[tuple[str, str]] = (),
) -> None:
    """Write one file of videos; it appears under its name once it is whole.

    ``skipped`` are names of videos that could not be read, and why; it is looked at when ``recordings`` are at an end.
    """
    frames, fps, names, notes = [], [], [], []
    image = io.BytesIO()  # a full disk is then an error of one plain write, which HDF5 itself does not survive
    with h5py.File(image, "w", libver="v110") as file:
        _set_text(file, source=source, split=split)
        for i, recording in enumerate(recordings):
            frames.append(len(recording.frames))
            fps.append(math.nan if recording.fps is None else recording.fps)
            names.append(recording.name)
            if recording.note:
                notes.append((recording.name, recording.note))
            (_write_frames if layout == "frames" else _write_array)(file, str(i), recording)
            if recording.actions is not None:
                _store(file, f"actions/{i}", recording.actions.astype(np.float32))
        if layout == "array":
            _store(file, "frames", np.array(frames, np.int64))
            _store(file, "fps", np.array(fps, np.float64))
            _store(file, "names", np.array([name.encode() for name in names], "S"))
        for name, entries in {"skipped": list(skipped), "notes": notes}.items():
            _store(file, name, np.frombuffer(json.dumps(entries).encode(), np.uint8))
    with draft(path) as part:
        part.write_bytes(image.getbuffer())


def _store(file: h5py.File, name: str, values: np.ndarray, chunks: tuple[int, ...] = (), **options: object) -> None:
    """With checksums, which HDF5 keeps for chunks: one, if nothing else is said. Nothing at all has none."""
    checked = {"chunks": chunks or values.shape, "fletcher32": True, **options} if values.size else {}
    file.create_dataset(name, data=values, **checked)


def _set_text(place: h5py.Group, **texts: str) -> None:
    """As attributes of fixed length, which lie among what has checksums; texts of any length would not."""
    place.attrs.update({name: np.bytes_(text.encode()) for name, text in texts.items() if text})


def _text(place: h5py.Group, name: str, default: str = "") -> str:
    text = place.attrs.get(name, default)
    return text.decode() if isinstance(text, bytes) else str(text)


def _write_array(file: h5py.File, key: str, recording: Recording) -> None:
    frames = recording.frames
    chunks = (min(CHUNK, len(frames)), *frames.shape[1:])
    _store(file, f"videos/{key}", frames, chunks, compression="lzf")


def _write_frames(file: h5py.File, key: str, recording: Recording) -> None:
    file[f"len/{key}"] = len(recording.frames)
    for t, frame in enumerate(recording.frames):
        _store(file, f"{key}/{t}", frame, compression="lzf")
    _set_text(file[key], name=recording.name)
    if recording.fps is not None:
        file[key].attrs["fps"] = recording.fps


class Shard:
    """A file of videos, in either layout. For files from elsewhere see ``open_shards``.

    Each process opens the file for itself, so that no two share a handle. Every method raises ``UserError`` where the
    file is not what it should be.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._opened: tuple[int, h5py.File] | None = None
        with self._reading() as file:
            self.layout: Layout = "frames" if "len" in file else "array"
            self.source, self.split = _text(file, "source"), _text(file, "split")
            self.skipped, self.notes = _entries(file, "skipped"), _entries(file, "notes")
            index = self._frames_index if self.layout == "frames" else self._array_index
            self.lengths, self.fps, self.names = index(file)
        if min(self.lengths, default=1) < 1:
            raise UserError(f"{self.path} holds a video without frames: convert it again.")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}

    def shape(self, video: int) -> tuple[int, int, int]:
        """H, W, C of a video's first frame."""
        with self._reading() as file:
            if self.layout == "frames":
                return self._frame(file, video, 0).shape
            return self._array(file, video).shape[1:]

    def read(self, video: int, window: range) -> np.ndarray:
        """The frames ``window`` of a video: (len(window), H, W, C) uint8."""
        if not 0 <= video < len(self) or not 0 <= window[0] <= window[-1] < self.lengths[video]:
            raise IndexError(f"{self.path} has no frames {window} in video {video}")
        with self._reading() as file:
            if self.layout == "frames":
                frames = np.stack([self._frame(file, video, t) for t in window])
            else:
                frames = self._array(file, video)[window.start : window[-1] + 1 : window.step]
            if len(frames) != len(window):
                raise UserError(f"{self.path} is damaged: video {video} is shorter than it says; convert it again.")
        check_frames(frames, f"{self.path}, video {video}")
        return frames

    def _frame(self, file: h5py.File, video: int, t: int) -> np.ndarray:
        stored = _in_chunks(file[f"{video}/{t}"])
        height, width, *_ = stored.shape
        if height * width > MAX_PIXELS:  # before so much memory is asked for
            raise ValueError(f"a frame of {height}x{width} pixels")
        return stored[()].reshape(height, width, -1)  # published gray frames are (H, W)

    def _array(self, file: h5py.File, video: int) -> h5py.Dataset:
        stored = _in_chunks(file[f"videos/{video}"])
        check_frames(stored, f"{self.path}, video {video}")
        return stored

    def actions(self, video: int) -> np.ndarray | None:
        """(T, A) float32, or None where the source has none."""
        with self._reading() as file:
            return _in_chunks(file[f"actions/{video}"])[()] if f"actions/{video}" in file else None

    def _frames_index(self, file: h5py.File) -> tuple[list[int], list[float | None], list[str]]:
        lengths, fps, names = [], [], []
        for i in range(len(file["len"])):
            lengths.append(int(np.asarray(file[f"len/{i}"]).item()))
            video = file[str(i)]
            if len(video) != lengths[-1]:
                raise ValueError(f"video {i} has {len(video)} frames of {lengths[-1]}")
            fps.append(float(video.attrs["fps"]) if "fps" in video.attrs else None)
            names.append(_text(video, "name", f"{self.path.stem}/{i}"))
        return lengths, fps, names

    def _array_index(self, file: h5py.File) -> tuple[list[int], list[float | None], list[str]]:
        lengths = [int(t) for t in file["frames"][:]]
        fps = [None if math.isnan(rate) else float(rate) for rate in file["fps"][:]]
        names = [name.decode() for name in file["names"][:].tolist()]
        if not len(lengths) == len(fps) == len(names) == len(file["videos"] if lengths else ()):
            raise ValueError("its index is incomplete")
        return lengths, fps, names

    @contextmanager
    def _reading(self) -> Iterator[h5py.File]:
        try:
            if not self._opened or self._opened[0] != os.getpid():
                self._opened = os.getpid(), h5py.File(self.path, "r")
            yield self._opened[1]
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"there is no file {self.path}: check the name.") from error
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError) as error:
            raise UserError(
                f"{self.path} is no whole file of videos ({_first_line(error)}): convert it again or remove it."
            ) from error


def _entries(file: h5py.File, name: str) -> list[tuple[str, str]]:
    """Names of videos, and what is said of each."""
    stored = file[name][:].tobytes() if name in file else "[]"
    return [(str(video), str(said)) for video, said in json.loads(stored)]


def _has_checksums(path: Path) -> bool:
    """Whether this is HDF5 1.10 or later, by the version of its superblock; true if there is no file to look at."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return True  # opening it will tell
    return head[:8] == b"\x89HDF\r\n\x1a\n" and head[8:] >= b"\x03"


def open_shards(paths: Sequence[Path]) -> list[Shard]:
    """Files of videos, after a walk through those without checksums; ``UserError`` names what is damaged."""
    unchecked = [path for path in paths if not _has_checksums(path)]
    if unchecked:
        _walk(unchecked)
    return [Shard(path) for path in paths]


def _walk(paths: Sequence[Path]) -> None:
    """Raise ``UserError`` if HDF5 fails on a file, crashes, or takes longer than any whole file would."""
    program = [sys.executable, "-c", WALK, *map(str, paths)]
    try:
        done = subprocess.run(program, capture_output=True, timeout=WALK_SECONDS * len(paths))
        begun, failed = done.stdout, done.returncode != 0
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["HDF5 crashed"])[-1]
    except subprocess.TimeoutExpired as stopped:
        begun, failed = stopped.stdout or b"", True
        reason = "HDF5 comes to no end with it"
    if failed:
        path = paths[max(0, len(begun.splitlines()) - 1)]
        raise UserError(f"{path} is no whole file of videos ({reason}): convert it again or remove it.")


def _in_chunks(stored: h5py.Dataset) -> h5py.Dataset:
    """The same; ``ValueError`` if its chunks have other axes than itself, which HDF5 would read for ever."""
    if stored.chunks and len(stored.chunks) != stored.ndim:
        raise ValueError(f"chunks {stored.chunks} of an array {stored.shape}")
    return stored


def _first_line(error: Exception) -> str:
    return (str(error).strip("'\"") or type(error).__name__).splitlines()[0]


def shard_paths(folder: Path) -> list[Path]:
    """HDF5 files of a folder, in order."""
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
