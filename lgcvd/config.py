"""Settings as frozen dataclasses, and the named presets made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from lgcvd.checks import check_fields
from lgcvd.context import TaskMix
from lgcvd.errors import UserError
from lgcvd.seeds import checked_seed

DEFAULT_MODEL = "robot-pushing"
"""The shipped model that is taken where none is named."""
Kind = Literal["lgcvd", "mcvd-concat", "mcvd-spatin"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a model's tensors. A clip is ``context_frames + new_frames`` long."""

    kind: Kind = "lgcvd"
    """How context guides the denoiser: LGC-VD, or one of the models to compare with (``lgcvd.mcvd``)."""
    context_frames: int = 2
    """K, frames that the local context can show."""
    new_frames: int = 6
    """N, frames that one window adds."""
    future_frames: int = 0
    """Frames after the clip that MCVD can be shown, to fill in what lies before them; LGC-VD has positions instead."""
    channels: int = 3
    """1 (gray) or 3 (RGB)."""
    image_size: tuple[int, int] = (64, 64)
    """Height and width in pixels that the model is made for; other sizes that the down path divides work too."""
    patch_size: int = 1
    """p: p x p pixels are folded into channels before the network."""
    dim: int = 128
    """Width of the input convolution; level i has ``dim * multipliers[i]``."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Widths of the levels, finest first; every further level halves height and width."""
    attention: tuple[int, ...] = (16, 32)
    """Heights of feature maps that get self-attention (the middle always has it)."""
    attention_up: tuple[int, ...] | None = None
    """The same for the way up, when it differs from the way down (the authors' released weights)."""
    head_channels: int = 128
    """Channels of an attention head."""
    spatin_width: int = 128
    """Channels between the frames and the scale and shift maps that "mcvd-spatin" makes of them, in every norm."""
    time: Literal["shift", "scale-shift"] = "shift"
    """How residual blocks of "mcvd-concat" take the time; those of "mcvd-spatin" scale and shift, LGC-VD's shift."""
    dropout: float = 0.0
    """Share of the channels' values that MCVD's residual blocks drop while training."""
    output: Literal["velocity", "x0", "noise"] = "velocity"
    """What the last layer paints. The model's answer is a velocity either way, derived from what is painted."""
    data_mean: float = 0.0
    """Mean of the training data's pixels in [-1, 1]: the network sees, and paints, clips less this mean ..."""
    data_std: float = 1.0
    """... over this standard deviation."""
    motion: int = 0
    """Pixels a frame that the last layer can move what the known frames show (``lgcvd.motion``); 0: all is painted."""
    motion_stride: int = 1
    """Pixels between neighbouring displacements of it: 2 reaches twice as far at the same cost."""
    motion_sharpness: float = 1.0
    """How much more decided the motion skip is outside of training than in it."""
    motion_things: int = 0
    """How many things of the known frames are carried forwards (``lgcvd.splatting``); 0 asks patches where they come
    from. LGC-VD only."""
    timesteps: int = 1000
    """Length of the diffusion."""
    betas: Literal["cosine", "linear"] = "cosine"
    """The noise schedule: the paper's, or the one of Ho et al. 2020, which MCVD has."""
    global_context: bool = True
    """Whether an encoder remembers the clips before; without it the model sees its local context alone."""
    memory_decay: float = 0.5
    """Share of the memory that stays when the next clip is remembered."""
    position_planes: bool = True
    """Whether local frames come with their position in the clip; absent ones are black either way."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.future_frames < 0 or (self.future_frames and self.kind == "lgcvd"):
            raise UserError(f"future_frames must be at least 0, and 0 for lgcvd, not {self.future_frames}.")
        if not 0 <= self.dropout < 1 or (self.dropout and self.kind == "lgcvd"):
            raise UserError(f"dropout must be at least 0 and below 1, and 0 for lgcvd, not {self.dropout}.")
        for name in ("time", "spatin_width"):
            if self.kind == "lgcvd" and getattr(self, name) != getattr(ModelConfig, name):
                raise UserError(f"{name} must be {getattr(ModelConfig, name)} for lgcvd, not {getattr(self, name)}.")
        if self.channels not in (1, 3):
            raise UserError(f"channels must be 1 (gray) or 3 (RGB), not {self.channels}.")
        for name in ("context_frames", "new_frames", "patch_size", "head_channels", "spatin_width", "timesteps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.dim < 4 or self.dim % 2:  # the time embedding is pairs of sines and cosines
            raise UserError(f"dim must be an even number of at least 4, not {self.dim}.")
        if not 0 <= self.memory_decay < 1:
            raise UserError(f"memory_decay must be at least 0 and below 1, not {self.memory_decay}.")
        if self.motion < 0 or self.motion_sharpness <= 0:
            raise UserError(
                f"motion must not be negative and motion_sharpness be positive, not {self.motion} and "
                f"{self.motion_sharpness}."
            )
        if self.motion_stride < 1 or self.motion % self.motion_stride:
            raise UserError(f"motion must be a multiple of motion_stride, not {self.motion} and {self.motion_stride}.")
        displacements = (2 * self.motion // self.motion_stride + 1) ** 2
        if not 0 <= self.motion_things <= displacements:
            raise UserError(
                f"motion_things must be at least 0, and with this motion at most {displacements}, a thing for every "
                f"displacement, not {self.motion_things}."
            )
        if self.motion_things and (self.kind != "lgcvd" or not self.motion):
            raise UserError("motion_things is for models of the kind lgcvd that have motion.")
        if self.data_std <= 0:
            raise UserError(f"data_std must be positive, not {self.data_std}.")
        if not self.multipliers or min(self.multipliers) < 1:
            raise UserError(f"multipliers must be one positive number a level, not {self.multipliers}.")
        self.check_size(*self.image_size)
        if self.motion >= max(self.image_size):
            raise UserError(
                f"motion must be below the {max(self.image_size)} pixels of the image's longer side, not {self.motion}."
            )

    @property
    def clip_frames(self) -> int:
        """T = K + N."""
        return self.context_frames + self.new_frames

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """H, W, C."""
        return (*self.image_size, self.channels)

    @property
    def output_frames(self) -> int:
        """Frames that are denoised together: a whole clip, or MCVD's new ones."""
        return self.clip_frames if self.kind == "lgcvd" else self.new_frames

    @property
    def size_divisor(self) -> int:
        """Height and width must be multiples of this."""
        return self.patch_size * 2 ** (len(self.multipliers) - 1)

    def check_width(self) -> None:
        """Raise ``UserError`` if the finest level is too narrow for the noise that has to pass it."""
        least = self.output_frames * self.channels * self.patch_size**2
        if self.output != "x0" and self.dim < least:
            raise UserError(
                f"dim {self.dim} is too narrow: {self.output} carries the noise of {self.output_frames} frames x "
                f"{self.channels} channels x {self.patch_size}x{self.patch_size} pixels; use dim >= {least}, "
                'a smaller patch_size, or output "x0".'
            )

    def check_size(self, height: int, width: int) -> None:
        """Raise ``UserError`` unless the down path divides this size."""
        if min(height, width) < 1 or height % self.size_divisor or width % self.size_divisor:
            raise UserError(
                f"a size of {height}x{width} pixels does not fit this model: height and width must be multiples of "
                f"{self.size_divisor}, at least that."
            )


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    iterations: int = 300_000
    """Iterations; each is one optimizer step a stage."""
    batch_size: int = 64
    """Clips an iteration, of all processes together."""
    accumulate: int = 1
    """Parts that a process takes its clips in: more need less memory and more time, and train the same."""
    rate: float = 1e-4
    """Adam's learning rate after the warm-up."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The rate between warm-up and cooldown: as it is, or down to 0 at the end as half a cosine."""
    beta2: float = 0.999
    """Adam's second moment decay; short trainings want 0.99."""
    warmup: int = 0
    """Iterations over which the rate rises from 0."""
    cooldown: int = 0
    """Last iterations, over which the rate falls linearly to 0."""
    clip_grad: float | None = None
    """Largest gradient norm; None leaves gradients alone."""
    ema: float = 0.995
    """Decay of the averaged weights, per optimizer step."""
    loss: Literal["l1", "l2", "noise_l2"] = "l1"
    """Distance of velocities. "l2" is capped at low noise (see ``objective.capped_l2``), "noise_l2" is MCVD's."""
    times: Literal["uniform", "high_noise", "from_noise"] = "uniform"
    """How training draws time steps; "high_noise" is ``t = steps * u^(2/3)``, "from_noise" also has half pure noise."""
    objective: Literal["two_stage", "single_stage", "block_masking"] = "two_stage"
    """Two stages (the paper), or one that always sees true context; "block_masking" is MCVD's."""
    estimate_level: float = 1.0
    """Noise, as a share of the diffusion, up to which stage 2 learns from stage 1's estimate, and above from the true
    clip; 1 is the paper's two stages."""
    context_noise: float = 0.0
    """Largest standard deviation of noise on the known frames, in [-1, 1]; the paper has none."""
    tasks: TaskMix = field(default_factory=TaskMix)
    """How often each task is drawn."""
    single_stage: int = 0
    """First iterations, which train stage 1 alone: early estimates are too poor to learn from in stage 2."""
    precision: Precision = "float32"
    """Of the networks' products; weights, averages and losses are float32. "bfloat16" is for GPUs and for CPUs that
    multiply it (AMX), "float16" for GPUs that lack it."""
    compile: bool = False
    """Compile the networks: slow first iterations, faster ones after them."""
    save_every: int = 500
    """Iterations between checkpoints."""
    keep: int = 2
    """Newest checkpoints that are kept."""
    seed: int = 0
    """Of weights, noise, time steps, tasks and data order."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("iterations", "batch_size", "accumulate", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("warmup", "cooldown", "single_stage"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}.")
        for name in ("rate", "clip_grad"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"{name} must be above 0, not {value}.")
        if not 0 <= self.estimate_level <= 1:
            raise UserError(f"estimate_level must be between 0 and 1, not {self.estimate_level}.")
        if self.context_noise < 0:
            raise UserError(f"context_noise must not be negative, not {self.context_noise}.")
        for name in ("beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}.")
        checked_seed(self.seed)


@dataclass(frozen=True)
class Preset:
    """A model and its training, under a name."""

    model: ModelConfig
    train: TrainConfig


PAPER = Preset(ModelConfig(), TrainConfig())
PAPER_128 = replace(PAPER, model=replace(PAPER.model, image_size=(128, 128)))


def _for_card(preset: Preset, dim: int, accumulate: int) -> Preset:
    """The paper's training on a smaller card: a width and parts of batches that fit (see ``lgcvd.cost``), bfloat16."""
    return Preset(
        replace(preset.model, dim=dim, head_channels=dim),
        replace(preset.train, accumulate=accumulate, precision="bfloat16"),
    )


SMALL = TrainConfig(
    batch_size=8,
    rate=1e-3,
    beta2=0.99,
    warmup=200,
    clip_grad=1.0,
    ema=0.999,
    loss="l2",
    times="from_noise",
    tasks=TaskMix(prediction=0.6, generation=0.1, interpolation=0.1, random=0.1, past=0.05, start=0.05),
)
"""What the small presets share: a recipe for hours on a CPU (``benchmarks/recipes.py``)."""

PRESETS: dict[str, Preset] = {
    "bair-64": PAPER,
    "bair-64-8gb": _for_card(PAPER, dim=64, accumulate=2),
    "bair-64-16gb": _for_card(PAPER, dim=96, accumulate=1),
    "bair-64-24gb": _for_card(PAPER, dim=128, accumulate=1),
    "cityscapes-128": PAPER_128,
    "cityscapes-128-8gb": _for_card(PAPER_128, dim=64, accumulate=8),
    "cityscapes-128-16gb": _for_card(PAPER_128, dim=96, accumulate=4),
    "cityscapes-128-24gb": _for_card(PAPER_128, dim=128, accumulate=4),
    "digits": Preset(
        ModelConfig(
            new_frames=4,
            channels=1,
            image_size=(32, 32),
            dim=32,
            multipliers=(1, 2, 4),
            attention=(8,),
            head_channels=64,
            output="x0",
            data_mean=-0.90,
            data_std=0.37,
        ),
        replace(
            SMALL,
            iterations=9500,
            single_stage=7500,
            cooldown=1250,
            tasks=TaskMix(prediction=0.7, generation=0.1, interpolation=0.1, random=0.1),
        ),
    ),
    "digits-64": Preset(
        ModelConfig(
            new_frames=4,
            channels=1,
            image_size=(64, 64),
            patch_size=2,
            dim=48,
            multipliers=(1, 2, 3),
            attention=(8,),
            head_channels=48,
            output="x0",
            data_mean=-0.90,
            data_std=0.40,
            motion=4,
            motion_sharpness=4.0,
            motion_things=2,
        ),
        replace(SMALL, iterations=20_000, single_stage=14_000, cooldown=2500),
    ),
    "robot-64": Preset(
        ModelConfig(
            new_frames=4,
            patch_size=2,
            dim=64,
            multipliers=(1, 2, 2),
            attention=(),
            head_channels=64,
            output="x0",
            data_mean=-0.05,
            data_std=0.32,
            motion=3,
            motion_sharpness=2.0,
        ),
        replace(SMALL, iterations=12_000, batch_size=4, single_stage=6000, cooldown=1500, estimate_level=0.5),
    ),
    "tiny": Preset(
        ModelConfig(channels=1, image_size=(16, 16), dim=8, multipliers=(1, 2), attention=(8,), head_channels=8),
        TrainConfig(iterations=20, batch_size=2, rate=1e-3, save_every=10),
    ),
}
"""Named settings. ``bair-64`` and ``cityscapes-128`` are the paper's (section 4.1), those with a size of memory fit
such a card; ``digits``, ``digits-64`` and ``robot-64``, for pushing and for hands, are made for a CPU; ``tiny`` is
for tests."""

MASKED_BLOCKS = TaskMix(prediction=0.25, generation=0.25, interpolation=0.25, random=0, past=0.25)
"""MCVD's own mix: the past and the future, each masked with probability 1/2 (Voleti et al. 2022, section 3)."""


def in_one_stage(train: TrainConfig, objective: str) -> TrainConfig:
    """``train`` with an objective of one stage, and as many optimizer steps, at the same rates."""

    def steps(iterations: int) -> int:
        in_two = max(0, iterations - train.single_stage) if train.objective == "two_stage" else 0
        return iterations + in_two

    return replace(
        train,
        objective=objective,
        iterations=steps(train.iterations),
        warmup=steps(train.warmup),
        cooldown=steps(train.iterations) - steps(train.iterations - train.cooldown),
        single_stage=0,
    )


def _mcvd(preset: Preset, kind: Kind, dim: int) -> Preset:
    """``preset`` with MCVD's way of conditioning, all else alike: to compare with.

    dim: the width at which it has as many parameters as ``preset`` and takes as many operations (see
        ``matching.matched_dim``). It takes as many optimizer steps, at the same rates.
    """
    ours = preset.model
    return Preset(
        replace(
            ours,
            kind=kind,
            dim=dim,
            future_frames=ours.context_frames,
            spatin_width=max(8, ours.dim // 2),
            motion_things=0,
        ),
        replace(in_one_stage(preset.train, "block_masking"), tasks=MASKED_BLOCKS),
    )


MCVD_DIMS: dict[str, dict[Kind, int]] = {
    "bair-64": {"mcvd-concat": 160, "mcvd-spatin": 132},
    "cityscapes-128": {"mcvd-concat": 156, "mcvd-spatin": 128},
    "digits": {"mcvd-concat": 40, "mcvd-spatin": 34},
    "digits-64": {"mcvd-concat": 58, "mcvd-spatin": 46},
    "robot-64": {"mcvd-concat": 76, "mcvd-spatin": 56},
    "tiny": {"mcvd-concat": 10, "mcvd-spatin": 6},
}
"""Preset -> kind -> the width that ``matching.matched_dim`` finds for it.

Those of "digits-64" match its weights, and not its operations: only LGC-VD carries things.
"""

PRESETS |= {
    f"{name}-{kind}": _mcvd(PRESETS[name], kind, dim) for name, dims in MCVD_DIMS.items() for kind, dim in dims.items()
}

MCVD_BAIR = Preset(
    ModelConfig(
        kind="mcvd-concat",
        new_frames=5,
        future_frames=2,
        dim=192,
        attention=(8, 16, 32),
        head_channels=192,
        time="scale-shift",
        dropout=0.1,
        output="noise",
        betas="linear",
    ),
    TrainConfig(warmup=5000, clip_grad=1.0, ema=0.999, loss="noise_l2", objective="block_masking", tasks=MASKED_BLOCKS),
)
"""MCVD as its authors trained it on BAIR (Voleti et al. 2022; mcvd-pytorch, ``configs/bair_big.yml`` and the training
scripts), but for the network, which is ours, and the loss, a mean where theirs is half a sum over pixels, so that it
always clips the gradient. To sample as they do: ``--sampler ddpm --steps 100``."""

PRESETS |= {
    "bair-64-mcvd-concat-published": MCVD_BAIR,
    "bair-64-mcvd-spatin-published": replace(
        MCVD_BAIR, model=replace(MCVD_BAIR.model, kind="mcvd-spatin", dim=96, head_channels=96)
    ),
}
