"""Clips a second of every metric, one at a time and in a batch, and the time of a whole FVD.

    python benchmarks/metrics.py --fvd-clips 256

FVD compares moving digits with the same clips under noise: real clips' features (kept in a cache), the noisy clips'
features, the distance, its bootstrap interval, and the real clips' features again, from the cache.

On a busy machine ``OMP_NUM_THREADS=1`` and ``--processor-time`` count the seconds that one core really worked.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from plain import interleaved, machine_line
from torch import Tensor

from lgcvd import MovingDigits
from lgcvd.metrics import diversity, frechet_distance, frechet_interval, lpips, psnr, ssim, video_features
from lgcvd.program import run_as_program
from lgcvd.progress import progress_bar
from lgcvd.reports import markdown_row, markdown_table
from lgcvd.video import from_uint8

Clock = Callable[[], float]

TRAJECTORIES = 4
CHUNK = 16
"""Clips whose features go into one file of the cache."""

METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "PSNR": psnr,
    "SSIM, uniform window": ssim,
    "SSIM, Gaussian window on gray": lambda a, b: ssim(a, b, "gaussian"),
    "LPIPS": lpips,
    f"diversity of {TRAJECTORIES} trajectories": lambda a, b: diversity(torch.stack([a, b] * (TRAJECTORIES // 2))),
    "I3D features": lambda a, b: video_features(a),
}


def clips_and_noisy(count: int, frames: int) -> tuple[Tensor, Tensor]:
    """Moving digits in RGB, (count, frames, 3, 64, 64), and the same with noise."""
    data = MovingDigits(split="test", length=count, frames=frames)
    clips = from_uint8(torch.stack([data[i] for i in range(count)])).repeat(1, 1, 3, 1, 1)
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    return clips, (clips + 0.1 * noise).clamp(-1, 1)


def rates_table(batch: int, frames: int, rounds: int, clock: Clock) -> None:
    clips, noisy = clips_and_noisy(batch, frames)
    print(markdown_table(["metric", "clips a second, one by one", f"in a batch of {batch}", "ratio"]))
    for name, metric in METRICS.items():
        runs = {"single": lambda m=metric: m(clips[:1], noisy[:1]), "batch": lambda m=metric: m(clips, noisy)}
        seconds = interleaved(runs, rounds, clock)
        single, batched = 1 / seconds["single"], batch / seconds["batch"]
        cells = [name, f"{single:.3g}", f"{batched:.3g}", f"{batched / single:.2f}"]
        print(markdown_row(cells), flush=True)
    print(f"\nClips of {frames} frames of 64 x 64 pixels in colour, median of {rounds} rounds. {machine_line()}\n")


@contextmanager
def timed(name: str, clock: Clock) -> Iterator[None]:
    started = clock()
    yield
    print(markdown_row([name, f"{clock() - started:.2f}"]), flush=True)


def features(clips: Tensor, cache: str | None) -> Tensor:
    parts = progress_bar(iterable=clips.split(CHUNK), desc="features", unit="batch")
    return torch.cat([video_features(part, cache) for part in parts])


def fvd_table(count: int, frames: int, clock: Clock) -> None:
    clips, noisy = clips_and_noisy(count, frames)
    print(markdown_table(["step", "seconds"]))
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings(action="ignore"):
        with timed("whole FVD", clock):
            with timed("features of real clips", clock):
                real = features(clips, cache)
            with timed("features of noisy clips", clock):
                other = features(noisy, None)
            with timed("distance", clock):
                distance = frechet_distance(other, real)
        with timed("bootstrap interval, 200 resamples", clock):
            low, high = frechet_interval(other, real)
        with timed("features of real clips again, from the cache", clock):
            features(clips, cache)
    print(f"\nFVD of {count} clips of {frames} frames: {distance:.1f}, 95 % interval {low:.1f} to {high:.1f}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3, help="times that every metric is timed")
    parser.add_argument("--fvd-clips", type=int, default=32, help="clips on each side of the FVD")
    parser.add_argument("--processor-time", action="store_true", help="count processor time: for a busy machine")
    parser.add_argument("--quick", action="store_true", help="few short clips, to see that this script works")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.frames, options.rounds, options.fvd_clips = 2, 9, 1, 2
    clock = time.process_time if options.processor_time else time.perf_counter
    rates_table(options.batch, options.frames, options.rounds, clock)
    fvd_table(options.fvd_clips, options.frames, clock)


if __name__ == "__main__":
    run_as_program(main)
