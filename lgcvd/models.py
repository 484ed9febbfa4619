"""LGC-VD, and every kind of model by its name."""

# no `from __future__ import annotations` here: the hub's mixin reads the types of __init__ to restore dataclasses

import torch
from torch import Tensor

from lgcvd.blocks import Attention, PassThrough
from lgcvd.config import ModelConfig
from lgcvd.context import ABSENT, ABSENT_FRAME, NULL_CLIP, Context
from lgcvd.denoiser import About, VideoDenoiser
from lgcvd.mcvd import MCVDConcat, MCVDSpatin
from lgcvd.schedule import BETAS, Schedule
from lgcvd.splatting import motion_skip
from lgcvd.unet import Encoder, UNet, unet_shape


class LGCVD(VideoDenoiser):
    """Video diffusion with local and global context guidance (Yang et al., IJCAI 2023, section 3).

    A 2D U-Net denoises a clip of T frames at once. Local context comes in with the noisy clip as frames and position
    planes; global context, the encoding of the clip before, through cross-attention in the middle.
    """

    def __init__(self, model: ModelConfig, about: About | None = None):
        super().__init__()
        config = model  # the argument's name is its name in config.json, where the hub's mixin has its own "config"
        self.config, self.about = config, about or About()
        self.schedule = Schedule(config.timesteps, BETAS[config.betas])
        shape = unet_shape(config)
        pixels = config.patch_size**2
        clip_channels = config.clip_frames * config.channels * pixels
        local_channels = config.context_frames * (config.channels + config.position_planes) * pixels
        self.encoder = Encoder(shape, clip_channels) if config.global_context else None
        self.motion = motion_skip(config, config.clip_frames)
        seen, answered = (self.motion.channels_in, self.motion.channels_out) if self.motion else (0, 0)
        bottleneck = Attention if config.global_context else PassThrough
        self.unet = UNet(shape, local_channels + clip_channels + seen, clip_channels + answered, bottleneck=bottleneck)
        self.to(memory_format=torch.channels_last)

    def remember(self, clip: Tensor | None, size: tuple[int, int] | None = None) -> Tensor | None:
        """Encode the clip that was, (B, T, C, H, W) in [-1, 1] -> (B, D, h, w) (paper, section 3.3).

        ``clip=None``: nothing was yet, (1, D, h, w) from a grey clip of ``size`` (height and width; default the
        model's own); it serves any batch. None for a model without global context. What a rollout keeps of the clips
        before that one is decided by ``rollout.MEMORIES``.
        """
        if self.encoder is None:
            return None
        if clip is None:
            height, width = size or self.config.image_size
            shape = (1, self.config.clip_frames, self.config.channels, height, width)
            clip = self.unet.head[1].weight.new_full(shape, NULL_CLIP)
        return self.encoder(self._fold(self._standardise(clip)))

    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """Velocity (B, T, C, H, W) of the noisy clip ``x_t`` at time steps ``t`` (B,)."""
        self._check(x_t, t)
        context = self.prepare(context)
        frames, positions = self._shown(context)
        # the plane of a position: (position + 1) / (T + 1) in [0, 1], taken to [-1, 1] like every pixel
        planes = 2 * (positions + 1) / (self.config.clip_frames + 1) - 1
        planes = planes.to(frames.dtype)[:, :, None, None, None].expand_as(frames[:, :, :1])
        local = torch.cat([frames, *([planes] * self.config.position_planes)], dim=2)
        mean, std = self.config.data_mean, self.config.data_std
        noisy = self.schedule.standardise(x_t, t, mean, std)
        memory = None if context.memory is None else context.memory.expand(len(x_t), -1, -1, -1)
        seen = [self._fold(local), self._fold(noisy)]
        clip_channels = seen[1].shape[1]
        if self.motion:
            seen.append(context.evidence.seen)
        answer = self.unet(torch.cat(seen, dim=1), t, memory)
        output = self._unfold(answer[:, :clip_channels])
        if self.config.output == "velocity" and not self.motion:
            return output
        x0 = self._clean(x_t, output, t)
        if self.motion:
            x0 = self.motion(answer[:, clip_channels:], x0, context)
        return self.schedule.velocity_from_x0(x_t, x0, t)

    def _shown(self, context: Context) -> tuple[Tensor, Tensor]:
        absent = (context.positions == ABSENT)[:, :, None, None, None]
        return self._standardise(context.frames.masked_fill(absent, ABSENT_FRAME)), context.positions


MODELS: dict[str, type[VideoDenoiser]] = {"lgcvd": LGCVD, "mcvd-concat": MCVDConcat, "mcvd-spatin": MCVDSpatin}
"""Every kind of model by its name in a checkpoint."""


def build(config: ModelConfig, about: About | None = None) -> VideoDenoiser:
    """A model with random weights of the kind that ``config`` describes."""
    return MODELS[config.kind](config, about)
