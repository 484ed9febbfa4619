"""Convert Cityscapes: the sequences of leftImg8bit_sequence, snippets of 30 frames, 17 frames a second.

    python data_tools/cityscapes_convert.py --leftImg8bit_sequence_dir DIR --image_size 128 --out_dir OUT

DIR is the folder ``leftImg8bit_sequence``, the one it lies in, or ``leftImg8bit_sequence_trainvaltest.zip``, which is
read as it is: unpacking it is not needed. Get the zip file (324 GB) from https://www.cityscapes-dataset.com.

The largest centred square of each frame (1024 x 2048) is kept and scaled down (Lanczos). The splits are those of
Cityscapes: train, val (here validation) and test. Frames are put together by their names, CITY_SEQUENCE_FRAME: frames
of one sequence with numbers that follow each other are cut into snippets of 30; a snippet with fewer is skipped and
listed. A snippet is named after its first frame.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from lgcvd.convert import Video, add_options, convert, main, new_parser
from lgcvd.errors import UserError
from lgcvd.shards import Recording
from lgcvd.video import fit

FRAMES, FPS = 30, 17.0
FOLDER = "leftImg8bit_sequence"
SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Their name -> ours."""
NAME = re.compile(r"(?P<city>[^.].*)_(?P<sequence>\d+)_(?P<frame>\d+)_leftImg8bit\.png")

Place = tuple[str, str, int]
"""City, sequence and number of a frame."""


def find(given: Path) -> Path:
    """The folder that holds train, val and test, or the zip file; ``UserError`` if neither is there."""
    if not given.exists():
        raise UserError(f"there is no {given}: check the name.")
    if given.is_file():
        if not zipfile.is_zipfile(given):
            raise UserError(f"{given} is no whole zip file: download it again, or give the folder {FOLDER}.")
        return given
    for folder in (given, given / FOLDER):
        if any((folder / split).is_dir() for split in SPLITS):
            return folder
    zips = sorted(given.glob(f"{FOLDER}*.zip"))
    if zips:
        return find(zips[0])
    raise UserError(f"{given} has no folder train, val or test and no {FOLDER}_trainvaltest.zip: give {FOLDER}.")


def list_videos(source: Path, image_size: int) -> list[Video]:
    """Every snippet of a folder or a zip file, in order of split, city, sequence and frame."""
    found: dict[str, dict[Place, str]] = {split: {} for split in SPLITS}
    for member in _members(source):
        *_, split, _, name = ("", "", *PurePosixPath(member).parts)
        match = NAME.fullmatch(name)
        if match and split in SPLITS:
            found[split][match["city"], match["sequence"], int(match["frame"])] = member
    videos = []
    for split, members in found.items():
        for snippet in _snippets(members):
            paths = tuple(members[place] for place in snippet)
            name = PurePosixPath(paths[0]).name.removesuffix("_leftImg8bit.png")
            load = partial(load_snippet, name, source, paths, image_size)
            videos.append(Video(name, SPLITS[split], load, FRAMES))
    return videos


def _members(source: Path) -> Iterable[str]:
    """Paths of all files, from ``source`` on."""
    if source.is_file():
        return _opened(source).namelist()
    paths = (path for split in SPLITS for path in (source / split).glob("*/*"))
    return (path.relative_to(source).as_posix() for path in paths)


def _snippets(places: Iterable[Place]) -> Iterator[list[Place]]:
    """Frames whose numbers follow each other, 30 at a time, or what is left of them."""
    sequences = defaultdict(list)
    for city, sequence, frame in sorted(places):
        sequences[city, sequence].append(frame)
    for (city, sequence), frames in sequences.items():
        snippet: list[Place] = []
        for frame in frames:
            if snippet and (len(snippet) == FRAMES or frame != snippet[-1][2] + 1):
                yield snippet
                snippet = []
            snippet.append((city, sequence, frame))
        yield snippet


def load_snippet(name: str, source: Path, members: Sequence[str], image_size: int) -> Recording:
    """Frames (30, image_size, image_size, 3); ``UserError`` if there are fewer or one cannot be read."""
    if len(members) < FRAMES:
        raise UserError(f"only {len(members)} frames follow each other from {members[0]} on, and {FRAMES} are needed.")
    frames = [_frame(source, member, image_size) for member in members]
    return Recording(name, np.stack(frames).transpose(0, 2, 3, 1), FPS)


def _frame(source: Path, member: str, image_size: int) -> np.ndarray:
    """(3, image_size, image_size)."""
    try:
        data = _opened(source).read(member) if source.is_file() else (source / member).read_bytes()
        return fit(Image.open(io.BytesIO(data)), (image_size, image_size), 3)
    except Exception as error:  # Pillow and zipfile raise errors of any kind at damaged files
        raise UserError(f"{member} cannot be read: unpack or download it again.") from error


@lru_cache(maxsize=1)
def _opened(path: Path) -> zipfile.ZipFile:
    """The zip file, whose index is read once in a process."""
    try:
        return zipfile.ZipFile(path)
    except Exception as error:
        raise UserError(f"{path.name} is damaged: download it again.") from error


def run(arguments: Sequence[str] | None = None) -> int:
    """Convert what the command line asks for; return the exit code."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--leftImg8bit_sequence_dir", type=Path, required=True, help="the folder, or the zip file as it came"
    )
    add_options(parser, image_size=128)
    options = parser.parse_args(arguments)
    videos = list_videos(find(options.leftImg8bit_sequence_dir), options.image_size)
    return convert(videos, (options.image_size, options.image_size, 3), options, source="cityscapes")


if __name__ == "__main__":
    main(run)
