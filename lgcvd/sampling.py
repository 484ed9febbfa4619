"""One denoising run, as a generator over its steps; samplers by name.

The samplers are diffusers' schedulers over our schedule. They are given the clean clip that the model's velocity
implies, clipped to [-1, 1]: so clipping means the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lgcvd.context import Context
from lgcvd.errors import UserError
from lgcvd.models import VideoDenoiser
from lgcvd.schedule import Schedule, respaced_timesteps

DEFAULT_SAMPLER, DEFAULT_STEPS = "dpm++2m", 10

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Source of noise: one generator for a whole batch, or one a sample: then no sample's noise depends on the others."""


def randn(like: Tensor, generator: Generators) -> Tensor:
    """Gaussian noise of the shape, type and device of ``like``."""
    if generator is None or isinstance(generator, torch.Generator):
        device = generator.device if generator else "cpu"
        return torch.randn(like.shape, generator=generator, device=device).to(like)
    if len(generator) != len(like):
        raise UserError(f"there are {len(generator)} generators for {len(like)} clips: give one for each.")
    return torch.stack([randn(clip, one) for clip, one in zip(like, generator, strict=True)])


@dataclass(frozen=True)
class DenoisingStep:
    """The state after one step: ``index`` counts from 1 to ``steps``."""

    index: int
    steps: int
    x_t: Tensor
    """What is left to denoise, (B, T, C, H, W); the result after the last step."""
    x0: Tensor
    """The model's present guess of the clean clip, in [-1, 1]."""


def _ddpm(schedule: Schedule, steps: int):
    """Ancestral sampling (Ho et al. 2020) at respaced steps, as the authors' released code does."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(schedule.steps, **_options(schedule), variance_type="fixed_small", clip_sample=False)
    scheduler.set_timesteps(timesteps=respaced_timesteps(steps, schedule.steps))
    return scheduler


def _ddim(schedule: Schedule, steps: int):
    """Deterministic (Song et al. 2021): the first order of DPM-Solver++ is the same.

    diffusers' own DDIMScheduler errs where ``steps`` does not divide the diffusion's length.
    """
    return _dpm(schedule, steps, order=1)


def _dpm_2m(schedule: Schedule, steps: int):
    """DPM-Solver++ of second order, multistep (Lu et al. 2022)."""
    return _dpm(schedule, steps, order=2)


def _dpm(schedule: Schedule, steps: int, order: int):
    from diffusers import DPMSolverMultistepScheduler

    options = _options(schedule) | {"solver_order": order, "timestep_spacing": "trailing"}
    return _evenly(DPMSolverMultistepScheduler(schedule.steps, **options), steps)


def _unipc(schedule: Schedule, steps: int):
    """UniPC of second order (Zhao et al. 2023)."""
    from diffusers import UniPCMultistepScheduler

    return _evenly(UniPCMultistepScheduler(schedule.steps, **_options(schedule), timestep_spacing="trailing"), steps)


def _options(schedule: Schedule) -> dict:
    return {"trained_betas": schedule.betas.float().numpy(), "prediction_type": "sample"}


def _evenly(scheduler, steps: int):
    scheduler.set_timesteps(steps - 1e-9)  # for 242 of 1000 and some others, rounding would add a step at t = -1
    return scheduler


SAMPLERS: dict[str, Callable[[Schedule, int], object]] = {
    "ddpm": _ddpm,
    "ddim": _ddim,
    "dpm++2m": _dpm_2m,
    "unipc": _unipc,
}
"""Name -> function of (schedule, steps) that makes a diffusers scheduler with its time steps set."""


def check_sampler(sampler: str, steps: int, schedule: Schedule) -> None:
    """Raise ``UserError`` for an unknown sampler or an impossible number of steps."""
    if sampler not in SAMPLERS:
        raise UserError(f"there is no sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}.")
    if not 1 <= steps <= schedule.steps:
        raise UserError(f"steps must be between 1 and {schedule.steps}, not {steps}.")


@torch.no_grad()
def sample(
    model: VideoDenoiser,
    x_T: Tensor,
    context: Context,
    *,
    sampler: str = DEFAULT_SAMPLER,
    steps: int = DEFAULT_STEPS,
    generator: Generators = None,
) -> Iterator[DenoisingStep]:
    """Denoise ``x_T`` (B, output_frames, C, H, W), pure noise, and yield after every step.

    ``generator`` gives the noise of samplers that draw some (ddpm). Nothing is computed ahead of what is asked for:
    to stop, stop iterating.
    """
    check_sampler(sampler, steps, model.schedule)
    scheduler = SAMPLERS[sampler](model.schedule, steps)
    x_t = x_T
    for index, t in enumerate(scheduler.timesteps.tolist(), 1):
        times = torch.full((len(x_t),), t, device=x_t.device)
        x0 = model.schedule.x0(x_t, model(x_t, times, context), times).clamp(-1, 1)
        noise = {"generator": generator} if sampler == "ddpm" else {}  # diffusers takes a list of generators too
        x_t = scheduler.step(x0, t, x_t, **noise).prev_sample
        yield DenoisingStep(index, steps, x_t, x0)
