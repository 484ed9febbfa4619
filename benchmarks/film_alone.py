"""How much of its predictions of digits a model with ``motion_things`` owes to the things that it carries.

Evaluates the model, and the same model with all of the film of things left standing: its network then only paints where
nothing lands.

    python benchmarks/film_alone.py --model moving-digits --clips 64 --split validation
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

import lgcvd
from lgcvd.digits_evaluation import IN_SHORT, MODEL, evaluate_digits
from lgcvd.errors import UserError
from lgcvd.program import run_as_program
from lgcvd.reports import markdown_table
from lgcvd.splatting import SplattingSkip


def alone(model: lgcvd.LGCVD) -> lgcvd.LGCVD:
    """``model`` with gates that are always open."""
    skip = model.motion
    skip.forward = lambda answer, painted, context: SplattingSkip.forward(
        skip, torch.full_like(answer, 1e3), painted, context
    )
    return model


def run(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="moving-digits")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--frames", type=int, default=28)
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    options = parser.parse_args(arguments)
    model = lgcvd.load(options.model)
    if not isinstance(model.motion, SplattingSkip):
        raise UserError(f"{options.model} carries no things: choose a model with motion_things.")
    asked = {"clips": options.clips, "frames": options.frames, "split": options.split}
    reports = {"the model": evaluate_digits(model, **asked), "its film alone": evaluate_digits(alone(model), **asked)}
    rows = ([name, *report.in_short(MODEL)] for name, report in reports.items())
    print(markdown_table([f"{options.clips} {options.split} clips", *IN_SHORT], rows))
    print(f"\nPSNR and SSIM over all {options.frames} new frames.")
    return 0


if __name__ == "__main__":
    run_as_program(run)
