"""Random numbers that depend on a seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from lgcvd.errors import UserError

MAX_SEED = 2**53
"""A thousand times as much is what torch still takes."""


def checked_seed(seed: int) -> int:
    """``seed``, if it can be one: torch would take -1 for another number, and fail at numbers that are too large."""
    if not 0 <= seed < MAX_SEED:
        raise UserError(f"seed must be at least 0 and below {MAX_SEED}, not {seed}.")
    return seed


def seeded(*seeds: int) -> list[torch.Generator]:
    """A generator a seed: give ``sample`` and ``rollout`` one for each clip of a batch."""
    return [torch.Generator().manual_seed(checked_seed(seed)) for seed in seeds]


def generator_for(*key: int) -> torch.Generator:
    """Random numbers that depend on ``key`` and on nothing else: an interrupted run draws those of a whole one.

    Zeros at the end of a key count for nothing: (3, 5) and (3, 5, 0) draw alike. So within one piece of work, either
    all keys have one length, or the longer ones end in no zero. Numbers of 2**32 and more count as two; only the seed
    may be so large, which comes first and is the same all through a piece of work.
    """
    return torch.Generator().manual_seed(_seed(key))


def _seed(key: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0])


@contextmanager
def global_seed(device: torch.device, *key: int) -> Iterator[None]:
    """The same for what knows no generator, such as dropout; outside, torch's random numbers go on as they would.

    On the CPU these are the numbers of ``generator_for`` with the same key: give another one where that matters. In a
    training it does not: dropout begins with the numbers that chose the tasks.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(_seed(key))
        yield
