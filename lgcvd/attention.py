"""What the cross-attention reads of the memory: recorded from outside, drawn over the frames it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lgcvd.blocks import Attention
from lgcvd.errors import UserError
from lgcvd.models import VideoDenoiser
from lgcvd.pictures import heat_map


class _Recorder(TorchFunctionMode):
    """Writes down the weights of every attention that is computed while it is active."""

    def __init__(self, weights: list[Tensor]):
        super().__init__()
        self.weights = weights

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            query, key = args[:2]
            scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
            self.weights.append(scores.softmax(-1).detach())
        return function(*args, **(kwargs or {}))


@contextmanager
def recorded_attention(attention: nn.Module) -> Iterator[list[Tensor]]:
    """While it is open, every pass through ``attention`` adds its weights, (B, heads, queries, keys), to the list."""
    weights: list[Tensor] = []
    recorder = _Recorder(weights)

    def begin(*_: object) -> None:
        recorder.__enter__()

    def end(*_: object) -> None:
        recorder.__exit__(None, None, None)

    hooks = [attention.register_forward_pre_hook(begin), attention.register_forward_hook(end, always_call=True)]
    try:
        yield weights
    finally:
        for hook in hooks:
            hook.remove()


def reads_memory(model: VideoDenoiser) -> Attention:
    """The cross-attention of ``model``; ``UserError`` if it keeps no memory."""
    cross = getattr(getattr(model, "unet", None), "cross", None)
    if not isinstance(cross, Attention):
        raise UserError("this model keeps no memory of the clips before, so there is no attention to it.")
    return cross


def attention_map(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the memory is read, mean over heads and queries: (B, heads, queries, keys) -> (B, 1, *size) in [0, 1].

    1/2 is what every place would get if all were read alike; twice that and more is 1.
    """
    height, width = size
    read = weights.mean((1, 2)) * weights.shape[-1] / 2
    rows = round((read.shape[-1] * height / width) ** 0.5)
    return F.interpolate(read.unflatten(-1, (rows, -1))[:, None], size, mode="nearest").clamp(0, 1)


def attention_picture(frame: Tensor, weights: Tensor, share: float = 0.6) -> Tensor:
    """``frame`` (B, C, H, W) in [-1, 1], the last of the clip that is remembered, under its ``attention_map``."""
    heat = heat_map(attention_map(weights, tuple(frame.shape[-2:])))
    return torch.lerp(frame.expand_as(heat), heat, share)
