"""``lgcvd evaluate-digits``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import DisallowNone

from lgcvd.checkpoints import load
from lgcvd.commands.common import Device, OfSteps, find_device
from lgcvd.digits_evaluation import evaluate_digits
from lgcvd.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EvaluateDigits(OfSteps):
    """Measure how good a model's moving digits are, against copying, blank and real frames."""

    model: str = "moving-digits"
    """A shipped model, a checkpoint folder, or a Hugging Face hub id (owner/name)."""
    clips: int = 64
    """Clips to predict."""
    frames: int = 28
    """New frames a clip."""
    seed: int = 0
    """Of the noise; the clips are always the same."""
    split: Literal["train", "validation", "test"] = "test"
    """Which digits."""
    out: DisallowNone[Path | None] = None
    """Folder for the table, the curves and sample strips."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        if self.out and self.out.is_file():
            raise UserError(f"{self.out} is a file: give a folder with --out.")
        options = {name: getattr(self, name) for name in ("clips", "frames", "seed", "split")}
        report = evaluate_digits(
            load(self.model, find_device(self.device)), called=self.model, **options, **self.sampling()
        )
        print(report.markdown())
        if self.out:
            print(f"{report.save(self.out)}: table.md, results.json, curves.png, samples.png")
        return 0
