"""The noise schedule: from clean clips to noise and back.

Symbols follow the paper (section 3.1): ``x0`` is the clean clip, ``x_t`` the noisy one, ``alpha_bar`` the share of
signal variance that is left at step ``t``, so that ``x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLEAN = -1
"""The time step behind the last one, where no noise is left."""


def cosine_betas(steps: int = 1000, s: float = 0.008, max_beta: float = 0.9999) -> Tensor:
    """Betas of the cosine schedule (Nichol and Dhariwal 2021, eq. 17), float64, shape ``(steps,)``."""
    time = torch.linspace(0, steps, steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((time + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Betas of the linear schedule (Ho et al. 2020), given for 1,000 steps; fewer steps take as much larger ones."""
    scale = 1000 / steps
    return torch.linspace(scale * first, scale * last, steps, dtype=torch.float64).clamp(max=0.9999)


BETAS: dict[str, Callable[[int], Tensor]] = {"cosine": cosine_betas, "linear": linear_betas}
"""Name -> function of the number of steps that gives betas."""


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """View ``(B,)`` values so that they multiply a ``(B, ...)`` tensor sample by sample."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


class Schedule(nn.Module):
    """A noise schedule with the conversions between noise, velocity and clean clip.

    It is a module only so that its table moves with the model; it has no parameters and is not saved.
    Time steps are integers ``t`` of shape ``(B,)``, or one for all samples, in ``[0, steps)``; 0 is almost clean,
    ``steps - 1`` almost noise. ``CLEAN`` is a time step, too.
    """

    alpha_bar: Tensor
    """(steps + 1,); the last is ``alpha_bar[CLEAN]``, 1."""

    def __init__(self, steps: int = 1000, betas: Callable[[int], Tensor] = cosine_betas):
        super().__init__()
        self.steps = steps
        self.betas = betas(steps)
        alpha_bar = F.pad(torch.cumprod(1 - self.betas, 0), (0, 1), value=1.0)
        self.register_buffer("alpha_bar", alpha_bar.float(), persistent=False)

    def signal_and_noise(self, t: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(alpha_bar_t)`` and ``sqrt(1 - alpha_bar_t)``, shaped to multiply ``like``."""
        alpha_bar = self.alpha_bar[t]
        return per_sample(alpha_bar.sqrt(), like), per_sample((1 - alpha_bar).sqrt(), like)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        signal, sigma = self.signal_and_noise(t, x0)
        return signal * x0 + sigma * noise

    def velocity(self, x0: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """``v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0`` (Salimans and Ho 2022)."""
        signal, sigma = self.signal_and_noise(t, x0)
        return signal * noise - sigma * x0

    def x0(self, x_t: Tensor, velocity: Tensor, t: Tensor | int) -> Tensor:
        """The clean clip that this velocity implies; not clipped to [-1, 1]."""
        signal, sigma = self.signal_and_noise(t, x_t)
        return signal * x_t - sigma * velocity

    def standardise(self, x_t: Tensor, t: Tensor | int, mean: float, std: float) -> Tensor:
        """The noisy clip with mean 0 and variance 1, given the data's (Karras et al. 2022, table 1: ``c_in``)."""
        signal, sigma = self.signal_and_noise(t, x_t)
        return (x_t - signal * mean) * ((signal * std) ** 2 + sigma**2).rsqrt()

    def velocity_from_x0(self, x_t: Tensor, x0: Tensor, t: Tensor | int) -> Tensor:
        """The velocity that a clean clip implies: ``(sqrt(alpha_bar) x_t - x0) / sqrt(1 - alpha_bar)``."""
        signal, sigma = self.signal_and_noise(t, x_t)
        return (signal * x_t - x0) / sigma

    def x0_from_noise(self, x_t: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """The clean clip that a guess of the noise implies; far from [-1, 1] where hardly any signal is left."""
        signal, sigma = self.signal_and_noise(t, x_t)
        return (x_t - sigma * noise) / signal


def respaced_timesteps(steps: int, total: int = 1000) -> list[int]:
    """``steps`` of ``total`` time steps, both ends included, highest first (Nichol and Dhariwal 2021, section 4)."""
    if not 1 <= steps <= total:
        raise ValueError(f"steps must be between 1 and {total}, not {steps}.")
    if steps == 1:
        return [total - 1]
    return sorted({round(i * (total - 1) / (steps - 1)) for i in range(steps)}, reverse=True)
