"""The 2D U-Net and the sequential encoder; frames are already folded into channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lgcvd.blocks import Attention, PassThrough, ResBlock, TimeEmbedding, conv3x3
from lgcvd.config import ModelConfig


@dataclass(frozen=True)
class UNetShape:
    """Widths and places of attention, finest level first.

    widths: channels of the input convolution, then of every level.
    attention_down, attention_up: levels with self-attention on the way down and up.
    head_channels: channels of an attention head.
    """

    widths: tuple[int, ...]
    attention_down: tuple[int, ...]
    attention_up: tuple[int, ...]
    head_channels: int

    @property
    def levels(self) -> int:
        return len(self.widths) - 1

    @property
    def time_dim(self) -> int:
        """Width of the embedded time step."""
        return 4 * self.widths[0]

    def attention(self, level: int, where: tuple[int, ...], channels: int) -> nn.Module:
        return Attention(channels, self.head_channels) if level in where else PassThrough()


def unet_shape(config: ModelConfig) -> UNetShape:
    """The widths and the attention that ``config`` describes."""
    heights = [config.image_size[0] // config.patch_size // 2**i for i in range(len(config.multipliers))]
    attention_up = config.attention if config.attention_up is None else config.attention_up
    return UNetShape(
        widths=(config.dim, *(config.dim * m for m in config.multipliers)),
        attention_down=tuple(i for i, height in enumerate(heights) if height in config.attention),
        attention_up=tuple(i for i, height in enumerate(heights) if height in attention_up),
        head_channels=config.head_channels,
    )


Block = Callable[[int, int], nn.Module]
"""(channels in, channels out) -> residual block, which is told the time and the context frames beside its input."""


class DownPath(nn.Module):
    """Input convolution, all levels down and the middle: shared by the encoder and the U-Net."""

    def __init__(self, shape: UNetShape, channels_in: int, block: Block = ResBlock):
        super().__init__()
        self.stem = conv3x3(channels_in, shape.widths[0])
        self.levels = nn.ModuleList()
        for level, (narrow, wide) in enumerate(zip(shape.widths[:-1], shape.widths[1:], strict=True)):
            last = level == shape.levels - 1
            self.levels.append(
                nn.ModuleDict(
                    {
                        "res1": block(narrow, wide),
                        "attn1": shape.attention(level, shape.attention_down, wide),
                        "res2": block(wide, wide),
                        "attn2": shape.attention(level, shape.attention_down, wide),
                        "down": PassThrough() if last else conv3x3(wide, wide, stride=2),
                    }
                )
            )
        widest = shape.widths[-1]
        self.mid_res1 = block(widest, widest)
        self.mid_attn = Attention(widest, shape.head_channels)
        self.mid_res2 = block(widest, widest)

    def forward(self, x: Tensor, *told: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The middle (B, widths[-1], h, w) and the skips, finest first; ``told``: what blocks are told beside x."""
        x, skips = self.stem(x), []
        for level in self.levels:
            x = level["attn1"](level["res1"](x, *told))
            x = level["attn2"](level["res2"](x, *told))
            skips.append(x)
            x = level["down"](x)
        return self.mid_res2(self.mid_attn(self.mid_res1(x, *told)), *told), skips


class Encoder(nn.Module):
    """The sequential encoder (paper, section 3.3): a folded clip (B, T C, H, W) -> memory (B, D, h, w)."""

    def __init__(self, shape: UNetShape, channels_in: int):
        super().__init__()
        self.path = DownPath(shape, channels_in)

    def forward(self, x: Tensor) -> Tensor:
        return self.path(x)[0]


class UNet(nn.Module):
    """Denoising U-Net: (B, channels_in, H, W), time steps (B,), memory (B, D, h, w) -> (B, channels_out, H, W).

    block: makes the residual blocks; left out, the time is added in them. They are told the time, embedded, and
        ``frames`` (B, context channels, H, W).
    bottleneck: function of (channels, channels a head) that makes what joins the middle with the memory.
    """

    def __init__(
        self,
        shape: UNetShape,
        channels_in: int,
        channels_out: int,
        block: Block | None = None,
        bottleneck: Callable[[int, int], nn.Module] = Attention,
    ):
        super().__init__()
        block = block or partial(ResBlock, time_dim=shape.time_dim)
        self.time = TimeEmbedding(shape.widths[0])
        self.path = DownPath(shape, channels_in, block)
        self.cross = bottleneck(shape.widths[-1], shape.head_channels)
        self.levels = nn.ModuleList()
        for level in reversed(range(shape.levels)):
            wide, narrow = shape.widths[level + 1], shape.widths[level]
            self.levels.append(
                nn.ModuleDict(
                    {
                        "res1": block(2 * wide, narrow),
                        "attn1": shape.attention(level, shape.attention_up, narrow),
                        "res2": block(narrow, narrow),
                        "attn2": shape.attention(level, shape.attention_up, narrow),
                        "res3": block(narrow, narrow),
                        "up": nn.ConvTranspose2d(narrow, narrow, 3, stride=2, padding=1, output_padding=1)
                        if level
                        else PassThrough(),
                    }
                )
            )
        self.head = nn.Sequential(nn.SiLU(), conv3x3(shape.widths[0], channels_out, scale=0))

    def forward(self, x: Tensor, t: Tensor, memory: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        told = self.time(t), frames
        x, skips = self.path(x, *told)
        x = self.cross(x, memory)
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level["res1"](torch.cat([x, skip], dim=1), *told)
            x = level["attn1"](x)
            x = level["attn2"](level["res2"](x, *told))
            x = level["up"](level["res3"](x, *told))
        return self.head(x)
