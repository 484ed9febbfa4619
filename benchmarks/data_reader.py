"""Windows a second from HDF5, our reader against the plain way, in one run.

    python benchmarks/data_reader.py

The plain way is what published readers of this format do, of a file as published writers make it: open the file for
each sample, read one data set a frame, convert to float, concatenate. All draw random windows from the same videos.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lgcvd import data
from lgcvd.machine import describe_machine
from lgcvd.program import run_as_program
from lgcvd.reports import markdown_row, markdown_table
from lgcvd.shards import Recording, write_shard

FRAMES, LENGTH, BATCH = 14, 60, 8


@dataclass(frozen=True)
class PlainWindows(Dataset):
    """Random windows of one file in the field's layout, the straightforward way."""

    path: Path
    draws: int

    def __len__(self) -> int:
        return self.draws

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng(index)
        with h5py.File(self.path) as file:
            video = str(rng.integers(len(file["len"])))
            start = rng.integers(file["len"][video][()] - FRAMES + 1)
            frames = [torch.from_numpy(file[video][str(start + t)][()]).float() / 255 for t in range(FRAMES)]
        return torch.cat([frame.permute(2, 0, 1)[None] for frame in frames])


def recordings(image_size: int, videos: int) -> Iterable[Recording]:
    """Soft coloured textures that drift, with a camera's noise: about as compressible as real video."""
    rng = np.random.default_rng(0)
    for i in range(videos):
        coarse = torch.from_numpy(rng.random((1, 3, 16, 16), np.float32))
        texture = torch.nn.functional.interpolate(coarse, 2 * image_size, mode="bicubic").clamp(0, 1)[0] * 235 + 10
        frames = torch.stack([texture[:, t : t + image_size, t // 2 : t // 2 + image_size] for t in range(LENGTH)])
        frames = frames.permute(0, 2, 3, 1).numpy() + rng.normal(0, 2, (LENGTH, image_size, image_size, 3))
        yield Recording(f"{i}", frames.clip(0, 255).astype(np.uint8), 10.0)


def publish(path: Path, videos: Iterable[Recording]) -> None:
    """The field's layout, the straightforward way: HDF5 of the oldest version, without checksums."""
    with h5py.File(path, "w") as file:
        for i, video in enumerate(videos):
            file[f"len/{i}"] = len(video.frames)
            for t, frame in enumerate(video.frames):
                file.create_dataset(f"{i}/{t}", data=frame, compression="lzf")


def windows_a_second(dataset: Dataset, workers: int, seconds: float) -> float:
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=workers)
    batches, count = iter(loader), 0
    for _ in range(2 * max(1, workers)):  # workers start, files are in the page cache
        next(batches)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += len(next(batches))
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="for each number")
    parser.add_argument("--rounds", type=int, default=3, help="rounds through all rows; the best of each counts")
    parser.add_argument("--videos", type=int, default=64, help=f"videos of {LENGTH} frames")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe_machine()
    print(f"{machine['processor']}, {FRAMES} frames a window; windows a second, and times the plain way\n")
    print(markdown_table(["size", "reader", "0 workers", "1 worker", "2 workers"]))
    for image_size in (64, 128):
        with tempfile.TemporaryDirectory() as folder:
            paths = {layout: Path(folder) / f"{layout}.hdf5" for layout in ("frames", "array")}
            publish(published := Path(folder) / "published.hdf5", recordings(image_size, options.videos))
            for layout, path in paths.items():
                write_shard(path, recordings(image_size, options.videos), source="drift", split="train", layout=layout)
            shape, draws = (image_size, image_size, 3), 10**9
            readers = {
                "plain": PlainWindows(published, draws),
                "ours, the field's layout": data.open(paths["frames"], frames=FRAMES, shape=shape, draws=draws),
                "ours": data.open(paths["array"], frames=FRAMES, shape=shape, draws=draws),
            }
            rates = {name: [0.0] * 3 for name in readers}
            for _ in range(options.rounds):
                for name, reader in readers.items():
                    for workers in range(3):
                        rate = windows_a_second(reader, workers, options.seconds)
                        rates[name][workers] = max(rates[name][workers], rate)
            for name, row in rates.items():
                cells = [f"{r:.0f} ({r / p:.1f}x)" for r, p in zip(row, rates["plain"], strict=True)]
                print(markdown_row([f"{image_size} px", name, *cells]), flush=True)


if __name__ == "__main__":
    run_as_program(main)
