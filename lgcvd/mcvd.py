"""MCVD (Voleti et al. 2022, "Masked Conditional Video Diffusion"), to compare with, over the network of LGC-VD.

A block of past and a block of future frames are conditions, and the N frames between them are denoised. Either block
may be masked: without the future the model predicts, without both it generates. There is no memory, and positions say
only which frame of which block a frame is: [0, K) is the past, [T, T + F) the future, T = K + N.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgcvd.blocks import PassThrough, ResBlock, conv3x3, group_norm, linear
from lgcvd.context import ABSENT, Context
from lgcvd.denoiser import UNetDenoiser
from lgcvd.errors import UserError
from lgcvd.unet import Block, UNet, unet_shape


class TimeAdaNorm(nn.Module):
    """A norm, then the time as a scale and shift of every channel: ``norm(x) (1 + scale) + shift``."""

    def __init__(self, channels: int, time_dim: int, norm: Callable[[int], nn.Module] = group_norm):
        super().__init__()
        self.norm = norm(channels)
        self.time = linear(time_dim, 2 * channels)

    def forward(self, x: Tensor, time: Tensor, frames: Tensor | None = None) -> Tensor:
        scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        return self.norm(x, time, frames) * (1 + scale) + shift


class SpatialAdaNorm(nn.Module):
    """A norm, then a scale and shift of every channel and pixel that context frames decide (SPATIN).

    Spatially adaptive normalisation is Park et al. 2019; Voleti et al. give it the frames, at the layer's size.
    """

    def __init__(self, channels: int, context_channels: int, width: int):
        super().__init__()
        self.norm = group_norm(channels, affine=False)
        self.shared = conv3x3(context_channels, width)
        self.maps = conv3x3(width, 2 * channels)

    def forward(self, x: Tensor, time: Tensor, frames: Tensor) -> Tensor:
        near = F.interpolate(frames, x.shape[-2:], mode="nearest")
        scale, shift = self.maps(F.silu(self.shared(near))).chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class MCVD(UNetDenoiser):
    """What both forms share: all but the way of the context frames into the network."""

    @property
    def _context_channels(self) -> int:
        return (self.config.context_frames + self.config.future_frames) * self._frame_channels

    def _shown(self, context: Context) -> Context:
        """Past and future frames, standardised, masked ones 0, (B, K + F, C, H, W), and their positions, (B, K + F).

        ``context`` may show any frames of the two blocks, in any number of slots.
        """
        k, t, new = self.config.context_frames, self.config.clip_frames, self.config.new_frames
        slots, positions = k + self.config.future_frames, context.positions
        if not positions.is_meta and ((positions >= k) & (positions < t) | (positions >= slots + new)).any():
            raise UserError(
                f"MCVD makes the frames {k} to {t - 1} of a window and can be shown the {k} before and the {slots - k} "
                "after them, no others."
            )
        batch = torch.arange(len(positions), device=positions.device)[:, None]
        slot = torch.where(positions < k, positions, positions - new)  # -1, absent, is the last one, which is dropped
        frames = context.frames.new_zeros(len(positions), slots + 1, *context.frames.shape[2:])
        frames[batch, slot] = self._standardise(context.frames)
        places = positions.new_full((len(positions), slots + 1), ABSENT)
        places[batch, slot] = positions
        return replace(context, frames=frames[:, :-1], positions=places[:, :-1])

    def _moved(self, answer: Tensor, painted: Tensor, context: Context, shown: Context) -> Tensor:
        """The skip goes through the whole window; where a block is masked, the nearest painted frame stands in."""
        k, future = self.config.context_frames, self.config.future_frames
        window = torch.cat([painted[:, :1]] * k + [painted] + [painted[:, -1:]] * future, dim=1)
        clean = replace(shown, frames=self.config.data_mean + self.config.data_std * shown.frames)
        return self.motion(answer, window, clean)[:, k : k + painted.shape[1]]


class MCVDConcat(MCVD):
    """MCVD whose context frames are concatenated with the noisy ones (Voleti et al. 2022, section 3)."""

    def _network(self, channels_in: int, channels_out: int) -> UNet:
        shape = unet_shape(self.config)
        times: dict[str, Block] = {
            "shift": partial(ResBlock, time_dim=shape.time_dim),
            "scale-shift": partial(ResBlock, norm=partial(TimeAdaNorm, time_dim=shape.time_dim)),
        }
        block = partial(times[self.config.time], dropout=self.config.dropout)
        return UNet(shape, self._context_channels + channels_in, channels_out, block, PassThrough)

    def _answer(self, x: Tensor, t: Tensor, shown: Context) -> Tensor:
        return self.unet(torch.cat([x, self._fold(shown.frames)], dim=1), t)


class MCVDSpatin(MCVD):
    """MCVD whose context frames enter through spatially adaptive norms, in every residual block (section 3, SPATIN)."""

    def _network(self, channels_in: int, channels_out: int) -> UNet:
        shape = unet_shape(self.config)
        norm = partial(SpatialAdaNorm, context_channels=self._context_channels, width=self.config.spatin_width)
        norm = partial(TimeAdaNorm, time_dim=shape.time_dim, norm=norm)
        block = partial(ResBlock, norm=norm, dropout=self.config.dropout)
        return UNet(shape, channels_in, channels_out, block, PassThrough)

    def _answer(self, x: Tensor, t: Tensor, shown: Context) -> Tensor:
        return self.unet(x, t, frames=self._fold(shown.frames))
