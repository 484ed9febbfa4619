"""``lgcvd distill``."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import DisallowNone, Positional

from lgcvd import data
from lgcvd.checkpoints import load
from lgcvd.commands.common import Device, endless, find_device, stop_signals, tell
from lgcvd.config import SMALL, TrainConfig
from lgcvd.distill import check, distill, rounds
from lgcvd.errors import UserError
from lgcvd.files import alone_in, check_place
from lgcvd.objective import TwoStage
from lgcvd.progress import move_to, progress_bar

RECIPE = TrainConfig(
    iterations=2000,
    batch_size=8,
    rate=1e-4,
    beta2=0.99,
    cooldown=500,
    clip_grad=1.0,
    loss="l2",
    tasks=SMALL.tasks,  # of which the model's own are taken
)


@dataclass(frozen=True)
class Distill:
    """Teach a model to need half of its steps, again and again; to stop, press Ctrl-C, the same command goes on."""

    model: Positional[str]
    """A shipped model, a checkpoint folder, or a Hugging Face hub id (owner/name)."""
    folder: Path
    """Where the run lives: a folder for every round, named by its steps, each with a model/ in the end."""
    data: str = "digits"
    """What the model was trained on: "digits", "stochastic-digits", an HDF5 file, a folder of them or of videos."""
    first: int = 16
    """Steps after the first round."""
    last: int = 2
    """Steps after the last round."""
    train: TrainConfig = field(default_factory=lambda: RECIPE)
    minutes: DisallowNone[float | None] = None
    """Stop after so many minutes; the same command goes on."""
    workers: int = 0
    """Processes that prepare batches."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes must be above 0, not {self.minutes:g}.")

        steps_of_rounds = rounds(self.first, self.last)
        check_place(self.folder / str(self.first))
        model = load(self.model, find_device(self.device))
        check(model, self.train)
        own = endless(self.data, self.train.seed)
        clips = data.open(self.data, frames=TwoStage().clip_frames(model.config), shape=model.config.frame_shape, **own)
        tell(clips)
        end = time.monotonic() + 60 * (self.minutes or math.inf)
        done = distill(
            model, clips, self.train, first=self.first, last=self.last, folder=self.folder, workers=self.workers
        )
        with (
            alone_in(self.folder),
            stop_signals() as received,
            closing(done),
            progress_bar(total=len(steps_of_rounds) * self.train.iterations, unit="it") as bar,
        ):
            for step in done:
                move_to(bar, steps_of_rounds.index(step.steps) * self.train.iterations + step.training.iteration)
                bar.set_postfix({"steps": step.steps, "loss": f"{step.training.loss:.4f}"}, refresh=False)
                if step.finished:
                    print(f"{self.folder}/{step.steps}/model: takes {step.steps} steps")
                if received or time.monotonic() > end:
                    break
        if (self.folder / str(self.last) / "model").exists():
            print(f"{self.folder}: all rounds are done; the model is in {self.folder}/{self.last}/model")
        else:
            print("run the same command again to go on")
        return 128 + received[0] if received else 0
