"""The motion skip forwards: things of the known frames go on along paths, and the network completes the film.

``MotionSkip`` asks every patch of a new frame where it comes from. What is unsure of it comes out mixed, from frame to
frame anew, and thin things dissolve. Here the pixels of the last known frame are carried along paths (splatting:
Niklaus and Liu 2020): nothing is lost on the way but what leaves the picture or goes behind something else. The network
is shown the film that comes of it, and says what of it stands and what is painted instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lgcvd.config import ModelConfig
from lgcvd.context import Context, Evidence
from lgcvd.motion import BOXES, FIRST_GATE, MotionSkip, displaced, in_full_precision, of_patches, pooled_over

ALIKE = 0.3
"""Variance, in standardised pixels, at which two patches count for a third of two equal ones."""

FEW = 1e-2
"""Mean of votes, in squared standardised pixels, that is as good as none."""

GAIN = 4.0
"""Of the logarithms of votes: what most vote for is far likelier than what few do."""

DECIDED = 4.0
"""How much more decided patches are which way they go than which way they came: they must not be torn."""

FRONT = 2.0
"""How much in front what stands out from the mean is, by standardised pixel."""

WIDTH = 128
"""Of the network that says how things go on."""

PIXELS = 1 / 4
"""Scale of what ``SplattingSkip.paths`` is told: of the size of 1, and one pixel makes a difference."""


@dataclass(frozen=True)
class Carried(Evidence):
    """What the known frames tell, and the film that it makes; n displacements, h x w patches.

    things: what moved along each displacement, (B, n, 6) numbers for ``SplattingSkip.paths``.
    bases: for every step of the scan, the place of the frame that is known last, (B, T - 1).
    film: the known frames, carried on, (B, T, C, H, W), standardised, in the order of the clip.
    covered: where there is something of them, (B, T, 1, H, W), 0 or 1.
    tracks: in training, for every step of the scan, how much of each thing went how far since the frame that is known
        last: (B, T - 1, 2, n, bins); y and x, and a bin a pixel, no motion in the middle.
    """

    things: Tensor | None = None
    bases: Tensor | None = None
    film: Tensor | None = None
    covered: Tensor | None = None
    tracks: Tensor | None = None


class SplattingSkip(MotionSkip):
    """Completes a painted clip by moving on the pixels of the frame that is known last.

    What moves alike is one thing (the Gestalt law of common fate). From how it moved and where its middle is, a small
    network of its own, ``paths``, says how it goes on: evenly, until it slows down, turns round, bounces. It learns
    from where the patches of true clips went, tracked from frame to frame by block matching (``path_error``): the error
    of pixels does not tell one that is carried to a wrong place where the right one was. While training, the film that
    the large network is shown goes the true ways (teacher forcing, Williams and Zipser 1989), where neighbouring frames
    are known: a network that meets things in wrong places learns to fade them out.
    """

    def __init__(self, config: ModelConfig):
        radius, stride = config.motion, config.motion_stride
        super().__init__(config.clip_frames, config.patch_size, radius, config.motion_sharpness, stride)
        self.channels, self.mean, self.std = config.channels, config.data_mean, config.data_std
        self.paths = nn.Sequential(
            *(nn.Linear(6, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()),
            nn.Linear(WIDTH, 2 * (self.clip_frames - 1)),
        )
        nn.init.zeros_(self.paths[-1].weight)
        nn.init.zeros_(self.paths[-1].bias)

    @property
    def channels_in(self) -> int:
        """Channels of what the network gets to see: film and cover."""
        return self.clip_frames * (self.channels + 1) * self.patch**2

    @property
    def channels_out(self) -> int:
        """Channels that the network answers with: gates."""
        return self.clip_frames * self.patch**2

    @torch.no_grad()
    @in_full_precision
    def evidence(self, frames: Tensor, positions: Tensor, truth: Tensor | None = None) -> Carried:
        """The film that the known frames make, by the ``paths`` of things, or by their true ones.

        frames: (B, K, C, H, W), standardised. truth: in training, the clip (B, T, C, H, W), standardised.
        """
        order, known, reference, backwards = self._scan(positions)
        backwards = backwards[:, None, None, None, None]
        agreement = self.agreement(frames, positions)
        likely = _likely(agreement[:, 0], agreement[:, 1])
        bases = [torch.where(known & (order < i), order, 0).amax(1) for i in range(1, self.clip_frames)]
        bases = torch.stack(bases, dim=1)  # (B, T - 1): the frame that is known last
        offsets = torch.div(
            self._steps((bases - reference[:, None]).flatten()), self.patch, rounding_mode="floor"
        ).unflatten(0, bases.shape)
        along = [_moved(likely, offsets[:, i]) for i in range(self.clip_frames - 1)]
        things, tracks = self._things(likely, agreement[:, 1], reference), None
        steps = torch.arange(1, self.clip_frames, device=bases.device) - bases
        straight = -(steps[..., None, None] * self.displacements).to(frames)  # (B, T - 1, n, 2)
        if truth is None:
            far = self._far(things, bases)
        else:
            truth = torch.where(backwards, truth.flip(1), truth)
            tracks = self._tracks(truth, along, bases, order, known)
            total = tracks.sum(-1, keepdim=True)
            middle = (tracks.cumsum(-1) < total / 2).sum(-1) - tracks.shape[-1] // 2  # medians
            true = middle.transpose(2, 3).to(frames).where(total.squeeze(-1).transpose(2, 3) > FEW, straight)
            neighbours = (known & (order == reference[:, None] - 1)).any(1)  # else motion can hardly be told
            far = true.where(neighbours[:, None, None, None], self._far(things, bases))
        far = far.where((known.sum(1) > 1)[:, None, None, None], straight)
        film, covered = self._film(frames, far, along, order, known, bases)
        film, covered = (torch.where(backwards, each.flip(1), each) for each in (film, covered))
        seen = rearrange(
            torch.cat([film, covered], dim=2), "b t c (h p) (w q) -> b (t c p q) h w", p=self.patch, q=self.patch
        )
        return Carried(seen.contiguous(memory_format=torch.channels_last), (), things, bases, film, covered, tracks)

    @in_full_precision
    def forward(self, answer: Tensor, painted: Tensor, context: Context) -> Tensor:
        """The clip (B, T, C, H, W) from the network's ``answer`` (B, channels_out, h, w) and what it ``painted``.

        The context comes with its evidence; its film is taken as it is, in the pixels of ``painted``.
        """
        answer, painted = answer.to(context.frames.dtype), painted.to(context.frames.dtype)
        gate = rearrange(answer, "b (t p q) h w -> b t 1 (h p) (w q)", p=self.patch, q=self.patch)
        sharpness = 1.0 if self.training else self.sharpness
        gate = torch.sigmoid(sharpness * (gate + FIRST_GATE)) * context.evidence.covered
        clip = torch.lerp(painted, context.evidence.film * self.std + self.mean, gate)
        here = context.positions[:, :, None] == torch.arange(self.clip_frames, device=clip.device)
        for k in range(here.shape[1]):
            clip = torch.where(here[:, k, :, None, None, None], context.frames[:, k, None], clip)
        return clip

    def path_error(self, evidence: Carried) -> Tensor:
        """How far from where they went ``paths`` says that things go: pixels along each axis, means of each clip, (B,).

        The evidence is one with tracks; clips of which fewer than two frames are known have no error.
        """
        with torch.autocast(evidence.things.device.type, enabled=False):
            tracks, said = evidence.tracks, self._far(evidence.things, evidence.bases).transpose(2, 3)
            bins = torch.arange(tracks.shape[-1], device=said.device) - tracks.shape[-1] // 2
            weight = tracks * tracks.sum(-1, keepdim=True)  # large things count more
            off = weight * (said[..., None] - bins).abs()
            return off.flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-6)

    def _things(self, likely: Tensor, bright: Tensor, reference: Tensor) -> Tensor:
        """Of what moved along each displacement: how far and where its middle is, in ``PIXELS``, its share of all, and
        the place in the scan of the frame where that was seen."""
        height, width = likely.shape[-2:]
        mass = likely.softmax(1) * bright
        total = mass.sum((2, 3))
        y, x = (torch.arange(size).to(mass) - (size - 1) / 2 for size in (height, width))  # from the picture's middle
        middle = torch.stack([(mass.sum(3) * y).sum(2), (mass.sum(2) * x).sum(2)], dim=-1)
        middle = self.patch * middle / total.clamp(min=1e-6)[..., None]
        share = total / total.sum(1, keepdim=True).clamp(min=1e-6)
        moved, place = -self.displacements.expand_as(middle), reference[:, None].expand_as(share)
        return torch.cat([PIXELS * moved, PIXELS * middle, share[..., None], place[..., None]], dim=2)

    def _far(self, things: Tensor, bases: Tensor) -> Tensor:
        """How far things go by ``paths`` from the frame that is known last to every other: (B, T - 1, n, 2)."""
        steps = self.paths(things).unflatten(2, (-1, 2)).transpose(1, 2) - self.displacements
        since_first = F.pad(steps, (0, 0, 0, 0, 1, 0)).cumsum(1)
        return since_first[:, 1:] - since_first[torch.arange(len(bases), device=bases.device)[:, None], bases]

    def _tracks(self, clip: Tensor, along: list[Tensor], bases: Tensor, order: Tensor, known: Tensor) -> Tensor:
        """``Carried.tracks``."""
        motions, bright = self._motions(clip), of_patches(clip.square().mean(2), self.patch)
        batch, enough = torch.arange(len(clip), device=clip.device), known.sum(1) > 1
        farthest = self.radius * (self.clip_frames - 1)
        went, tracks = torch.zeros_like(motions[:, 0]), []
        for i in range(1, self.clip_frames):
            here = (known & (order == i)).any(1)
            went = went + _at(motions[:, i - 1], torch.div(went, self.patch, rounding_mode="floor"))
            mass = along[i - 1].softmax(1) * bright[batch, bases[:, i - 1]][:, None]
            mass = mass * (enough & ~here)[:, None, None, None]
            bins = F.one_hot(went.flatten(2) + farthest, 2 * farthest + 1).to(mass)
            tracks.append(mass.flatten(2)[:, None] @ bins)
            went = torch.where(here[:, None, None, None], 0, went)
        return torch.stack(tracks, dim=1)

    def _motions(self, clip: Tensor) -> Tensor:
        """How far every patch goes to the next frame, by block matching: (B, T - 1, 2, h, w) integers."""
        before, after = clip[:, :-1].flatten(0, 1), clip[:, 1:].flatten(0, 1)
        height, width = before.shape[2:]
        padded = F.pad(after, (self.radius,) * 4, mode="replicate")
        maps = []
        for y, x in (self.displacements + self.radius).tolist():
            near = padded[..., y : y + height, x : x + width]
            squares = ((near - before).square(), (near + before).square())
            maps.append(torch.stack([of_patches(square, self.patch).mean(1) / 4 for square in squares]))
        difference, brightness = torch.stack(maps, dim=2)
        best = _likely(-difference, brightness).argmax(1)
        return self.displacements[best].permute(0, 3, 1, 2).unflatten(0, (len(clip), -1))

    def _film(
        self, frames: Tensor, far: Tensor, along: list[Tensor], order: Tensor, known: Tensor, bases: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Film and cover, in the order of the scan."""
        film, covered = [], []
        for i in range(self.clip_frames):
            here = _frame_at(frames, known & (order == i))
            if i:
                start, exists = _frame_at(frames, known & (order == bases[:, i - 1, None]))
                path = torch.einsum("bnhw,bnc->bchw", (DECIDED * along[i - 1]).softmax(1), far[:, i - 1]).round().long()
                path = path.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
                moved, lands = splat(start, path)
                here = [
                    torch.where(here[1], there, each) for there, each in zip(here, (moved, lands * exists), strict=True)
                ]
            film.append(here[0])
            covered.append(here[1].to(frames).expand_as(frames[:, 0, :1]))
        return torch.stack(film, dim=1) * torch.stack(covered, dim=1), torch.stack(covered, dim=1)


def splat(frame: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
    """``frame`` (B, C, H, W), standardised, with every pixel ``path`` (B, 2, H, W) integers farther (y and x).

    Where several pixels land, what stands out from the mean is in front. The second is where any landed,
    (B, 1, H, W), 0 or 1.
    """
    height, width = frame.shape[2:]
    weight = (FRONT * frame.abs().mean(1, keepdim=True)).exp()
    carried = torch.cat([frame * weight, weight], dim=1).flatten(2)
    y = (torch.arange(height, device=path.device)[:, None] + path[:, 0]).flatten(1)
    x = (torch.arange(width, device=path.device) + path[:, 1]).flatten(1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    place = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    landed = torch.zeros_like(carried).scatter_add(2, place[:, None].expand_as(carried), carried * inside[:, None])
    total, weights = landed.unflatten(2, (height, width)).split([frame.shape[1], 1], dim=1)
    return total / weights.clamp(min=1e-6), (weights > 0).to(frame)


def motion_skip(config: ModelConfig, frames: int) -> MotionSkip | None:
    """The skip that ``config`` asks for, over a clip of so many frames; None where all is painted."""
    if not config.motion:
        return None
    if config.motion_splat:
        return SplattingSkip(config)
    return MotionSkip(frames, config.patch_size, config.motion, config.motion_sharpness, config.motion_stride)


def _likely(difference: Tensor, brightness: Tensor) -> Tensor:
    """Logits of every displacement, (B, n, h, w): how many patches around vote for it, bright ones that look alike."""
    votes = (difference / ALIKE).exp() * brightness
    return GAIN * sum(torch.log1p(pooled_over(votes, box) / FEW) for box in BOXES)


def _moved(maps: Tensor, offsets: Tensor) -> Tensor:
    """Every map of (B, n, h, w) read its own of ``offsets`` (B, n, 2) patches away."""
    if maps.is_cpu and not offsets.any():
        return maps
    return displaced(maps.flatten(0, 1)[:, None], offsets.flatten(0, 1)[:, None]).view(maps.shape)


def _frame_at(frames: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """The frame of (B, K, C, H, W) that ``which`` (B, K) says, zeros where none, and whether there is one."""
    which = which[:, :, None, None, None]
    return (frames * which).sum(1), which.any(1)


def _at(maps: Tensor, path: Tensor) -> Tensor:
    """``maps`` (B, C, h, w) read, in every patch, as many patches away as ``path`` (B, 2, h, w), integers, says."""
    height, width = maps.shape[2:]
    y = (torch.arange(height, device=path.device)[:, None] + path[:, 0]).clamp(0, height - 1)
    x = (torch.arange(width, device=path.device) + path[:, 1]).clamp(0, width - 1)
    places = (y * width + x).flatten(1)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, places).view_as(maps)
