"""What a denoiser may know: local context (frames and where they belong) and global context (memory).

A task is nothing but a choice of positions for the ``K`` local frames (paper, section 3.3): prediction knows the first
frames, interpolation both ends, generation none. Position -1 means "absent".
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lgcvd.errors import UserError

ABSENT = -1
"""Position of a local frame that is not given."""

ABSENT_FRAME = -1.0
"""What an absent local frame shows in [-1, 1]: black."""

NULL_CLIP = 0.0
"""What the encoder reads before there is a previous clip, in [-1, 1]: grey."""


@dataclass(frozen=True)
class Context:
    """All that a denoiser may know besides ``x_t`` and ``t``.

    frames: local context, (B, K, C, H, W) in [-1, 1]; what stands at an absent position is ignored.
    positions: index of each local frame in the clip, (B, K) integers in [-1, T); -1 is absent.
    memory: global context from ``VideoDenoiser.remember``, (B, D, h, w); None for models without.
    """

    frames: Tensor
    positions: Tensor
    memory: Tensor | None = None

    def with_memory(self, memory: Tensor | None) -> Context:
        return replace(self, memory=memory)


def local_context(clip: Tensor, positions: Tensor, memory: Tensor | None = None) -> Context:
    """The context that shows a model the frames of ``clip`` (B, T, C, H, W) at ``positions`` (B, K)."""
    batch = torch.arange(len(clip), device=clip.device)[:, None]
    return Context(clip[batch, positions.clamp(min=0)], positions, memory)


def prediction(context_frames: int, clip_frames: int) -> list[int]:
    """The first frames are known."""
    return list(range(context_frames))


def generation(context_frames: int, clip_frames: int) -> list[int]:
    """Nothing is known."""
    return [ABSENT] * context_frames


def interpolation(context_frames: int, clip_frames: int) -> list[int]:
    """Both ends are known, the start has the odd frame."""
    tail = context_frames // 2
    return [*range(context_frames - tail), *range(clip_frames - tail, clip_frames)]


TASKS = {"prediction": prediction, "generation": generation, "interpolation": interpolation}
"""Tasks with fixed positions: name -> function of (K, T) that gives K positions."""


@dataclass(frozen=True)
class TaskMix:
    """How often each task is trained; the paper's shares (section 4.1). They are weights: any sum will do."""

    prediction: float = 0.45
    """First K frames known."""
    generation: float = 0.40
    """No frame known."""
    interpolation: float = 0.05
    """Both ends known."""
    random: float = 0.10
    """K frames anywhere known."""

    def __post_init__(self) -> None:
        weights = [getattr(self, field.name) for field in fields(self)]
        if min(weights) < 0 or max(weights) == 0:
            raise UserError(f"the shares of the tasks must not be negative, and one must be positive, not {weights}.")

    def draw(self, batch: int, context_frames: int, clip_frames: int, generator: torch.Generator) -> Tensor:
        """Positions (B, K), one task a sample."""
        names = [f.name for f in fields(self)]
        weights = torch.tensor([getattr(self, name) for name in names], dtype=torch.float)
        chosen = torch.multinomial(weights, batch, replacement=True, generator=generator).tolist()
        rows = []
        for task in chosen:
            if names[task] == "random":
                rows.append(torch.randperm(clip_frames, generator=generator)[:context_frames].sort().values)
            else:
                rows.append(torch.tensor(TASKS[names[task]](context_frames, clip_frames)))
        return torch.stack(rows)
