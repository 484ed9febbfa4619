"""The motion skip forwards: every patch of a known frame says where it goes (softmax splatting).

``MotionSkip`` asks every patch of a new frame where it comes from. What is unsure of it comes out mixed, from frame to
frame anew, and thin things dissolve. Here the pixels of the last known frame are carried along paths, and where several
meet, the one in front wins (Niklaus and Liu 2020): nothing is lost on the way but what leaves the picture or goes
behind something else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lgcvd.config import ModelConfig
from lgcvd.context import Evidence
from lgcvd.motion import FIRST_GAINS, MotionSkip, _coordinates

LARGEST_FRONT = 8.0
"""Bound of the logits of what is in front: a share of 1 in 10 million is as good as none."""


WIDTH = 128
"""Of the network that says how things go on."""

PIXELS = 1 / 4
"""Scale of what ``SplattingSkip.paths`` is told: of the size of 1, and one pixel makes a difference."""


class Carried(NamedTuple):
    """State of the scan: pixels on their way."""

    pixels: Tensor
    """The frame that they started from, (B, C, H, W)."""
    path: Tensor
    """How far each came since, (B, 2, H, W): y and x."""
    goes: Tensor
    """How far what moved along each displacement goes in every step of the scan, (B, T - 1, n, 2)."""


class SplattingSkip(MotionSkip):
    """Completes a painted clip by moving on the pixels of the frame that is known last.

    What moves alike is one thing (the Gestalt law of common fate). From how it moved and where its middle is, a small
    network of its own says how it goes on: evenly, until it slows down, turns round, bounces. A patch goes with the
    things to which the evidence gives it; the large network may correct that by a factor along each axis and by pixels
    added, told at the place where the patch started.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.paths = nn.Sequential(
            *(nn.Linear(6, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()),
            nn.Linear(WIDTH, 2 * (self.clip_frames - 1)),
        )
        nn.init.zeros_(self.paths[-1].weight)
        nn.init.zeros_(self.paths[-1].bias)

    @property
    def channels_out(self) -> int:
        """For every step of the scan: trust, factor, pixels added, gates, and logits of what is in front."""
        return (self.clip_frames - 1) * sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return [len(FIRST_GAINS), 2, 2, self.patch**2, self.patch**2]

    def _things(self, agreement: Tensor, pooled: list[Tensor], reference: Tensor) -> Tensor:
        """Of what moved along each displacement: how far and where its middle is, in ``PIXELS``, its share of all, and
        the place in the scan of the frame where that was seen."""
        height, width = agreement.shape[-2:]
        likely = sum(first * found for first, found in zip(FIRST_GAINS, pooled, strict=True)).softmax(1)
        mass = likely * agreement[:, 1]
        total = mass.sum((2, 3))
        middle = torch.einsum("bnhw,bchw->bnc", mass, _coordinates(mass)) / total.clamp(min=1e-6)[..., None]
        middle = middle * middle.new_tensor([height, width]) * self.patch / 2  # pixels from the middle of the picture
        share = total / total.sum(1, keepdim=True).clamp(min=1e-6)
        moved, place = self.displacements.expand_as(middle), reference[:, None].expand_as(share)
        return torch.cat([PIXELS * moved, PIXELS * middle, share[..., None], place[..., None]], dim=2)

    def _start(self, frame: Tensor, evidence: Evidence) -> Carried:
        with torch.autocast(frame.device.type, enabled=False):  # pixels are counted here
            goes = self.paths(evidence.things).unflatten(2, (-1, 2)).transpose(1, 2) - self.displacements
        return Carried(frame, torch.zeros_like(frame[:, :1]).repeat(1, 2, 1, 1), goes)

    def _after(self, start: Carried, frame: Tensor, known: Tensor) -> Carried:
        pixels, path, goes = start
        return Carried(torch.where(known, frame, pixels), torch.where(known, 0, path), goes)

    def _decided(self, i: int, order: Tensor, known: Tensor) -> Tensor:
        return torch.where(known & (order < i), order, 0).amax(1)

    def _moved(self, start: Carried, i: int, answer: Tensor, evidence: Evidence) -> tuple[Tensor, Tensor, Carried]:
        gains, factor, added, gate, front = answer.split(self._sizes, dim=1)
        shares, gate = self._decide(gains.new_zeros(()), gains, gate, evidence.along[i - 1])
        step = torch.einsum("bnhw,bnc->bchw", shares, start.goes[:, i - 1]) * (1 + factor) + added
        path = start.path + step.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        moved, covered = splat(start.pixels, path, self._pixels(front))
        return moved, gate * covered, start._replace(path=path)


def splat(frame: Tensor, path: Tensor, front: Tensor) -> tuple[Tensor, Tensor]:
    """``frame`` (B, C, H, W) with every pixel ``path`` (B, 2, H, W; y and x) farther, and how far pixels are covered.

    A pixel lands between four others by their shares. Where several land, they count by exp(``front``), (B, 1, H, W).
    Covered, (B, 1, H, W), is the share that landed there, at most 1.
    """
    height, width = frame.shape[2:]
    weight = front.clamp(-LARGEST_FRONT, LARGEST_FRONT).exp()
    carried = torch.cat([frame * weight, weight, torch.ones_like(weight)], dim=1).flatten(2)
    y = (torch.arange(height).to(path)[:, None] + path[:, 0]).flatten(1)
    x = (torch.arange(width).to(path) + path[:, 1]).flatten(1)
    above, left = y.detach().floor(), x.detach().floor()
    landed = torch.zeros_like(carried)
    for row, share_y in ((above, above + 1 - y), (above + 1, y - above)):
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = share_y * share_x * inside
            place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
            landed = landed.scatter_add(2, place[:, None].expand_as(carried), carried * share[:, None])
    landed = landed.unflatten(2, (height, width))
    total, weights, count = landed.split([frame.shape[1], 1, 1], dim=1)
    return total / weights.clamp(min=1e-6), count.clamp(max=1)


def motion_skip(config: ModelConfig, frames: int) -> MotionSkip | None:
    """The skip that ``config`` asks for, over a clip of so many frames; None where all is painted."""
    if not config.motion:
        return None
    kind = SplattingSkip if config.motion_splat else MotionSkip
    return kind(frames, config.patch_size, config.motion, config.motion_sharpness, config.motion_stride)
