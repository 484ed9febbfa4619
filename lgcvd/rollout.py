"""Clip after clip, as far as you like: a generator over windows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from lgcvd.context import Context
from lgcvd.errors import UserError
from lgcvd.models import VideoDenoiser
from lgcvd.sampling import DEFAULT_SAMPLER, DEFAULT_STEPS, Generators, check_sampler, randn, sample

MAX_FRAMES = 1000
"""More new frames than this are refused: a typing error should not run for a day."""


@dataclass(frozen=True)
class Window:
    """How far a rollout has come. ``index`` counts windows from 1, ``step`` denoising steps of this window."""

    index: int
    windows: int
    step: int
    steps: int
    video: Tensor
    """Observed and new frames so far, (B, K' + n, C, H, W) in [-1, 1]; of an unfinished window, the present guess."""

    @property
    def done(self) -> bool:
        """Whether the window's frames are final."""
        return self.step == self.steps

    @property
    def fraction(self) -> float:
        """Share of the whole rollout's denoising steps that is done, in (0, 1]."""
        return ((self.index - 1) * self.steps + self.step) / (self.windows * self.steps)


@torch.no_grad()
def rollout(
    model: VideoDenoiser,
    observed: Tensor,
    *,
    num_frames: int,
    sampler: str = DEFAULT_SAMPLER,
    steps: int = DEFAULT_STEPS,
    generator: Generators = None,
    every_step: bool = False,
) -> Iterator[Window]:
    """Predict ``num_frames`` frames after ``observed`` (B, at least K, C, H, W) in [-1, 1] (paper, section 3.4).

    Each window sees the last K frames as local context and the average of what the encoder remembers of all windows
    before. Observed frames come back untouched. Yields after every window; with ``every_step`` after every denoising
    step, so that a caller can show progress and stop within one step. With a list of generators, one a clip, what becomes
    of a clip does not depend on the others of its batch.
    """
    k, n = model.context_frames, model.new_frames
    if observed.shape[1] < k:
        raise UserError(f"the clip has {observed.shape[1]} frames, but this model needs at least {k} to go on from.")
    if observed.shape[2] != model.config.channels:
        raise UserError(f"the clip has {observed.shape[2]} channels, but this model works on {model.config.channels}.")
    if not 1 <= num_frames <= MAX_FRAMES:
        raise UserError(f"the number of new frames must be between 1 and {MAX_FRAMES}, not {num_frames}.")
    model.config.check_size(*observed.shape[-2:])
    check_sampler(sampler, steps, model.schedule)

    batch, _, *frame_shape = observed.shape
    end = observed.shape[1] + num_frames
    windows = ceil(num_frames / n)
    positions = torch.arange(k, device=observed.device).expand(batch, k)
    video, memory = observed, model.remember(None, size=observed.shape[-2:])
    for index in range(1, windows + 1):
        context = Context(video[:, -k:], positions, memory)
        x_T = randn(observed.new_empty(batch, model.output_frames, *frame_shape), generator)
        for step in sample(model, x_T, context, sampler=sampler, steps=steps, generator=generator):
            last = step.index == steps
            clip = step.x_t.clamp(-1, 1) if last else step.x0
            if last or every_step:
                yield Window(index, windows, step.index, steps, torch.cat([video, clip[:, -n:]], dim=1)[:, :end])
        video = torch.cat([video, clip[:, -n:]], dim=1)
        memory = model.remember(clip, memory)


def predict(model: VideoDenoiser, observed: Tensor, num_frames: int, **options: object) -> Tensor:
    """The whole rollout at once: observed and new frames, (B, K' + num_frames, C, H, W)."""
    return deque(rollout(model, observed, num_frames=num_frames, **options), maxlen=1).pop().video
