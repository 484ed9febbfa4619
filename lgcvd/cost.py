"""What a training costs before it is begun: parameters, operations, memory; and what to do when it does not fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lgcvd.config import ModelConfig, TrainConfig
from lgcvd.errors import UserError
from lgcvd.models import build
from lgcvd.objective import Objective, Share, objective_of

BYTES_A_PARAMETER = 5 * 4
"""Weight, gradient, Adam's two moments and the average, float32 each."""

USABLE = 0.9
"""Share of a device's memory that training can count on: its own libraries, and gaps, need the rest."""

GB = 1 << 30


@dataclass(frozen=True)
class Cost:
    """Of one iteration."""

    parameters: int
    flops: dict[str, float]
    """Stage -> floating point operations for one clip, forward and backward; a product and a sum are two."""
    activations: int
    """Bytes that the backward pass of one clip keeps, at most. An estimate: float32, and attention with its weights,
    which fused kernels do not keep; reduced precision saves about a fifth of it."""

    @property
    def fixed(self) -> int:
        """Bytes that training keeps whatever the batch."""
        return BYTES_A_PARAMETER * self.parameters

    def memory(self, clips: int) -> int:
        """Bytes at most, with so many clips at once."""
        return self.fixed + clips * self.activations

    def fitting(self, clips: int, memory: int) -> int | None:
        """The least ``accumulate`` with which ``clips`` an iteration and process fit into ``memory`` bytes."""
        parts = (n for n in range(1, clips + 1) if clips % n == 0)
        return next((n for n in parts if self.memory(clips // n) <= USABLE * memory), None)


class _NoNoise(Share):
    """Noise without values: some devices have none."""

    def noise(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        return torch.zeros_like(x0)


def cost_of(model_config: ModelConfig, config: TrainConfig, objective: Objective | None = None) -> Cost:
    """The cost for one clip, found by going through an iteration with shapes alone, on torch's "meta" device.

    A model whose path depends on values goes through one on the CPU, which can take seconds.
    """
    objective = objective or objective_of(config)
    try:
        return _cost_on("meta", model_config, objective)
    except (RuntimeError, NotImplementedError):  # what asks for a value there
        return _cost_on("cpu", model_config, objective)


def _cost_on(device: str, config: ModelConfig, objective: Objective) -> Cost:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device(device), torch.random.fork_rng(devices=[]):
        model = build(config)
    clip = torch.zeros((1, objective.clip_frames(config), config.channels, *config.image_size), device=device)
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    stages = objective(model, clip, torch.Generator().manual_seed(0), _NoNoise())
    flops, activations = {}, 0
    while True:
        kept.clear()
        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                stage = next(stages, None)
            if stage is None:
                break
            activations = max(activations, sum(storage.nbytes() for storage in kept.values()))
            stage.loss.backward()
        flops[stage.stage] = counter.get_total_flops()
    return Cost(sum(weight.numel() for weight in model.parameters()), flops, activations)


def device_memory(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def told_when_too_large(sentence: Callable[[], str]) -> Iterator[None]:
    """Running out of memory becomes a ``UserError`` with this ``sentence``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        words = str(error).lower()
        if isinstance(error, RuntimeError) and "out of memory" not in words and "allocate memory" not in words:
            raise
        raise UserError(sentence()) from error


def too_large(model_config: ModelConfig, config: TrainConfig, memory: int, processes: int = 1) -> str:
    """How to fit a training into ``memory`` bytes a process where it did not: what to lower, and by how much."""
    cost = cost_of(model_config, config)
    clips = config.batch_size // processes
    # what ran out of memory needs at least twice the parts, whatever the estimate says
    fitting = cost.fitting(clips, min(memory, round(cost.memory(clips // config.accumulate) / 2 / USABLE) + cost.fixed))
    told = f"out of memory: {clips // config.accumulate} clips at once need about "
    told += f"{cost.memory(clips // config.accumulate) / GB:.1f} GB of {memory / GB:.1f} GB"
    lower = f"model.dim (now {model_config.dim}; half of it needs about half) or model.image_size"
    if fitting is None or fitting <= config.accumulate:
        return f"{told}: lower {lower}."
    return (
        f"{told}: set train.accumulate to {fitting} (now {config.accumulate}; trains the same), or train.batch_size to "
        f"{max(1, config.batch_size * config.accumulate // fitting)} (now {config.batch_size}); if that is not enough, "
        f"lower {lower}."
    )
