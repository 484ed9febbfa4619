"""Training recipes for small models, compared after the same time on one CPU core, on what they predict.

    python benchmarks/recipes.py --minutes 4 --out runs/recipes

Every recipe differs from the ``digits`` preset in what its row says, starts from the same seed, trains for the same CPU
time on one thread, and then predicts the first window (2 -> 4 frames) of the same validation clips. Loss values are not
compared: recipes with different losses and time steps cannot be, and a low loss was seen beside black frames.
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from lgcvd import LGCVD, PRESETS, MovingDigits, Preset, TaskMix, TwoStage, train
from lgcvd.digits_evaluation import BLANK, COPY, IN_SHORT, MODEL, REAL, DigitsReport, evaluate_digits
from lgcvd.machine import describe_machine
from lgcvd.pictures import filmstrip, write_image
from lgcvd.program import run_as_program
from lgcvd.reports import markdown_table

FOUND = PRESETS["digits"]
FOUND = replace(FOUND, train=replace(FOUND.train, iterations=10**9, single_stage=10**9, cooldown=0))
"""The preset's first phase, without an end."""


def changed(model: dict | None = None, **settings: object) -> Preset:
    """The found recipe with other settings of the model and of the training."""
    return Preset(replace(FOUND.model, **model or {}), replace(FOUND.train, **settings))


RECIPES: dict[str, Preset] = {
    "the preset": FOUND,
    "patches of 2 x 2, twice the width": changed({"patch_size": 2, "dim": 64, "multipliers": (1, 2, 2)}),
    "self-attention at 16 x 16 too": changed({"attention": (8, 16)}),
    "6 new frames a window": changed({"new_frames": 6}),
    "velocity as output": changed({"output": "velocity"}),
    "data not standardised": changed({"data_mean": 0.0, "data_std": 1.0}),
    "L1": changed(loss="l1"),
    "no pure noise (high_noise)": changed(times="high_noise"),
    "uniform time steps": changed(times="uniform"),
    "two stages from the start": changed(single_stage=0),
    "the paper's task mix": changed(tasks=TaskMix()),
    "rate 1e-4": changed(rate=1e-4),
    "the paper's recipe": changed(
        {"output": "velocity", "data_mean": 0.0, "data_std": 1.0},
        loss="l1",
        times="uniform",
        rate=1e-4,
        beta2=0.999,
        warmup=0,
        clip_grad=None,
        ema=0.995,
        tasks=TaskMix(),
        single_stage=0,
    ),
}


def run(recipe: Preset, minutes: float, clips: int) -> tuple[int, DigitsReport]:
    """Train for ``minutes`` of CPU time; return the iterations done and what the averaged model predicts."""
    torch.manual_seed(recipe.train.seed)
    model = LGCVD(recipe.model)
    data = MovingDigits(frames=TwoStage().clip_frames(recipe.model), image_size=recipe.model.image_size[0])
    end = time.process_time() + 60 * minutes
    with closing(train(model, data, recipe.train)) as steps:
        for last in steps:  # noqa: B007
            if time.process_time() > end:
                break
    report = evaluate_digits(
        last.model.eval(), clips=clips, frames=FOUND.model.new_frames, split="validation", progress=False
    )
    return last.iteration, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4, help="CPU time for each recipe")
    parser.add_argument("--clips", type=int, default=64, help="validation clips")
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="some recipes only")
    parser.add_argument("--out", type=Path, help="folder for table.md and samples.png")
    options = parser.parse_args()
    torch.set_num_threads(1)

    rows, samples = [], {}
    for name in tqdm(options.only, unit="recipe"):
        iterations, report = run(RECIPES[name], options.minutes, options.clips)
        rows.append([name, iterations, *report.in_short(MODEL)])
        samples.setdefault("truth", report.samples[REAL][0])
        samples[name] = report.samples[MODEL][0]
    rows += [[row, "", *report.in_short(row)] for row in (COPY, BLANK)]
    machine = describe_machine()
    lines = [
        markdown_table(["recipe", "iterations", *IN_SHORT], rows),
        "",
        f"{options.minutes:g} minutes of CPU time each, one thread, {options.clips} validation clips; "
        f"{machine['processor']}, torch {machine['torch']}.",
    ]
    table = "\n".join(lines) + "\n"
    print(table)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "table.md").write_text(table)
        write_image(options.out / "samples.png", filmstrip(samples, FOUND.model.context_frames))


if __name__ == "__main__":
    run_as_program(main)
