"""The motion skip forwards: every patch of a known frame says where it goes (softmax splatting).

``MotionSkip`` asks every patch of a new frame where it comes from. What is unsure of it comes out mixed, from frame to
frame anew, and thin things dissolve. Here the pixels of the last known frame are carried along paths, and where several
meet, the one in front wins (Niklaus and Liu 2020): nothing is lost on the way but what leaves the picture or goes
behind something else.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgcvd.config import ModelConfig
from lgcvd.context import Context, Evidence
from lgcvd.motion import BOXES, MotionSkip, _coordinates, _of_patches, _pooled, in_full_precision

LARGEST_FRONT = 8.0
"""Bound of the logits of what is in front: a share of 1 in 10 million is as good as none."""

ALIKE = 0.3
"""Variance, in standardised pixels, at which two patches count for a third of two equal ones."""

FEW = 1e-2
"""Mean of votes, in squared standardised pixels, that is as good as none."""

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
    network of its own says how it goes on: evenly, until it slows down, turns round, bounces. That network learns from
    where the patches of true clips went (``path_error``): the error of pixels does not tell one that is carried to a
    wrong place where the right one was. A patch goes with the things to which the evidence gives it. The large network
    decides how far to trust the evidence, adds pixels to the step of a patch, told at the place where it started, and
    says what is in front and what is painted.
    """

    first_gains = (4.0, 4.0)

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
        """For every step of the scan: trust, pixels added, gates, and logits of what is in front."""
        return (self.clip_frames - 1) * sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return [len(self.first_gains), 2, self.patch**2, self.patch**2]

    @in_full_precision
    def path_error(self, clip: Tensor, context: Context) -> Tensor:
        """How far from where they went things are said to go: pixels along each axis, means of each clip, (B,).

        clip: the true one, (B, T, C, H, W), standardised. The context comes with its evidence; clips of which it shows
        fewer than two frames have no error. Patches are tracked from frame to frame by block matching, and count by
        how bright they are and how likely they, and how many others, moved along the displacement.
        """
        order, known, _, backwards = self._scan(context.positions)
        with torch.no_grad():
            clip = torch.where(backwards[:, None, None, None, None], clip.flip(1), clip)
            tracked = self._tracked(clip)
            bright = _of_patches(clip.square().mean(2), self.patch)  # (B, T, h, w)
        goes = self._goes(context.evidence)
        batch, seen = torch.arange(len(clip), device=clip.device), known.sum(1) > 1
        went, said = torch.zeros_like(tracked[:, 0]), torch.zeros_like(goes[:, 0])
        error, weight = clip.new_zeros(len(clip)), clip.new_zeros(len(clip))
        for i in range(1, self.clip_frames):
            here = (known & (order == i)).any(1)
            went, said = went + _at(tracked[:, i - 1], went / self.patch), said + goes[:, i - 1]
            mass = self._likely(context.evidence.along[i - 1]) * bright[batch, self._decided(i, order, known)][:, None]
            mass = mass * mass.sum((2, 3), keepdim=True) * (seen & ~here)[:, None, None, None]
            # the mean of |said - went| over patches, without a tensor of all displacements times all patches of both
            error = error + sum(
                (mass * (said[:, :, axis, None, None] - went[:, axis, None]).abs()).sum((1, 2, 3)) for axis in range(2)
            )
            weight = weight + 2 * mass.sum((1, 2, 3))
            went = torch.where(here[:, None, None, None], 0, went)
            said = torch.where(here[:, None, None], 0, said)
        return error / weight.clamp(min=1e-6)

    def _tracked(self, clip: Tensor) -> Tensor:
        """How far every patch goes to the next frame: (B, T - 1, 2, h, w)."""
        before, after = clip[:, :-1].flatten(0, 1), clip[:, 1:].flatten(0, 1)
        height, width = before.shape[2:]
        padded = F.pad(after, (self.radius,) * 4, mode="replicate")
        corners = [self.radius + step for step in self.along_axis]
        maps = []
        for y, x in product(corners, repeat=2):
            near = padded[..., y : y + height, x : x + width]
            squares = ((near - before).square(), (near + before).square())
            maps.append(torch.stack([_of_patches(square, self.patch).mean(1) / 4 for square in squares]))
        difference, brightness = torch.stack(maps, dim=2)
        best = sum(self._pool(-difference, brightness)).argmax(1)
        return self.displacements[best].permute(0, 3, 1, 2).unflatten(0, (len(clip), -1)).to(clip.dtype)

    def _pool(self, difference: Tensor, brightness: Tensor) -> list[Tensor]:
        """Logarithms of how many patches around vote for each displacement: bright ones that look alike."""
        votes = (difference / ALIKE).exp() * brightness
        return [torch.log1p(_pooled(votes, box) / FEW) for box in BOXES]

    def _likely(self, pooled: tuple[Tensor, ...]) -> Tensor:
        """How likely every displacement is by the evidence alone, (B, n, h, w)."""
        return sum(first * found for first, found in zip(self.first_gains, pooled, strict=True)).softmax(1)

    def _things(self, agreement: Tensor, pooled: list[Tensor], reference: Tensor) -> Tensor:
        """Of what moved along each displacement: how far and where its middle is, in ``PIXELS``, its share of all, and
        the place in the scan of the frame where that was seen."""
        height, width = agreement.shape[-2:]
        mass = self._likely(pooled) * agreement[:, 1]
        total = mass.sum((2, 3))
        middle = torch.einsum("bnhw,bchw->bnc", mass, _coordinates(mass)) / total.clamp(min=1e-6)[..., None]
        middle = middle * middle.new_tensor([height, width]) * self.patch / 2  # pixels from the middle of the picture
        share = total / total.sum(1, keepdim=True).clamp(min=1e-6)
        moved, place = -self.displacements.expand_as(middle), reference[:, None].expand_as(share)
        return torch.cat([PIXELS * moved, PIXELS * middle, share[..., None], place[..., None]], dim=2)

    def _goes(self, evidence: Evidence) -> Tensor:
        """``Carried.goes``: as far as it went, and what the small network adds."""
        return self.paths(evidence.things).unflatten(2, (-1, 2)).transpose(1, 2) - self.displacements

    def _start(self, frame: Tensor, evidence: Evidence) -> Carried:
        goes = self._goes(evidence).detach()  # they learn by ``path_error``
        return Carried(frame, torch.zeros_like(frame[:, :1]).repeat(1, 2, 1, 1), goes)

    def _after(self, start: Carried, frame: Tensor, known: Tensor) -> Carried:
        pixels, path, goes = start
        return Carried(torch.where(known, frame, pixels), torch.where(known, 0, path), goes)

    def _decided(self, i: int, order: Tensor, known: Tensor) -> Tensor:
        return torch.where(known & (order < i), order, 0).amax(1)

    def _moved(self, start: Carried, i: int, answer: Tensor, evidence: Evidence) -> tuple[Tensor, Tensor, Carried]:
        gains, added, gate, front = answer.split(self._sizes, dim=1)
        shares, gate = self._decide(gains.new_zeros(()), gains, gate, evidence.along[i - 1])
        step = torch.einsum("bnhw,bnc->bchw", shares, start.goes[:, i - 1]) + added
        path = start.path + step.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        # between pixels, a film would grow softer from window to window
        moved, covered = splat(start.pixels, path if self.training else path.round(), self._pixels(front))
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


def _at(maps: Tensor, path: Tensor) -> Tensor:
    """``maps`` (B, C, h, w) read, in every patch, as many patches away as ``path`` (B, 2, h, w) says, rounded."""
    height, width = maps.shape[2:]
    y = (torch.arange(height).to(path)[:, None] + path[:, 0]).round().clamp(0, height - 1)
    x = (torch.arange(width).to(path) + path[:, 1]).round().clamp(0, width - 1)
    places = (y * width + x).long().flatten(1)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, places).view_as(maps)
