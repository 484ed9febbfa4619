"""Building blocks of the U-Net: residual block, attention, time embedding."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT_HALF = 1 / math.sqrt(2)  # sums of two unit-variance branches keep unit variance


class GroupNorm(nn.GroupNorm):
    """The plain norm: what else its block is told changes nothing.

    Under autocast it works in float32, as autocast has it on a GPU by itself: a CPU's norm takes five times as long in
    reduced precision.
    """

    def forward(self, x: Tensor, *_: object) -> Tensor:
        kind = x.device.type  # "meta", on which costs are counted, knows no autocast
        reduced = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        return super().forward(x.float() if reduced else x)


def group_norm(channels: int, affine: bool = True) -> GroupNorm:
    """At most 32 groups of at least 4 channels."""
    return GroupNorm(largest_divisor(channels, min(channels // 4, 32)), channels, eps=1e-6, affine=affine)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` up to ``limit``; at least 1."""
    return next(divisor for divisor in range(max(1, limit), 0, -1) if number % divisor == 0)


def uniform_fan_average_(weight: Tensor, scale: float = 1.0) -> None:
    """Uniform with variance ``scale / fan_average`` (Ho et al. 2020); ``scale=0`` gives zeros."""
    receptive = weight[0, 0].numel() if weight.ndim > 2 else 1
    fan_average = (weight.shape[0] + weight.shape[1]) / 2 * receptive
    bound = math.sqrt(3 * scale / fan_average)
    nn.init.uniform_(weight, -bound, bound)


def conv3x3(channels_in: int, channels_out: int, scale: float = 1.0, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)
    uniform_fan_average_(conv.weight, scale)
    nn.init.zeros_(conv.bias)
    return conv


def linear(channels_in: int, channels_out: int, scale: float = 1.0) -> nn.Linear:
    layer = nn.Linear(channels_in, channels_out)
    uniform_fan_average_(layer.weight, scale)
    nn.init.zeros_(layer.bias)
    return layer


class TimeEmbedding(nn.Module):
    """Sinusoids of the time step, then a two-layer network: (B,) -> (B, 4 dim)."""

    def __init__(self, dim: int):
        super().__init__()
        frequencies = torch.exp(-math.log(10000) * torch.arange(dim // 2) / (dim // 2 - 1))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, 4 * dim))

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None].to(self.frequencies.dtype) * self.frequencies
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1).to(self.mlp[0].weight.dtype))


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, with the time added in between; starts as the identity (up to the scale).

    norm: function of the channels that makes a norm; the norm is told the time and the context frames too.
    time_dim: width of the time that is added; None where no time is, or where the norms take care of it.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        time_dim: int | None = None,
        norm: Callable[[int], nn.Module] = group_norm,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.norm1 = norm(channels_in)
        self.conv1 = conv3x3(channels_in, channels_out)
        self.time = linear(time_dim, channels_out) if time_dim else None
        self.norm2 = norm(channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(channels_out, channels_out, scale=0)
        self.shortcut = conv3x3(channels_in, channels_out) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None = None, frames: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x, time, frames)))
        if self.time is not None:
            h = h + self.time(F.silu(time))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h, time, frames))))
        return (self.shortcut(x) + h) * ROOT_HALF


class Attention(nn.Module):
    """Attention over all pixels: to itself, or to a memory of the same width (queries from ``x``)."""

    def __init__(self, channels: int, head_channels: int):
        super().__init__()
        self.heads = largest_divisor(channels, channels // head_channels)
        self.norm = group_norm(channels)
        self.query = linear(channels, channels)
        self.key_value = linear(channels, 2 * channels)
        self.out = linear(channels, channels, scale=0)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        normed = self.norm(x)
        source = normed if memory is None else self.norm(memory)
        q = self._split_heads(self.query(_tokens(normed)))
        k, v = self.key_value(_tokens(source)).chunk(2, dim=-1)
        h = F.scaled_dot_product_attention(q, self._split_heads(k), self._split_heads(v))
        h = self.out(h.transpose(1, 2).flatten(2))
        return (x + h.transpose(1, 2).unflatten(2, (height, width))) * ROOT_HALF

    def _split_heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class PassThrough(nn.Module):
    """Stands where a block is absent, whatever that is made of: gives back its first input."""

    def __init__(self, *_: object):
        super().__init__()

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W, C); a view when ``x`` is channels-last."""
    return x.flatten(2).transpose(1, 2)
