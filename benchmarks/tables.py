"""The tables of docs/results: shipped models and all baselines on the data that the models were trained on.

    python benchmarks/tables.py digits                                   # the whole protocol: a day on a CPU
    python benchmarks/tables.py digits --clips 32 --trajectories 3       # minutes

Each evaluation goes on after a stop, and what is done is not done again. Writes DATA-HEIGHT below --out: a results file
a row, the table, figures and a gallery.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from lgcvd import load, shipped_models
from lgcvd.__main__ import main
from lgcvd.baselines import BASELINES
from lgcvd.program import run_as_program


def sizes(data: str) -> dict[tuple[int, int, int], list[str]]:
    """Shipped models that were trained on ``data``, by the frames that they work on (H, W, C)."""
    found = defaultdict(list)
    for name in shipped_models():
        model = load(name)
        if model.about.data.split(":")[0] == Path(data).name:
            found[model.config.frame_shape].append(name)
    return found


def tabulate(options: argparse.Namespace) -> int:
    """Evaluate and compare all rows; the exit code of the command that failed, or 0."""

    def given(*names: str) -> list[str]:
        there = [name for name in names if getattr(options, name) is not None]
        return [word for name in there for word in (f"--{name}", str(getattr(options, name)))]

    both, denoising = ["--data", options.data, *given("split", "frames", "seed")], given("sampler", "steps")
    evaluation = ["--protocol", options.protocol, "--cache", "runs/features"]
    if options.metrics:
        evaluation += ["--metrics", *options.metrics]
    evaluation += given("clips", "trajectories", "batch")
    found = sizes(options.data)
    if not found:
        print(f"no shipped model says that it was trained on {options.data}", file=sys.stderr)
        return 2
    for (height, width, channels), models in found.items():
        folder, rows = options.out / f"{Path(options.data).name}-{height}", [*models, *BASELINES]
        size = ["--image-size", str(height), str(width), "--channels", str(channels)]
        files = [str(folder / f"{row}.json") for row in rows]
        commands = []
        for row, file in zip(rows, files, strict=True):
            own = denoising if row in models else []
            commands.append(["evaluate", "--model", row, *both, *size, *evaluation, *own, "--out", file])
        commands.append(["compare", *files, "--out", str(folder)])
        commands.append(["gallery", "--models", *rows, *both, *denoising, "--out", str(folder)])
        for command in commands:
            if code := main(command):
                return code
    return 0


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="as lgcvd evaluate takes them")
    parser.add_argument("--out", type=Path, default=Path("docs") / "results")
    parser.add_argument("--protocol", default="ours")
    parser.add_argument("--metrics", nargs="+")
    parser.add_argument("--split")
    parser.add_argument("--sampler")
    for number in ("clips", "trajectories", "frames", "steps", "seed", "batch"):
        parser.add_argument(f"--{number}", type=int, help="the protocol's, if left out")
    return tabulate(parser.parse_args())


if __name__ == "__main__":
    run_as_program(run)
