"""The motion skip forwards: things of the known frames go on along paths, and the network completes the film.

``MotionSkip`` asks every patch of a new frame where it comes from. What is unsure of it comes out mixed, from frame to
frame anew, and thin things dissolve. Here the known frames are taken apart into things, each of which moves as a whole
(layers: Wang and Adelson 1994) and is carried along its path (splatting: Niklaus and Liu 2020): nothing is lost on the
way but what leaves the picture or goes behind something else. The network is shown the film that comes of it, and says
what of it stands and what is painted instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lgcvd.config import ModelConfig
from lgcvd.context import Context, Evidence
from lgcvd.motion import FIRST_GATE, MotionSkip, Skip, displaced, in_full_precision, pooled_over

ALIKE = 0.3
"""Variance, in standardised pixels, at which two patches count for a third of two equal ones."""

FITS = 0.5
"""A patch goes along a displacement if it looks at least this much as alike as along its best one."""

STANDS_OUT = 1.0
"""Pixels farther from the mean, in standard deviations, are what a thing consists of."""

NEAR = 5
"""Side of the window, in pixels, in which things that show the same pixel are compared."""

ALSO_OF = 0.3
"""What may be of several things is of those that have around it this share, or more, of what the foremost has."""

FRONT = 2.0
"""How much in front what stands out from the mean is, by standardised pixel."""

EVEN = 0.01
"""What it costs in tracking, by pixel, to move otherwise than before: so little that only equals are decided by it."""

WIDTH = 128
"""Of the network that says how things go on."""

WAYS = 8
"""Ways along each axis that a thing may go on, of which it goes the likeliest."""

SPECK = 0.05
"""Things with this share of all that stands out, or less, are not learned from."""

OTHERS = 0.02
"""Of the error of all ways, beside that of the best: without it, ways that are never best would stay as they are."""

CHOICE = 0.1
"""Of the cross-entropy of which way it will be, against the error of that way in pixels."""

PIXELS = 1 / 4
"""Scale of what ``SplattingSkip.paths`` is told and says: of the size of 1, and one pixel makes a difference."""


@dataclass(frozen=True)
class Carried(Evidence):
    """What the known frames tell, and the film that it makes; n things, times as in the scan.

    things: numbers for ``SplattingSkip.paths``, (B, n, 6): how far a thing goes in a frame and where its middle is, y
        and x in ``PIXELS``; its share of all that stands out; the place of the frame that is known last.
    reference: that place, (B,).
    film: the things, carried on, (B, T, C, H, W), standardised, in the order of the clip.
    covered: where there is something of them, (B, T, 1, H, W), 0 or 1.
    ways: in training, how far from there each thing truly is, (B, T, n, 2), y and x in pixels.
    """

    things: Tensor
    reference: Tensor
    film: Tensor
    covered: Tensor
    ways: Tensor | None


class SplattingSkip(Skip):
    """Completes a painted clip by moving on the things of the known frames.

    What moves alike is one thing (the Gestalt law of common fate); its pixels are what the known frames show alike when
    they are moved along. Things may hide each other: a pixel can be of several. From how a thing moved and where its
    middle is, a small network of its own, ``paths``, says how it goes on: evenly, until it slows down, turns round,
    bounces. It says several ways and how likely they are, and learns it in advance (``lgcvd.paths``). While the large
    network is trained, the film that it is shown goes the true ways (teacher forcing, Williams and Zipser 1989): one
    that meets things in wrong places learns to fade them out.
    """

    def __init__(self, config: ModelConfig):
        radius, stride = config.motion, config.motion_stride
        super().__init__(config.clip_frames, config.patch_size, radius, config.motion_sharpness, stride)
        self.channels, self.mean, self.std = config.channels, config.data_mean, config.data_std
        self.count = config.motion_things
        self.paths = nn.Sequential(
            *(nn.Linear(6, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()),
            nn.Linear(WIDTH, 2 * WAYS * self.clip_frames),
        )
        nn.init.zeros_(self.paths[-1].weight)
        first = torch.full((2, WAYS, self.clip_frames), -1.0)  # of all but the first way, which goes on evenly
        nn.init.normal_(first[..., 1:], std=PIXELS)
        first[:, 0] = 0
        self.paths[-1].bias.data = first.flatten()
        self.paths.requires_grad_(False)  # what trains the rest does not reach them

    @property
    def knows_paths(self) -> bool:
        """Whether ``paths`` has learned anything."""
        return bool(self.paths[-1].weight.any())

    @property
    def channels_in(self) -> int:
        """Film and cover."""
        return self.clip_frames * (self.channels + 1) * self.patch**2

    @property
    def channels_out(self) -> int:
        """Gates."""
        return self.clip_frames * self.patch**2

    @torch.no_grad()
    @in_full_precision
    def evidence(self, frames: Tensor, positions: Tensor, truth: Tensor | None = None) -> Carried:
        """The film that the known frames make, by the ``paths`` of things, or by their true ones."""
        order, known, reference, backwards = self._scan(positions)
        backwards = backwards[:, None, None, None, None]
        enough = (known.sum(1) > 1)[:, None, None]  # one frame tells of no motion: all of it stays
        moves = self._moves(self.agreement(frames, positions)) * enough
        pixels, kept = self._layers(frames, order, known, reference, moves)
        mass = kept * _standing_out(pixels) * enough[..., None]
        things, ways = self._told(moves, mass, reference), None
        if truth is not None:
            ways = self._ways(pixels, mass, moves, reference, torch.where(backwards, truth.flip(1), truth))
        far = (self._far(things, reference) if ways is None else ways) * enough[..., None]
        film, covered = [], []
        for i in range(self.clip_frames):
            here = known & (order == i)
            moved, lands = splat(pixels, kept, far[:, i].round().long())
            there = here.any(1)[:, None, None, None]
            film.append(torch.where(there, (frames * here[:, :, None, None, None]).sum(1), moved))
            covered.append((there | lands) & known.any(1)[:, None, None, None])
        film, covered = torch.stack(film, dim=1), torch.stack(covered, dim=1).to(frames)
        film, covered = (torch.where(backwards, each.flip(1), each) for each in (film * covered, covered))
        seen = rearrange(
            torch.cat([film, covered], dim=2), "b t c (h p) (w q) -> b (t c p q) h w", p=self.patch, q=self.patch
        )
        return Carried(seen.contiguous(memory_format=torch.channels_last), things, reference, film, covered, ways)

    @in_full_precision
    def forward(self, answer: Tensor, painted: Tensor, context: Context) -> Tensor:
        """The film is taken as it is, in the pixels of ``painted``."""
        answer, painted = answer.to(context.frames.dtype), painted.to(context.frames.dtype)
        gate = rearrange(answer, "b (t p q) h w -> b t 1 (h p) (w q)", p=self.patch, q=self.patch)
        gate = torch.sigmoid(self._sharpened(gate + FIRST_GATE)) * context.evidence.covered
        clip = torch.lerp(painted, context.evidence.film * self.std + self.mean, gate)
        here = context.positions[:, :, None] == torch.arange(self.clip_frames, device=clip.device)
        for k in range(here.shape[1]):
            clip = torch.where(here[:, k, :, None, None, None], context.frames[:, k, None], clip)
        return clip

    def path_loss(self, things: Tensor, reference: Tensor, ways: Tensor) -> Tensor:
        """How wrong ``paths`` is about where things went: see ``Carried``. A mean over what is no speck.

        The way that is nearest to the true one is drawn to it, and is what should have been said to be likeliest
        (multiple-trajectory prediction: Cui et al. 2019). One way alone would be the mean, or the median, of all that
        is possible: a ball that may bounce in this frame or the next would come to rest between the two.
        """
        far, likely = self._said(things, reference)
        after = (self._since(reference) > 0)[:, None, None, None]
        off = ((far - ways.permute(0, 2, 3, 1)[:, :, :, None]).abs() * after).sum(4) / after.sum(4).clamp(min=1)
        best, way = off.min(3)
        chosen = F.cross_entropy(likely.flatten(0, 2), way.flatten(), reduction="none").view_as(best)
        weight = ((things[:, :, 4, None] > SPECK) * after.any(4)[..., 0]).expand_as(best)
        return (weight * (best + OTHERS * off.mean(3) + CHOICE * chosen)).sum() / weight.sum().clamp(min=1e-6)

    def _since(self, reference: Tensor) -> Tensor:
        """How many frames of the scan lie between each and the one that is known last, (B, T)."""
        return torch.arange(self.clip_frames, device=reference.device) - reference[:, None]

    def _moves(self, agreement: Tensor) -> Tensor:
        """How far each thing goes in a frame, (B, n, 2): what explains most bright patches, then most of the others."""
        votes = (agreement[:, 0] / ALIKE).exp() * agreement[:, 1]
        best = votes.amax(1)
        left, moves = torch.ones_like(best), []
        for _ in range(self.count):
            chosen = (votes * left[:, None]).sum((2, 3)).argmax(1)
            moves.append(-self.displacements[chosen])
            left = left * (votes[torch.arange(len(votes), device=votes.device), chosen] < FITS * best)
        return torch.stack(moves, dim=1)

    def _layers(
        self, frames: Tensor, order: Tensor, known: Tensor, reference: Tensor, moves: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What each thing looks like in the frame that is known last, (B, n, C, H, W), and where it is, (B, n, H, W).

        A pixel of a thing is the one nearest to the mean of those that the known frames show for it: all of them show
        what the thing shows, or something in front of it.
        """
        pixels = torch.zeros_like(frames[:, :1]).expand(-1, self.count, -1, -1, -1)
        least = torch.full_like(pixels[:, :, :1], torch.inf)
        for k, frame in enumerate(frames.unbind(1)):
            moved = displaced(frame, (order[:, k] - reference)[:, None, None] * moves)
            bright = moved.abs().mean(2, keepdim=True).where(known[:, k, None, None, None, None], torch.inf)
            pixels, least = torch.where(bright < least, moved, pixels), torch.minimum(bright, least)
        least = least[:, :, 0].nan_to_num(posinf=0)
        rivals = [[least[:, other] for other in range(self.count) if other != n] for n in range(self.count)]
        strongest = [torch.stack(others).amax(0) if others else 0 for others in rivals]
        alone = torch.stack([(least[:, n] - rival).relu() for n, rival in enumerate(strongest)], dim=1)
        around = pooled_over(alone, NEAR)
        return pixels, (around >= ALSO_OF * around.amax(1, keepdim=True)).to(pixels)

    def _told(self, moves: Tensor, mass: Tensor, reference: Tensor) -> Tensor:
        """``Carried.things``."""
        total = mass.sum((2, 3))
        y, x = (torch.arange(size).to(mass) - (size - 1) / 2 for size in mass.shape[2:])  # from the picture's middle
        middle = torch.stack([(mass.sum(3) * y).sum(2), (mass.sum(2) * x).sum(2)], dim=-1)
        middle = middle / total.clamp(min=1e-6)[..., None]
        share = total / total.sum(1, keepdim=True).clamp(min=1e-6)
        place = reference[:, None].expand_as(share)
        return torch.cat([PIXELS * moves, PIXELS * middle, share[..., None], place[..., None]], dim=2)

    def _said(self, things: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """How far from the frame that is known last things are by each way of ``paths``, (B, n, 2, WAYS, T), evenly
        before; and the logits of the ways, (B, n, 2, WAYS)."""
        likely, steps = self.paths(things).unflatten(2, (2, WAYS, -1)).tensor_split([1], dim=4)
        moves = things[:, :, :2, None, None]
        far = F.pad((moves + steps).cumsum(4), (1, 0))
        far = far - far.gather(4, reference[:, None, None, None, None].expand(*far.shape[:4], 1))
        since = self._since(reference)[:, None, None, None]
        return torch.where(since > 0, far, since * moves) / PIXELS, likely.squeeze(4)

    def _far(self, things: Tensor, reference: Tensor) -> Tensor:
        """How far from the frame that is known last things are by the likeliest of ``paths``, (B, T, n, 2)."""
        far, likely = self._said(things, reference)
        way = likely.argmax(3)[..., None, None].expand(*far.shape[:3], 1, self.clip_frames)
        return far.gather(3, way).squeeze(3).permute(0, 3, 1, 2)

    def _ways(self, pixels: Tensor, mass: Tensor, moves: Tensor, reference: Tensor, clip: Tensor) -> Tensor:
        """``Carried.ways``: evenly before the frame that is known last, then as the clip shows each thing, found by
        the least mean square difference of what it consists of."""
        since, ways = self._since(reference)[..., None, None], []
        went, step, size = torch.zeros_like(moves), moves, [side + 2 * self.radius for side in clip.shape[-2:]]
        weight = mass / mass.sum((2, 3), keepdim=True).clamp(min=1e-6)
        spectra = [torch.fft.rfft2(each, size).conj() for each in (weight[:, :, None], weight[:, :, None] * pixels)]
        for i, frame in enumerate(clip.unbind(1)):
            there = displaced(F.pad(frame, (self.radius,) * 4, mode="replicate"), went)
            crossed = torch.fft.rfft2(there.square()) * spectra[0] - 2 * torch.fft.rfft2(there) * spectra[1]
            corner = torch.fft.irfft2(crossed, size)[..., : 2 * self.radius + 1, : 2 * self.radius + 1]
            differs = corner[..., :: self.stride, :: self.stride].mean(2).flatten(2)
            uneven = (self.displacements - step[:, :, None]).abs().sum(3)
            found = self.displacements[(differs + EVEN * uneven).argmin(2)]
            step = torch.where(since[:, i] > 0, found, moves)
            went = torch.where(since[:, i] > 0, went + step, since[:, i] * moves)
            ways.append(went)
        return torch.stack(ways, dim=1).to(pixels)


def splat(pixels: Tensor, kept: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """One frame (B, C, H, W) of all things, each ``far`` (B, n, 2) pixels away (y and x, integers).

    pixels: (B, n, C, H, W), standardised. kept: which of them there are, (B, n, H, W), 0 or 1. Where several pixels
    land, what stands out from the mean is in front. The second is where any landed, (B, 1, H, W), bool.
    """
    height, width = pixels.shape[-2:]
    weight = ((FRONT * pixels.abs().mean(2)).exp() * kept)[:, :, None]
    y = (torch.arange(height, device=far.device) + far[..., :1])[..., :, None]
    x = (torch.arange(width, device=far.device) + far[..., 1:])[..., None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    place = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten(1)
    carried = (torch.cat([pixels * weight, weight], dim=2) * inside[:, :, None]).transpose(1, 2).flatten(2)
    landed = carried.new_zeros(*carried.shape[:2], height * width)
    landed = landed.scatter_add(2, place[:, None].expand_as(carried), carried).unflatten(2, (height, width))
    total, weights = landed.split([pixels.shape[2], 1], dim=1)
    return total / weights.clamp(min=1e-6), weights > 0


def motion_skip(config: ModelConfig) -> Skip | None:
    """The skip that ``config`` asks for, over all frames that a model is shown or makes; None where all is painted."""
    if not config.motion:
        return None
    if config.motion_things:
        return SplattingSkip(config)
    frames = config.clip_frames + config.future_frames
    return MotionSkip(frames, config.patch_size, config.motion, config.motion_sharpness, config.motion_stride)


def _standing_out(pixels: Tensor) -> Tensor:
    """How far each pixel of (..., C, H, W) is from the mean, 0 where that is not far: (..., H, W)."""
    far = pixels.abs().mean(-3)
    return far * (far > STANDS_OUT)
