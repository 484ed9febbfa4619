"""Time of one denoising step: the library's form of the network against the straightforward one.

    python benchmarks/denoise_step.py --compile

Straightforward: float32, contiguous layout, attention as einsum and softmax (benchmarks/plain.py). All forms take turns
in one run, and must agree before they are timed. Weights are random where nothing is shipped; time does not see them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from plain import forms, interleaved, machine_line, random_model, ratio_cells

import lgcvd
from lgcvd import LGCVD, PRESETS
from lgcvd.context import local_context, prediction
from lgcvd.program import run_as_program
from lgcvd.reports import markdown_row, markdown_table


def models(quick: bool) -> dict[str, LGCVD]:
    """The networks that are timed, by name."""
    if quick:
        return {"tiny": random_model(PRESETS["tiny"].model)}
    bair = PRESETS["bair-64"].model
    return {
        "moving-digits": lgcvd.load("moving-digits"),
        "robot-hands": lgcvd.load("robot-hands"),
        "bair-64, dim 32": random_model(replace(bair, dim=32, head_channels=32)),
        "bair-64": random_model(bair),
    }


def step(model: LGCVD, batch: int, prepared: bool) -> Callable[[], torch.Tensor]:
    """One denoising step of a prediction, as a function without arguments.

    prepared: what does not change from step to step is worked out already, as in a rollout.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (batch, model.output_frames, model.config.channels, *model.config.image_size)
    clip = torch.rand(shape, generator=generator) * 2 - 1
    positions = torch.tensor(prediction(model.context_frames, model.config.clip_frames)).expand(batch, -1)
    with torch.no_grad():
        context = local_context(clip, positions, model.remember(clip))
        context = model.prepare(context) if prepared else context
    times = torch.full((batch,), 500)
    return lambda: model(clip, times, context)


def check_agreement(runs: dict[str, Callable[[], torch.Tensor]]) -> None:
    """Forms that are compared must compute the same."""
    with torch.no_grad():
        outputs = {form: run() for form, run in runs.items()}
    for form, output in outputs.items():
        difference = (output - outputs["straightforward"]).abs().max()
        if difference > 1e-3:
            raise SystemExit(f"the {form} form differs from the straightforward one by {difference:.2g}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=10, help="times that every form is timed")
    parser.add_argument("--compile", action="store_true", help="also time the compiled form")
    parser.add_argument("--quick", action="store_true", help="a tiny network, to see that this script works")
    options = parser.parse_args()

    header = ["network", "batch", "straightforward, ms", "lgcvd, ms", "ratio", "compiled, ms", "ratio"]
    print(markdown_table(header))
    for name, model in models(options.quick).items():
        networks = forms(model, options.compile)
        for batch in options.batch:
            steps = {form: step(net, batch, form != "straightforward") for form, net in networks.items()}
            check_agreement(steps)
            print(markdown_row([name, batch, *ratio_cells(interleaved(steps, options.rounds), 1e-3)]), flush=True)
    print(f"\nMedian of {options.rounds} rounds. {machine_line()}")


if __name__ == "__main__":
    run_as_program(main)
