"""The interface of all video denoisers, and the forward pass that those around a U-Net share."""

# no `from __future__ import annotations` here: the hub's mixin reads the types of __init__ to restore dataclasses

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from lgcvd.checks import check_fields
from lgcvd.config import ModelConfig
from lgcvd.context import NULL_CLIP, PAPER_TASKS, Context, offered
from lgcvd.motion import Skip
from lgcvd.schedule import BETAS, Schedule
from lgcvd.splatting import motion_skip
from lgcvd.unet import Encoder, UNet, unet_shape


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
        check_fields(self)

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
    motion: Skip | None
    """What moves on what the known frames show; None where all is painted."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def context_frames(self) -> int:
        return self.config.context_frames

    @property
    def new_frames(self) -> int:
        return self.config.new_frames

    @property
    def output_frames(self) -> int:
        """Frames of the clip that is denoised: T for LGC-VD, N for MCVD."""
        return self.config.output_frames

    @property
    def makes_whole_clips(self) -> bool:
        """Whether it denoises all T frames of a clip, as LGC-VD does, and not the new ones alone, as MCVD."""
        return self.output_frames == self.config.clip_frames

    @property
    def keeps_memory(self) -> bool:
        """Whether there is a global context: what ``remember`` gives is not None."""
        return self.config.kind == "lgcvd" and self.config.global_context

    @property
    def abilities(self) -> list[str]:
        """What a rollout can be asked for in general: names of ``context.TASKS``, where ``about.tasks`` has those of
        ``TaskMix``."""
        return offered(self.about.tasks, onward=not self.makes_whole_clips)

    @abstractmethod
    def remember(self, clip: Tensor | None, size: tuple[int, int] | None = None) -> Tensor | None:
        """Encode the clip that was, (B, T, C, H, W) in [-1, 1] -> (B, D, h, w) (paper, section 3.3).

        ``clip=None``: nothing was yet, (1, D, h, w) from a grey clip of ``size`` (height and width; default the
        model's own); it serves any batch. None for a model without global context. What a rollout keeps of the clips
        before that one is decided by ``rollout.MEMORIES``.
        """

    def prepare(self, context: Context, truth: Tensor | None = None) -> Context:
        """``context`` with all that does not depend on the noise: else every forward pass works it out anew.

        truth: in training, the true clip (B, T, C, H, W) in [-1, 1]: what a motion skip carries goes its true ways.
        """
        return context

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """Velocity (B, output_frames, C, H, W) of the noisy clip ``x_t`` at time steps ``t`` (B,)."""


class UNetDenoiser(VideoDenoiser):
    """A U-Net whose channels are the frames of a clip: LGC-VD and MCVD, but for the way of the context into it.

    The network sees the noisy clip and what the motion skip tells of the context; its first channels out paint the
    clip, the others answer the skip. What else it sees, and how, each model adds in ``_network`` and ``_answer``.
    """

    encoder: Encoder | None
    unet: UNet

    def __init__(self, model: ModelConfig, about: About | None = None):
        super().__init__()
        config = model  # the argument's name is its name in config.json, where the hub's mixin has its own "config"
        self.config, self.about = config, about or About()
        self.schedule = Schedule(config.timesteps, BETAS[config.betas])
        clip_channels, painted = (n * self._frame_channels for n in (config.clip_frames, config.output_frames))
        self.encoder = Encoder(unet_shape(config), clip_channels) if self.keeps_memory else None
        self.motion = motion_skip(config)
        seen, answered = (self.motion.channels_in, self.motion.channels_out) if self.motion else (0, 0)
        self.unet = self._network(painted + seen, painted + answered)
        self.to(memory_format=torch.channels_last)

    @abstractmethod
    def _network(self, channels_in: int, channels_out: int) -> UNet:
        """The U-Net, whose input has so many channels without the context frames."""

    @abstractmethod
    def _shown(self, context: Context) -> Context:
        """``context`` as the network sees it: frames (B, k, C, H, W), standardised, in every slot that it has."""

    @abstractmethod
    def _answer(self, x: Tensor, t: Tensor, shown: Context) -> Tensor:
        """What the network answers to its input ``x`` (B, channels_in, h, w) and the context that it is ``shown``."""

    def remember(self, clip: Tensor | None, size: tuple[int, int] | None = None) -> Tensor | None:
        if self.encoder is None:
            return None
        if clip is None:
            height, width = size or self.config.image_size
            shape = (1, self.config.clip_frames, self.config.channels, height, width)
            clip = self.unet.head[1].weight.new_full(shape, NULL_CLIP)
        return self.encoder(self._fold(self._standardise(clip)))

    def prepare(self, context: Context, truth: Tensor | None = None) -> Context:
        if self.motion is None or context.evidence:
            return context
        shown, truth = self._shown(context), None if truth is None else self._standardise(truth)
        return replace(context, evidence=self.motion.evidence(shown.frames, shown.positions, truth))

    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        self._check(x_t, t)
        context = self.prepare(context)
        shown = self._shown(context)
        noisy = self._fold(self.schedule.standardise(x_t, t, self.config.data_mean, self.config.data_std))
        seen = [noisy, context.evidence.seen] if self.motion else [noisy]
        answer = self._answer(torch.cat(seen, dim=1), t, shown)
        painted, moves = answer.split([noisy.shape[1], answer.shape[1] - noisy.shape[1]], dim=1)
        if self.config.output == "velocity" and not self.motion:
            return self._unfold(painted)
        x0 = self._clean(x_t, self._unfold(painted), t)
        if self.motion:
            x0 = self._moved(moves, x0, context, shown)
        return self.schedule.velocity_from_x0(x_t, x0, t)

    def _moved(self, answer: Tensor, painted: Tensor, context: Context, shown: Context) -> Tensor:
        """The ``painted`` frames, completed by moving on what the context shows (see ``lgcvd.motion``)."""
        return self.motion(answer, painted, context)

    def _check(self, x_t: Tensor, t: Tensor) -> None:
        """Refuse sizes that the network does not divide, and time steps that are not one a sample."""
        self.config.check_size(*x_t.shape[-2:])
        if t.shape != x_t.shape[:1]:  # one time step for a whole batch would broadcast without a word
            raise ValueError(f"t has shape {tuple(t.shape)}, but a batch of {len(x_t)} needs as many time steps.")

    @property
    def _frame_channels(self) -> int:
        """Channels that a frame is folded into."""
        return self.config.channels * self.config.patch_size**2

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
