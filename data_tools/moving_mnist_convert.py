"""Write moving MNIST as HDF5 shards of gray videos: the published test set, or new clips of any number and length.

    python data_tools/moving_mnist_convert.py --npy mnist_test_seq.npy --out_dir data/moving-mnist-test
    python data_tools/moving_mnist_convert.py --generate train=10000 validation=500 test=1000 --frames 30 \\
        --motion stochastic --image_size 64 --digits 2 --seed 0 --out_dir data/stochastic-moving-mnist

``mnist_test_seq.npy`` (Srivastava et al. 2015) is (20, 10000, 64, 64) uint8, frames first; its videos become the test
split. ``--generate`` writes the first clips of ``lgcvd.MovingDigits``, whose digits ship with the package, 10 frames a
second: clip i of a split is the same however many are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lgcvd.convert import SPLITS, Video, add_options, convert, main, new_parser
from lgcvd.digits import MovingDigits
from lgcvd.errors import UserError
from lgcvd.shards import Recording
from lgcvd.video import PICTURE_FPS, fit

GENERATION = ("frames", "motion", "digits", "seed")
"""Options of ``--generate`` alone; those that are left out are what ``MovingDigits`` says."""


def run(arguments: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--npy", type=Path, help="the published file")
    kind.add_argument("--generate", nargs="+", metavar="SPLIT=COUNT", help="how many clips to make for each split")
    parser.add_argument("--frames", type=int, help="length of a generated clip (default: 30)")
    parser.add_argument("--motion", choices=("reflect", "stochastic"), help="what happens at a wall (default: reflect)")
    parser.add_argument("--digits", type=int, help="how many move (default: 2)")
    parser.add_argument("--seed", type=int, help="of the generated clips (default: 0)")
    add_options(parser)
    options = parser.parse_args(arguments)
    given = {name: value for name in GENERATION if (value := getattr(options, name)) is not None}
    if options.npy:
        if given:
            raise UserError(f"--{next(iter(given))} is for --generate only: leave it out.")
        videos, settings = list_published(options.npy, options.image_size), {"npy": options.npy.name}
    else:
        counts = _counts(options.generate)
        videos, settings = list_generated(counts, options.image_size, given), given
    return convert(
        videos, (options.image_size, options.image_size, 1), options, source="moving MNIST", settings=settings
    )


def list_published(path: Path, image_size: int) -> list[Video]:
    """The test videos of ``mnist_test_seq.npy``; raises ``UserError`` for another file."""
    frames, count = _open(path).shape[:2]
    return [Video(f"test/{i:05d}", "test", partial(_load_published, path, i, image_size), frames) for i in range(count)]


def list_generated(counts: dict[str, int], image_size: int, options: dict[str, Any]) -> list[Video]:
    """The first clips of each split; ``options`` are those of ``MovingDigits``."""
    for name, least in {"frames": 1, "digits": 1, "seed": 0}.items():
        if options.get(name, least) < least:
            raise UserError(f"--{name} must be at least {least}, not {options[name]}.")
    videos = []
    for split, count in counts.items():
        data = MovingDigits(split=split, image_size=image_size, **options)
        names = (f"{split}/{i:06d}" for i in range(count))
        videos += [
            Video(name, split, partial(_load_generated, name, data, i), data.frames) for i, name in enumerate(names)
        ]
    return videos


def _counts(words: Sequence[str]) -> dict[str, int]:
    """``["train=1000", "test=100"]`` -> clips by split."""
    counts = {}
    for word in words:
        split, _, count = word.partition("=")
        if split not in SPLITS or not count.isdecimal():
            raise UserError(f"--generate takes numbers by split, such as train=1000 test=100, and not {word}.")
        counts[split] = int(count)
    return {split: counts[split] for split in SPLITS if split in counts}


def _open(path: Path) -> np.ndarray:
    """(T, N, H, W) uint8, on the disk."""
    try:
        videos = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check --npy.") from error
    except Exception as error:  # NumPy reads the head as Python, and raises whatever that does
        raise UserError(f"{path} is no whole NumPy file: get mnist_test_seq.npy again.") from error
    if not isinstance(videos, np.ndarray) or videos.ndim != 4 or videos.dtype != np.uint8 or 0 in videos.shape:
        raise UserError(f"{path} does not hold uint8 videos (frames, videos, height, width): take mnist_test_seq.npy.")
    return videos


def _load_published(path: Path, index: int, image_size: int) -> Recording:
    frames = [fit(Image.fromarray(frame), (image_size, image_size), 1)[0] for frame in _open(path)[:, index]]
    return Recording(f"test/{index:05d}", np.stack(frames)[..., None])


def _load_generated(name: str, data: MovingDigits, index: int) -> Recording:
    return Recording(name, data[index].permute(0, 2, 3, 1).numpy(), PICTURE_FPS)


if __name__ == "__main__":
    main(run)
