"""Convert KTH actions (Schuldt et al. 2004) to HDF5 shards of gray videos.

    python data_tools/kth_convert.py --kth_dir kth --image_size 64 --out_dir data/kth-64

``--kth_dir`` holds the class folders (boxing, handclapping, handwaving, jogging, running, walking) with files such as
``boxing/person01_boxing_d1_uncomp.avi``, 160 x 120 pixels at 25 frames a second, or the archives as they are published
(``boxing.zip`` ...), or both. Where ``00sequences.txt`` lies there too, a video is cut into the sequences that it lists
and the empty frames between them are left out.

Persons 17 to 25 are the test split, as is usual in video prediction; of the other 16, persons 15 and 16 are for
validation.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from lgcvd.convert import Video, add_options, convert, main, new_parser, source_path
from lgcvd.errors import UserError
from lgcvd.shards import Recording
from lgcvd.video import read_pixels

FILE = re.compile(r"(person\d\d_(?:boxing|handclapping|handwaving|jogging|running|walking)_d\d)_uncomp\.avi")
SEQUENCES = "00sequences.txt"
LISTED = re.compile(r"^(person\d\d_\w+_d\d)\s+frames\s+(.*)$", re.MULTILINE)

USUAL_FRAMES = 484
"""Frames of a whole video, on average."""

Place = tuple[Path, str]
"""A file, or an archive and a name within; the name is empty for a file."""


def run(arguments: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--kth_dir", type=source_path, required=True, help="folder of the class folders or archives")
    add_options(parser)
    options = parser.parse_args(arguments)
    videos = list_videos(options.kth_dir, options.image_size)
    sequences = options.kth_dir / SEQUENCES
    digest = hashlib.sha256(sequences.read_bytes()).hexdigest() if sequences.exists() else None
    shape = (options.image_size, options.image_size, 1)
    settings = {"sequences": digest}
    return convert(videos, shape, options, source="KTH actions", settings=settings, folder=options.kth_dir)


def list_videos(kth_dir: Path, image_size: int) -> list[Video]:
    """Every sequence of every video; raises ``UserError`` if the folder holds no video of the set."""
    places = _places(kth_dir)
    if not places:
        raise UserError(
            f"{kth_dir} holds no file such as boxing/person01_boxing_d1_uncomp.avi and no boxing.zip: check --kth_dir."
        )
    sequences = _read_sequences(kth_dir / SEQUENCES)
    videos = []
    for name, place in sorted(places.items()):
        person, action = int(name[len("person") :][:2]), name.split("_")[1]
        split = "test" if person >= 17 else "validation" if person >= 15 else "train"
        # a video that is not listed stays whole
        for number, (first, last) in enumerate(sequences.get(name, [(1, None)]), 1):
            unique = f"{action}/{name}" + (f"/{number}" if last else "")
            count = last - first + 1 if last else USUAL_FRAMES
            load = partial(_load, unique, place, first, last, image_size)
            videos.append(Video(unique, split, load, max(count, 0)))
    return videos


def _places(kth_dir: Path) -> dict[str, Place]:
    """Where each video is, by its name without ``_uncomp.avi``."""
    if not kth_dir.is_dir():
        raise UserError(f"there is no folder {kth_dir}: check --kth_dir.")
    places: dict[str, Place] = {}
    for path in sorted(kth_dir.glob("*.zip")):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception as error:  # zipfile raises errors of any kind at damaged files
            raise UserError(f"{path} is no whole zip archive: get it again.") from error
        for name in names:
            if match := FILE.fullmatch(PurePosixPath(name).name):
                places[match[1]] = path, name
    for path in kth_dir.rglob("person*_uncomp.avi"):
        if match := FILE.fullmatch(path.name):
            places[match[1]] = path, ""
    return places


def _read_sequences(path: Path) -> dict[str, list[tuple[int, int]]]:
    """First and last frame, counted from 1, of each sequence by video; lines such as

    person01_boxing_d1      frames  1-95, 96-185, 186-245, 246-360
    """
    if not path.exists():
        return {}
    lines = LISTED.findall(path.read_text(errors="replace"))
    if not lines:
        raise UserError(f"{path} lists no sequences: get it again, or remove it to keep the videos whole.")
    ranges = {name: re.findall(r"(\d+)\s*-\s*(\d+)", rest) for name, rest in lines}
    return {name: [(int(first), int(last)) for first, last in found] for name, found in ranges.items()}


def _load(name: str, place: Place, first: int, last: int | None, image_size: int) -> Recording:
    path, member = place
    if not member:
        return _read(name, path, first, last, image_size)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = Path(archive.extract(member, folder))
        except Exception as error:
            raise UserError(f"{member} in {path.name} is damaged: get the archive again.") from error
        return _read(name, unpacked, first, last, image_size)


def _read(name: str, path: Path, first: int, last: int | None, image_size: int) -> Recording:
    count = max(last - first + 1, 0) if last else 10**9
    remedy = f"get it again, or mend {SEQUENCES}, which lists its frames {first} to {last}"
    pixels = read_pixels(path, (image_size, image_size), 1, start=first - 1, max_frames=count, remedy=remedy)
    return Recording(name, pixels.frames.transpose(0, 2, 3, 1), pixels.fps, note=pixels.damage)


if __name__ == "__main__":
    main(run)
