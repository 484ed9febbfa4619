"""The interface of all video denoisers, and what they share."""

# no `from __future__ import annotations` here: the hub's mixin reads the types of __init__ to restore dataclasses

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from lgcvd.config import ModelConfig
from lgcvd.context import PAPER_TASKS, Context, offered
from lgcvd.motion import MotionSkip
from lgcvd.schedule import Schedule


@dataclass(frozen=True)
class About:
    """What a checkpoint says of itself, beside its config."""

    name: str = ""
    data: str = ""
    """Training data, with attribution."""
    licence: str = ""
    """What may be done with the weights."""
    step: int = 0
    """Training iterations."""
    tasks: tuple[str, ...] = PAPER_TASKS
    """What it was trained for: names of ``TaskMix``."""
    steps: int = 0
    """Denoising steps that it was distilled to (``lgcvd.distill``); 0 if it takes any number."""
    sampling: dict[str, str | int | float] = field(default_factory=dict)
    """Options of ``Sampling`` that it wants unless told otherwise: those it was distilled for, or was best with."""

    sampling_by_task: dict[str, dict[str, str | int | float]] = field(default_factory=dict)
    """Task of ``context.TASKS`` -> what it wants otherwise."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))  # JSON has lists

    def sampling_for(self, task: str) -> dict[str, str | int | float]:
        """Options of ``Sampling`` for a task, unless someone knows better."""
        return self.sampling | self.sampling_by_task.get(task, {})


class VideoDenoiser(
    nn.Module,
    PyTorchModelHubMixin,
    ABC,
    library_name="lgcvd",
    tags=["video-prediction", "diffusion"],
    repo_url="https://github.com/exisas/LGC-VD",
):
    """Answers what noise a noisy clip holds, given a context.

    Every model's output ends in the N new frames, so ``output[:, -model.new_frames:]`` serves all of them.
    """

    config: ModelConfig
    about: About
    schedule: Schedule
    motion: MotionSkip | None

    @property
    def context_frames(self) -> int:
        return self.config.context_frames

    @property
    def new_frames(self) -> int:
        return self.config.new_frames

    @property
    def tasks(self) -> list[str]:
        """What a rollout can be asked for in general: names of ``context.TASKS``."""
        return offered(self.about.tasks, onward=self.output_frames < self.config.clip_frames)

    @property
    def output_frames(self) -> int:
        """Frames of the clip that is denoised: T for LGC-VD, N for MCVD."""
        return self.config.output_frames

    @property
    def keeps_memory(self) -> bool:
        """Whether there is a global context: what ``remember`` gives is not None."""
        return self.config.kind == "lgcvd" and self.config.global_context

    @abstractmethod
    def remember(self, clip: Tensor | None, size: tuple[int, int] | None = None) -> Tensor | None:
        """Global context after ``clip`` (B, T, C, H, W) in [-1, 1]; None for models that keep none."""

    def prepare(self, context: Context, truth: Tensor | None = None) -> Context:
        """``context`` with all that does not depend on the noise: else every forward pass works it out anew.

        truth: in training, the true clip (B, T, C, H, W) in [-1, 1]: what a motion skip carries goes its true ways.
        """
        if self.motion is None or context.evidence:
            return context
        told = (self._standardise(truth),) if self.config.motion_things and truth is not None else ()
        return replace(context, evidence=self.motion.evidence(*self._shown(context), *told))

    @abstractmethod
    def _shown(self, context: Context) -> tuple[Tensor, Tensor]:
        """Frames (B, k, C, H, W), standardised, in every slot that the network sees, and their positions (B, k)."""

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """Velocity (B, output_frames, C, H, W) of the noisy clip ``x_t`` at time steps ``t`` (B,)."""

    def _check(self, x_t: Tensor, t: Tensor) -> None:
        """Refuse sizes that the network does not divide, and time steps that are not one a sample."""
        self.config.check_size(*x_t.shape[-2:])
        if t.shape != x_t.shape[:1]:  # one time step for a whole batch would broadcast without a word
            raise ValueError(f"t has shape {tuple(t.shape)}, but a batch of {len(x_t)} needs as many time steps.")

    def _standardise(self, clean: Tensor) -> Tensor:
        """Clean frames with the mean 0 and deviation 1 that the network is made for."""
        return (clean - self.config.data_mean) / self.config.data_std

    def _fold(self, video: Tensor) -> Tensor:
        """Frames and patches into channels, frame-major."""
        p = self.config.patch_size
        folded = rearrange(video, "b t c (h p) (w q) -> b (t c p q) h w", p=p, q=p)
        return folded.contiguous(memory_format=torch.channels_last)

    def _unfold(self, folded: Tensor) -> Tensor:
        c, p = self.config.channels, self.config.patch_size
        return rearrange(folded, "b (t c p q) h w -> b t c (h p) (w q)", c=c, p=p, q=p)

    def _clean(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The clean clip that the last layer's ``output`` means."""
        if self.config.output == "x0":
            return self.config.data_mean + self.config.data_std * output
        implied = {"velocity": self.schedule.x0, "noise": self.schedule.x0_from_noise}
        return implied[self.config.output](x_t, output, t)
