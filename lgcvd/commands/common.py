"""What several verbs share: the options' types, devices, processes and signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch.utils.data import Dataset
from tyro.conf import DisallowNone, Suppress

from lgcvd import data
from lgcvd.config import PRESETS, ModelConfig, TrainConfig
from lgcvd.errors import UserError
from lgcvd.evaluation import Clips, open_clips, shape_of
from lgcvd.objective import objective_of
from lgcvd.sampling import SAMPLERS, SPACINGS, THRESHOLDS, Sampling

NEEDS = {"motion_sharpness": "motion", "motion_stride": "motion", "memory_decay": "global_context"}
"""Settings of a model, each with the one without which it changes nothing."""

Device = Literal["auto", "cpu", "cuda", "mps"]
Sampler = tyro.extras.literal_type_from_choices(list(SAMPLERS))
Spacing = tyro.extras.literal_type_from_choices(list(SPACINGS))
Threshold = tyro.extras.literal_type_from_choices(list(THRESHOLDS))


@dataclass(frozen=True, kw_only=True)
class OfSteps:
    """How models denoise; what is left out is left to the protocol, if there is one, to the model, or the default."""

    sampler: DisallowNone[Sampler | None] = None
    """How to denoise; left out, as the protocol or the model's card says, or dpm++2m."""
    steps: DisallowNone[int | None] = None
    """Denoising steps a window; left out, the protocol's or the model's own number, or 10. Each asks the network once,
    but twice with "heun"."""
    spacing: DisallowNone[Spacing | None] = None
    """Which time steps are taken; left out, those of the protocol or the model, or quadratic."""

    def sampling(self) -> dict:
        """The options of ``lgcvd.Sampling`` that were given."""
        given = {option.name: getattr(self, option.name, None) for option in fields(Sampling)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class OfSampling(OfSteps):
    """All options of ``lgcvd.Sampling``."""

    eta: DisallowNone[float | None] = None
    """Of ddpm, ddim and euler: noise that every step renews, from 0 to 1; left out, the sampler's own (ddpm: 1)."""
    threshold: DisallowNone[Threshold | None] = None
    """What keeps the guesses of the clean clip in range; left out, clip."""
    local_guidance: DisallowNone[float | None] = None
    """Classifier-free guidance (Ho and Salimans 2022) by the local context: 1 is off, more exaggerates, 0 ignores."""
    memory_guidance: DisallowNone[float | None] = None
    """The same by the memory, separately. Each that is not 1 asks the network once more a step."""
    resample: DisallowNone[int | None] = None
    """Where more frames are known than the context holds: times that every step is taken (RePaint); left out, 4."""


@dataclass(frozen=True, kw_only=True)
class OfClips:
    """What the verbs share that look at clips of a split."""

    data: str
    """"digits", "stochastic-digits", or where your own are: an HDF5 file, a folder of them or of videos, a folder with
    one of these for each split."""
    split: Literal["train", "validation", "test"] = "test"
    """Which part of the data."""
    stride: int = 1
    """Of the frames of your own data, every so many is taken."""
    seed: int = 0
    """Of the noise and of the choice of clips."""
    image_size: DisallowNone[tuple[int, int] | None] = None
    """For baselines alone: height and width in pixels; left out, the data's own."""
    channels: DisallowNone[Literal[1, 3] | None] = None
    """The same: 1 (gray) or 3 (RGB)."""

    def open(self, clips: int, frames: int, shape: tuple[int, int, int] | None) -> Clips:
        """``clips`` clips of ``frames`` frames; of ``shape`` H, W, C, or as the data and the options have it."""
        asked = (*(self.image_size or (None, None)), self.channels)
        if shape and any(value not in (None, own) for value, own in zip(asked, shape, strict=True)):
            raise UserError("--image-size and --channels are for baselines alone, a model has its own: leave them out.")
        shape = shape or shape_of(self.data, self.split, self.image_size, self.channels)
        chosen = {name: getattr(self, name) for name in ("seed", "split", "stride")}
        return open_clips(self.data, frames=frames, clips=clips, shape=shape, **chosen)


@dataclass(frozen=True, kw_only=True)
class OfTraining:
    """What the verbs share that train a preset."""

    preset: Suppress[str]
    model: ModelConfig
    train: TrainConfig
    data: str = "digits"
    """"digits" that bounce off the walls, "stochastic-digits" that leave them in a random direction, or where your own
    are: an HDF5 file, a folder of them or of videos, a folder with one of these for each split."""
    stride: int = 1
    """Of the frames of your own data, every so many is taken."""
    flip: bool = False
    """Mirror half of the clips of your own data."""
    jitter: float = 0.0
    """Change brightness, contrast and saturation of your own data by up to this share."""
    shift: int = 0
    """Move the clips of your own data by up to so many pixels; their edges are repeated."""
    speeds: int = 1
    """Show the clips of your own data at 1, 2 ... or so many times their speed."""

    def __post_init__(self) -> None:
        # here and not in the configs: who takes the motion from a preset need not take what else it says of motion
        preset = PRESETS[self.preset]
        for name, needed in NEEDS.items():
            typed = getattr(self.model, name) != getattr(preset.model, name)
            if typed and not getattr(self.model, needed):
                raise UserError(f"{name} is for models that have {needed}: leave it out.")
        if self.train.estimate_level != preset.train.estimate_level and self.train.objective != "two_stage":
            raise UserError("estimate_level is for the objective two_stage: leave it out.")

    def training_clips(self) -> Dataset:
        """Random clips to train on."""
        frames = objective_of(self.train).clip_frames(self.model)
        options = endless(self.data, self.train.seed) | self._changed("stride", "flip", "jitter", "shift", "speeds")
        return data.open(self.data, frames=frames, shape=self._shape, **options)

    def held_out_clips(self, frames: int) -> Dataset:
        """Clips of ``frames`` frames of the validation split, in order; of what is trained on, with a note, where there
        is no such split."""
        apart = self.data in data.GENERATED or "validation" in data.split_folders(Path(self.data))
        if not apart:
            print(f"{self.data} has no folder validation: what is validated is trained on, too", file=sys.stderr)
        options = {"split": "validation" if apart else "train"} | self._changed("stride")
        clips = data.open(self.data, frames=frames, shape=self._shape, **options)
        if apart:
            tell(clips)
        return clips

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.model.frame_shape

    def _changed(self, *names: str) -> dict:
        """Options that moving digits do not have, where they are set."""
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(OfTraining, name)}


def endless(what: str, seed: int) -> dict:
    """Options of ``data.open`` for random clips of videos that never end, as moving digits never do."""
    return {} if what in data.GENERATED else {"draws": 1_000_000, "seed": seed}


def tell(clips: Dataset) -> None:
    """Say what is broken or left out."""
    for line in data.remarks(clips):
        print(line, file=sys.stderr)


def in_words(config: ModelConfig) -> str:
    """A model in short: what kind it is, what it sees and adds."""
    height, width = config.image_size
    colours = "gray" if config.channels == 1 else "RGB"
    frames = f"{config.context_frames} + {config.new_frames} frames a window"
    return f"{config.kind}, {colours}, {height}x{width} pixels, {frames}"


def find_device(name: Device) -> str:
    """ "auto" is the fastest there is."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, available in there.items() if available)
    if not there[name]:
        raise UserError(f"there is no {name} device here: use --device auto.")
    return name


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that work ends where it loses nothing; a second one stops at once."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        received.append(number)
        restore()
        os.write(2, b"\nstopping when the present step is done; once more stops at once\n")  # print is not for handlers

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
