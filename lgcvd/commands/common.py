"""What several verbs share: the options' types, devices, processes and signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from lgcvd.config import ModelConfig
from lgcvd.errors import UserError
from lgcvd.sampling import SAMPLERS

if TYPE_CHECKING:
    from torch.utils.data import Dataset

Device = Literal["auto", "cpu", "cuda", "mps"]
Sampler = tyro.extras.literal_type_from_choices(list(SAMPLERS))


def in_words(config: ModelConfig) -> str:
    """A model in short: what kind it is, what it sees and adds."""
    height, width = config.image_size
    colours = "gray" if config.channels == 1 else "RGB"
    frames = f"{config.context_frames} + {config.new_frames} frames a window"
    return f"{config.kind}, {colours}, {height}x{width} pixels, {frames}"


def find_device(name: Device) -> str:
    """ "auto" is the fastest there is."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, available in there.items() if available)
    if not there[name]:
        raise UserError(f"there is no {name} device here: use --device auto.")
    return name


def held_out(what: str, frames: int, shape: tuple[int, int, int], **options: object) -> Dataset:
    """Clips of the validation split, in order; of what is trained on, with a note, where there is no such split."""
    from lgcvd import data

    apart = what in data.GENERATED or "validation" in data.split_folders(Path(what))
    if not apart:
        print(f"{what} has no folder validation: what is validated is trained on, too", file=sys.stderr)
    return data.open(what, frames=frames, shape=shape, split="validation" if apart else "train", **options)


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

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
