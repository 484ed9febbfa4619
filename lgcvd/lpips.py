"""LPIPS 0.1 with AlexNet (Zhang et al. 2018): how different two pictures look, learned from people's judgements.

LPIPS is the squared distance of two embeddings. So a picture is embedded once, however many it is compared with.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lgcvd.files import ASSETS

WEIGHTS = ASSETS / "metrics" / "lpips_alexnet.safetensors"

SMALLEST = 31
"""Side of the smallest picture that AlexNet's last max-pool still takes, in pixels."""

MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of ImageNet's colours, for pictures in [-1, 1]."""

TAPS = (0, 3, 6, 8, 10)
"""The convolutions, by their numbers in AlexNet; what leaves each one's ReLU is compared."""


class LPIPS(nn.Module):
    """Pictures (M, 3, H, W) in [-1, 1] -> embeddings (M, D); LPIPS is ``(a - b).square().sum(1)``. D grows with H W."""

    def __init__(self):
        super().__init__()
        convolutions = (
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.Conv2d(256, 256, 3, padding=1),
        )
        self.features = nn.ModuleDict({str(n): c for n, c in zip(TAPS, convolutions, strict=True)})
        self.lin = nn.ModuleList(nn.Conv2d(c.out_channels, 1, 1, bias=False) for c in convolutions)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        h = ((pictures - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        embedding = []
        for i, (convolution, lin) in enumerate(zip(self.features.values(), self.lin, strict=True)):
            h = F.max_pool2d(h, 3, 2) if i in (1, 2) else h
            h = convolution(h).relu()
            unit = h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10)
            # sum over channels of weight * difference^2, mean over places, as plain differences of the embeddings
            weight = lin.weight.reshape(-1, 1, 1) / h[0, 0].numel()
            embedding.append((unit * weight.sqrt()).flatten(1))
        return torch.cat(embedding, 1)


@cache
def shipped_lpips(device: torch.device) -> LPIPS:
    """The network with its published weights, in eval mode."""
    network = LPIPS()
    weights = load_file(WEIGHTS)
    network.load_state_dict({name.replace("lin", "lin."): value.float() for name, value in weights.items()})
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
