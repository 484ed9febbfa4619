"""``lgcvd ablate``."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from tyro.conf import DisallowNone

from lgcvd.ablation import VARIANTS, Budget, ablate
from lgcvd.commands.common import Device, OfTraining, find_device, stop_signals, tell
from lgcvd.config import PRESETS, Preset
from lgcvd.errors import UserError
from lgcvd.files import alone_in, check_place
from lgcvd.progress import move_to, progress_bar
from lgcvd.rollout import check_new_frames
from lgcvd.run_folder import spread
from lgcvd.seeds import checked_seed

VariantName = tyro.extras.literal_type_from_choices(list(VARIANTS))


@dataclass(frozen=True, kw_only=True)
class Ablate(OfTraining):
    """Train variants of a preset under one budget and compare what they predict; stops and goes on like ``train``."""

    folder: Path
    """For the variants' run folders, table.md, table.csv and figure.png."""
    variants: tuple[VariantName, ...] = field(
        default=("whole", "single-stage", "no-global-context", "no-position-planes", "paper-tasks", "last-clip-only")
    )
    """What is compared."""
    iterations: DisallowNone[int | None] = None
    """The budget of each variant: the optimizer steps of so many iterations of the preset, whose phases it shortens
    alike ..."""
    minutes: DisallowNone[float | None] = None
    """... or in minutes of training."""
    seeds: tuple[int, ...] = (0,)
    """Each variant is trained once with each; more can be added later."""
    clips: int = 32
    """Held-out clips that are predicted."""
    frames: int = 12
    """New frames a clip."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        if self.clips < 1:
            raise UserError(f"clips must be at least 1, not {self.clips}.")
        check_new_frames(self.frames)
        for name in ("variants", "seeds"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise UserError(f"--{name} wants at least one, and each only once.")
        for seed in self.seeds:
            checked_seed(seed)
        if self.train.iterations != PRESETS[self.preset].train.iterations:
            raise UserError("what a variant may use is --iterations or --minutes: leave out --train.iterations.")
        check_place(self.folder / "table.md")
        budget, preset = Budget(self.iterations, self.minutes), Preset(self.model, self.train)
        idle = [name for name in self.variants if name != "whole" and VARIANTS[name].change(preset) == preset]
        variants = [name for name in self.variants if name not in idle]
        if not variants:
            raise UserError(f"{' and '.join(idle)} would change nothing here: take other variants.")
        if idle:
            print(f"left out, as nothing would change: {', '.join(idle)}", file=sys.stderr)
        truth = spread(self.held_out_clips(preset.model.context_frames + self.frames), self.clips)
        data = self.training_clips()
        tell(data)
        options = {"seeds": self.seeds, "device": find_device(self.device)}
        steps = ablate(preset, variants, data, truth, self.folder, budget, **options)
        trainings = len(variants) * len(self.seeds)
        with (
            alone_in(self.folder),
            stop_signals() as received,
            closing(steps),
            progress_bar(total=trainings, unit="training") as bar,
        ):
            for at in steps:
                bar.set_description(f"{at.variant}, seed {at.seed}", refresh=False)
                bar.set_postfix({"iteration": at.step.iteration, "loss": f"{at.step.loss:.4f}"}, refresh=False)
                move_to(bar, round(at.index - 1 + at.fraction, 4))
                if received:
                    break
        if received:
            print(f"{self.folder}: stopped; run the same command again to go on")
            return 128 + received[0]
        print((self.folder / "table.md").read_text())
        print(f"{self.folder}: table.md, table.csv, figure.png")
        return 0
