"""LGC-VD, and every kind of model by its name."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lgcvd.blocks import Attention, PassThrough
from lgcvd.config import ModelConfig
from lgcvd.context import ABSENT, ABSENT_FRAME, Context
from lgcvd.denoiser import About, UNetDenoiser, VideoDenoiser
from lgcvd.mcvd import MCVDConcat, MCVDSpatin
from lgcvd.unet import UNet, unet_shape


class LGCVD(UNetDenoiser):
    """Video diffusion with local and global context guidance (Yang et al., IJCAI 2023, section 3).

    A 2D U-Net denoises a clip of T frames at once. Local context comes in with the noisy clip as frames and position
    planes; global context, the encoding of the clip before, through cross-attention in the middle.
    """

    def _network(self, channels_in: int, channels_out: int) -> UNet:
        config = self.config
        local_channels = config.context_frames * (config.channels + config.position_planes) * config.patch_size**2
        bottleneck = Attention if self.keeps_memory else PassThrough
        return UNet(unet_shape(config), local_channels + channels_in, channels_out, bottleneck=bottleneck)

    def _shown(self, context: Context) -> Context:
        absent = (context.positions == ABSENT)[:, :, None, None, None]
        return replace(context, frames=self._standardise(context.frames.masked_fill(absent, ABSENT_FRAME)))

    def _answer(self, x: Tensor, t: Tensor, shown: Context) -> Tensor:
        # the plane of a position: (position + 1) / (T + 1) in [0, 1], taken to [-1, 1] like every pixel
        planes = 2 * (shown.positions + 1) / (self.config.clip_frames + 1) - 1
        planes = planes.to(shown.frames.dtype)[:, :, None, None, None].expand_as(shown.frames[:, :, :1])
        local = torch.cat([shown.frames, *([planes] * self.config.position_planes)], dim=2)
        memory = None if shown.memory is None else shown.memory.expand(len(x), -1, -1, -1)
        return self.unet(torch.cat([self._fold(local), x], dim=1), t, memory)


MODELS: dict[str, type[VideoDenoiser]] = {"lgcvd": LGCVD, "mcvd-concat": MCVDConcat, "mcvd-spatin": MCVDSpatin}
"""Every kind of model by its name in a checkpoint."""


def build(config: ModelConfig, about: About | None = None) -> VideoDenoiser:
    """A model with random weights of the kind that ``config`` describes."""
    return MODELS[config.kind](config, about)
