"""The boundary: files and uint8 outside, videos in [-1, 1] inside."""

from __future__ import annotations

from torch import Tensor


def from_uint8(frames: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    return frames.float() / 127.5 - 1


def to_uint8(video: Tensor) -> Tensor:
    """[-1, 1] (clipped) -> uint8 in [0, 255]."""
    return ((video.clamp(-1, 1) + 1) * 127.5).round().byte()
