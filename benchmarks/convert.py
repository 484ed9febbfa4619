"""Frames a second of a conversion by 1 and by more processes, in one run.

    python benchmarks/convert.py

Converts a folder of generated 480 x 360 videos to 64 x 64. The start of the processes counts, a few seconds, so the set
is large enough to take a process a minute or more; its videos are copies of a few.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import trange

from lgcvd.machine import describe_machine
from lgcvd.program import run_as_program
from lgcvd.reports import markdown_table
from lgcvd.video import from_uint8, write_video

CONVERTER = Path(__file__).parents[1] / "data_tools" / "folder_convert.py"


DIFFERENT = 4
"""Videos that are made; the others are their copies."""


def make_videos(folder: Path, videos: int, frames: int) -> None:
    rng = np.random.default_rng(0)
    for i in trange(min(DIFFERENT, videos), desc="making videos"):
        coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, 9, 16), np.uint8)).float()
        wide = torch.nn.functional.interpolate(coarse, (360, 480 + 2 * frames), mode="bicubic")[0].clamp(0, 255)
        clip = torch.stack([wide[:, :, 2 * t : 2 * t + 480] for t in range(frames)]).byte()
        write_video(folder / f"{i:03d}.mp4", from_uint8(clip), 10)
    for i in range(DIFFERENT, videos):
        shutil.copy(folder / f"{i % DIFFERENT:03d}.mp4", folder / f"{i:03d}.mp4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=120)
    parser.add_argument("--frames", type=int, default=300, help="frames a video")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        videos.mkdir()
        make_videos(videos, options.videos, options.frames)
        for workers in options.workers:
            out = str(Path(folder) / f"out-{workers}")
            arguments = ["--videos_dir", str(videos), "--out_dir", out, "--workers", str(workers)]
            start = time.perf_counter()
            subprocess.run([sys.executable, str(CONVERTER), *arguments], check=True, capture_output=True)
            seconds[workers] = time.perf_counter() - start
    frames = options.videos * options.frames
    print(f"{describe_machine()['processor']}; {frames} frames\n")
    first = seconds[options.workers[0]]
    rows = ([n, f"{taken:.0f}", f"{frames / taken:.0f}", f"{first / taken:.2f}"] for n, taken in seconds.items())
    print(markdown_table(["processes", "seconds", "frames a second", "times the first row"], rows))


if __name__ == "__main__":
    run_as_program(main)
