"""What a denoiser may know: local context (frames and where they belong) and global context (memory).

For a model a task is nothing but a choice of positions for the ``K`` local frames (paper, section 3.3): prediction
knows the first frames, interpolation both ends, generation none. Position -1 means "absent". For a user a task says
where the given frames lie in a film of any length; ``lgcvd.plan`` covers the film with windows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lgcvd.checks import check_fields
from lgcvd.errors import UserError

ABSENT = -1
"""Position of a local frame that is not given."""

ABSENT_FRAME = -1.0
"""What an absent local frame shows in [-1, 1]: black."""

NULL_CLIP = 0.0
"""What the encoder reads before there is a previous clip, in [-1, 1]: grey."""


@dataclass(frozen=True)
class Evidence:
    """What the frames of a context tell of motion: each kind of skip (``lgcvd.motion``) adds what it goes by."""

    seen: Tensor
    """What the network sees of it, (B, channels, h, w)."""


@dataclass(frozen=True)
class Context:
    """All that a denoiser may know besides ``x_t`` and ``t``.

    frames: local context, (B, K, C, H, W) in [-1, 1]; what stands at an absent position is ignored.
    positions: index of each local frame in the clip, (B, K) integers in [-1, T); -1 is absent.
    memory: global context from ``VideoDenoiser.remember``, (B, D, h, w); None for models without.
    evidence: what frames and positions tell of motion, from ``VideoDenoiser.prepare``; None where it is still to be
        worked out, or the model has no use for it.
    """

    frames: Tensor
    positions: Tensor
    memory: Tensor | None = None
    evidence: Evidence | None = None

    def with_memory(self, memory: Tensor | None) -> Context:
        return replace(self, memory=memory)


def local_context(clip: Tensor, positions: Tensor, memory: Tensor | None = None) -> Context:
    """The context that shows a model the frames of ``clip`` (B, T, C, H, W) at ``positions`` (B, K)."""
    batch = torch.arange(len(clip), device=clip.device)[:, None]
    return Context(clip[batch, positions.clamp(min=0)], positions, memory)


def prediction(context_frames: int, clip_frames: int) -> list[int]:
    """The first frames are known."""
    return list(range(context_frames))


def generation(context_frames: int, clip_frames: int) -> list[int]:
    """Nothing is known."""
    return [ABSENT] * context_frames


def interpolation(context_frames: int, clip_frames: int) -> list[int]:
    """Both ends are known, the start has the odd frame."""
    tail = context_frames // 2
    return [*range(context_frames - tail), *range(clip_frames - tail, clip_frames)]


def past(context_frames: int, clip_frames: int) -> list[int]:
    """The last frames are known."""
    return list(range(clip_frames - context_frames, clip_frames))


LAYOUTS = {"prediction": prediction, "generation": generation, "interpolation": interpolation, "past": past}
"""What training shows of a clip, where that is fixed: name -> function of (K, T) that gives K positions."""

PAPER_TASKS = ("prediction", "generation", "interpolation", "random")
"""What the paper's models were trained for (section 4.1)."""


@dataclass(frozen=True)
class TaskMix:
    """How often each task is trained; the paper's shares (section 4.1). They are weights: any sum will do."""

    prediction: float = 0.45
    """First K frames known."""
    generation: float = 0.40
    """No frame known."""
    interpolation: float = 0.05
    """Both ends known."""
    random: float = 0.10
    """K frames anywhere known."""
    past: float = 0.0
    """Last K frames known."""
    start: float = 0.0
    """First frames known, but fewer than K: what a single picture needs."""

    def __post_init__(self) -> None:
        check_fields(self)
        weights = [getattr(self, field.name) for field in fields(self)]
        if min(weights) < 0 or max(weights) == 0:
            raise UserError(f"the shares of the tasks must not be negative, and one must be positive, not {weights}.")

    @classmethod
    def of(cls, **shares: float) -> TaskMix:
        """A mix of these tasks and no others."""
        return cls(**{field.name: 0.0 for field in fields(cls)} | shares)

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the tasks that have a share."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) > 0)

    def only(self, known: Collection[str]) -> TaskMix:
        """The mix without tasks that are not ``known``; ``UserError`` if none is left."""
        if set(known).isdisjoint(self.trained):
            raise UserError(f"none of {', '.join(self.trained)} is left to train: the model knows {', '.join(known)}.")
        return replace(self, **{name: 0.0 for name in self.trained if name not in known})

    def draw(self, batch: int, context_frames: int, clip_frames: int, generator: torch.Generator) -> Tensor:
        """Positions (B, K), one task a sample."""
        return draw_positions(self.draw_tasks(batch, generator), context_frames, clip_frames, generator)

    def draw_tasks(self, batch: int, generator: torch.Generator) -> list[str]:
        """Names of tasks, one a sample."""
        names = self.trained
        weights = torch.tensor([getattr(self, name) for name in names], dtype=torch.float)
        return [names[task] for task in torch.multinomial(weights, batch, replacement=True, generator=generator)]


def draw_positions(tasks: Sequence[str], context_frames: int, clip_frames: int, generator: torch.Generator) -> Tensor:
    """Where the known frames of each of ``tasks``, names of ``TaskMix``, lie: positions (B, K)."""
    rows = []
    for task in tasks:
        if task == "random":
            row = torch.randperm(clip_frames, generator=generator)[:context_frames].sort().values
        elif task == "start":
            row = torch.arange(context_frames)
            row[torch.randint(1, max(2, context_frames), (), generator=generator) :] = ABSENT
        else:
            row = torch.tensor(LAYOUTS[task](context_frames, clip_frames))
        rows.append(row)
    return torch.stack(rows)


def trained_by(positions: Sequence[int], clip_frames: int) -> set[str]:
    """Names of the tasks of ``TaskMix`` that teach a model to see frames at these K ``positions`` of a clip of T.

    Random positions teach those that have no name: of the others they are drawn too rarely.
    """
    positions, k = list(positions), len(positions)
    given = k - positions.count(ABSENT)
    names = {name for name, layout in LAYOUTS.items() if layout(k, clip_frames) == positions}
    if 0 < given < k and positions[:given] == list(range(given)):
        names.add("start")
    if not names and given == k:
        names.add("random")
    return names


# ------------------------------------------------------------------------------------- what one can ask a rollout for


@dataclass(frozen=True)
class Task:
    """Where the frames that are given lie in the film that is asked for."""

    known: Callable[[int, int], list[bool]]
    """(given frames, new frames) -> for every frame of the film, whether it is given."""
    needs: tuple[str, ...]
    """What a model must have been trained for, at least: names of ``TaskMix``."""
    least: int
    """Given frames that it needs."""
    most: int = sys.maxsize
    """Given frames that it takes."""


def _spread(given: int, new: int) -> list[bool]:
    """As many new frames between every two given ones."""
    if new % (given - 1):
        raise UserError(
            f"{new} new frames cannot be shared evenly by the {given - 1} gaps of a clip of {given} frames: "
            f"ask for a multiple of {given - 1}."
        )
    return [index % (1 + new // (given - 1)) == 0 for index in range(given + new)]


def _onward(given: int, new: int) -> list[bool]:
    return [True] * given + [False] * new


def _anywhere(given: int, new: int) -> list[bool]:
    raise UserError("infill needs to know which frames are missing: set known, one truth value a frame of the result.")


TASKS = {
    "predict": Task(_onward, ("prediction",), least=1),
    "past": Task(lambda given, new: [False] * new + [True] * given, ("past",), least=1),
    "interpolate": Task(
        lambda given, new: [True] * (given - given // 2) + [False] * new + [True] * (given // 2),
        ("interpolation", "random", "prediction"),
        least=2,
    ),
    "infill": Task(_anywhere, ("random",), least=1),
    "slowmo": Task(_spread, ("random",), least=2),
    "generate": Task(_onward, ("generation", "prediction"), least=0, most=0),
    "animate": Task(_onward, ("start", "prediction"), least=1, most=1),
    "reconstruct": Task(lambda given, new: [False] * given, ("generation", "prediction"), least=1),
}
"""Name -> task.

predict: frames after the clip. past: frames before it. interpolate: frames in its middle, so between two frames or two
clips. infill: wherever ``known`` is false. slowmo: the same number of frames between every two. generate: from nothing.
animate: from one picture. reconstruct: every frame of the clip again, from what noise has left of it.
"""


def offered(trained: Collection[str], onward: bool = False) -> list[str]:
    """Names of the tasks that a model can do in general, which was ``trained`` for these tasks of ``TaskMix``.

    onward: whether it makes only frames that come after what it is given, as MCVD's does.
    """
    able = {name: task for name, task in TASKS.items() if set(task.needs) <= set(trained)}
    return [name for name, task in able.items() if task.known is _onward or not onward]
