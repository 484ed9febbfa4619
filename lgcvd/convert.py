"""What all converters share: videos in, HDF5 shards out, in parallel, resumable, the same bytes from any machine.

A converter lists what there is as ``Video`` objects, which are small and know how to load themselves, and gives them to
``convert``. The output folder has a folder for each split, its shards (see ``lgcvd.shards``), and ``conversion.json``
with the settings. A shard appears when it is whole, so that a conversion that was broken off goes on with the first one
that is missing; run the same command again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lgcvd.errors import UserError
from lgcvd.files import check_place, place_of, write_json
from lgcvd.program import run_as_program
from lgcvd.progress import progress_bar
from lgcvd.shards import Layout, Recording, open_shards, write_shard

if TYPE_CHECKING:
    from tqdm import tqdm

SETTINGS = "conversion.json"
SPLITS = ("train", "validation", "test")

SHARD_BYTES = 512 << 20
"""Most pixels in a file, before they are compressed: it is made in memory."""


@dataclass(frozen=True)
class Video:
    """One video to convert. Must survive pickling: it is loaded in another process."""

    name: str
    """Unique in its set."""
    split: str
    load: Callable[[], Recording | list[Recording]]
    """What it gives: one recording, or the pieces that it is cut into. Raises ``UserError`` or ``OSError`` for a broken
    input, which is skipped and listed at the end."""
    frames: int
    """How many there will be, as far as that is known beforehand: for the space check, and to fill shards."""


def new_parser(about: str) -> argparse.ArgumentParser:
    """The parser of a converter whose docstring is ``about``. Names are given in full: a prefix may get another end."""
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def add_options(parser: argparse.ArgumentParser, image_size: int = 64) -> None:
    """The options of every converter; ``image_size`` is the default of that option."""
    parser.add_argument("--out_dir", type=Path, required=True, help="folder to write")
    parser.add_argument("--image_size", type=int, default=image_size, help="height and width in pixels")
    parser.add_argument("--layout", choices=("array", "frames"), default="array", help="ours, or MCVD's")
    parser.add_argument("--videos_per_shard", type=int, default=128, help="videos in a file")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that load")
    parser.add_argument("--dry_run", action="store_true", help="say what would be written, and stop")


def source_path(text: str) -> Path:
    """The type of an option that names the source: a path that says the same from wherever the program is run."""
    return Path(text).absolute()


def convert(
    videos: Sequence[Video],
    shape: tuple[int, int, int],
    options: argparse.Namespace,
    *,
    source: str,
    settings: dict | None = None,
    folder: Path | None = None,
) -> int:
    """Write all videos as shards of ``options.out_dir``; return the exit code: 0, or 3 if some had to be skipped.

    ``options`` come from ``add_options``, ``shape`` is (H, W, C) of a frame, and ``settings`` (JSON values) is all else
    that decides the output. ``folder``, a ``source_path``, is where the source lies: what is written names files from
    there on, so that it is the same wherever that is. Raises ``UserError`` if there is nothing to convert, if the
    output folder holds the result of other settings, or if the disk is too small.
    """
    if not videos:
        raise UserError(f"{source}: there is nothing to convert.")
    for name in ("image_size", "videos_per_shard", "workers"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(options, name)}.")
    frames = sum(video.frames for video in videos)
    size = frames * math.prod(shape)
    counts = ", ".join(f"{sum(v.split == s for v in videos)} {s}" for s in SPLITS)
    if options.dry_run:
        pixels = "x".join(map(str, shape))
        print(f"{source}: {counts} videos, about {frames} frames of {pixels}, at most {size / 1e9:.3g} GB")
        return 0
    shards = _plan(videos, options.out_dir, options.videos_per_shard, SHARD_BYTES // math.prod(shape))
    wanted = {
        "source": source,
        "shape": list(shape),
        "layout": options.layout,
        "videos_per_shard": options.videos_per_shard,
        "videos": hashlib.sha256("\n".join(video.name for video in videos).encode()).hexdigest(),
        **(settings or {}),
    }
    _check_settings(options.out_dir / SETTINGS, wanted)
    for half in options.out_dir.glob("*/.shard_*"):  # left by a kill
        half.unlink()
    missing = {path: part for path, part in shards.items() if not path.exists()}
    share = sum(video.frames for part in missing.values() for video in part) / max(frames, 1)
    _check_space(options.out_dir, size * share)
    write_json(options.out_dir / SETTINGS, wanted)

    done = len(videos) - sum(map(len, missing.values()))
    bar = progress_bar(total=len(videos), initial=done, unit="video", desc=source)
    with _Loader(options.workers) as loader, bar:
        loaded = loader([video for part in missing.values() for video in part])
        for path, part in missing.items():
            _write(path, part, loaded, bar, shape, source, options.layout, f"{folder}{os.sep}" if folder else "")
    return _report(shards, options.out_dir)


def main(run: Callable[[], int]) -> None:
    """Run a converter as a program."""
    run_as_program(run, "stopped; the same command goes on with what is missing")


def _plan(videos: Sequence[Video], out_dir: Path, most_videos: int, most_frames: int) -> dict[Path, list[Video]]:
    """File -> what belongs in it; the same for the same videos. A single video may have more than ``most_frames``."""
    names = [video.name for video in videos]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two videos are named {twice}: rename one.")
    shards: dict[Path, list[Video]] = {}
    for split in SPLITS:
        parts: list[list[Video]] = []
        frames = 0
        for video in (video for video in videos if video.split == split):
            frames += video.frames
            if not parts or len(parts[-1]) == most_videos or frames > most_frames:
                parts.append([])
                frames = video.frames
            parts[-1].append(video)
        shards |= {out_dir / split / f"shard_{i:04d}.hdf5": part for i, part in enumerate(parts, 1)}
    return shards


def _check_settings(path: Path, settings: dict) -> None:
    """Keep the settings; refuse to go on with others."""
    if path.exists():
        try:
            there = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path} is damaged: choose another --out_dir, or remove this one.") from error
        different = sorted(name for name in settings.keys() | there.keys() if settings.get(name) != there.get(name))
        if different:
            raise UserError(
                f"{path.parent} holds a conversion with other settings ({', '.join(different)}): choose another "
                "--out_dir, or remove that one."
            )
        return
    check_place(path)
    if path.parent.exists() and any(path.parent.iterdir()):
        raise UserError(f"{path.parent} is not empty and holds no conversion: choose another --out_dir.")


def _check_space(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(place_of(folder / SETTINGS)).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e9:.3g} GB free and up to {needed / 1e9:.3g} GB are needed: choose another disk."
        )


def _write(
    path: Path,
    videos: list[Video],
    loaded: Iterator[list[Recording] | str],
    bar: tqdm,
    shape: tuple[int, int, int],
    source: str,
    layout: Layout,
    prefix: str,
) -> None:
    """Write a shard. ``prefix`` is left out of the reasons why something had to be skipped."""
    skipped: list[tuple[str, str]] = []

    def whole() -> Iterator[Recording]:
        for video in videos:
            recordings = next(loaded)
            if isinstance(recordings, str):
                skipped.append((video.name, recordings.replace(prefix, "") if prefix else recordings))
                recordings = []
            for recording in recordings:
                if recording.frames.shape[1:] == shape:
                    yield recording
                else:
                    skipped.append((recording.name, f"its frames are {recording.frames.shape[1:]}, not {shape}"))
            bar.update()

    write_shard(path, whole(), source=source, split=videos[0].split, layout=layout, skipped=skipped)


def _report(shards: dict[Path, list[Video]], out_dir: Path) -> int:
    """Say what is there now and what had to be left out."""
    written = open_shards(list(shards))
    skipped = [entry for shard in written for entry in shard.skipped]
    count = sum(map(len, written))
    print(f"{out_dir}: {count} videos, {sum(sum(shard.lengths) for shard in written)} frames")
    for name, note in (entry for shard in written for entry in shard.notes):
        print(f"incomplete {name}: {note}", file=sys.stderr)
    for name, reason in skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    broken = [str(shard.path) for shard in written if shard.skipped or shard.notes]
    if broken:
        print(f"once you have mended these, remove {' '.join(broken)} and run the same command again", file=sys.stderr)
    return 3 if skipped else 0


class _Loader:
    """Loads videos in order, ahead of their use, in as many processes as asked for."""

    def __init__(self, workers: int):
        self._workers = workers

    def __enter__(self) -> _Loader:
        self._pool = None
        if self._workers > 1:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, spawn, _begin_worker)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, videos: Sequence[Video]) -> Iterator[list[Recording] | str]:
        """What each gave: its recordings, or the sentence that says why not."""
        if not self._pool:
            yield from map(_load, videos)
            return
        ahead: deque = deque()
        for video in videos:
            ahead.append(self._pool.submit(_load, video))
            if len(ahead) > 2 * self._workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _begin_worker() -> None:
    """Ctrl-C is for the first process alone, and with it, however it ends, this one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _load(video: Video) -> list[Recording] | str:
    try:
        loaded = video.load()
    except (UserError, OSError) as error:
        return str(error)
    return [loaded] if isinstance(loaded, Recording) else loaded
