"""Clip after clip, as far as you like: a generator over windows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from lgcvd.context import ABSENT_FRAME, TASKS, Context, trained_by
from lgcvd.errors import UserError
from lgcvd.models import VideoDenoiser
from lgcvd.plan import Place, plan, reconstruction
from lgcvd.sampling import DenoisingStep, Generators, Known, Sampling, invert, randn, sample, spaced

MAX_FRAMES = 1000
"""More new frames than this are refused: a typing error should not run for a day."""


@dataclass(frozen=True)
class Window:
    """How far a rollout has come. ``index`` counts windows from 1, ``step`` the window's steps, those back included."""

    index: int
    windows: int
    step: int
    steps: int
    video: Tensor
    """Given and new frames so far, (B, n, C, H, W) in [-1, 1]; of an unfinished window, the present guess. Frames that
    are still missing between others are black."""
    first: int
    """Where in the film ``video`` begins: not at 0 while what lies before it is still missing."""
    given: tuple[bool, ...]
    """For each of the n frames whether it was given."""
    place: Place
    """Where the window lies and what the model was shown in it."""
    clip: Tensor
    """The window's own frames, (B, output_frames, C, H, W): once they are final, what is remembered of it."""

    @property
    def done(self) -> bool:
        """Whether the window's frames are final."""
        return self.step == self.steps

    @property
    def fraction(self) -> float:
        """Share of the whole rollout's steps that is done, in (0, 1]."""
        return ((self.index - 1) * self.steps + self.step) / (self.windows * self.steps)


def check_new_frames(number: int | None) -> None:
    """Raise ``UserError`` for a number of new frames that no rollout makes: to be called before long work."""
    if number is None or not 1 <= number <= MAX_FRAMES:
        raise UserError(f"the number of new frames must be between 1 and {MAX_FRAMES}, not {number}.")


# ------------------------------------------------------------------------------------------------------ global context

Memory = Callable[[Tensor, Callable[[], Tensor], int, float], Tensor]
"""(memory so far, what encodes the clip just made, how many clips were made, share that stays) -> memory."""

MEMORIES: dict[str, Memory] = {
    "decay": lambda memory, seen, clips, stays: torch.lerp(seen(), memory, stays),
    "mean": lambda memory, seen, clips, stays: memory + (seen() - memory) / clips,
    "last": lambda memory, seen, clips, stays: seen(),
    "none": lambda memory, seen, clips, stays: memory,
}
"""What is remembered of the clips before, by name. decay: with every clip, all but the share ``config.memory_decay``
of the memory fades (paper, section 3.3). mean: all clips alike. last: the last one alone. none: the encoding of a grey
clip stays."""


# ----------------------------------------------------------------------------------------------- where a window begins


@dataclass(frozen=True)
class Start:
    """The way back to where ``reconstruct`` begins."""

    level: float = 0.5
    """A share of the diffusion, in (0, 1]: at 1, nothing of a noised clip is left."""

    def __post_init__(self) -> None:
        if not 0 < self.level <= 1:
            raise UserError(f"the level of noise must be above 0 and at most 1, not {self.level:g}.")

    def time(self, model: VideoDenoiser) -> int:
        """The time step where it begins."""
        return max(1, round(self.level * model.schedule.steps)) - 1

    def __call__(
        self, model: VideoDenoiser, clip: Tensor, context: Context, generator: Generators
    ) -> Iterator[DenoisingStep]:
        """The steps back from a window's true frames ``clip``; denoising begins with the last one's ``x_t``.

        Where the model takes none, that is step 0 of 0.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Noised(Start):
    """Begin with the clip under noise."""

    def __call__(self, model, clip, context, generator):
        yield DenoisingStep(0, 0, model.schedule.add_noise(clip, randn(clip, generator), self.time(model)), clip)


@dataclass(frozen=True)
class Inverted(Start):
    """Begin with what DDIM, run backwards in ``steps`` steps, makes of the clip: the model's own noise for it."""

    steps: int = 100
    """Steps back; no more are taken than there are time steps up to the level."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise UserError(f"the number of steps back must be at least 1, not {self.steps}.")

    def __call__(self, model, clip, context, generator):
        times = self.time(model) + 1
        return invert(model, clip, context, spaced("trailing", min(self.steps, times), times))


# ---------------------------------------------------------------------------------------------------------- the rollout


@torch.no_grad()
def rollout(
    model: VideoDenoiser,
    observed: Tensor | None = None,
    *,
    num_frames: int | None = None,
    task: str | None = None,
    known: Sequence[bool] | Tensor | None = None,
    memory: str = "decay",
    start: Start | None = None,
    generator: Generators = None,
    every_step: bool = False,
    **options: object,
) -> Iterator[Window]:
    """Make a film of the frames ``observed`` (B, F, C, H, W) in [-1, 1] and ``num_frames`` new ones.

    ``task``, one of ``context.TASKS``, says where in the film the given frames lie; left out it is "predict". For
    "infill" ``known`` says it, one truth value for every frame of the film. For "generate" nothing is given:
    ``observed`` is None for one clip of the model's own size, or (B, 0, C, H, W). Frames that were given come back
    untouched, except by "reconstruct", which makes every frame of a clip again from where ``start``, ``Noised`` or
    ``Inverted``, takes it back to.

    The film is made window by window (``lgcvd.plan``). Each sees the K nearest frames as local context, and what the
    encoder remembers of the windows before: ``memory`` is one of ``MEMORIES`` (paper, section 3.4). Where more than K
    frames of a window are known, they are imposed while it is denoised. ``options`` are those of ``Sampling``; a
    distilled model has defaults of its own. With a list of generators, one a clip (``seeded``), what becomes of a clip
    does not depend on the others of its batch.

    Yields after every window; with ``every_step`` after every step, those of an inversion too, so that a caller can
    show progress and stop within one step. Raises ``UserError`` for what the model was not trained for, and for what
    cannot be.
    """
    config, task = model.config, task or ("predict" if known is None else "infill")
    unknown = options.keys() - {option.name for option in fields(Sampling)}
    if unknown:
        raise TypeError(f"rollout and predict have no option {' or '.join(sorted(unknown))}: see lgcvd.Sampling.")
    if observed is not None and not observed.is_floating_point():
        raise UserError(f"frames must be floating-point in [-1, 1], not {observed.dtype}: give frames / 127.5 - 1.")
    options = model.about.sampling_for(task) | options
    if task == "reconstruct":
        start = start or Noised()
    Sampling(**options).timesteps(start.time(model) + 1 if start else model.schedule.steps)
    if memory not in MEMORIES:
        raise UserError(f"there is no memory {memory!r}: choose one of {', '.join(MEMORIES)}.")
    if observed is None:
        observed = torch.empty(1, 0, config.channels, *config.image_size, device=model.device)
    batch, count, channels, *size = observed.shape
    if channels != config.channels:
        raise UserError(f"the clip has {channels} channels, but this model works on {config.channels}.")
    config.check_size(*size)
    given = _given(task, count, num_frames, known)
    places = _places(model, task, given, count)

    film = observed.new_full((batch, len(given), channels, *size), ABSENT_FRAME)
    made = torch.tensor(given)
    if count and task != "reconstruct":
        film[:, made] = observed
    remembered, clip = model.remember(None, size=tuple(size)), None
    for index, place in enumerate(places, 1):
        if clip is not None and remembered is not None:
            remembered = MEMORIES[memory](remembered, partial(model.remember, clip), index - 1, config.memory_decay)
        first = place.start + config.clip_frames - model.output_frames
        context = _context(film, place, remembered)
        new = torch.tensor(place.new) + place.start
        held = _held(film, place, first, model.output_frames) if place.crowded else None
        if start:
            frames = observed[:, first : first + model.output_frames]
            steps = _back_and_forth(model, frames, context, start, generator, options)
        else:
            noise = randn(film.new_empty(batch, model.output_frames, channels, *size), generator)
            steps = sample(model, noise, context, known=held, generator=generator, **options)
        for step in steps:
            last = step.index == step.steps
            clip = (step.x_t if last else step.x0).clamp(-1, 1)
            if last or every_step:
                film[:, new] = clip[:, new - first]
                made[new] = True
                begin, end = int(made.nonzero()[0]), int(made.nonzero()[-1]) + 1
                video = film[:, begin:end].clone()
                yield Window(index, len(places), step.index, step.steps, video, begin, given[begin:end], place, clip)


def _back_and_forth(
    model: VideoDenoiser, frames: Tensor, context: Context, start: Start, generator: Generators, options: dict
) -> Iterator[DenoisingStep]:
    """The steps of a window from its true ``frames`` to where ``start`` takes them, and of denoising them again."""
    forth = Sampling(**options).steps
    for back in start(model, frames, context, generator):
        if back.index:
            yield replace(back, steps=back.steps + forth)
    for step in sample(model, back.x_t, context, start=start.time(model), generator=generator, **options):
        yield replace(step, index=back.steps + step.index, steps=back.steps + forth)


def predict(model: VideoDenoiser, observed: Tensor | None, num_frames: int | None = None, **options: object) -> Tensor:
    """The whole ``rollout`` at once: the film, (B, given and new frames, C, H, W)."""
    return deque(rollout(model, observed, num_frames=num_frames, **options), maxlen=1).pop().video


def _context(film: Tensor, place: Place, memory: Tensor | None) -> Context:
    slots = torch.tensor(place.slots)
    frames = film[:, (slots + place.start).clamp(0, film.shape[1] - 1)]
    return Context(frames, slots.expand(len(film), -1).to(film.device), memory)


def _held(film: Tensor, place: Place, first: int, frames: int) -> Known:
    """What is known of the ``frames`` frames of the film that the model makes, from ``first`` on."""
    mask = torch.zeros(frames, dtype=torch.bool)
    mask[[position + place.start - first for position in place.known if position + place.start >= first]] = True
    inside = (torch.arange(frames) + first).clamp(0, film.shape[1] - 1)
    return Known(film[:, inside], mask.to(film.device))


def _given(task: str, count: int, num_frames: int | None, known: Sequence[bool] | Tensor | None) -> tuple[bool, ...]:
    """For every frame of the film whether it is given; ``UserError`` if that cannot be."""
    if task not in TASKS:
        raise UserError(f"there is no task {task!r}: choose one of {', '.join(TASKS)}.")
    least, most = TASKS[task].least, TASKS[task].most
    if not least <= count <= most:
        wanted = f"at least {least}" if count < least else f"no more than {most}" if most else "none"
        raise UserError(f"the clip has {_in_words(count)}, but {task} needs {wanted}.")
    if (known is None) == (task == "infill"):
        raise UserError("known says which frames infill has to make, one truth value a frame: give both or neither.")
    if known is not None:
        given = tuple(bool(value) for value in known)
        if sum(given) != count:
            raise UserError(f"known is true for {sum(given)} frames, but the clip has {count}: they must be as many.")
        if all(given):
            raise UserError("every frame is known, so there is nothing to make: name a frame that is missing.")
        if num_frames not in (None, len(given) - count):
            raise UserError(f"known is false for {len(given) - count} frames, but {num_frames} new ones are asked for.")
        num_frames = len(given) - count
    elif task == "reconstruct":
        num_frames = count
    check_new_frames(num_frames)
    return tuple(TASKS[task].known(count, num_frames)) if known is None else given


def _in_words(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"


def _places(model: VideoDenoiser, task: str, given: tuple[bool, ...], count: int) -> list[Place]:
    """The windows; ``UserError`` unless the model can make all of them and was trained to."""
    k, t = model.context_frames, model.config.clip_frames
    unmade = t - model.output_frames
    if task == "reconstruct":
        if count < t:
            raise UserError(f"the clip has {count} frames, but this model makes {t} at once: take a longer clip.")
        places = list(reconstruction(count, k, t))
    else:
        places = list(plan(given, k, t, unmade))
    for place in places:
        if min(place.new) < unmade:
            raise UserError(f"this model makes the last {model.output_frames} frames of a window only: not {task}.")
        fitting = trained_by(place.slots, t)
        if fitting.isdisjoint(model.about.tasks):
            if fitting == {"start"} and count < k:
                raise UserError(f"the clip has {_in_words(count)}, but this model needs at least {k} to go on from.")
            raise UserError(
                f"this model was trained for {', '.join(model.about.tasks)}: {task} would show it frames at the "
                f"positions {place.slots} of a window ({' or '.join(sorted(fitting)) or 'no task of a training'})."
            )
    return places
