"""``lgcvd train``."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import DisallowNone, Suppress

from lgcvd.commands.common import Device, find_device, stop_signals
from lgcvd.config import ModelConfig, TrainConfig
from lgcvd.errors import UserError

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from lgcvd.models import LGCVD, About
    from lgcvd.trainer import TrainStep

DIGITS = "moving digits, made on the fly from MNIST (LeCun, Cortes and Burges)"
DIGITS_LICENCE = "the digits are under Creative Commons Attribution-ShareAlike 3.0"


@dataclass(frozen=True)
class Train:
    """Train a model; to stop, press Ctrl-C: the run is saved and the same command goes on with it."""

    preset: Suppress[str]
    folder: Path
    """Where the run lives: checkpoints/, losses.csv and, ready for ``lgcvd predict``, model/."""
    model: ModelConfig
    train: TrainConfig
    data: str = "digits"
    """"digits" that bounce off the walls, "stochastic-digits" that leave them in a random direction, or where your own
    are: an HDF5 file, a folder of them or of videos, a folder with one of these for each split."""
    stride: int = 1
    """Of the frames of your own data, every so many is taken."""
    flip: bool = False
    """Mirror half of the clips of your own data."""
    jitter: float = 0.0
    """Change brightness, contrast and saturation of your own data by up to this share."""
    init: DisallowNone[str | None] = None
    """Begin with the weights of this model (shipped, a checkpoint folder, or a hub id) instead of random ones."""
    workers: int = 0
    """Processes that prepare batches; 0 is enough for small frames."""
    minutes: DisallowNone[float | None] = None
    """Stop after so many minutes; the same command goes on."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        import torch

        from lgcvd.models import build
        from lgcvd.objective import objective_of
        from lgcvd.progress import progress_bar
        from lgcvd.trainer import accelerator_for, any_process, train

        accelerator = accelerator_for(self.train, find_device(self.device))
        main = accelerator.is_main_process
        torch.manual_seed(self.train.seed)
        model = build(self.model)
        if self.init:
            self._take_weights(model)
        data = self._clips(objective_of(self.train).clip_frames(model))
        reached, end = self._reached(), time.monotonic() + 60 * (self.minutes or math.inf)
        if reached and main:
            print(f"{self.folder}: going on after iteration {reached}")
        with (
            stop_signals() as received,
            closing(
                train(model, data, self.train, folder=self.folder, workers=self.workers, accelerator=accelerator)
            ) as steps,
            _loss_table(self.folder / "losses.csv" if main else Path(os.devnull), reached) as write,
            progress_bar(
                initial=reached, total=self.train.iterations, unit="it", smoothing=0.02, disable=not main
            ) as bar,
        ):
            for step in steps:
                shown = {stage: f"{loss:.4f}" for stage, loss in step.losses.items()}
                bar.set_postfix({**shown, "rate": f"{step.rate:.1e}"}, refresh=False)
                bar.update()
                write(step)
                if step.saved:
                    self._export()
                if any_process(bool(received) or time.monotonic() > end):
                    break
        if not main:
            return 0
        exported = self._export()
        print(
            f"{self.folder}: {exported.step} of {self.train.iterations} iterations; the model is in {self.folder}/model"
        )
        if exported.step < self.train.iterations:
            print("run the same command again to go on")
        return 128 + received[0] if received else 0

    def _take_weights(self, model: LGCVD) -> None:
        from lgcvd.checkpoints import load
        from lgcvd.trainer import differences

        start = load(self.init)
        different = differences(asdict(start.config), asdict(model.config))
        if different:
            raise UserError(f"the weights of {self.init} do not fit ({'; '.join(different)}): set the model's options.")
        model.load_state_dict(start.state_dict())

    def _clips(self, frames: int) -> Dataset:
        from lgcvd import data

        shape = (*self.model.image_size, self.model.channels)
        own = {} if self.data in data.GENERATED else {"draws": 1_000_000, "seed": self.train.seed}
        changed = {
            name: getattr(self, name)
            for name in ("stride", "flip", "jitter")
            if getattr(self, name) != getattr(Train, name)
        }
        return data.open(self.data, frames=frames, shape=shape, **own, **changed)

    def _reached(self) -> int:
        from lgcvd.trainer import read_checkpoint

        saved = read_checkpoint(self.folder)
        return saved["iteration"] if saved else 0

    def _export(self) -> About:
        """Write the checkpoint's averaged model in our own format."""
        import torch

        from lgcvd.checkpoints import save
        from lgcvd.data import GENERATED
        from lgcvd.models import About, build
        from lgcvd.trainer import read_checkpoint

        saved = read_checkpoint(self.folder)
        digits = self.data in GENERATED
        about = About(
            self.folder.name,
            f"{self.data}: {DIGITS}" if digits else Path(self.data).resolve().name,
            DIGITS_LICENCE if digits else "ask whoever trained it, and see the licence of the data",
            saved["iteration"],
        )
        model = build(ModelConfig(**saved["config"]["model"]))
        inside = "module."  # AveragedModel's name for what it averages
        weights = {key.removeprefix(inside): value for key, value in saved["ema"].items() if key.startswith(inside)}
        model.load_state_dict(weights)
        save(model, self.folder / "model", about, dtype=torch.float16)
        return about


@contextmanager
def _loss_table(path: Path, reached: int) -> Iterator[Callable[[TrainStep], None]]:
    """A CSV file with a line an iteration; lines after the checkpoint that a run goes on from are dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines(keepends=True) if reached and path.exists() else []
    with path.open("w") as file:
        file.writelines(line for line in lines if not line[0].isdigit() or int(line.split(",")[0]) <= reached)

        from lgcvd.objective import STAGES

        def write(step: TrainStep) -> None:
            if not file.tell():
                file.write(f"iteration,{','.join(STAGES)},rate\n")
            losses = (f"{step.losses[stage]:.6g}" if stage in step.losses else "" for stage in STAGES)
            file.write(f"{step.iteration},{','.join(losses)},{step.rate:.6g}\n")
            if step.saved:
                file.flush()

        yield write
