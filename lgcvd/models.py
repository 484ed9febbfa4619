"""Video denoisers: one interface, and LGC-VD behind it."""

# no `from __future__ import annotations` here: the hub's mixin reads the types of __init__ to restore dataclasses

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from lgcvd.blocks import PassThrough
from lgcvd.config import ModelConfig
from lgcvd.context import ABSENT, ABSENT_FRAME, NULL_CLIP, PAPER_TASKS, Context
from lgcvd.motion import MotionSkip
from lgcvd.schedule import Schedule
from lgcvd.unet import Encoder, UNet, UNetShape


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

    @property
    def sampling(self) -> dict:
        """Options of ``Sampling`` that it wants unless told otherwise."""
        return {"sampler": "ddim", "spacing": "trailing", "steps": self.steps} if self.steps else {}

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))  # JSON has lists


class VideoDenoiser(nn.Module, ABC):
    """Answers what noise a noisy clip holds, given a context.

    Every model's output ends in the N new frames, so ``output[:, -model.new_frames:]`` serves all of them.
    """

    config: ModelConfig
    schedule: Schedule
    about: About

    @property
    def context_frames(self) -> int:
        return self.config.context_frames

    @property
    def new_frames(self) -> int:
        return self.config.new_frames

    @property
    @abstractmethod
    def output_frames(self) -> int:
        """Frames of the clip that is denoised: T for LGC-VD, N for MCVD."""

    @abstractmethod
    def remember(
        self, clip: Tensor | None, memory: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Tensor | None:
        """Global context after ``clip`` (B, T, C, H, W); None for models that keep none."""

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """Velocity (B, output_frames, C, H, W) of the noisy clip ``x_t`` at time steps ``t`` (B,)."""


class LGCVD(
    VideoDenoiser,
    PyTorchModelHubMixin,
    library_name="lgcvd",
    tags=["video-prediction", "diffusion"],
    repo_url="https://github.com/exisas/LGC-VD",
):
    """Video diffusion with local and global context guidance (Yang et al., IJCAI 2023, section 3).

    A 2D U-Net denoises a clip of T frames at once. Local context comes in with the noisy clip as frames and position
    planes; global context, the encoding of the clip before, through cross-attention in the middle.
    """

    def __init__(self, model: ModelConfig, about: About | None = None):
        super().__init__()
        config = model  # the argument's name is its name in config.json, where the hub's mixin has its own "config"
        self.config, self.about = config, about or About()
        self.schedule = Schedule(config.timesteps)
        heights = [config.image_size[0] // config.patch_size // 2**i for i in range(len(config.multipliers))]
        attention_up = config.attention if config.attention_up is None else config.attention_up
        shape = UNetShape(
            widths=(config.dim, *(config.dim * m for m in config.multipliers)),
            attention_down=tuple(i for i, height in enumerate(heights) if height in config.attention),
            attention_up=tuple(i for i, height in enumerate(heights) if height in attention_up),
            head_channels=config.head_channels,
        )
        pixels = config.patch_size**2
        clip_channels = config.clip_frames * config.channels * pixels
        local_channels = config.context_frames * (config.channels + config.position_planes) * pixels
        self.encoder = Encoder(shape, clip_channels) if config.global_context else None
        self.motion = MotionSkip(config.clip_frames, config.patch_size, config.motion) if config.motion else None
        seen, answered = (self.motion.channels_in, self.motion.channels_out) if self.motion else (0, 0)
        self.unet = UNet(shape, local_channels + clip_channels + seen, clip_channels + answered)
        if not config.global_context:
            self.unet.cross = PassThrough()
        self.to(memory_format=torch.channels_last)

    @property
    def output_frames(self) -> int:
        return self.config.clip_frames

    def remember(
        self, clip: Tensor | None, memory: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Tensor | None:
        """Encode the clip that was (B, T, C, H, W); average with what was remembered (paper, section 3.3).

        ``clip=None``: nothing was yet, (1, D, h, w) from a grey clip of ``size`` (height and width; default the
        model's own); it serves any batch. None for a model without global context.
        """
        if self.encoder is None:
            return None
        if clip is None:
            height, width = size or self.config.image_size
            shape = (1, self.config.clip_frames, self.config.channels, height, width)
            clip = self.unet.head[1].weight.new_full(shape, NULL_CLIP)
        seen = self.encoder(self._fold(self._standardise(clip)))
        return seen if memory is None else torch.lerp(seen, memory, self.config.memory_decay)

    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        self.config.check_size(*x_t.shape[-2:])
        if t.shape != x_t.shape[:1]:  # one time step for a whole batch would broadcast without a word
            raise ValueError(f"t has shape {tuple(t.shape)}, but a batch of {len(x_t)} needs as many time steps.")
        absent = (context.positions == ABSENT)[:, :, None, None, None]
        frames = context.frames.masked_fill(absent, ABSENT_FRAME)
        # the plane of a position: (position + 1) / (T + 1) in [0, 1], taken to [-1, 1] like every pixel
        planes = 2 * (context.positions + 1) / (self.config.clip_frames + 1) - 1
        planes = planes.to(frames.dtype)[:, :, None, None, None].expand_as(frames[:, :, :1])
        local = torch.cat([self._standardise(frames), *([planes] * self.config.position_planes)], dim=2)
        mean, std = self.config.data_mean, self.config.data_std
        noisy = self.schedule.standardise(x_t, t, mean, std)
        memory = None if context.memory is None else context.memory.expand(len(x_t), -1, -1, -1)
        seen = [self._fold(local), self._fold(noisy)]
        clip_channels = seen[1].shape[1]
        if self.motion:
            evidence = self.motion.evidence(self._standardise(frames), context.positions)
            seen.append(self.motion.seen(evidence))
        answer = self.unet(torch.cat(seen, dim=1), t, memory)
        output = self._unfold(answer[:, :clip_channels])
        if self.config.output == "velocity" and not self.motion:
            return output
        x0 = self.schedule.x0(x_t, output, t) if self.config.output == "velocity" else mean + std * output
        if self.motion:
            x0 = self.motion(answer[:, clip_channels:], x0, replace(context, frames=frames), evidence)
        return self.schedule.velocity_from_x0(x_t, x0, t)

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


MODELS: dict[str, type[VideoDenoiser]] = {"lgcvd": LGCVD}
"""Every kind of model by its name in a checkpoint."""


def build(config: ModelConfig, about: About | None = None) -> VideoDenoiser:
    """A model with random weights of the kind that ``config`` describes."""
    return MODELS["lgcvd"](config, about)
