"""How wide a model must be to cost as much as another: so that a comparison compares ideas, not sizes."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

import torch

from lgcvd.config import ModelConfig
from lgcvd.context import Context
from lgcvd.models import build


@dataclass(frozen=True)
class Size:
    """What a model is made of and does for one clip."""

    parameters: int
    flops: int
    """Operations to remember the clip before and to denoise one once; a product and a sum are two."""

    def over(self, other: Size) -> tuple[float, float]:
        """Parameters and operations as multiples of another model's."""
        return self.parameters / other.parameters, self.flops / other.flops


def size_of(config: ModelConfig) -> Size:
    """Found with shapes alone, on torch's "meta" device: nothing is computed."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = build(config)
        frame = (config.channels, *config.image_size)
        memory = model.remember(torch.empty(1, config.output_frames, *frame))
        context = Context(
            torch.empty(1, config.context_frames, *frame), torch.arange(config.context_frames)[None], memory
        )
        model(torch.empty(1, config.output_frames, *frame), torch.zeros(1, dtype=torch.long), context)
    return Size(sum(weight.numel() for weight in model.parameters()), counter.get_total_flops())


def matched_dim(config: ModelConfig, other: ModelConfig) -> int:
    """The ``dim`` at which ``config`` comes nearest to the size of ``other``, in parameters and operations alike.

    Multiples of 4 are tried, for the sake of group norms, and of 2 where a network is small.
    """
    target = size_of(other)

    def excess(dim: int) -> float:
        return sum(math.log(ratio) for ratio in size_of(replace(config, dim=dim)).over(target))

    dims = range(4, 4 * other.dim, 4 if other.dim >= 64 else 2)
    above = bisect_left(dims, 0, key=excess)
    return min(dims[max(0, above - 1) : above + 1], key=lambda dim: abs(excess(dim)))
