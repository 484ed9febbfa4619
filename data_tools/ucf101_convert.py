"""Convert UCF101 (Soomro et al. 2012) to HDF5 shards of colour videos.

    python data_tools/ucf101_convert.py --ucf_dir UCF-101 --splits_dir ucfTrainTestlist --split 1 \\
        --image_size 64 --out_dir data/ucf101-64

``--ucf_dir`` is the unpacked UCF101.rar: class folders with files such as
``ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi``, 320 x 240 pixels at 25 frames a second. ``--splits_dir`` holds the
official lists, ``trainlist01.txt`` and ``testlist01.txt`` for split 1.

Videos of a group show the same people in the same place. Groups 24 and 25, which are in all three training lists, are
for validation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lgcvd.convert import Video, add_options, convert, main, new_parser, source_path
from lgcvd.errors import UserError
from lgcvd.shards import Recording
from lgcvd.video import read_pixels

LISTED = re.compile(r"\w+/v_\w+_g(\d\d)_c\d\d\.avi")
VALIDATION_GROUPS = (24, 25)

USUAL_FRAMES = 186
"""Frames of a video, on average."""


def run(arguments: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--ucf_dir", type=source_path, required=True, help="folder of the class folders")
    parser.add_argument("--splits_dir", type=Path, required=True, help="folder of trainlist01.txt ...")
    parser.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="which of the official splits")
    add_options(parser)
    options = parser.parse_args(arguments)
    videos = list_videos(options.ucf_dir, options.splits_dir, options.split, options.image_size)
    shape = (options.image_size, options.image_size, 3)
    return convert(videos, shape, options, source="UCF101", settings={"split": options.split}, folder=options.ucf_dir)


def list_videos(ucf_dir: Path, splits_dir: Path, split: int, image_size: int) -> list[Video]:
    """Every listed video, in the order of the lists; raises ``UserError`` for wrong folders and lists."""
    videos = []
    for kind in ("train", "test"):
        for name, group in _read_list(splits_dir / f"{kind}list{split:02d}.txt"):
            part = "validation" if kind == "train" and group in VALIDATION_GROUPS else kind
            videos.append(Video(name, part, partial(_load, name, ucf_dir / name, image_size), USUAL_FRAMES))
    if not any((ucf_dir / video.name).exists() for video in videos):
        raise UserError(f"{ucf_dir} holds no listed video, such as {videos[0].name}: check --ucf_dir.")
    return videos


def _read_list(path: Path) -> list[tuple[str, int]]:
    """Videos and their groups. Lines are like ``ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1``, or without number."""
    if not path.exists():
        raise UserError(f"there is no {path}: check --splits_dir, which holds the lists of ucfTrainTestlist.")
    names = [line.split()[0] for line in path.read_text(errors="replace").splitlines() if line.strip()]
    matches = [LISTED.fullmatch(name) for name in names]
    if not names or None in matches:
        wrong = names[matches.index(None)] if names else "nothing"
        raise UserError(f"{path} is no list of UCF101, it holds {wrong}: get it again.")
    return [(match[0], int(match[1])) for match in matches]


def _load(name: str, path: Path, image_size: int) -> Recording:
    pixels = read_pixels(path, (image_size, image_size), 3, max_frames=10**9)
    return Recording(name, pixels.frames.transpose(0, 2, 3, 1), pixels.fps, note=pixels.damage)


if __name__ == "__main__":
    main(run)
