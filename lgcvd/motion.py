"""A skip from the known frames to the output: what is there already is moved on, the rest is painted.

Most of a frame stood in the frame before, somewhere near. A plain U-Net has to redraw all of it. With this skip it says
where every patch comes from, as a softmax over displacements (dynamic filters: De Brabandere et al. 2016, Finn et al.
2016), and paints what is new. Two known frames that agree when both are moved along a displacement make it likely: this
evidence is block matching, it is there before anything is learned, and the network sees it and decides how far to
trust it. It has no weights of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce, wraps
from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from lgcvd.context import ABSENT, Context, Evidence

BOXES = (3, 15)
"""Sides of the windows, in patches, over which evidence is averaged."""

FIRST_GAINS = (3.0, 10.0, 0.5, 3.0)
"""How far each kind of evidence is trusted before training: difference, then brightness, in either of ``BOXES``."""

FIRST_GATE = 2.0
"""Logit of the share that is moved, not painted, before training."""


def in_full_precision(method):
    """A method of a module, whose second argument is a tensor, without autocast: pixels are counted in it."""

    @wraps(method)
    def called(self, tensor: Tensor, *args):
        kind = tensor.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            return method(self, tensor, *args)

    return called


class Skip(nn.Module, ABC):
    """Completes a painted clip with what the known frames show, by where they agree when they are moved.

    A scan goes through the clip, forwards in time, or backwards where the known frames stand at the clip's end.

    clip_frames, patch: T, and the pixels a side of a cell of the network's output.
    radius: the farthest displacement, in pixels a frame along each axis.
    stride: pixels between neighbouring displacements.
    sharpness: outside of training, the logits of the network's answer are multiplied by it. Training asks for the mean
        of all that is possible, which blurs a little in every frame; a film wants one of them.
    """

    displacements: Tensor

    def __init__(self, clip_frames: int, patch: int, radius: int, sharpness: float = 1.0, stride: int = 1):
        super().__init__()
        self.clip_frames, self.patch, self.radius, self.sharpness = clip_frames, patch, radius, sharpness
        self.stride, self.along_axis = stride, range(-radius, radius + 1, stride)
        steps = torch.tensor(self.along_axis)
        self.register_buffer("displacements", torch.cartesian_prod(steps, steps), persistent=False)  # (n, 2): y, x

    @property
    @abstractmethod
    def channels_in(self) -> int:
        """Channels of what the network gets to see (``Evidence.seen``)."""

    @property
    @abstractmethod
    def channels_out(self) -> int:
        """Channels that the network answers with."""

    @property
    def knows_paths(self) -> bool:
        """Whether there is nothing that ``lgcvd.paths`` has to teach it first."""
        return True

    @abstractmethod
    def evidence(self, frames: Tensor, positions: Tensor, truth: Tensor | None = None) -> Evidence:
        """What the known ``frames`` (B, K, C, H, W), standardised, tell of motion.

        truth: in training, the clip (B, T, C, H, W), standardised.
        """

    @abstractmethod
    def forward(self, answer: Tensor, painted: Tensor, context: Context) -> Tensor:
        """The clip (B, T, C, H, W) from the network's ``answer`` (B, channels_out, h, w) and what it ``painted``.

        The context comes with its evidence.
        """

    def agreement(self, frames: Tensor, positions: Tensor) -> Tensor:
        """Difference and brightness of displacements: (B, 2, n, h, w), zeros where fewer than two frames are known.

        frames: (B, K, C, H, W), standardised. The maps belong to the known frame that comes last in the scan. Of what
        the known frames show when they are moved there along the displacement: minus the variance, and the squared
        mean.
        """
        order, known, reference, _ = self._scan(positions)
        count = known.sum(1)
        # frames and their squares are moved together, each with its share of the mean
        seen = torch.cat([frames, frames.square().mean(2, keepdim=True)], dim=2)
        seen = seen * (known / count.clamp(min=1)[:, None])[:, :, None, None, None]
        # what stands at the reference comes first, and is not moved
        since, slots = torch.where(known, reference[:, None] - order, 0).sort(dim=1)
        seen = seen.gather(1, slots[:, :, None, None, None].expand_as(seen))
        first, *others = seen.unbind(1)
        means = first[:, None]
        for frame, steps in zip(others, since.unbind(1)[1:], strict=True):
            means = displaced(frame, self._steps(steps)).add_(means)
        of_means, of_all = (
            over_patches(squares, self.patch) for squares in (means[:, :, :-1].square_().mean(2), means[:, :, -1])
        )
        enough = (count > 1)[:, None, None, None, None]
        found = torch.stack([of_means - of_all, of_means], dim=1) * (enough / self.patch**2)
        return found.expand(-1, -1, len(self.displacements), -1, -1)

    def _scan(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Places of the known frames in the scan (B, K), which are known (B, K), the last known place (B,), and which
        clips are scanned backwards (B,): those whose known frames stand, on average, in the later half."""
        known = positions != ABSENT
        backwards = 2 * (positions * known).sum(1) > (self.clip_frames - 1) * known.sum(1)
        order = torch.where(backwards[:, None], self.clip_frames - 1 - positions, positions)
        return order, known, torch.where(known, order, 0).amax(1), backwards

    def _sharpened(self, logits: Tensor) -> Tensor:
        """The ``logits``, in training, and outside of it made more decided."""
        return logits if self.training else self.sharpness * logits

    def _steps(self, count: Tensor) -> Tensor:
        """Every displacement ``count`` (B,) times: (B, n, 2)."""
        return count[:, None, None] * self.displacements


@dataclass(frozen=True)
class Agreement(Evidence):
    """How well the known frames agree on each of n displacements, in h x w patches.

    along: for every step of the scan, maps (B, n, h, w) of how likely each displacement is. They move with what they
        are about: so many steps after the frame they belong to, they are found as many displacements away.
    """

    along: tuple[tuple[Tensor, ...], ...]


class MotionSkip(Skip):
    """Moves on patches: in the scan, a frame is the one before it, moved, mixed with what was painted.

    Known frames stand as they are. Displacements that lie a stride apart are mixed, which reaches what lies between.
    """

    @property
    def channels_in(self) -> int:
        return 2 * len(self.displacements) + 2

    @property
    def channels_out(self) -> int:
        """Displacements and trust for every step of the scan, gates."""
        return (self.clip_frames - 1) * (len(self.displacements) + len(FIRST_GAINS) + self.patch**2)

    @torch.no_grad()
    @in_full_precision
    def evidence(self, frames: Tensor, positions: Tensor, truth: Tensor | None = None) -> Agreement:
        """How well the known frames agree on each displacement: no evidence where fewer than two are known."""
        _, _, reference, _ = self._scan(positions)
        agreement = self.agreement(frames, positions)
        pooled = [pooled_over(agreement[:, i], box) for i in range(2) for box in BOXES]
        maps = torch.stack(pooled, dim=2).flatten(0, 1)  # of one displacement: (B n, 4, h, w)
        along = []
        for i in range(1, self.clip_frames):
            offsets = torch.div(self._steps(i - reference), self.patch, rounding_mode="floor").flatten(0, 1)[:, None]
            found = displaced(maps, offsets).squeeze(1).unflatten(0, (-1, len(self.displacements)))
            along.append(found.unbind(2))
        return Agreement(self._seen(agreement), tuple(along))

    def _seen(self, agreement: Tensor) -> Tensor:
        """What the network sees, (B, channels_in, h, w): the agreement, and the coordinates of every patch in [-1, 1].

        Things do not go on moving beyond the borders: where they are decides how.
        """
        batch, _, _, height, width = agreement.shape
        y = torch.linspace(-1, 1, height).to(agreement)[:, None].expand(batch, 1, height, width)
        x = torch.linspace(-1, 1, width).to(agreement).expand(batch, 1, height, width)
        return torch.cat([agreement.flatten(1, 2), y, x], dim=1).contiguous(memory_format=torch.channels_last)

    def forward(self, answer: Tensor, painted: Tensor, context: Context) -> Tensor:
        order, known, _, backwards = self._scan(context.positions)
        given = known[:, :, None] & (order[:, :, None] == torch.arange(self.clip_frames, device=order.device))
        painted = painted.to(context.frames.dtype)  # not in reduced precision
        # plane by plane, as the evidence lies: two layouts in one sum take three times as long
        answer = answer.to(context.frames.dtype, memory_format=torch.contiguous_format)
        step = self._steps_of(answer, context.evidence)
        backwards = backwards[:, None, None, None, None]
        painted = torch.where(backwards, painted.flip(1), painted)
        frame, clip = painted[:, 0], []
        for i, paint in enumerate(painted.unbind(1)):
            if i and not (given.is_cpu and given[..., i].any(1).all()):  # elsewhere the answer would be waited for
                kernel, gate = step(i)
                frame = torch.lerp(paint, self._move(frame, kernel), gate)
            for k in range(order.shape[1]):
                frame = torch.where(given[:, k, i, None, None, None], context.frames[:, k], frame)
            clip.append(frame)
        clip = torch.stack(clip, dim=1)
        return torch.where(backwards, clip.flip(1), clip)

    def _steps_of(self, answer: Tensor, evidence: Agreement) -> Callable[[int], tuple[Tensor, Tensor]]:
        """A function of the place in the scan: where every patch comes from, and the share that is moved.

        The first is (B, n, h, w) with sums of 1 over n, the second (B, 1, H, W).
        """
        sizes = [len(self.displacements), len(FIRST_GAINS), self.patch**2]
        kernels, gains, gates = (part.unbind(1) for part in answer.unflatten(1, (-1, sum(sizes))).split(sizes, dim=2))

        def step(i: int) -> tuple[Tensor, Tensor]:
            logits = kernels[i - 1]
            for m, (found, first) in enumerate(zip(evidence.along[i - 1], FIRST_GAINS, strict=True)):
                logits = logits + found * (gains[i - 1][:, m, None] + first)
            gate = rearrange(gates[i - 1], "b (p q) h w -> b 1 (h p) (w q)", p=self.patch)
            return self._sharpened(logits).softmax(1), torch.sigmoid(self._sharpened(gate + FIRST_GATE))

        return step

    def _move(self, frame: Tensor, kernel: Tensor) -> Tensor:
        """Every patch of ``frame`` (B, C, H, W) from where ``kernel`` (B, n, h, w) says, mixed."""
        padded = F.pad(frame, (self.radius,) * 4, mode="replicate")
        if frame.is_cuda:  # a graphics card takes longer to start on each displacement than for all of them at once
            return mixed_at_once(padded, kernel, self.patch, self.stride)
        corners = [self.radius + step for step in self.along_axis]
        return _Mixed.apply(padded, kernel, self.patch, list(product(corners, repeat=2)))


def to_pixels(maps: Tensor, patch: int) -> Tensor:
    """What is told of patches told of each of their pixels: (B, n, h, w) -> (B, n, H, W)."""
    return repeat(maps, "b n h w -> b n (h p) (w q)", p=patch, q=patch)


def mixed_at_once(padded: Tensor, kernel: Tensor, patch: int, stride: int) -> Tensor:
    """What ``_Mixed`` computes, from corners that lie ``stride`` apart, in few operations and n times the memory."""
    shares = to_pixels(kernel, patch)
    height, width = shares.shape[2:]
    near = padded.unfold(2, height, stride).unfold(3, width, stride)  # a view: (B, C, sqrt n, sqrt n, H, W)
    return (near * shares.unflatten(1, near.shape[2:4])[:, None]).sum((2, 3))


class _Mixed(torch.autograd.Function):
    """The sum over n of ``kernel`` (B, n, h, w) times ``padded`` (B, C, H + 2r, W + 2r) read from ``corners[n]`` on.

    The derivative is written out, since autograd's own of that many terms takes three times as long.
    """

    @staticmethod
    def forward(ctx, padded: Tensor, kernel: Tensor, patch: int, corners: list[tuple[int, int]]) -> Tensor:
        ctx.save_for_backward(padded, kernel)
        ctx.patch, ctx.corners = patch, corners
        mixed = padded.new_zeros(*padded.shape[:2], *(patch * side for side in kernel.shape[2:]))
        for share, near in zip(kernel.split(1, dim=1), _read(padded, corners, mixed), strict=True):
            mixed.addcmul_(near, to_pixels(share, patch))
        return mixed

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        padded, kernel = ctx.saved_tensors
        of_padded, of_kernel = torch.zeros_like(padded), torch.empty_like(kernel)
        places = zip(_read(padded, ctx.corners, gradient), _read(of_padded, ctx.corners, gradient), strict=True)
        for n, (near, of_near) in enumerate(places):
            of_near.addcmul_(gradient, to_pixels(kernel[:, n, None], ctx.patch))
            of_kernel[:, n] = over_patches((near * gradient).sum(1), ctx.patch)
        return of_padded, of_kernel, None, None


def _read(padded: Tensor, corners: list[tuple[int, int]], like: Tensor) -> Iterator[Tensor]:
    """What ``padded`` shows from each corner on, in the size of ``like``."""
    height, width = like.shape[-2:]
    return (padded[..., y : y + height, x : x + width] for y, x in corners)


def pooled_over(maps: Tensor, box: int) -> Tensor:
    """Means over ``box`` x ``box`` cells, less at the borders."""
    rows, columns = (_band(size, box, maps) for size in maps.shape[-2:])
    return rows @ maps @ columns.T


def _band(size: int, box: int, like: Tensor) -> Tensor:
    """The matrix (size, size) that takes means over ``box`` neighbours: faster than pooling, on a CPU by far."""
    places = torch.arange(size, device=like.device)
    near = ((places[:, None] - places).abs() <= box // 2).to(like.dtype)
    return near / near.sum(1, keepdim=True)


def over_patches(maps: Tensor, patch: int) -> Tensor:
    """Sums over patches, (..., H, W) -> (..., h, w): a CPU's pooling takes several times as long."""
    rows = reduce(torch.add, (maps[..., i::patch, :] for i in range(patch)))
    return reduce(torch.add, (rows[..., i::patch] for i in range(patch)))


def displaced(maps: Tensor, offsets: Tensor) -> Tensor:
    """``maps`` (B, C, H, W) read ``offsets`` (B, n, 2) pixels away, borders repeated: (B, n, C, H, W)."""
    height, width = maps.shape[-2:]
    device = maps.device
    y = (torch.arange(height, device=device) + offsets[..., :1]).clamp(0, height - 1)
    x = (torch.arange(width, device=device) + offsets[..., 1:]).clamp(0, width - 1)
    places = (y[..., :, None] * width + x[..., None, :]).flatten(1)  # (B, n H W)
    found = maps.flatten(2).gather(2, repeat(places, "b p -> b c p", c=maps.shape[1]))
    return rearrange(found, "b c (n h w) -> b n c h w", h=height, w=width)
