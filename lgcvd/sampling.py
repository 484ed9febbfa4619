"""One denoising run, as a generator over its steps; samplers by name.

All samplers go by the clean clip that the model's velocity implies, kept in range by a threshold: so guidance, clipping
and frames that are known mean the same for all of them. What a library does right is diffusers' own scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from lgcvd.context import ABSENT, Context
from lgcvd.errors import UserError
from lgcvd.models import VideoDenoiser
from lgcvd.schedule import CLEAN, Schedule, per_sample, respaced_timesteps

DEFAULT_SAMPLER, DEFAULT_STEPS, DEFAULT_SPACING = "dpm++2m", 10, "quadratic"

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Source of noise: one generator for a whole batch, or one a sample: then no sample's noise depends on the others."""

Predict = Callable[[Tensor, int], Tensor]
"""(x_t, t) -> the clean clip that the model sees in x_t."""


def randn(like: Tensor, generator: Generators) -> Tensor:
    """Gaussian noise of the shape, type and device of ``like``."""
    if generator is None or isinstance(generator, torch.Generator):
        device = generator.device if generator else like.device
        return torch.randn(like.shape, generator=generator, device=device).to(like)
    if len(generator) != len(like):
        raise UserError(f"there are {len(generator)} generators for {len(like)} clips: give one for each.")
    return torch.stack([randn(clip, one) for clip, one in zip(like, generator, strict=True)])


# ----------------------------------------------------------------------------------------------------------- samplers


class Solver:
    """Walks from noise to a clip, step by step. ``alpha_bar[t]`` is the signal's share, ``alpha_bar[CLEAN]`` is 1."""

    eta = None
    """Noise that each step adds, where that can be chosen: 0 none, 1 as much as ancestral sampling."""

    def __init__(self, schedule: Schedule, timesteps: list[int], eta: float | None = None):
        self.alpha_bar = [*torch.cumprod(1 - schedule.betas, 0).tolist(), 1.0]
        self.eta = type(self).eta if eta is None else eta

    def step(self, predict: Predict, x_t: Tensor, t: int, s: int, generator: Generators) -> tuple[Tensor, Tensor]:
        """From time ``t`` to ``s`` < ``t``: what is left to denoise, and the clean clip that ``predict`` saw."""
        raise NotImplementedError

    def towards(self, x0: Tensor, x_t: Tensor, t: int, s: int, noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
        """A step of DDIM (Song et al. 2021, eq. 12): keep the direction of the noise, renew a part of it."""
        ab_t, ab_s = self.alpha_bar[t], self.alpha_bar[s]
        direction = (x_t - math.sqrt(ab_t) * x0) / math.sqrt(1 - ab_t)
        variance = eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
        x_s = math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s - variance) * direction
        return x_s if variance == 0 else x_s + math.sqrt(variance) * noise


class DDIM(Solver):
    """Deterministic (Song et al. 2021) but for ``eta``.

    Euler's method on the flow in its variance-exploding form (Karras et al. 2022) gives the same numbers.
    """

    eta = 0.0

    def step(self, predict, x_t, t, s, generator):
        x0 = predict(x_t, t)
        noise = randn(x_t, generator) if self.eta else None
        return self.towards(x0, x_t, t, s, noise, self.eta), x0


class DDPM(DDIM):
    """Ancestral sampling (Ho et al. 2020), as the authors' released code does."""

    eta = 1.0


class Heun(Solver):
    """Heun's rule, second order: every step but the last looks ahead and so asks the network twice.

    Exact for the noise, and for clean clips that change linearly with the log-SNR (Lu et al. 2022, section 4.1): in
    the noise level itself, as in Karras et al. 2022, the first step from pure noise would miss by hundreds.
    """

    def step(self, predict, x_t, t, s, generator):
        x0 = predict(x_t, t)
        x_s = self.towards(x0, x_t, t, s)
        if s == CLEAN:
            return x_s, x0
        h = self._log_snr(s) - self._log_snr(t)
        return x_s + math.sqrt(self.alpha_bar[s]) * (1 + math.expm1(-h) / h) * (predict(x_s, s) - x0), x0

    def _log_snr(self, t: int) -> float:
        return math.log(self.alpha_bar[t] / (1 - self.alpha_bar[t])) / 2


class Multistep(Solver):
    """A scheduler of diffusers, which looks back on earlier steps, at time steps of our own choice."""

    noisy = False

    def __init__(self, schedule: Schedule, timesteps: list[int], eta: float | None = None):
        super().__init__(schedule, timesteps)
        scheduler = self.make(trained_betas=schedule.betas.float().numpy(), prediction_type="sample")
        scheduler.set_timesteps(len(timesteps) - 1e-9)  # for 242 of 1000 and some others, rounding would add a step
        scheduler.timesteps = torch.tensor(timesteps)
        scheduler.sigmas = torch.tensor([math.sqrt(1 / self.alpha_bar[t] - 1) for t in [*timesteps, CLEAN]])
        self.scheduler = scheduler

    def make(self, **options):
        raise NotImplementedError

    def step(self, predict, x_t, t, s, generator):
        x0 = predict(x_t, t)
        noise = {"variance_noise": randn(x_t, generator)} if self.noisy else {}
        return self.scheduler.step(x0, t, x_t, **noise).prev_sample, x0


class DPM2M(Multistep):
    """DPM-Solver++ of second order, multistep (Lu et al. 2022)."""

    def make(self, **options):
        from diffusers import DPMSolverMultistepScheduler

        return DPMSolverMultistepScheduler(timestep_spacing="trailing", **options)


class DPMSDE(Multistep):
    """The same for the stochastic equation: every step renews the noise."""

    noisy = True

    def make(self, **options):
        from diffusers import DPMSolverMultistepScheduler

        return DPMSolverMultistepScheduler(timestep_spacing="trailing", algorithm_type="sde-dpmsolver++", **options)


class UniPC(Multistep):
    """UniPC of second order (Zhao et al. 2023)."""

    def make(self, **options):
        from diffusers import UniPCMultistepScheduler

        return UniPCMultistepScheduler(timestep_spacing="trailing", **options)


SAMPLERS: dict[str, type[Solver]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "dpm++2m": DPM2M,
    "dpm++sde": DPMSDE,
    "unipc": UniPC,
    "euler": DDIM,
    "heun": Heun,
}
"""Name -> solver of (schedule, time steps, eta)."""


# ------------------------------------------------------------------------------------------------- where the steps lie


def _trailing(steps: int, total: int) -> list[float]:
    """Evenly, the last step as long as the others (Lin et al. 2024, table 2)."""
    return [total * (1 - i / steps) - 1 for i in range(steps)]


def _quadratic(steps: int, total: int) -> list[float]:
    """Denser where little noise is left (Song et al. 2021, appendix D.3)."""
    return [total * (1 - i / steps) ** 2 - 1 for i in range(steps)]


def _karras(steps: int, total: int, rho: float = 7.0, largest: float = 80.0) -> list[float]:
    """Pure noise, then even in the noise level to the power 1/7, from 80 down (Karras et al. 2022, eq. 5).

    The noise level is that of the cosine schedule, ``sigma = tan(pi t / (2 total))`` but for its offset.
    """
    low, high = (sigma ** (1 / rho) for sigma in (math.tan(math.pi / (2 * total)), largest))
    sigmas = [(high + i / max(1, steps - 1) * (low - high)) ** rho for i in range(steps)]
    return [total - 1.0] + [math.atan(sigma) * 2 * total / math.pi - 1 for sigma in sigmas[1:]]


SPACINGS: dict[str, Callable[[int, int], Sequence[float]]] = {
    "trailing": _trailing,
    "ends": respaced_timesteps,
    "quadratic": _quadratic,
    "karras": _karras,
}
"""Name -> function of (steps, total) that gives time steps from ``total - 1`` down, not yet whole numbers.

"ends" has both ends, as the authors' released code does; the others are of the papers that they name.
"""


def spaced(spacing: str, steps: int, total: int) -> list[int]:
    """``steps`` different time steps of ``total``, highest first; the first is ``total - 1``.

    Raises ``UserError`` if there are not so many.
    """
    if not 1 <= steps <= total:
        raise UserError(f"steps must be between 1 and {total}, all time steps there are, not {steps}.")
    chosen: list[int] = []
    for left, t in zip(reversed(range(steps)), SPACINGS[spacing](steps, total), strict=True):
        highest = chosen[-1] - 1 if chosen else total - 1
        chosen.append(min(highest, max(left, round(t))))
    return chosen


# --------------------------------------------------------------------------------------------------------- thresholds


def dynamic_threshold(x0: Tensor, share: float = 0.995) -> Tensor:
    """Scale each clip down until ``share`` of its pixels are in [-1, 1], clip the rest (Saharia et al. 2022)."""
    largest = torch.quantile(x0.flatten(1).abs(), share, dim=1).clamp(min=1)
    return (x0 / per_sample(largest, x0)).clamp(-1, 1)


THRESHOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "clip": lambda x0: x0.clamp(-1, 1),
    "dynamic": dynamic_threshold,
    "none": lambda x0: x0,
}
"""Name -> what keeps the model's guesses of the clean clip in range."""


# ------------------------------------------------------------------------------------------------------------ one run


@dataclass(frozen=True)
class Sampling:
    """How clips are denoised."""

    sampler: Literal[*SAMPLERS] = DEFAULT_SAMPLER
    """How to denoise."""
    steps: int = DEFAULT_STEPS
    """Denoising steps a window. Each asks the network once, but twice with "heun"."""
    spacing: Literal[*SPACINGS] = DEFAULT_SPACING
    """Which time steps are taken."""
    eta: float | None = None
    """Of ddpm, ddim and euler: noise that every step renews, from 0 to 1; None is the sampler's own (ddpm: 1)."""
    threshold: Literal[*THRESHOLDS] = "clip"
    """What keeps the guesses of the clean clip in range."""
    local_guidance: float = 1.0
    """Classifier-free guidance (Ho and Salimans 2022) by the local context: 1 is off, more exaggerates, 0 ignores."""
    memory_guidance: float = 1.0
    """The same by the memory, separately. Each that is not 1 asks the network once more a step."""
    resample: int = 4
    """Where more frames are known than the context holds: times that every step is taken (RePaint)."""

    def __post_init__(self) -> None:
        for name, known in (("sampler", SAMPLERS), ("spacing", SPACINGS), ("threshold", THRESHOLDS)):
            if getattr(self, name) not in known:
                raise UserError(f"there is no {name} {getattr(self, name)!r}: choose one of {', '.join(known)}.")
        if self.eta is not None and SAMPLERS[self.sampler].eta is None:
            raise UserError(f"{self.sampler} has no eta, only ddpm, ddim and euler have one: leave it out.")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise UserError(f"eta must be between 0 and 1, not {self.eta}.")
        for name in ("local_guidance", "memory_guidance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} must be 0 or more, not {getattr(self, name)}: 1 is no guidance.")
        if self.resample < 1:
            raise UserError(f"resample must be at least 1, not {self.resample}.")

    def timesteps(self, total: int) -> list[int]:
        """The time steps of a run that begins at ``total - 1``; ``UserError`` if there are not so many."""
        return spaced(self.spacing, self.steps, total)


@dataclass(frozen=True)
class Known:
    """Frames that a run has to keep to, beside those of the local context."""

    frames: Tensor
    """(B, T', C, H, W) in [-1, 1]; what stands at frames that are not known is ignored."""
    mask: Tensor
    """(T',), true where a frame is known."""

    def impose(self, x_s: Tensor, schedule: Schedule, s: int, generator: Generators) -> Tensor:
        """``x_s`` with the known frames, noised to time ``s`` (Lugmayr et al. 2022, eq. 8a and c)."""
        frames = self.frames
        if s != CLEAN:
            frames = schedule.add_noise(frames, randn(frames, generator), s)
        return torch.where(self.mask[:, None, None, None], frames, x_s)


@dataclass(frozen=True)
class DenoisingStep:
    """The state after one step: ``index`` counts from 1 to ``steps``."""

    index: int
    steps: int
    x_t: Tensor
    """What is left to denoise, (B, T, C, H, W); the result after the last step."""
    x0: Tensor
    """The model's present guess of the clean clip, in [-1, 1] unless its threshold is "none"."""


@torch.no_grad()
def sample(
    model: VideoDenoiser,
    x_T: Tensor,
    context: Context,
    *,
    known: Known | None = None,
    start: int | None = None,
    generator: Generators = None,
    **options: object,
) -> Iterator[DenoisingStep]:
    """Denoise ``x_T`` (B, output_frames, C, H, W) and yield after every step.

    ``options`` are those of ``Sampling``. ``known`` frames are imposed at every step, with resampling (RePaint, Lugmayr
    et al. 2022). ``start``: the time step of ``x_T``; left out, it is pure noise. ``generator`` gives the noise that is
    drawn on the way. Nothing is computed ahead of what is asked for: to stop, stop iterating. Raises ``UserError`` for
    options that cannot be, and for more steps than there are.
    """
    sampling, schedule = Sampling(**options), model.schedule
    timesteps = sampling.timesteps(schedule.steps if start is None else start + 1)
    solver = SAMPLERS[sampling.sampler](schedule, timesteps, sampling.eta)
    velocity = _guided(model, context, sampling)
    threshold = THRESHOLDS[sampling.threshold]

    def predict(x_t: Tensor, t: int) -> Tensor:
        return threshold(schedule.x0(x_t, velocity(x_t, _times(t, x_t)), t))

    x_t = x_T
    for index, (t, s) in enumerate(pairwise([*timesteps, CLEAN]), 1):
        if known:
            for _ in range(sampling.resample - 1):
                x_s = solver.towards(predict(x_t, t), x_t, t, s, randn(x_t, generator), eta=1)
                x_t = _renoised(known.impose(x_s, schedule, s, generator), solver.alpha_bar, s, t, generator)
        x_t, x0 = solver.step(predict, x_t, t, s, generator)
        if known:
            x_t = known.impose(x_t, schedule, s, generator)
            x0 = known.impose(x0, schedule, CLEAN, generator)
        yield DenoisingStep(index, len(timesteps), x_t, x0)


@torch.no_grad()
def invert(model: VideoDenoiser, clip: Tensor, context: Context, timesteps: list[int]) -> Iterator[DenoisingStep]:
    """Seek the noise at ``timesteps[0]`` that DDIM turns into ``clip`` (B, output_frames, C, H, W), nearly.

    The flow of DDIM, walked upwards through the ``timesteps``, given from the highest down (Song et al. 2021, section
    4.3). Each is asked one step too early, so many small steps invert better than few large ones. Yields after every
    step; the last ``x_t`` is the noise.
    """
    solver, context = DDIM(model.schedule, timesteps), model.prepare(context)
    x = clip
    for index, (s, t) in enumerate(pairwise([CLEAN, *reversed(timesteps)]), 1):
        asked = max(s, timesteps[-1])
        x0 = model.schedule.x0(x, model(x, _times(asked, x), context), asked)
        x = solver.towards(x0, x, asked, t)
        yield DenoisingStep(index, len(timesteps), x, x0)


def _guided(model: VideoDenoiser, context: Context, sampling: Sampling) -> Callable[[Tensor, Tensor], Tensor]:
    """The velocity, pushed away from what it would be without the local context, and without the memory.

    ``v + (a - 1) (v - v_without_local) + (b - 1) (v - v_without_memory)``: where a scale is 1, or there is nothing to
    leave out, the network is not asked.
    """
    weaker: list[tuple[float, Context]] = []
    if sampling.local_guidance != 1 and (context.positions != ABSENT).any():
        nowhere = torch.full_like(context.positions, ABSENT)
        weaker.append((sampling.local_guidance, replace(context, positions=nowhere, evidence=None)))
    if sampling.memory_guidance != 1 and context.memory is not None:
        grey = model.remember(None, size=tuple(context.frames.shape[-2:]))
        weaker.append((sampling.memory_guidance, context.with_memory(grey)))
    context, weaker = model.prepare(context), [(scale, model.prepare(without)) for scale, without in weaker]

    def velocity(x_t: Tensor, times: Tensor) -> Tensor:
        v = model(x_t, times, context)
        return v + sum((scale - 1) * (v - model(x_t, times, without)) for scale, without in weaker)

    return velocity


def _renoised(x_s: Tensor, alpha_bar: list[float], s: int, t: int, generator: Generators) -> Tensor:
    """From time ``s`` back to the noisier ``t`` (Lugmayr et al. 2022, algorithm 1, line 10)."""
    kept = alpha_bar[t] / alpha_bar[s]
    return math.sqrt(kept) * x_s + math.sqrt(1 - kept) * randn(x_s, generator)


def _times(t: int, like: Tensor) -> Tensor:
    return torch.full((len(like),), t, device=like.device)
