"""How close two videos are, frame by frame. Videos are (B, T, C, H, W) in [-1, 1]."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_PSNR = 100.0
"""PSNR of identical frames, in dB: it would be infinite, and one such frame would swallow every mean."""

SSIM_WINDOW = 7
"""Side of the uniform window of SSIM, in pixels; frames must not be smaller."""

_BORDER = SSIM_WINDOW // 2
_K2 = 0.03 * math.sqrt(1 - 1 / SSIM_WINDOW**2)  # the same as unbiased variances with Wang's 0.03


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame, (B, T) in dB, at most ``MAX_PSNR``; higher is closer.

    Raises ``ValueError`` for different shapes or values outside [-1, 1].
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    _check(a, b)
    decibels = peak_signal_noise_ratio(
        a.flatten(0, 1).float(), b.flatten(0, 1).float(), data_range=2.0, dim=(1, 2, 3), reduction=None
    )
    return decibels.clamp(max=MAX_PSNR).unflatten(0, a.shape[:2])


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each frame, (B, T) in [-1, 1]; 1 is identical.

    Uniform 7 x 7 window with unbiased variances on pixels in [0, 1], mean over colours and over the windows that lie
    inside the frame, as in scikit-image's default. Raises ``ValueError`` for different shapes, values outside [-1, 1]
    or frames smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check(a, b)
    if min(a.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs frames of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, not {tuple(a.shape)}.")
    first, second = ((x.flatten(0, 1).float() + 1) / 2 for x in (a, b))  # SSIM changes when values are shifted
    _, windows = structural_similarity_index_measure(
        first,
        second,
        gaussian_kernel=False,
        kernel_size=SSIM_WINDOW,
        reduction=None,
        data_range=1.0,
        k2=_K2,
        return_full_image=True,
    )
    inside = windows[..., _BORDER:-_BORDER, _BORDER:-_BORDER]
    return inside.mean((1, 2, 3)).clamp(max=1).unflatten(0, a.shape[:2])


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 5 or a.shape != b.shape:
        raise ValueError(f"videos must both be (B, T, C, H, W), not {tuple(a.shape)} and {tuple(b.shape)}.")
    for video in (a, b):
        low, high = (float(end) for end in torch.aminmax(video))
        if not -1 - 1e-4 <= low <= high <= 1 + 1e-4:  # also false for NaN
            raise ValueError(f"videos must be in [-1, 1], not in [{low:.3g}, {high:.3g}]; convert uint8 first.")
