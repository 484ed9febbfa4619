"""MCVD (Voleti et al. 2022, "Masked Conditional Video Diffusion"), to compare with, over the network of LGC-VD.

A block of past and a block of future frames are conditions, and the N frames between them are denoised. Either block
may be masked: without the future the model predicts, without both it generates. There is no memory, and positions say
only which frame of which block a frame is: [0, K) is the past, [T, T + F) the future, T = K + N.
"""

# no `from __future__ import annotations` here: the hub's mixin reads the types of __init__ to restore dataclasses

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgcvd.blocks import PassThrough, ResBlock, conv3x3, group_norm, linear
from lgcvd.config import ModelConfig
from lgcvd.context import Context, Evidence
from lgcvd.denoiser import About, VideoDenoiser
from lgcvd.errors import UserError
from lgcvd.schedule import BETAS, Schedule
from lgcvd.splatting import motion_skip
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


class MCVD(VideoDenoiser):
    """What both forms share: all but the way of the context frames into the network."""

    def __init__(self, model: ModelConfig, about: About | None = None):
        super().__init__()
        config = model  # the argument's name is its name in config.json, where the hub's mixin has its own "config"
        self.config, self.about = config, about or About()
        self.schedule = Schedule(config.timesteps, BETAS[config.betas])
        frame_channels = config.channels * config.patch_size**2
        context_channels = (config.context_frames + config.future_frames) * frame_channels
        new_channels, window = config.new_frames * frame_channels, config.clip_frames + config.future_frames
        self.motion = motion_skip(config, window)
        seen, answered = (self.motion.channels_in, self.motion.channels_out) if self.motion else (0, 0)
        self.unet = self._network(context_channels, new_channels + seen, new_channels + answered)
        self.to(memory_format=torch.channels_last)

    @abstractmethod
    def _network(self, context_channels: int, channels_in: int, channels_out: int) -> UNet:
        """The U-Net for context frames of so many channels, and an input."""

    @abstractmethod
    def _answer(self, x: Tensor, t: Tensor, frames: Tensor) -> Tensor:
        """What the network answers to an input and context frames, both folded."""

    def remember(self, clip: Tensor | None, size: tuple[int, int] | None = None) -> None:
        """Nothing: the context frames are all that goes from one window to the next."""

    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """Velocity of the N new frames. ``context`` may show any frames of the two blocks, in any number of slots."""
        self._check(x_t, t)
        config = self.config
        context = self.prepare(context)
        frames, positions = self._shown(context)
        noisy = self._fold(self.schedule.standardise(x_t, t, config.data_mean, config.data_std))
        new_channels, seen = noisy.shape[1], [noisy]
        if self.motion:
            seen.append(context.evidence.seen)
        answer = self._answer(torch.cat(seen, dim=1), t, self._fold(frames))
        painted = self._unfold(answer[:, :new_channels])
        if config.output == "velocity" and not self.motion:
            return painted
        x0 = self._clean(x_t, painted, t)
        if self.motion:
            x0 = self._moved(answer[:, new_channels:], x0, frames, positions, context.evidence)
        return self.schedule.velocity_from_x0(x_t, x0, t)

    def _shown(self, context: Context) -> tuple[Tensor, Tensor]:
        """Past and future frames, standardised, masked ones 0, (B, K + F, C, H, W), and their positions, (B, K + F)."""
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
        places = positions.new_full((len(positions), slots + 1), -1)
        places[batch, slot] = positions
        return frames[:, :-1], places[:, :-1]

    def _moved(self, answer: Tensor, x0: Tensor, frames: Tensor, positions: Tensor, evidence: Evidence) -> Tensor:
        """The painted frames ``x0``, completed by moving on what the context shows (see ``lgcvd.motion``).

        The skip goes through the whole window; where a block is masked, the nearest painted frame stands in.
        """
        k, future = self.config.context_frames, self.config.future_frames
        window = torch.cat([x0[:, :1]] * k + [x0] + [x0[:, -1:]] * future, dim=1)
        shown = Context(self.config.data_mean + self.config.data_std * frames, positions, evidence=evidence)
        return self.motion(answer, window, shown)[:, k : k + x0.shape[1]]


class MCVDConcat(MCVD):
    """MCVD whose context frames are concatenated with the noisy ones (Voleti et al. 2022, section 3)."""

    def _network(self, context_channels: int, channels_in: int, channels_out: int) -> UNet:
        shape = unet_shape(self.config)
        times: dict[str, Block] = {
            "shift": partial(ResBlock, time_dim=shape.time_dim),
            "scale-shift": partial(ResBlock, norm=partial(TimeAdaNorm, time_dim=shape.time_dim)),
        }
        block = partial(times[self.config.time], dropout=self.config.dropout)
        return UNet(shape, context_channels + channels_in, channels_out, block, PassThrough)

    def _answer(self, x: Tensor, t: Tensor, frames: Tensor) -> Tensor:
        return self.unet(torch.cat([x, frames], dim=1), t)


class MCVDSpatin(MCVD):
    """MCVD whose context frames enter through spatially adaptive norms, in every residual block (section 3, SPATIN)."""

    def _network(self, context_channels: int, channels_in: int, channels_out: int) -> UNet:
        shape = unet_shape(self.config)
        norm = partial(SpatialAdaNorm, context_channels=context_channels, width=self.config.spatin_width)
        norm = partial(TimeAdaNorm, time_dim=shape.time_dim, norm=norm)
        block = partial(ResBlock, norm=norm, dropout=self.config.dropout)
        return UNet(shape, channels_in, channels_out, block, PassThrough)

    def _answer(self, x: Tensor, t: Tensor, frames: Tensor) -> Tensor:
        return self.unet(x, t, frames=frames)
