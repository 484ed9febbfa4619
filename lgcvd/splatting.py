"""The motion skip forwards: every patch of a known frame says where it goes (softmax splatting).

``MotionSkip`` asks every patch of a new frame where it comes from. What is unsure of it comes out mixed, from frame to
frame anew, and thin things dissolve. Here the pixels of the last known frame are carried along paths, and where several
meet, the one in front wins (Niklaus and Liu 2020): nothing is lost on the way but what leaves the picture or goes
behind something else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lgcvd.config import ModelConfig
from lgcvd.motion import MotionSkip

LARGEST_FRONT = 8.0
"""Bound of the logits of what is in front: a share of 1 in 10 million is as good as none."""


class SplattingSkip(MotionSkip):
    """Completes a painted clip by moving on the pixels of the frame that is known last.

    The answer for a step of the scan stands where a patch started. The displacement is the mean of those that are
    likely, so that a patch stays one piece, and pixels land between four others by their shares.
    """

    @property
    def channels_out(self) -> int:
        """Beside those of ``MotionSkip``, logits of what is in front."""
        return super().channels_out + (self.clip_frames - 1) * self.patch**2

    def _decided(self, i: int, order: Tensor, known: Tensor) -> Tensor:
        return torch.where(known & (order < i), order, 0).amax(1)

    def _start(self, start: tuple[Tensor, Tensor] | None, frame: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels that are carried, (B, C, H, W), and how far they came until here, (B, 2, H, W; y and x)."""
        if start is None:
            return frame, torch.zeros_like(frame[:, :1]).repeat(1, 2, 1, 1)
        carried, path = start
        return torch.where(known, frame, carried), torch.where(known, 0, path)

    def _moved(
        self, start: tuple[Tensor, Tensor], answer: Tensor, evidence: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        pixels = self.patch**2
        kernel, gate, front = answer.split([answer.shape[1] - 2 * pixels, pixels, pixels], dim=1)
        shares, gate = self._decide(kernel, gate, evidence)
        whence = torch.einsum("bnhw,nc->bchw", shares, self.displacements.to(shares.dtype))
        carried, path = start
        path = path - whence.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        moved, covered = splat(carried, path, self._pixels(front))
        return moved, gate * covered, (carried, path)


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
