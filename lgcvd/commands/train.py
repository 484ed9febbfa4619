"""``lgcvd train``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tyro.conf import DisallowNone

from lgcvd.checkpoints import load
from lgcvd.commands.common import Device, OfTraining, find_device, stop_signals, tell
from lgcvd.cost import GB, cost_of, device_memory
from lgcvd.data import GENERATED
from lgcvd.errors import UserError
from lgcvd.files import alone_in, check_place
from lgcvd.models import About, VideoDenoiser, build
from lgcvd.objective import objective_of
from lgcvd.progress import move_to, progress_bar
from lgcvd.run_folder import Validation, watch
from lgcvd.seeds import generator_for
from lgcvd.settings import differences
from lgcvd.trainer import (
    TrainStep,
    accelerator_for,
    any_process,
    check_workers,
    checkpoints,
    learn_paths_first,
    train,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

DIGITS = "moving digits, made on the fly from MNIST (LeCun, Cortes and Burges)"
DRY_ITERATIONS, DRY_SECONDS = 10, 120
"""What a dry run times; where iterations take long, it stops after so many seconds."""

FIRST_LAYER, LAST_LAYER, SKIP = "unet.path.stem.weight", "unet.head.", "motion."
"""Weights that need not fit those of ``--init``: what another motion skip shows and asks is learned in a short time."""

DIGITS_LICENCE = "the digits are under Creative Commons Attribution-ShareAlike 3.0"


@dataclass(frozen=True, kw_only=True)
class Train(OfTraining):
    """Train a model; to stop, press Ctrl-C: the run is saved and the same command goes on with it."""

    folder: Path
    """Where the run lives: its settings, log, checkpoints, curves, samples and, ready for ``lgcvd predict``, model/."""
    init: DisallowNone[str | None] = None
    """Begin with the weights of this model (shipped, a checkpoint folder, or a hub id) instead of random ones."""
    source: DisallowNone[str | None] = None
    """What the data are and whose, for the checkpoint; left out, their name."""
    licence: DisallowNone[str | None] = None
    """What may be done with the weights, for the checkpoint."""
    workers: int = 0
    """Processes that prepare batches; 0 is enough for small frames."""
    watch_every: int = 500
    """Iterations between validation losses, sample predictions and curves."""
    validation_clips: int = 8
    """Clips that these look at."""
    minutes: DisallowNone[float | None] = None
    """Stop after so many minutes; the same command goes on."""
    device: Device = "auto"
    """Where to compute; ``accelerate launch`` and ``torchrun`` start several processes."""
    dry_run: bool = False
    """Tell what the training would cost, after ten iterations that are thrown away; write nothing. Without --data they
    see noise."""

    def run(self) -> int:
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes must be above 0, not {self.minutes:g}.")

        for name in ("watch_every", "validation_clips"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        check_workers(self.workers)
        if not self.dry_run:
            check_place(self.folder / "config.json")
        accelerator = accelerator_for(self.train, find_device(self.device))
        if accelerator.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        torch.manual_seed(self.train.seed)
        model = build(self.model)
        if self.init and not checkpoints(self.folder):
            self._take_weights(model)
        data = self._noise() if self.dry_run and self.data == OfTraining.data else self.training_clips()
        if accelerator.is_main_process:
            tell(data)
        self.model.check_width()
        if self.dry_run:
            return self._tell_cost(model, data, accelerator)
        if not accelerator.is_main_process:
            return self._follow(self._steps(model, data, accelerator), main=False)
        validation = self._validation()
        with alone_in(self.folder):
            steps = watch(
                self._steps(model, data, accelerator),
                self.folder,
                self.train,
                validation=validation,
                every=self.watch_every,
                about=self._about(),
                data=data,
            )
            return self._follow(steps, main=True)

    def _steps(self, model: VideoDenoiser, data: Dataset, accelerator: Accelerator) -> Iterator[TrainStep]:
        model.to(accelerator.device)
        # ``train`` would do it, too, but here Ctrl-C ends it at once
        learn_paths_first(model, data, self.train, self.folder, progress=accelerator.is_main_process)
        return train(model, data, self.train, folder=self.folder, workers=self.workers, accelerator=accelerator)

    def _follow(self, steps: Iterator[TrainStep], main: bool) -> int:
        """Iterate, with a bar, until the end, a signal or the time limit."""
        end, begun = time.monotonic() + 60 * (self.minutes or math.inf), False
        with (
            stop_signals() as received,
            closing(steps),
            progress_bar(total=self.train.iterations, unit="it", smoothing=0.02, disable=not main) as bar,
        ):
            for step in steps:
                if not begun and step.iteration > 1 and main:
                    begins = f"; --init {self.init} is only for the beginning of a run" if self.init else ""
                    print(f"{self.folder}: going on after iteration {step.iteration - 1}{begins}")
                begun = True
                shown = {stage: f"{loss:.4f}" for stage, loss in step.losses.items()}
                bar.set_postfix({**shown, "rate": f"{step.rate:.1e}"}, refresh=False)
                move_to(bar, step.iteration)
                if any_process(bool(received) or time.monotonic() > end):
                    break
        if not main:
            return 0
        reached, total = int(checkpoints(self.folder)[0].stem), self.train.iterations
        print(f"{self.folder}: {reached} of {total} iterations; the model is in {self.folder}/model")
        if reached < total:
            print("run the same command again to go on")
        return 128 + received[0] if received else 0

    def _noise(self) -> Tensor:
        """Clips enough for a batch, for whoever asks for the cost before there are data."""
        frames, (height, width, channels) = objective_of(self.train).clip_frames(self.model), self.model.frame_shape
        shape = (self.train.batch_size, frames, channels, height, width)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator_for(0))

    def _tell_cost(self, model: VideoDenoiser, data: Dataset, accelerator: Accelerator) -> int:
        """The dry run."""
        cost, config, main = cost_of(self.model, self.train), self.train, accelerator.is_main_process
        clips = config.batch_size // (accelerator.num_processes * config.accumulate)
        if main:
            gflops = {stage: config.batch_size * flops / 1e9 for stage, flops in cost.flops.items()}
            stages = ", ".join(f"{stage} {n:,.1f}" for stage, n in gflops.items())
            print(f"parameters:  {cost.parameters / 1e6:.2f} million")
            print(f"operations:  {sum(gflops.values()):,.1f} GFLOP an iteration ({stages})")
            print(
                f"memory:      about {cost.memory(clips) / GB:.2f} GB, {cost.fixed / GB:.2f} GB and {clips} clips of "
                f"{cost.activations / GB:.3f} GB; there are {device_memory(accelerator.device) / GB:.1f} GB"
            )
        whole = replace(config, single_stage=0, iterations=DRY_ITERATIONS + 1, warmup=0, cooldown=0, save_every=10**9)
        seconds = []
        with closing(train(model, data, whole, workers=self.workers, accelerator=accelerator)) as steps:
            started = time.monotonic()
            for step in progress_bar(iterable=steps, total=whole.iterations, unit="it", disable=not main):
                seconds.append(time.monotonic() - started)
                if step.iteration > 1 and seconds[-1] > DRY_SECONDS:
                    break
        if main:
            second = (seconds[-1] - seconds[0]) / (len(seconds) - 1)  # the first one warms up
            first_stage = next(iter(cost.flops.values())) / sum(cost.flops.values())
            reached = int(files[0].stem) if (files := checkpoints(self.folder)) else 0
            alone = max(0, min(config.single_stage, config.iterations) - reached)
            left = second * (max(0, config.iterations - reached - alone) + alone * first_stage)
            print(f"time:        {second:.3g} s an iteration of all stages, {len(seconds) - 1} timed")
            print(f"to the end:  about {_in_hours(left)} for {config.iterations - reached:,} iterations")
        return 0

    def _take_weights(self, model: VideoDenoiser) -> None:
        """Those of ``--init``; what does not fit because of another motion skip begins anew."""
        start = load(self.init)
        different = "; ".join(differences(asdict(start.config), asdict(model.config)))
        weights = start.state_dict()
        try:
            anew = _as_far_as_they_fit(weights, model)
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f"the weights of {self.init} do not fit ({different}): set the model's options.") from error
        if anew:
            print(f"what sees or answers something else begins anew: {', '.join(anew)}", file=sys.stderr)
        if different:
            print(f"the weights of {self.init} were trained with other settings: {different}", file=sys.stderr)

    def _validation(self) -> Validation:
        objective = objective_of(self.train)
        clips = self.held_out_clips(objective.clip_frames(self.model))
        return Validation.of(clips, objective, self.validation_clips)

    def _about(self) -> About:
        digits = self.data in GENERATED
        return About(
            self.folder.name,
            self.source or (f"{self.data}: {DIGITS}" if digits else Path(self.data).resolve().name),
            self.licence or (DIGITS_LICENCE if digits else "ask whoever trained it, and see the licence of the data"),
            tasks=self.train.tasks.trained,
        )


def _as_far_as_they_fit(weights: dict[str, Tensor], model: VideoDenoiser) -> list[str]:
    """Change ``weights`` to fit a ``model`` that has another motion skip.

    The skip's weights, and what the first and the last layer have for it, are the model's own. Returned is which layers
    these are.
    """
    own, skip = model.state_dict(), model.motion
    seen, answered = (skip.channels_in, skip.channels_out) if skip else (0, 0)
    for name in weights.keys() - own.keys():
        if name.startswith(SKIP):
            del weights[name]
    anew = [name for name in own if name.startswith((SKIP, LAST_LAYER)) or name == FIRST_LAYER]
    anew = [name for name in anew if name not in weights or weights[name].shape != own[name].shape]
    for name in anew:
        fitting = own[name].clone()
        axis, extra = (1, seen) if name == FIRST_LAYER else (0, answered)
        common = fitting.shape[axis] - extra
        if not name.startswith(SKIP) and weights[name].shape[axis] >= common:
            fitting.narrow(axis, 0, common).copy_(weights[name].narrow(axis, 0, common))
        weights[name] = fitting
    return anew


def _in_hours(seconds: float) -> str:
    days, rest = divmod(round(seconds), 86400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} days and {clock}" if days else clock
