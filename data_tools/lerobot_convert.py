"""Convert one camera of a LeRobot data set to HDF5 shards of colour videos, with the actions.

    pip install .[convert]
    python data_tools/lerobot_convert.py --dataset_dir svla_so101 --camera top --image_size 64 --stride 3 \\
        --out_dir data/so101-64

Both kinds that are about are read: v2.x, with a file an episode, and v3.0, where a file holds many. ``--camera`` is a
key such as ``observation.images.top`` or its last part; a set with one camera needs none. Its frames may be in videos,
or as pictures in the tables. Column ``action`` is kept, (T, A) float32, where the set has one; with ``--stride`` both
frames and actions are every so many of the episode's.

Episodes go to the splits that ``meta/info.json`` names, if there are others than train (``val`` and ``valid`` are
``validation``; an episode in none of them is left out). Else every 20th, from episode 0 on, is for validation, and the
one after it for testing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from lgcvd.convert import SPLITS, Video, add_options, convert, main, new_parser, source_path
from lgcvd.data import SPLIT_NAMES
from lgcvd.errors import UserError
from lgcvd.shards import Recording
from lgcvd.video import Load, fit, open_picture, opened

EVERY = 20
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError)
"""What reading damaged JSON and Parquet files raises."""
MARGIN = 1.0
"""Seconds before an episode at which decoding starts, so that the key frame before its first frame is found."""


@dataclass(frozen=True)
class Episode:
    """Where an episode is."""

    index: int
    length: int
    """Frames."""
    video: Path | None
    """None where pictures are in ``data``."""
    data: Path
    """Parquet file with its actions, and in v3.0 with those of others."""
    begin: float = 0.0
    end: float = float("inf")
    """Seconds in the video."""


def run(arguments: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset_dir", type=source_path, required=True, help="folder of meta, data and videos")
    parser.add_argument("--camera", help="which camera, if there are several")
    parser.add_argument("--episodes", default=":", metavar="FIRST:END", help="only these, END excluded (default: all)")
    parser.add_argument("--stride", type=int, default=1, help="of the frames, every so many is kept")
    add_options(parser)
    options = parser.parse_args(arguments)
    if options.stride < 1:
        raise UserError(f"--stride must be at least 1, not {options.stride}.")
    info = _read_info(options.dataset_dir)
    camera = find_camera(info, options.camera)
    wanted = _range(options.episodes, "--episodes")
    return convert(
        list_videos(options.dataset_dir, info, camera, wanted, options.stride, options.image_size),
        (options.image_size, options.image_size, 3),
        options,
        source=f"LeRobot {options.dataset_dir.resolve().name}",
        settings={"camera": camera, "stride": options.stride},
        folder=options.dataset_dir,
    )


def list_videos(folder: Path, info: dict, camera: str, episodes: range, stride: int, image_size: int) -> list[Video]:
    """A video for each of ``episodes`` that is in a split."""
    splits = _splits(info)
    return [
        Video(
            f"episode_{episode.index:06d}",
            split,
            partial(_load, episode, camera, info["fps"], stride, image_size),
            -(-episode.length // stride),
        )
        for episode in list_episodes(folder, info, camera)
        if episode.index in episodes and (split := splits(episode.index))
    ]


def find_camera(info: dict, name: str | None) -> str:
    """The key of a camera by its name; raises ``UserError`` with all their names if it is not clear which is meant."""
    cameras = [key for key, feature in info["features"].items() if feature.get("dtype") in ("video", "image")]
    if not cameras:
        raise UserError("the data set has no cameras: take one with videos or pictures.")
    listed = ", ".join(cameras)
    if name is None:
        if len(cameras) > 1:
            raise UserError(f"the data set has several cameras, choose one by --camera: {listed}.")
        return cameras[0]
    found = [key for key in cameras if name == key] or [key for key in cameras if name == key.rsplit(".", 1)[-1]]
    if len(found) != 1:
        raise UserError(f"--camera {name} names {'several' if found else 'none'} of the cameras: {listed}.")
    return found[0]


def list_episodes(folder: Path, info: dict, camera: str) -> list[Episode]:
    """All episodes in order; raises ``UserError`` if what the set says of itself cannot be read."""
    version = str(info["codebase_version"])
    films = info["features"][camera]["dtype"] == "video"
    try:
        if version.startswith("v2"):
            episodes = _episodes_v2(folder, info, camera, films)
        elif version.startswith("v3"):
            episodes = _episodes_v3(folder, info, camera, films)
        else:
            raise UserError(f"{folder} is of LeRobot's version {version}, and v2 and v3 are read: convert it to v3.0.")
        if not all(episode.index >= 0 and episode.length > 0 for episode in episodes):
            raise ValueError("an episode has a number below 0, or no frames")
        return sorted(episodes, key=lambda episode: episode.index)
    except UserError:
        raise
    except DAMAGED as error:
        raise UserError(
            f"{folder / 'meta'} does not list the episodes as LeRobot {version} does ({error}): get it again."
        ) from error


def _episodes_v2(folder: Path, info: dict, camera: str, films: bool) -> list[Episode]:
    episodes = []
    for line in (folder / "meta" / "episodes.jsonl").read_text().splitlines():
        if line.strip():
            row = json.loads(line)
            index, length = row["episode_index"], row["length"]
            place = {"episode_chunk": index // info["chunks_size"], "episode_index": index}
            video = folder / info["video_path"].format(video_key=camera, **place) if films else None
            episodes.append(Episode(index, length, video, folder / info["data_path"].format(**place)))
    return episodes


def _episodes_v3(folder: Path, info: dict, camera: str, films: bool) -> list[Episode]:
    own = [f"videos/{camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index", *(own if films else ())]
    episodes = []
    for path in sorted((folder / "meta" / "episodes").glob("*/*.parquet")):
        table = _parquet().read_table(path, columns=columns)
        rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
        for index, length, data_chunk, data_file, *place in rows:
            data = folder / info["data_path"].format(chunk_index=data_chunk, file_index=data_file)
            if not films:
                episodes.append(Episode(index, length, None, data))
                continue
            chunk, file, begin, end = place
            video = folder / info["video_path"].format(video_key=camera, chunk_index=chunk, file_index=file)
            episodes.append(Episode(index, length, video, data, float(begin), float(end)))
    return episodes


def _read_info(folder: Path) -> dict:
    """``meta/info.json``, with what is used of it."""
    path = folder / "meta" / "info.json"
    if not path.exists():
        raise UserError(f"{folder} is no LeRobot data set, it has no meta/info.json: check --dataset_dir.")
    _parquet()
    try:
        info = json.loads(path.read_text())
        used = {name: info[name] for name in ("codebase_version", "data_path")}
        used["features"] = {name: dict(feature) for name, feature in info["features"].items()}
        splits = {name: str(text) for name, text in (info.get("splits") or {}).items()}
        rest = {"chunks_size": info.get("chunks_size", 1000), "video_path": info.get("video_path"), "splits": splits}
        if not (fps := float(info["fps"])) > 0:
            raise ValueError(f"fps is {fps:g}")
        return {**used, **rest, "fps": fps}
    except KeyError as error:
        raise UserError(f"{path} does not say its {error.args[0]}: get it again.") from error
    except DAMAGED as error:
        raise UserError(f"{path} is damaged ({error}): get it again.") from error


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError("Reading LeRobot data sets needs PyArrow: pip install .[convert]") from None
    return pyarrow.parquet


def _splits(info: dict) -> Callable[[int], str | None]:
    """Episode index -> split, or None for an episode that is left out."""
    named: dict[str, list[str]] = {}
    for name, text in info["splits"].items():
        if name in SPLIT_NAMES:
            named.setdefault(SPLIT_NAMES[name], []).append(text)
    if not named.keys() - {"train"}:
        return lambda index: {0: "validation", 1: "test"}.get(index % EVERY, "train")
    ranges = {name: [_range(text, "splits in meta/info.json") for text in texts] for name, texts in named.items()}
    return lambda index: next((s for s in SPLITS if any(index in part for part in ranges.get(s, ()))), None)


def _range(text: str, where: str) -> range:
    """``"0:50"``, ``":50"`` or ``"50:"``."""
    first, colon, end = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (first, end)):
        raise UserError(f"{where} must be like 0:50, not {text}.")
    return range(int(first or 0), int(end) if end else 10**9)


def _load(episode: Episode, camera: str, fps: float, stride: int, image_size: int) -> Recording:
    frames, count = [], 0
    pictures = _decoded(episode, fps) if episode.video else _stored(episode, camera)
    for count, picture in enumerate(islice(pictures, episode.length), 1):
        if (count - 1) % stride == 0:
            frames.append(fit(picture(), (image_size, image_size), 3))
    if count < episode.length:
        file = (episode.video or episode.data).name
        raise UserError(f"{file} has {count} of the episode's {episode.length} frames: get it again.")
    actions = _actions(episode)
    return Recording(
        f"episode_{episode.index:06d}",
        np.stack(frames).transpose(0, 2, 3, 1),
        fps / stride,
        None if actions is None else actions[::stride],
    )


def _stored(episode: Episode, camera: str) -> Iterator[Load]:
    """The pictures of an episode in its table: column ``camera``, of PNG or JPEG files with their names."""
    try:
        column = _rows(episode, camera)
        files = [row["bytes"] for row in column.to_pylist()]
        for i, file in enumerate(files):
            yield partial(open_picture, io.BytesIO(file), Path(f"{episode.data.name}/{camera}/{i}"))
    except DAMAGED as error:
        raise UserError(f"{episode.data} cannot be read ({error}): get it again.") from error


def _decoded(episode: Episode, fps: float) -> Iterator[Load]:
    """Decoded frames of an episode, and in v2.x whatever its file holds beyond it."""
    half = 0.5 / fps
    try:
        with opened(episode.video) as (container, stream):
            stream.thread_type = "AUTO"
            if episode.begin > MARGIN:
                container.seek(int((episode.begin - MARGIN) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time >= episode.end - half:
                    return
                if frame.time >= episode.begin - half:
                    yield partial(_picture, frame)
    except av.error.FFmpegError as error:
        raise UserError(f"{episode.video} cannot be read ({error}): get it again.") from error


def _picture(frame: av.VideoFrame) -> Image.Image:
    return Image.fromarray(frame.to_ndarray(format="rgb24"))


def _rows(episode: Episode, column: str) -> Any:
    """What a column of its table says of an episode, in order."""
    own = [("episode_index", "=", episode.index)]
    return _parquet().read_table(episode.data, columns=[column], filters=own)[column]


def _actions(episode: Episode) -> np.ndarray | None:
    """(T, A) float32, or None where there are none, or they are words."""
    if not episode.data.exists():
        return None
    try:
        schema = _parquet().read_schema(episode.data)
        if "action" not in schema.names or "string" in str(schema.field("action").type):
            return None
        column = _rows(episode, "action")
        actions = np.array(column.to_pylist(), np.float32).reshape(len(column), -1)
    except DAMAGED as error:
        raise UserError(f"{episode.data} cannot be read ({error}): get it again.") from error
    if len(actions) != episode.length:
        raise UserError(f"{episode.data.name} has {len(actions)} actions for {episode.length} frames: get it again.")
    return actions


if __name__ == "__main__":
    main(run)
