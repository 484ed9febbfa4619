"""Training as a generator over iterations: averaged weights, atomic checkpoints, exact resume, many processes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, is_dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from lgcvd.checkpoints import read_torch_file
from lgcvd.config import TrainConfig
from lgcvd.errors import UserError
from lgcvd.models import VideoDenoiser
from lgcvd.objective import DISTANCES, TIMES, WHOLE, Share, TwoStage
from lgcvd.video import from_uint8

CHECKPOINT = "checkpoint.pt"
MAY_CHANGE = ("train.iterations:", "train.save_every:")
"""Settings that a run may go on with other values of, until its cooldown: nothing before it depends on them."""


@dataclass(frozen=True)
class TrainStep:
    """One iteration that is done."""

    iteration: int
    """Counts from 1."""
    iterations: int
    losses: dict[str, float]
    """Stage -> loss over the whole batch."""
    rate: float
    model: VideoDenoiser
    """The averaged model (EMA); it goes on changing with the training."""
    saved: bool
    """Whether a checkpoint was written after this iteration."""

    @property
    def loss(self) -> float:
        """Mean over the stages."""
        return sum(self.losses.values()) / len(self.losses)


def train(
    model: VideoDenoiser,
    data: Dataset,
    config: TrainConfig,
    *,
    objective: TwoStage | None = None,
    folder: Path | None = None,
    workers: int = 0,
) -> Iterator[TrainStep]:
    """Train ``model`` on clips (2 T - K, C, H, W) uint8 of ``data``; yield after every iteration.

    Each stage takes one optimizer step. With a ``folder``, checkpoints go there every ``config.save_every`` iterations
    and at the end, and a run that was broken off goes on from the last one as if it had never stopped; settings that
    differ from the checkpoint's are refused. Closing the generator saves too: to stop without loss, stop iterating.

    Where ``torch.distributed`` is initialised, its processes share every batch and average their gradients; all must
    stop after the same iteration (see ``any_process``). The run does not depend on their number, but for rounding, nor
    on ``workers``, the number of processes that prepare batches.
    """
    model.config.check_width()
    share = Share(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else WHOLE
    if config.batch_size % share.of:
        raise UserError(f"{share.of} processes cannot share batches of {config.batch_size}: set a multiple.")
    objective = objective or TwoStage(config.tasks, DISTANCES[config.loss], TIMES[config.times])
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=config.rate, betas=(0.9, config.beta2), fused=True)
    ema = AveragedModel(model, multi_avg_fn=_warmed_ema(config.ema))
    generator = torch.Generator().manual_seed(config.seed)
    settings = {"model": asdict(model.config), "train": asdict(config)}
    if is_dataclass(data):  # its repr tells everything that decides its items
        settings["data"] = repr(data)
    state = _State(model, ema, optimizer, generator, settings)
    start = state.load(Path(folder) / CHECKPOINT) if folder and (Path(folder) / CHECKPOINT).exists() else 0

    writes = bool(folder) and share.rank == 0
    model.train()
    parameters = list(model.parameters())
    if share.of > 1:
        for weight in parameters:
            dist.broadcast(weight.data, src=0)
    batches = DataLoader(data, batch_sampler=Batches(len(data), config, start, share), num_workers=workers)
    for iteration, clip in enumerate(_with_plain_errors(batches), start + 1):
        rate = learning_rate(config, iteration)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = {}
        stages = objective(model, from_uint8(clip.to(device)), generator, share)
        for stage, loss in _in_precision(
            islice(stages, 1 if iteration <= config.single_stage else None), device, config.precision
        ):
            optimizer.zero_grad()
            loss.backward()
            losses[stage] = _averaged(loss, parameters, share).item()
            if not math.isfinite(losses[stage]):
                raise UserError(
                    f"the loss of {stage} became {losses[stage]} at iteration {iteration}: lower rate (now "
                    f"{config.rate:g}) or set clip_grad; the last checkpoint is kept."
                )
            if config.clip_grad:
                torch.nn.utils.clip_grad_norm_(parameters, config.clip_grad)
            optimizer.step()
            ema.update_parameters(model)
        saved = writes and (iteration % config.save_every == 0 or iteration == config.iterations)
        if saved:
            state.save(Path(folder) / CHECKPOINT, iteration)
        try:
            yield TrainStep(iteration, config.iterations, losses, rate, ema.module, saved)
        except GeneratorExit:
            if writes and not saved:
                state.save(Path(folder) / CHECKPOINT, iteration)
            raise


def _in_precision(stages: Iterator, device: torch.device, precision: str) -> Iterator[tuple[str, Tensor]]:
    """The stages, their forward passes (not what is done between them) in reduced precision if asked for."""
    while True:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            stage = next(stages, None)
        if stage is None:
            return
        yield stage


def _with_plain_errors(batches: DataLoader) -> Iterator[Tensor]:
    """The batches; a ``UserError`` of a worker, which comes wrapped in its traceback, is a sentence again."""
    try:
        yield from batches
    except UserError as error:
        sentence = str(error).strip().splitlines()[-1].removeprefix(f"{UserError.__module__}.UserError: ")
        raise UserError(sentence) from error


def _averaged(loss: Tensor, parameters: list[Tensor], share: Share) -> Tensor:
    """The loss of the whole batch; the gradients become the whole batch's too."""
    loss = loss.detach()
    if share.of > 1:
        parts = [loss, *(p.grad for p in parameters if p.grad is not None)]
        mean = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(mean)
        mean /= share.of
        for part, averaged in zip(parts, mean.split([part.numel() for part in parts]), strict=True):
            part.copy_(averaged.view(part.shape))
    return loss


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is set in any process: what all of them must know before they stop together."""
    if not dist.is_initialized():
        return flag
    flags = torch.tensor(float(flag))
    dist.all_reduce(flags)
    return bool(flags)


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """The rate at an iteration (from 1): a linear warm-up, constant, then a linear cooldown towards 0."""
    left = config.iterations + 1 - iteration
    return config.rate * min(1.0, iteration / max(1, config.warmup), left / max(1, config.cooldown))


class Batches:
    """Indices of every batch of a run from iteration ``start`` on; the order depends on the seed and the epoch only.

    Every process gets its ``share`` of each batch: no two processes see the same clip.
    """

    def __init__(self, length: int, config: TrainConfig, start: int = 0, share: Share = WHOLE):
        if length < config.batch_size:
            raise UserError(f"the data hold {length} clips, fewer than one batch of {config.batch_size}.")
        self.length, self.config, self.start, self.share = length, config, start, share

    def __len__(self) -> int:
        return self.config.iterations - self.start

    def __iter__(self) -> Iterator[list[int]]:
        size, per_epoch, order = self.config.batch_size, self.length // self.config.batch_size, None
        for iteration in range(self.start, self.config.iterations):
            epoch, batch = divmod(iteration, per_epoch)
            if order is None or batch == 0:
                seed = self.config.seed * 1_000_003 + epoch
                order = torch.randperm(self.length, generator=torch.Generator().manual_seed(seed))
            yield self.share(order[batch * size : (batch + 1) * size]).tolist()


@dataclass
class _State:
    """What a run needs to go on exactly where it was."""

    model: VideoDenoiser
    ema: AveragedModel
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    config: dict

    def save(self, path: Path, iteration: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        torch.save(
            {
                "iteration": iteration,
                "model": self.model.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "config": self.config,
            },
            draft,
        )
        os.replace(draft, path)  # atomic: a reader sees the old checkpoint or the new one, never half of one

    def load(self, path: Path) -> int:
        """Take up the checkpoint's state; return its iteration."""
        saved = read_torch_file(path, ("iteration", "model", "ema", "optimizer", "generator", "config"))
        changed = [d for d in differences(saved["config"], self.config) if not d.startswith(MAY_CHANGE)]
        if changed:
            raise UserError(
                f"{path} was trained with other settings ({'; '.join(changed)}): use those, or another folder."
            )
        before, now = saved["config"]["train"], self.config["train"]
        if saved["iteration"] > before["iterations"] - before["cooldown"] and now["iterations"] != before["iterations"]:
            raise UserError(
                f"{path} is in its cooldown, which ends at iteration {before['iterations']}: go on with that number of "
                "iterations, or begin another run from its weights."
            )
        self.model.load_state_dict(saved["model"])
        self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.generator.set_state(saved["generator"])
        return saved["iteration"]


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """What the settings ``new`` have other than ``old``, a line each."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} there, {b} here")
    return found


def _warmed_ema(decay: float):
    """Exponential moving average whose decay grows from 0: early weights are soon forgotten."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
        n = int(updates)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
