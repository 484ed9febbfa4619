"""What several verbs share: the options' types, devices, processes and signals."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import tyro

from lgcvd.config import ModelConfig
from lgcvd.errors import UserError
from lgcvd.sampling import SAMPLERS

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
