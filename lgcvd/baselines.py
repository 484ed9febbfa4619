"""Predictions that take no model. (B, K, C, H, W) observed frames in [-1, 1] -> (B, K + frames, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor


def copy_last_frame(observed: Tensor, frames: int) -> Tensor:
    """Nothing moves any more."""
    return torch.cat([observed, observed[:, -1:].expand(-1, frames, -1, -1, -1)], dim=1)


def blank_frame(observed: Tensor, frames: int) -> Tensor:
    """Black: for small bright things on black, hard to beat on PSNR."""
    return torch.cat([observed, torch.full_like(observed[:, -1:], -1).expand(-1, frames, -1, -1, -1)], dim=1)


BASELINES = {"copy-last-frame": copy_last_frame, "blank-frame": blank_frame}
"""Name -> baseline."""
