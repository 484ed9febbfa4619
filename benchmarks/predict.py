"""Time of a whole prediction of 28 frames, and what fewer denoising steps save and cost.

    python benchmarks/predict.py --compile

First table: the library's form against the straightforward one (benchmarks/plain.py), taking turns in one run; the
paper-sized network takes ``--paper-steps`` denoising steps a window instead of 10, to end in reasonable time. Second
table: the shipped model with 10 steps of dpm++2m against 100 ancestral steps: time of one prediction, and PSNR and SSIM
on test clips.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from plain import forms, interleaved, machine_line, random_model, ratio_cells

import lgcvd
from lgcvd import LGCVD, PRESETS
from lgcvd.digits_evaluation import evaluate_digits, sampler_table
from lgcvd.program import run_as_program
from lgcvd.reports import markdown_row, markdown_table

FRAMES, STEPS = 28, 10
FEW, MANY = ("dpm++2m", STEPS), ("ddpm", 100)


def prediction(model: LGCVD, batch: int, sampler: str = "dpm++2m", steps: int = STEPS) -> Callable[[], torch.Tensor]:
    """One prediction as a function without arguments."""
    shape = (batch, model.context_frames, model.config.channels, *model.config.image_size)
    observed = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def run() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return lgcvd.predict(model, observed, FRAMES, sampler=sampler, steps=steps, generator=generator)

    return run


def forms_table(options: argparse.Namespace) -> None:
    """Forms of the network against each other."""
    if options.quick:
        networks = {"tiny": (random_model(PRESETS["tiny"].model), STEPS)}
    else:
        networks = {
            "moving-digits": (lgcvd.load("moving-digits"), STEPS),
            "bair-64": (random_model(PRESETS["bair-64"].model), options.paper_steps),
        }
    header = ["network", "batch", "steps a window", "straightforward, s", "lgcvd, s", "ratio", "compiled, s", "ratio"]
    print(markdown_table(header))
    for name, (model, steps) in networks.items():
        versions = forms(model, options.compile)
        for batch in options.batch:
            runs = {form: prediction(version, batch, steps=steps) for form, version in versions.items()}
            cells = ratio_cells(interleaved(runs, options.rounds), 1)
            print(markdown_row([name, batch, steps, *cells]), flush=True)
    print(f"\n{FRAMES} new frames, median of {options.rounds} rounds. {machine_line()}\n")


def fewer_steps(options: argparse.Namespace) -> None:
    """Few steps against many, in time and in quality."""
    model = random_model(PRESETS["tiny"].model) if options.quick else lgcvd.load("moving-digits")
    settings = {"few": FEW, "many": ("ddpm", 12) if options.quick else MANY}
    runs = {name: prediction(model, 1, sampler, steps) for name, (sampler, steps) in settings.items()}
    seconds = interleaved(runs, options.rounds)
    for name, (sampler, steps) in settings.items():
        print(f"{FRAMES} frames, batch 1, {steps} steps of {sampler}: {seconds[name]:.2f} s")
    print(f"ratio {seconds['few'] / seconds['many']:.3f}\n")
    reports = [
        evaluate_digits(model, clips=options.clips, frames=FRAMES, sampler=sampler, steps=steps)
        for sampler, steps in settings.values()
    ]
    print(sampler_table(reports))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3, help="times that every form is timed")
    parser.add_argument("--compile", action="store_true", help="also time the compiled form")
    parser.add_argument("--paper-steps", type=int, default=2, help="denoising steps a window of the paper's network")
    parser.add_argument("--clips", type=int, default=64, help="test clips on which few and many steps are judged")
    parser.add_argument("--quick", action="store_true", help="a tiny network, to see that this script works")
    options = parser.parse_args()
    forms_table(options)
    fewer_steps(options)


if __name__ == "__main__":
    run_as_program(main)
