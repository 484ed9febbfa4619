"""Few steps from many: progressive distillation (Salimans and Ho 2022), as a generator like ``train``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lgcvd.checkpoints import load, save
from lgcvd.config import TrainConfig
from lgcvd.context import Context
from lgcvd.errors import UserError
from lgcvd.files import write_json
from lgcvd.models import VideoDenoiser
from lgcvd.objective import DISTANCES, WHOLE, Denoised, Share, TwoStage
from lgcvd.sampling import spaced
from lgcvd.schedule import CLEAN, Schedule
from lgcvd.settings import check_same, checksum, filled
from lgcvd.trainer import TrainStep, train

SPACING = "trailing"
"""Of the steps that are halved: every second of 2 n is one of n."""

MAY_CHANGE = ("train.save_every", "train.keep", "train.accumulate")
"""Settings that a broken run may go on with other values of."""


@dataclass(frozen=True)
class HalfTheSteps(TwoStage):
    """Teach a model to do in one step of DDIM what its teacher does in two.

    Everything else is as in two-stage training. The target is the velocity of the clean clip that a single step would
    have to see to end where the teacher's two steps do (Salimans and Ho 2022, algorithm 2); the loss compares
    velocities, their "SNR + 1" weighting. The two share the encoder, which is not trained, and so the memory.
    """

    teacher: VideoDenoiser = field(kw_only=True, repr=False)
    steps: int = field(kw_only=True)
    """Of the student; the teacher takes twice as many."""

    def _denoise(
        self, model: VideoDenoiser, x0: Tensor, context: Context, generator: torch.Generator, share: Share = WHOLE
    ) -> Denoised:
        schedule, context = model.schedule, model.prepare(context)
        if model.motion is not None:
            model.motion.eval()  # as decided as the teacher's and as a film wants it, not as in other training
        grid = torch.tensor([*spaced(SPACING, 2 * self.steps, schedule.steps), CLEAN])
        step = share(torch.randint(self.steps, (len(x0) * share.of,), generator=generator))
        t, middle, s = (grid[2 * step + offset].to(x0.device) for offset in range(3))
        x_t = schedule.add_noise(x0, share.noise(x0, generator), t)
        with torch.no_grad():
            halfway = _ddim(schedule, x_t, self._clean(x_t, t, context), t, middle)
            end = _ddim(schedule, halfway, self._clean(halfway, middle, context), middle, s)
            target = _clean_clip_of_one_step(schedule, x_t, end, t, s)
        if context.memory is not None:  # torch 2.13 crashes in GroupNorm on channels-last input without a gradient
            context = context.with_memory(context.memory.requires_grad_())
        velocity = model(x_t, t, context)
        wanted = schedule.velocity_from_x0(x_t, target, t)
        loss = self.distance(velocity, wanted, schedule.alpha_bar[t])
        return Denoised(loss, schedule.x0(x_t, velocity, t), t)

    def _clean(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        return self.teacher.schedule.x0(x_t, self.teacher(x_t, t, context), t).clamp(-1, 1)


def _ddim(schedule: Schedule, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """One step of DDIM, each sample from its own ``t`` to its own ``s``."""
    (signal_t, noise_t), (signal_s, noise_s) = (schedule.signal_and_noise(time, x_t) for time in (t, s))
    return signal_s * x0 + noise_s / noise_t * (x_t - signal_t * x0)


def _clean_clip_of_one_step(schedule: Schedule, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The clean clip from which a single step of DDIM leads from ``x_t`` to ``x_s``: ``_ddim`` solved for it."""
    (signal_t, noise_t), (signal_s, noise_s) = (schedule.signal_and_noise(time, x_t) for time in (t, s))
    ratio = noise_s / noise_t
    return (x_s - ratio * x_t) / (signal_s - ratio * signal_t)


@dataclass(frozen=True)
class DistillStep:
    """One iteration that is done, of the round that ends with a model of ``steps`` steps."""

    steps: int
    training: TrainStep
    finished: VideoDenoiser | None
    """The round's model, after its last iteration."""


def rounds(first: int, last: int) -> list[int]:
    """Steps after every round: 16, 8, 4, 2 of (16, 2)."""
    if last < 1 or first < last or first & (first - 1) or last & (last - 1):
        raise UserError(f"steps are halved from one power of two down to another, not from {first} to {last}.")
    halved = [first]
    while halved[-1] > last:
        halved.append(halved[-1] // 2)
    return halved


def check(model: VideoDenoiser, config: TrainConfig) -> None:
    """Raise ``UserError`` for a model that cannot be distilled, and for settings that distillation has no use for."""
    if not model.makes_whole_clips:
        raise UserError(f"models of the kind {model.config.kind} cannot be distilled, only those of the kind lgcvd.")
    for name in ("objective", "times", "context_noise"):
        usual = getattr(TrainConfig, name)
        if getattr(config, name) != usual:
            raise UserError(
                f"distillation has an objective, time steps and known frames of its own: leave {name} at {usual}."
            )


def distill(
    model: VideoDenoiser,
    data: Dataset,
    config: TrainConfig,
    *,
    first: int = 16,
    last: int = 2,
    folder: Path | None = None,
    workers: int = 0,
) -> Iterator[DistillStep]:
    """Halve the steps that ``model`` needs, again and again, ``config.iterations`` iterations each time.

    The first round's student takes ``first`` steps, its teacher, ``model``, twice as many; then the student is the
    teacher. Denoise a result with sampler "ddim", spacing "trailing" and as many steps. With a ``folder``, every round
    lives in a folder of its own there, ``16`` and so on, from which a broken run goes on, with the same teacher and
    settings; a finished round leaves ``model`` in it. Closing the generator saves too. Of the tasks of ``config`` those
    are trained that ``model`` knows.

    Raises ``UserError`` for what ``check`` refuses, for steps that cannot be halved, if no task is left, and for a
    ``folder`` that was begun with something else.
    """
    check(model, config)
    config = replace(config, tasks=config.tasks.only(model.about.tasks))
    told = folder and Path(folder) / "settings.json"
    settings = {"teacher": checksum(model.state_dict().values()), "first": first, "train": asdict(config)}
    if told and told.exists():
        before = filled(json.loads(told.read_text()), {"train": asdict(TrainConfig())})
        check_same(before, settings, f"{folder} was begun with", MAY_CHANGE)
    teacher = model
    for steps in rounds(first, last):
        home = Path(folder) / str(steps) if folder else None
        if home and (home / "model" / "config.json").exists():
            teacher = load(home / "model", model.device)
            continue
        teacher = teacher.eval().requires_grad_(False)
        student = deepcopy(teacher).requires_grad_(True)
        if student.encoder:
            student.encoder.requires_grad_(False)
        objective = HalfTheSteps(
            config.tasks, DISTANCES[config.loss], estimate_level=config.estimate_level, teacher=teacher, steps=steps
        )
        for step in train(student, data, config, objective=objective, folder=home, workers=workers):
            done = step.iteration == config.iterations
            if told and not told.exists():  # a training that is refused leaves none
                write_json(told, settings)
            if done:
                teacher = deepcopy(step.model).eval()
                teacher.about = replace(
                    model.about,
                    step=step.iteration,
                    tasks=config.tasks.trained,
                    steps=steps,
                    sampling={"sampler": "ddim", "spacing": SPACING, "steps": steps},
                )
                if home:
                    save(teacher, home / "model", teacher.about, dtype=torch.float16)
            yield DistillStep(steps, step, teacher if done else None)
