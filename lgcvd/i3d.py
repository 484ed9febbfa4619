"""I3D (Carreira and Zisserman 2017): names the action in a video; what it sees is what FVD compares.

The names of the layers are those of the published weights. Batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache, reduce

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lgcvd.files import ASSETS

WEIGHTS = ASSETS / "metrics" / "i3d_kinetics400.safetensors"

LOGITS = 400
"""Actions of Kinetics-400."""
SIDE = 224
"""Pixels of the shorter side of the frames that the network reads."""
SHORTEST = 9
"""Frames of the shortest video of which two moments are left for the last pool."""

Sizes = tuple[int, int, int]


class Unit(nn.Conv3d):
    """Convolution with TensorFlow's 'SAME' padding, then ReLU."""

    def __init__(self, narrow: int, wide: int, side: int = 1, stride: int = 1):
        super().__init__(narrow, wide, side, stride, padding=side // 2 if stride == 1 else 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (
            1,
            1,
            1,
        ):  # a matrix product: on a CPU faster than a convolution, and channels stay last
            return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).relu_().movedim(-1, 1)
        return super().forward(pad_same(x, self.kernel_size, self.stride, 0.0) if max(self.stride) > 1 else x).relu_()


class MaxPool(nn.Module):
    """Max-pool with 'SAME' padding. Over places, then over time: torch's pool over all three is slower on a CPU."""

    def __init__(self, kernel: Sizes, stride: Sizes):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        x = pad_same(x, self.kernel, self.stride, -torch.inf)
        frames = F.max_pool2d(x.transpose(1, 2).flatten(0, 1), self.kernel[1:], self.stride[1:])
        x = frames.unflatten(0, (len(x), -1)).transpose(1, 2)
        moments = x.shape[2] - self.kernel[0] + 1
        return reduce(torch.maximum, (x[:, :, i : i + moments : self.stride[0]] for i in range(self.kernel[0])))


class Mixed(nn.Module):
    """Inception block: four branches side by side, given by their widths."""

    def __init__(self, narrow: int, wide0: int, narrow1: int, wide1: int, narrow2: int, wide2: int, wide3: int):
        super().__init__()
        self.Branch_0 = named(Conv3d_0a_1x1=Unit(narrow, wide0))
        self.Branch_1 = named(Conv3d_0a_1x1=Unit(narrow, narrow1), Conv3d_0b_3x3=Unit(narrow1, wide1, 3))
        self.Branch_2 = named(Conv3d_0a_1x1=Unit(narrow, narrow2), Conv3d_0b_3x3=Unit(narrow2, wide2, 3))
        self.Branch_3 = named(MaxPool3d_0a_3x3=MaxPool((3, 3, 3), (1, 1, 1)), Conv3d_0b_1x1=Unit(narrow, wide3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class I3D(nn.Sequential):
    """Videos (B, 3, T, H, W) in [-1, 1], T >= ``SHORTEST`` -> logits (B, 400)."""

    def __init__(self):
        layers = {
            "Conv3d_1a_7x7": Unit(3, 64, 7, stride=2),
            "MaxPool3d_2a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
            "Conv3d_2b_1x1": Unit(64, 64),
            "Conv3d_2c_3x3": Unit(64, 192, 3),
            "MaxPool3d_3a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
            "Mixed_3b": Mixed(192, 64, 96, 128, 16, 32, 32),
            "Mixed_3c": Mixed(256, 128, 128, 192, 32, 96, 64),
            "MaxPool3d_4a_3x3": MaxPool((3, 3, 3), (2, 2, 2)),
            "Mixed_4b": Mixed(480, 192, 96, 208, 16, 48, 64),
            "Mixed_4c": Mixed(512, 160, 112, 224, 24, 64, 64),
            "Mixed_4d": Mixed(512, 128, 128, 256, 24, 64, 64),
            "Mixed_4e": Mixed(512, 112, 144, 288, 32, 64, 64),
            "Mixed_4f": Mixed(528, 256, 160, 320, 32, 128, 128),
            "MaxPool3d_5a_2x2": MaxPool((2, 2, 2), (2, 2, 2)),
            "Mixed_5b": Mixed(832, 256, 160, 320, 32, 128, 128),
            "Mixed_5c": Mixed(832, 384, 192, 384, 48, 128, 128),
            "Logits": named(
                AvgPool3d_0a_7x7=nn.AvgPool3d((2, 7, 7), stride=1), Conv3d_0c_1x1=nn.Conv3d(1024, LOGITS, 1)
            ),
        }
        super().__init__(OrderedDict(layers))

    def forward(self, video: Tensor) -> Tensor:
        height, width = video.shape[-2:]
        size = [round(side * SIDE / min(height, width)) for side in (height, width)]
        frames = F.interpolate(video.transpose(1, 2).flatten(0, 1), size, mode="bilinear", align_corners=False)
        x = frames.unflatten(0, (len(video), -1)).transpose(1, 2)
        return super().forward(x.contiguous(memory_format=torch.channels_last_3d)).mean((2, 3, 4))


def named(**layers: nn.Module) -> nn.Sequential:
    """Layers one after the other, under their names."""
    return nn.Sequential(OrderedDict(layers))


def pad_same(x: Tensor, kernel: Sizes, stride: Sizes, value: float) -> Tensor:
    """TensorFlow's 'SAME' padding of (B, C, T, H, W): n places become ceil(n / stride); an odd pad is at the end."""
    pads: list[int] = []
    for n, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(k - (n % s or s), 0)
        pads = [total // 2, total - total // 2, *pads]  # F.pad starts with the last axis
    return F.pad(x, pads, value=value) if any(pads) else x


def fold_batch_norms(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convolution and batch norm, ``(w x - mean) / deviation + bias``, as one convolution with a bias."""
    folded = {}
    for name, value in weights.items():
        layer, _, part = name.rpartition(".conv.")
        if not layer:  # of a batch norm
            continue
        if f"{layer}.bn.bias" not in weights:
            folded[f"{layer}.{part}"] = value.float()
            continue
        bias, mean, variance = (weights[f"{layer}.bn.{n}"].double() for n in ("bias", "running_mean", "running_var"))
        scale = (variance + 1e-3).rsqrt()
        folded[f"{layer}.weight"] = (value.double() * scale.reshape(-1, 1, 1, 1, 1)).float()
        folded[f"{layer}.bias"] = (bias - mean * scale).float()
    return folded


@cache
def shipped_i3d(device: torch.device) -> I3D:
    """The network with its published weights, in eval mode."""
    network = I3D()
    network.load_state_dict(fold_batch_norms(load_file(WEIGHTS)))
    return network.to(device, memory_format=torch.channels_last_3d).eval().requires_grad_(False)
