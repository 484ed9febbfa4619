"""A skip from the known frames to the output: what is there already is moved on, the rest is painted.

Most of a frame stood in the frame before, somewhere near. A plain U-Net has to redraw all of it. With this skip it says
where every patch comes from, as a softmax over displacements (dynamic filters: De Brabandere et al. 2016, Finn et al.
2016), and paints what is new. Two known frames that agree when both are moved along a displacement make it likely: this
evidence is block matching, it is there before anything is learned, and the network sees it and decides how far to
trust it. It has no weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from lgcvd.context import ABSENT, Context, Evidence

BOXES = (3, 15)
"""Sides of the windows, in patches, over which evidence is averaged."""

FIRST_GATE = 2.0
"""Logit of the share that is moved, not painted, before training."""


def in_full_precision(method):
    """A method of a module, whose second argument is a tensor, without autocast: pixels are counted in it."""

    @wraps(method)
    def called(self, tensor: Tensor, *args):
        with torch.autocast(tensor.device.type, enabled=False):
            return method(self, tensor, *args)

    return called


class MotionSkip(nn.Module):
    """Completes a painted clip by moving on what the context shows.

    A scan goes through the clip: a frame is the one before it, moved, mixed with what was painted; known frames stand
    as they are. It goes forwards in time, or backwards where the known frames stand at the clip's end.

    clip_frames, patch: T, and the pixels a side of a cell of the network's output.
    radius: the farthest displacement, in pixels a frame along each axis.
    stride: pixels between neighbouring displacements; the mixture of them reaches what lies between.
    sharpness: outside of training, the logits of displacements and gates are multiplied by it. Training asks for the
        mean of all that is possible, which blurs a little in every frame; a film wants one of them.
    """

    displacements: Tensor
    first_gains = (3.0, 10.0, 0.5, 3.0)
    """How far each kind of evidence is trusted before training: difference, then brightness, in either of ``BOXES``."""

    def __init__(self, clip_frames: int, patch: int, radius: int, sharpness: float = 1.0, stride: int = 1):
        super().__init__()
        self.clip_frames, self.patch, self.radius, self.sharpness = clip_frames, patch, radius, sharpness
        self.stride, self.along_axis = stride, range(-radius, radius + 1, stride)
        steps = torch.tensor(self.along_axis)
        self.register_buffer("displacements", torch.cartesian_prod(steps, steps), persistent=False)  # (n, 2): y, x

    @property
    def channels_in(self) -> int:
        """Channels of what the network gets to see (``seen``)."""
        return 2 * len(self.displacements) + 2

    @property
    def channels_out(self) -> int:
        """Channels that the network answers with: displacements and trust for every step of the scan, gates."""
        return (self.clip_frames - 1) * (len(self.displacements) + len(self.first_gains) + self.patch**2)

    @torch.no_grad()
    @in_full_precision
    def evidence(self, frames: Tensor, positions: Tensor) -> Evidence:
        """How well the known frames agree on each displacement: no evidence where fewer than two are known.

        frames: (B, K, C, H, W), standardised.
        """
        order, known, reference, _ = self._scan(positions)
        agreement = self.agreement(frames, positions)
        pooled = self._pool(agreement[:, 0], agreement[:, 1])
        along = []
        for i in range(1, self.clip_frames):
            steps = self._steps(self._decided(i, order, known) - reference)
            offsets = torch.div(steps, self.patch, rounding_mode="floor").flatten(0, 1)[:, None]
            along.append([_displaced(found.flatten(0, 1)[:, None], offsets).view(found.shape) for found in pooled])
        return Evidence(self._seen(agreement), tuple(map(tuple, along)), self._things(agreement, pooled, reference))

    def agreement(self, frames: Tensor, positions: Tensor) -> Tensor:
        """Difference and brightness of displacements: (B, 2, n, h, w), zeros where fewer than two frames are known.

        frames: (B, K, C, H, W), standardised. The maps belong to the known frame that comes last in the scan. Of what
        the known frames show when they are moved there along the displacement: minus the variance, and the squared
        mean.
        """
        order, known, reference, _ = self._scan(positions)
        frames = frames * known[:, :, None, None, None]
        places = [self._steps(reference - order[:, k]) for k in range(frames.shape[1])]
        moved = [_displaced(frames[:, k], place) for k, place in enumerate(places)]
        count = known.sum(1).clamp(min=2)[:, None, None, None, None]
        mean_square = (sum(moved) / count).square_().mean(2)
        difference = mean_square - (sum(m.square() for m in moved) / count).mean(2)
        enough = (known.sum(1) > 1)[:, None, None, None]
        maps = [_of_patches(found, self.patch) * enough for found in (difference, mean_square)]
        return torch.stack(maps, dim=1)

    def _pool(self, difference: Tensor, brightness: Tensor) -> list[Tensor]:
        """The kinds of evidence, one for each of ``first_gains``, from the maps of ``agreement``."""
        return [_pooled(found, box) for found in (difference, brightness) for box in BOXES]

    def _things(self, agreement: Tensor, pooled: list[Tensor], reference: Tensor) -> Tensor | None:
        """``Evidence.things``."""
        return None

    def _seen(self, agreement: Tensor) -> Tensor:
        """What the network sees, (B, channels_in, h, w): the agreement, and the coordinates of every patch in [-1, 1].

        Things do not go on moving beyond the borders: where they are decides how.
        """
        seen = torch.cat([agreement.flatten(1, 2), _coordinates(agreement[:, 0])], dim=1)
        return seen.contiguous(memory_format=torch.channels_last)

    @in_full_precision
    def forward(self, answer: Tensor, painted: Tensor, context: Context) -> Tensor:
        """The clip (B, T, C, H, W) from the network's ``answer`` (B, channels_out, h, w) and what it ``painted``.

        The context comes with its evidence.
        """
        order, known, _, backwards = self._scan(context.positions)
        given = known[:, :, None] & (order[:, :, None] == torch.arange(self.clip_frames, device=order.device))
        answer, painted = answer.to(context.frames.dtype), painted.to(context.frames.dtype)  # not in reduced precision
        answers = answer.unflatten(1, (self.clip_frames - 1, -1)).unbind(1)
        backwards = backwards[:, None, None, None, None]
        painted = torch.where(backwards, painted.flip(1), painted)
        start, clip = self._start(painted[:, 0], context.evidence), []
        for i, frame in enumerate(painted.unbind(1)):
            here = given[..., i].any(1)
            if i and not (here.is_cpu and here.all()):  # elsewhere the answer would be waited for
                moved, share, start = self._moved(start, i, answers[i - 1], context.evidence)
                frame = torch.lerp(frame, moved, share)
            for k in range(order.shape[1]):
                frame = torch.where(given[:, k, i, None, None, None], context.frames[:, k], frame)
            start = self._after(start, frame, here[:, None, None, None])
            clip.append(frame)
        clip = torch.stack(clip, dim=1)
        return torch.where(backwards, clip.flip(1), clip)

    def _start(self, frame: Tensor, evidence: Evidence) -> Tensor:
        """What the scan starts from, where ``frame`` (B, C, H, W) is the first."""
        return frame

    def _after(self, start: Tensor, frame: Tensor, known: Tensor) -> Tensor:
        """What the scan goes on from after ``frame`` (B, C, H, W), of which ``known`` (B, 1, 1, 1) are given."""
        return frame

    def _moved(self, start: Tensor, i: int, answer: Tensor, evidence: Evidence) -> tuple[Tensor, Tensor, Tensor]:
        """The i-th frame by moving what there was, the share (B, 1, H, W) that it has of the frame, and ``start``."""
        kernel, gains, gate = answer.split([len(self.displacements), len(self.first_gains), self.patch**2], dim=1)
        shares, gate = self._decide(kernel, gains, gate, evidence.along[i - 1])
        return self._move(start, shares), gate, start

    def _scan(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Places of the known frames in the scan (B, K), which are known (B, K), the last known place (B,), and which
        clips are scanned backwards (B,): those whose known frames stand, on average, in the later half."""
        known = positions != ABSENT
        backwards = 2 * (positions * known).sum(1) > (self.clip_frames - 1) * known.sum(1)
        order = torch.where(backwards[:, None], self.clip_frames - 1 - positions, positions)
        return order, known, torch.where(known, order, 0).amax(1), backwards

    def _decided(self, i: int, order: Tensor, known: Tensor) -> Tensor:
        """The place in the scan (B,) of the frame that the answer for step ``i`` stands on."""
        return torch.full_like(order[:, 0], i)

    def _decide(
        self, kernel: Tensor, gains: Tensor, gate: Tensor, evidence: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """How likely every displacement is, (B, n, h, w) with sums of 1 over n, and the share that is moved."""
        logits = kernel
        for m, (found, first) in enumerate(zip(evidence, self.first_gains, strict=True)):
            logits = torch.addcmul(logits, found, gains[:, m, None] + first)
        sharpness = 1.0 if self.training else self.sharpness
        return (sharpness * logits).softmax(1), torch.sigmoid(sharpness * (self._pixels(gate) + FIRST_GATE))

    def _pixels(self, answer: Tensor) -> Tensor:
        """(B, p p, h, w) -> (B, 1, H, W)."""
        return rearrange(answer, "b (p q) h w -> b 1 (h p) (w q)", p=self.patch)

    def _steps(self, count: Tensor) -> Tensor:
        """Every displacement ``count`` (B,) times: (B, n, 2)."""
        return count[:, None, None] * self.displacements

    def _move(self, frame: Tensor, kernel: Tensor) -> Tensor:
        """Every patch of ``frame`` (B, C, H, W) from where ``kernel`` (B, n, h, w) says, mixed."""
        padded = F.pad(frame, (self.radius,) * 4, mode="replicate")
        shares = kernel.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        if frame.is_cuda:  # a graphics card takes longer to start on each displacement than for all of them at once
            return mixed_at_once(padded, shares, self.stride)
        corners = [self.radius + step for step in self.along_axis]
        return _Mixed.apply(padded, shares, list(product(corners, repeat=2)))


def mixed_at_once(padded: Tensor, shares: Tensor, stride: int) -> Tensor:
    """What ``_Mixed`` computes, from corners that lie ``stride`` apart, in few operations and n times the memory."""
    height, width = shares.shape[2:]
    near = padded.unfold(2, height, stride).unfold(3, width, stride)  # a view: (B, C, sqrt n, sqrt n, H, W)
    return (near * shares.unflatten(1, near.shape[2:4])[:, None]).sum((2, 3))


class _Mixed(torch.autograd.Function):
    """The sum over n of ``shares`` (B, n, H, W) times ``padded`` (B, C, H + 2r, W + 2r) read from ``corners[n]`` on.

    The derivative is written out, since autograd's own of that many terms takes three times as long.
    """

    @staticmethod
    def forward(ctx, padded: Tensor, shares: Tensor, corners: list[tuple[int, int]]) -> Tensor:
        ctx.save_for_backward(padded, shares)
        ctx.corners = corners
        mixed = padded.new_zeros(*padded.shape[:2], *shares.shape[2:])
        for n, near in enumerate(_read(padded, corners, mixed)):
            mixed.addcmul_(near, shares[:, n, None])
        return mixed

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        padded, shares = ctx.saved_tensors
        of_padded, of_shares = torch.zeros_like(padded), torch.empty_like(shares)
        places = zip(_read(padded, ctx.corners, gradient), _read(of_padded, ctx.corners, gradient), strict=True)
        for n, (near, of_near) in enumerate(places):
            of_near.addcmul_(gradient, shares[:, n, None])
            torch.sum(near * gradient, 1, out=of_shares[:, n])
        return of_padded, of_shares, None


def _read(padded: Tensor, corners: list[tuple[int, int]], like: Tensor) -> Iterator[Tensor]:
    """What ``padded`` shows from each corner on, in the size of ``like``."""
    height, width = like.shape[-2:]
    return (padded[..., y : y + height, x : x + width] for y, x in corners)


def _coordinates(maps: Tensor) -> Tensor:
    """y and x of every cell of ``maps`` (B, n, h, w), in [-1, 1]: (B, 2, h, w)."""
    batch, _, height, width = maps.shape
    y = torch.linspace(-1, 1, height).to(maps)[:, None].expand(batch, 1, height, width)
    x = torch.linspace(-1, 1, width).to(maps).expand(batch, 1, height, width)
    return torch.cat([y, x], dim=1)


def _pooled(maps: Tensor, box: int) -> Tensor:
    """Means over ``box`` x ``box`` cells, less at the borders."""
    rows, columns = (_band(size, box, maps) for size in maps.shape[-2:])
    return rows @ maps @ columns.T


def _band(size: int, box: int, like: Tensor) -> Tensor:
    """The matrix (size, size) that takes means over ``box`` neighbours: faster than pooling, on a CPU by far."""
    places = torch.arange(size, device=like.device)
    near = ((places[:, None] - places).abs() <= box // 2).to(like.dtype)
    return near / near.sum(1, keepdim=True)


def _of_patches(maps: Tensor, patch: int) -> Tensor:
    """Means over patches, (..., H, W) -> (..., h, w): a CPU's pooling takes several times as long."""
    rows = sum(maps[..., i::patch, :] for i in range(patch))
    return sum(rows[..., i::patch] for i in range(patch)) / patch**2


def _displaced(maps: Tensor, offsets: Tensor) -> Tensor:
    """``maps`` (B, C, H, W) read ``offsets`` (B, n, 2) pixels away, borders repeated: (B, n, C, H, W)."""
    height, width = maps.shape[-2:]
    device = maps.device
    y = (torch.arange(height, device=device) + offsets[..., :1]).clamp(0, height - 1)
    x = (torch.arange(width, device=device) + offsets[..., 1:]).clamp(0, width - 1)
    places = (y[..., :, None] * width + x[..., None, :]).flatten(1)  # (B, n H W)
    found = maps.flatten(2).gather(2, repeat(places, "b p -> b c p", c=maps.shape[1]))
    return rearrange(found, "b c (n h w) -> b n c h w", h=height, w=width)
