"""Training as a generator over iterations: averaged weights, atomic checkpoints, exact resume, many processes."""

from __future__ import annotations

import math
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from lgcvd.checkpoints import compile_networks, read_torch_file
from lgcvd.config import ModelConfig, TrainConfig
from lgcvd.context import TaskMix
from lgcvd.cost import device_memory, told_when_too_large, too_large
from lgcvd.data import described, different_items, videos_told_apart
from lgcvd.errors import UserError
from lgcvd.files import clear_drafts, draft
from lgcvd.models import VideoDenoiser
from lgcvd.objective import WHOLE, Objective, Share, StageLoss, objective_of
from lgcvd.paths import learn_paths
from lgcvd.seeds import generator_for, global_seed
from lgcvd.settings import check_same, filled
from lgcvd.video import from_uint8

if TYPE_CHECKING:
    from accelerate import Accelerator

MAY_CHANGE = ("iterations", "single_stage", "cooldown", "save_every", "keep", "accumulate")
"""Training settings that a run may go on with other values of, until its rate falls or its second stage begins: nothing
before it depends on them, but for rounding."""

EXPLODED = 100.0
"""A loss above this is an explosion. Answering nothing costs about 1, and no untrained network reaches this."""


@dataclass(frozen=True)
class TrainStep:
    """One iteration that is done."""

    iteration: int
    """Counts from 1."""
    iterations: int
    losses: dict[str, float]
    """Stage -> loss over the whole batch."""
    task_losses: dict[tuple[str, str], float]
    """(stage, task) -> loss over the clips of the batch that were for this task."""
    norms: dict[str, float]
    """Stage -> norm of the gradient, before it was clipped."""
    rate: float
    model: VideoDenoiser
    """The averaged model (EMA); it goes on changing with the training."""
    saves: bool
    """Whether a checkpoint follows, once the next step is asked for: what is made of this one is there before it."""

    @property
    def loss(self) -> float:
        """Mean over the stages."""
        return sum(self.losses.values()) / len(self.losses)


def train(
    model: VideoDenoiser,
    data: Dataset,
    config: TrainConfig,
    *,
    objective: Objective | None = None,
    folder: Path | None = None,
    workers: int = 0,
    accelerator: Accelerator | None = None,
) -> Iterator[TrainStep]:
    """Train ``model`` on clips (objective.clip_frames, C, H, W) uint8 of ``data``; yield after every iteration.

    Each stage takes one optimizer step. With a ``folder``, checkpoints go there every ``config.save_every`` iterations
    and at the end, each when the step after it is asked for, and a run that was broken off goes on from the last one as
    if it had never stopped; settings that differ from the checkpoint's are refused. Closing the generator saves too: to
    stop without loss, stop iterating.
    The things of a model with ``motion_things`` learn their paths first: see ``learn_paths_first``.

    ``accelerator`` (see ``accelerator_for``) decides on devices and precision; left out, training stays where the model
    is. Its processes share every batch and average their gradients; all must stop after the same iteration (see
    ``any_process``) and see the same ``folder``. The run depends neither on their number nor on ``config.accumulate``,
    but for rounding and a model's dropout, nor on ``workers``, the number of processes that prepare batches.
    """
    model.config.check_width()
    check_workers(workers)
    accelerator = accelerator or accelerator_for(config, model.device.type)
    share = Share(accelerator.process_index, accelerator.num_processes)
    if config.batch_size % (share.of * config.accumulate):
        takers = f"{share.of} processes and {config.accumulate} parts" if share.of > 1 else f"{config.accumulate} parts"
        raise UserError(
            f"batch_size {config.batch_size} cannot be divided into {takers}: set it to a multiple of "
            f"{share.of * config.accumulate}."
        )
    # the clips of every part are what another process would have had: see Share
    parts = [Share(share.rank + share.of * part, share.of * config.accumulate) for part in range(config.accumulate)]
    objective = objective or objective_of(config)
    model.about = replace(model.about, tasks=config.tasks.trained)
    where = accelerator.device
    fits = partial(
        told_when_too_large, lambda: too_large(model.config, config, device_memory(where), accelerator.num_processes)
    )
    with fits():
        model.to(where).train()
    learn_paths_first(model, data, config, folder, progress=accelerator.is_main_process)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.rate, betas=(0.9, config.beta2), fused=True)
    with fits():
        run_stage, optimizer = accelerator.prepare(_Stage(model), optimizer)  # sends the first process's weights around
        ema = AveragedModel(model, multi_avg_fn=_warmed_ema(config.ema)).eval()  # dropout is for what learns
    state = _State(model, ema, optimizer, accelerator.scaler, settings_of(model.config, config, data))
    start = state.load(Path(folder)) if folder else 0
    if accelerator.reduce(torch.tensor(float(start), device=where), "mean") != start:
        raise UserError(
            f"the processes do not see the same checkpoints in {folder}: put it where all of them can read."
        )
    if config.compile:
        compile_networks(model)

    writes = bool(folder) and accelerator.is_main_process
    parameters = list(model.parameters())
    loader = DataLoader(
        data,
        batch_sampler=Batches(len(data), config, start, share, different_items(data)),
        num_workers=workers,
        generator=generator_for(config.seed),  # else it would draw from the caller's random numbers
        pin_memory=where.type == "cuda",
        worker_init_fn=_leave_signals_alone,
    )
    for iteration, clip in enumerate(_with_plain_errors(loader), start + 1):
        rate = learning_rate(config, iteration)
        for group in optimizer.param_groups:
            group["lr"] = rate
        stages = 1 if iteration <= config.single_stage else None
        losses, task_losses, norms = {}, {}, {}
        with fits(), global_seed(where, config.seed, iteration, share.rank):
            clip = from_uint8(clip.to(where, non_blocking=True))
            micro = [
                islice(objective(model, clip[part :: len(parts)], generator_for(config.seed, iteration), their), stages)
                for part, their in enumerate(parts)
            ]
            for stage, loss, of_tasks in _stages(accelerator, run_stage, optimizer, micro):
                losses[stage] = loss
                task_losses |= {(stage, task): value for task, value in of_tasks.items()}
                norms[stage] = accelerator.clip_grad_norm_(parameters, config.clip_grad or math.inf).item()
                _check(stage, losses[stage], norms[stage], iteration, config, folder)
                optimizer.step()
                ema.update_parameters(model)
        saves = writes and (iteration % config.save_every == 0 or iteration == config.iterations)
        try:
            yield TrainStep(iteration, config.iterations, losses, task_losses, norms, rate, ema.module, saves)
        except GeneratorExit:
            saves = writes
            raise
        finally:
            if saves:
                state.save(Path(folder), iteration, config.keep)


def check_workers(workers: int) -> None:
    """Raise ``UserError`` for a number of processes that cannot prepare batches."""
    if workers < 0:
        raise UserError(f"workers must not be negative, not {workers}.")


def _leave_signals_alone(worker: int) -> None:
    """What stops a group of processes is for the trainer: it saves, and then ends those that prepare batches."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def settings_of(model: ModelConfig, train: TrainConfig, data: object) -> dict:
    """All that decides a run, for its checkpoints and its folder."""
    return {"model": asdict(model), "train": asdict(train), "data": described(data), **videos_told_apart(data)}


def learn_paths_first(
    model: VideoDenoiser, data: Dataset, config: TrainConfig, folder: Path | None = None, *, progress: bool = True
) -> None:
    """``paths.learn_paths``, where a ``model`` has things that know none yet, and no run in ``folder`` is to go on."""
    skip = model.motion
    if skip and not skip.knows_paths and not (folder and checkpoints(folder)):
        learn_paths(model, data, config, progress)


def accelerator_for(config: TrainConfig, device: str) -> Accelerator:
    """An ``accelerate.Accelerator`` on "cpu" or whatever there is, in the precision of ``config``.

    It joins the processes that ``accelerate launch`` or ``torchrun`` started.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # else the first run of a session decides for all others
    if device == "cpu" and config.precision == "float16":  # which accelerate would pass over in silence
        raise UserError("float16 is for GPUs: use bfloat16 or float32.")
    try:
        return Accelerator(
            cpu=device == "cpu",
            mixed_precision={"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[config.precision],
        )
    except ValueError as error:
        raise UserError(f"{config.precision} does not work on this device ({error}): use float32.") from error


class _Stage(nn.Module):
    """A stage as one forward pass, whatever the objective calls in it: what is wrapped for precision and processes.

    So the gradients of the encoder are averaged over the processes together with the U-Net's.
    """

    def __init__(self, model: VideoDenoiser):
        super().__init__()
        self.model = model

    def forward(self, stages: Iterator[StageLoss]) -> StageLoss | None:
        return next(stages, None)


def _stages(
    accelerator: Accelerator, run_stage: nn.Module, optimizer: torch.optim.Optimizer, micro: list[Iterator]
) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Every stage with its loss over the whole batch and over each task's clips; the gradients are the batch's too."""
    tasks = [task.name for task in fields(TaskMix)]
    while True:
        optimizer.zero_grad()
        sums = torch.zeros((len(tasks), 2), device=accelerator.device)  # of each task: losses, and number of clips
        for stages in micro:
            last = stages is micro[-1]
            with nullcontext() if last else accelerator.no_sync(run_stage):
                stage = run_stage(stages)
                if stage is None:
                    return
                accelerator.backward(stage.loss / len(micro))
            each = stage.each.detach().float()
            rows = torch.tensor([tasks.index(task) for task in stage.tasks], device=each.device)
            sums.index_add_(0, rows, torch.stack([each, torch.ones_like(each)], 1))
        sums = accelerator.reduce(sums, "sum").tolist()
        total, clips = map(sum, zip(*sums, strict=True))
        yield stage.stage, total / clips, {task: of / n for task, (of, n) in zip(tasks, sums, strict=True) if n}


def _check(stage: str, loss: float, norm: float, iteration: int, config: TrainConfig, folder: Path | None) -> None:
    """Raise ``UserError`` for a loss or a gradient that would spoil the weights."""
    # float16 overflows at times; its scaler then skips the step
    broken = not loss < EXPLODED or (config.precision != "float16" and not math.isfinite(norm))
    if broken:
        what, value = ("gradient", norm) if loss < EXPLODED else ("loss", loss)
        kept = "; the last checkpoint is kept" if folder and checkpoints(folder) else ""
        or_clip = f"clip_grad (now {config.clip_grad:g})" if config.clip_grad else "set clip_grad"
        raise UserError(
            f"the {what} of {stage} became {value:g} at iteration {iteration}: lower rate (now {config.rate:g}) or "
            f"{or_clip}{kept}."
        )


def _with_plain_errors(batches: DataLoader) -> Iterator[Tensor]:
    """The batches; a ``UserError`` of a worker, which comes wrapped in its traceback, is a sentence again."""
    try:
        yield from batches
    except UserError as error:
        sentence = str(error).strip().splitlines()[-1].removeprefix(f"{UserError.__module__}.UserError: ")
        raise UserError(sentence) from error


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is set in any process: what all of them must know before they stop together."""
    if not dist.is_initialized():
        return flag
    flags = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flags)
    return bool(flags)


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """The rate at an iteration (from 1): a linear warm-up, constant or half a cosine, a linear cooldown towards 0."""
    done, left = (iteration - 1) / config.iterations, config.iterations + 1 - iteration
    shape = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1.0
    return config.rate * min(shape, iteration / max(1, config.warmup), left / max(1, config.cooldown))


class Batches:
    """Indices of every batch of a run from iteration ``start`` on; the order depends on the seed and the epoch only.

    An epoch takes each of ``different`` items once, and the next one those that follow: see ``data.different_items``.
    So the clips of a batch differ, unless it is larger than that, and every process gets its ``share`` of each batch:
    no two processes see the same clip.
    """

    def __init__(
        self, length: int, config: TrainConfig, start: int = 0, share: Share = WHOLE, different: int | None = None
    ):
        if length < config.batch_size:
            raise UserError(f"the data hold {length} clips, fewer than one batch of {config.batch_size}.")
        different = different or length
        self.config, self.start, self.share = config, start, share
        self.items = min(length, different * math.ceil(config.batch_size / different))
        self.epochs = length // self.items  # before the first items come again

    def __len__(self) -> int:
        return self.config.iterations - self.start

    def __iter__(self) -> Iterator[list[int]]:
        size, per_epoch, order = self.config.batch_size, self.items // self.config.batch_size, None
        for iteration in range(self.start, self.config.iterations):
            epoch, batch = divmod(iteration, per_epoch)
            if order is None or batch == 0:
                first = epoch % self.epochs * self.items
                order = first + torch.randperm(self.items, generator=generator_for(self.config.seed, epoch, 1))
            yield self.share(order[batch * size : (batch + 1) * size]).tolist()


def checkpoints(folder: Path) -> list[Path]:
    """A run's checkpoint files, the newest first."""
    return sorted((Path(folder) / "checkpoints").glob("[0-9]*.pt"), reverse=True)


def read_checkpoint(folder: Path) -> dict | None:
    """The newest checkpoint that is whole; None where there is none yet."""
    files = checkpoints(folder)
    for path in files:
        try:
            return read_torch_file(path, ("iteration", "model", "ema", "optimizer", "config"))
        except UserError as error:
            if path == files[-1]:
                raise
            warnings.warn(f"{error} Trying the checkpoint before it.", stacklevel=2)
    return None


@dataclass
class _State:
    """What a run needs to go on exactly where it was; its random numbers depend on the iteration alone."""

    model: VideoDenoiser
    ema: AveragedModel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    config: dict

    def save(self, folder: Path, iteration: int, keep: int) -> None:
        path = folder / "checkpoints" / f"{iteration:08}.pt"
        state = {
            "iteration": iteration,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "config": self.config,
        }
        clear_drafts(path.parent)
        with draft(path) as part:  # a reader sees a whole checkpoint or none, never half of one
            try:
                torch.save(state, part)
            except RuntimeError as error:  # what torch makes of a full disk
                raise OSError("is the disk full?") from error
            with part.open("rb") as file:
                os.fsync(file.fileno())
        for old in checkpoints(folder)[keep:]:
            old.unlink()

    def load(self, folder: Path) -> int:
        """Take up the newest checkpoint's state; return its iteration, 0 where there is none."""
        saved = read_checkpoint(folder)
        if not saved:
            return 0
        # settings that are newer than the checkpoint had their default; old ones do not tell their videos apart
        defaults = {"model": asdict(ModelConfig()), "train": asdict(TrainConfig())}
        old = filled(saved["config"], {**defaults, "videos": self.config.get("videos")})
        may_change, remedy = tuple(f"train.{name}" for name in MAY_CHANGE), "use those, or another folder"
        check_same(old, self.config, f"{folder} was trained with", may_change, remedy)
        reached, before, now = saved["iteration"], old["train"], self.config["train"]
        plans = {("iterations", "cooldown"): _falls, ("single_stage",): lambda train: train["single_stage"]}
        for names, until in plans.items():
            if any(before[name] != now[name] for name in names) and reached > min(until(before), until(now)):
                raise UserError(
                    f"{folder} is at iteration {reached}, too far for other {' or '.join(names)}: go on with "
                    f"iterations {before['iterations']}, cooldown {before['cooldown']} and single_stage "
                    f"{before['single_stage']}, or begin another run from its weights."
                )
        self.model.load_state_dict(saved["model"])
        self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.scaler and saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
        return saved["iteration"]


def _falls(train: dict) -> int:
    """The iteration after which the rate falls, and a run depends on where it ends."""
    return 0 if train["schedule"] == "cosine" else train["iterations"] - train["cooldown"]


def _warmed_ema(decay: float):
    """Exponential moving average whose decay grows from 0: early weights are soon forgotten."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
        n = int(updates)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
