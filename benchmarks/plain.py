"""What the benchmarks share: the straightforward form of a model, and fair timing."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lgcvd import LGCVD, ModelConfig
from lgcvd.blocks import Attention
from lgcvd.checkpoints import compile_networks
from lgcvd.machine import describe_machine
from lgcvd.motion import MotionSkip, Skip, displaced


class PlainAttention(nn.Module):
    """``lgcvd.blocks.Attention`` with its weights, written out as einsum and softmax."""

    def __init__(self, attention: Attention):
        super().__init__()
        self.heads, self.norm, self.out = attention.heads, attention.norm, attention.out
        self.query, self.key_value = attention.query, attention.key_value

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        normed = self.norm(x)
        source = normed if memory is None else self.norm(memory)
        heads = partial(rearrange, pattern="b n (h d) -> b h n d", h=self.heads)
        q = heads(self.query(rearrange(normed, "b c h w -> b (h w) c")))
        k, v = (heads(part) for part in self.key_value(rearrange(source, "b c h w -> b (h w) c")).chunk(2, dim=-1))
        weights = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1])
        h = torch.einsum("bhij,bhjd->bhid", weights.softmax(-1), v)
        h = rearrange(self.out(rearrange(h, "b h n d -> b n (h d)")), "b (h w) c -> b c h w", h=x.shape[-2])
        return (x + h) / math.sqrt(2)


def plain_agreement(motion: Skip, frames: Tensor, positions: Tensor) -> Tensor:
    """``Skip.agreement`` as the mean and the variance of all that is moved."""
    order, known, reference, _ = motion._scan(positions)
    steps = (reference[:, None] - order).unbind(1)
    moved = [displaced(frame, motion._steps(step)) for frame, step in zip(frames.unbind(1), steps, strict=True)]
    moved = torch.stack(moved, dim=1)
    shares = (known / known.sum(1, keepdim=True).clamp(min=1))[..., None, None, None, None]
    mean = (shares * moved).sum(1)
    variance = (shares * (moved - mean[:, None]).square()).sum(1)
    enough = (known.sum(1) > 1)[:, None, None, None]
    found = (-variance.mean(2), mean.square().mean(2))
    return torch.stack([F.avg_pool2d(maps, motion.patch) * enough for maps in found], dim=1)


def plain_move(motion: MotionSkip, frame: Tensor, kernel: Tensor) -> Tensor:
    """``MotionSkip._move`` as a sum whose derivative autograd finds."""
    height, width = frame.shape[-2:]
    padded = F.pad(frame, (motion.radius,) * 4, mode="replicate")
    shares = kernel.repeat_interleave(motion.patch, 2).repeat_interleave(motion.patch, 3)
    corners = (motion.displacements + motion.radius).tolist()
    moved = (padded[..., y : y + height, x : x + width] * shares[:, n, None] for n, (y, x) in enumerate(corners))
    return sum(moved)


def straightforward(model: LGCVD) -> LGCVD:
    """A copy of ``model`` as one would first write it: float32, contiguous layout, everything left to autograd."""
    plain = deepcopy(model).to(dtype=torch.float32, memory_format=torch.contiguous_format)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, Attention):
                setattr(module, name, PlainAttention(child))
    for module in plain.modules():
        if isinstance(module, Skip):
            module.agreement = partial(plain_agreement, module)
        if isinstance(module, MotionSkip):
            module._move = partial(plain_move, module)
    channels_last_fold = plain._fold
    plain._fold = lambda video: channels_last_fold(video).contiguous()
    return plain


def random_model(config: ModelConfig) -> LGCVD:
    """A model with random weights everywhere, its output layers too, so that forms of it can be compared."""
    torch.manual_seed(0)
    model = LGCVD(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return model.eval()


def forms(model: LGCVD, with_compiled: bool) -> dict[str, LGCVD]:
    """The forms of ``model`` that are compared, the straightforward one first."""
    named = {"straightforward": straightforward(model), "lgcvd": model}
    return named | {"compiled": compile_networks(deepcopy(model))} if with_compiled else named


def interleaved(
    runs: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each run: a warm-up, then A B A B, so that a busy machine is as unfair to one as to another."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for run in runs.values():
            run()
        for _ in range(rounds):
            for name, run in runs.items():
                started = clock()
                run()
                seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratio_cells(seconds: dict[str, float], unit: float) -> list[str]:
    """Cells of a row: every form's time in units of ``unit`` seconds, and its share of the first form's."""
    first = next(iter(seconds))
    cells = [f"{seconds[first] / unit:.2f}"]
    for form in ("lgcvd", "compiled"):
        done = form in seconds
        cells += [f"{seconds[form] / unit:.2f}", f"{seconds[form] / seconds[first]:.2f}"] if done else ["-", "-"]
    return cells


def machine_line() -> str:
    machine = describe_machine()
    return f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}."
