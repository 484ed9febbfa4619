"""What each task takes of a clip, and what can be shown beside its result: for the command line and the page alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lgcvd.context import TASKS
from lgcvd.errors import UserError
from lgcvd.futures import futures
from lgcvd.models import VideoDenoiser
from lgcvd.rollout import MAX_FRAMES, Inverted, Noised, Window
from lgcvd.video import PICTURE_FPS, Clip, read_clip


@dataclass(frozen=True)
class Material:
    """What a task gives the model, and what is shown beside the result."""

    observed: Tensor | None
    """(F, C, H, W) in [-1, 1]."""
    options: dict
    """Of ``rollout``."""
    truth: Tensor | None
    """The film as it really was, as far as that is known."""
    fps: float
    note: str = ""
    rest: bool = False
    """Whether the clip has more frames, which the task could take too."""

    @property
    def known(self) -> list[bool]:
        """For every frame of the film that is asked for whether it is given."""
        if "known" in self.options:
            return self.options["known"]
        count = 0 if self.observed is None else len(self.observed)
        return TASKS[self.options.get("task", "predict")].known(count, self.options.get("num_frames", count))

    def films(self, model: VideoDenoiser, count: int, **options: object) -> Iterator[Window]:
        """``count`` films that a model makes of it, step by step; ``options`` are more of those of ``rollout``."""
        observed = None if self.observed is None else self.observed[None].to(model.device)
        return futures(model, observed, count, every_step=True, **self.options, **options)


def least_frames(model: VideoDenoiser) -> int:
    """Frames that a model needs to go on from."""
    return 1 if "start" in model.about.tasks else model.context_frames


def predict(model: VideoDenoiser, *, clip: Path, frames: int, start: int = 0, fps: float | None = None) -> Material:
    """The clip's first K frames, and ``frames`` new ones after them."""
    k = model.context_frames
    seen = _read(model, clip, k + max(1, min(frames, MAX_FRAMES)), least_frames(model), start, fps)
    return Material(seen.frames[:k], {"num_frames": frames}, seen.frames, seen.fps, seen.note)


def past(model: VideoDenoiser, *, clip: Path, frames: int, start: int = 0, fps: float | None = None) -> Material:
    """K frames from ``start`` on, and ``frames`` new ones before them: the truth is known if the clip has so many."""
    k, before = model.context_frames, frames if 1 <= frames <= start else 0
    seen = _read(model, clip, k + before, k + before, start - before, fps)
    truth = seen.frames if before else None
    return Material(seen.frames[-k:], {"task": "past", "num_frames": frames}, truth, seen.fps, seen.note)


def interpolate(
    model: VideoDenoiser,
    *,
    clip: Path,
    frames: int,
    second: Path | None = None,
    start: int = 0,
    fps: float | None = None,
) -> Material:
    """What lies around a gap of ``frames`` frames in the clip, or between the end of it and the start of ``second``."""
    tail = max(1, model.context_frames // 2)
    head, most = max(1, model.context_frames - tail), MAX_FRAMES - model.context_frames - tail
    if not 1 <= frames <= most:
        raise UserError(f"the number of new frames must be between 1 and {most}, not {frames}.")
    if frames > model.config.clip_frames - head - tail:  # the gap is first shortened by prediction
        head = model.context_frames
    if second is None:
        end = head + frames
        seen = _read(model, clip, end + tail, end + tail, start, fps)
        before, after, truth = seen.frames[:head], seen.frames[end:], seen.frames
    else:
        seen = _read(model, clip, MAX_FRAMES, head, start, fps)
        before, truth = seen.frames[-head:], None
        after = _read(model, second, tail, tail, 0, fps).frames
    note = seen.note
    if seen.more and second:
        note = f"{note} {clip.name} goes on: the gap begins after its first {MAX_FRAMES} frames.".strip()
    options = {"task": "interpolate", "num_frames": frames}
    return Material(torch.cat([before, after]), options, truth, seen.fps, note)


def infill(
    model: VideoDenoiser,
    *,
    clip: Path,
    missing: Sequence[int],
    frames: int,
    start: int = 0,
    fps: float | None = None,
) -> Material:
    """Up to ``frames`` frames of the clip but those that are ``missing``: their numbers, the one at ``start`` is 1."""
    seen = _read(model, clip, frames, 2, start, fps)
    count = len(seen.frames)
    outside = [number for number in missing if not 1 <= number <= count]
    if outside:
        raise UserError(
            f"frame {outside[0]} is not among the {count} frames that are taken: take more, or name others."
        )
    known = [number not in missing for number in range(1, count + 1)]
    if not any(known):
        raise UserError("every frame of the clip is missing: leave at least one, or generate a film from nothing.")
    return Material(seen.frames[known], {"known": known}, seen.frames, seen.fps, seen.note, seen.more)


def slowmo(
    model: VideoDenoiser, *, clip: Path, factor: int, frames: int, start: int = 0, fps: float | None = None
) -> Material:
    """Up to ``frames`` frames of the clip, and so many new ones between them that it is ``factor`` times slower."""
    seen = _read(model, clip, frames, 2, start, fps)
    options = {"task": "slowmo", "num_frames": (factor - 1) * (len(seen.frames) - 1)}
    return Material(seen.frames, options, None, seen.fps, seen.note, seen.more)


def generate(model: VideoDenoiser, *, frames: int) -> Material:
    """Nothing, and ``frames`` new frames."""
    return Material(None, {"task": "generate", "num_frames": frames}, None, PICTURE_FPS)


def animate(model: VideoDenoiser, *, clip: Path, frames: int, start: int = 0, fps: float | None = None) -> Material:
    """One frame of the clip, which may be a picture, and ``frames`` new ones after it."""
    seen = _read(model, clip, 1 + max(1, min(frames, MAX_FRAMES)), 1, start, fps)
    truth = seen.frames if len(seen.frames) > 1 else None
    return Material(seen.frames[:1], {"task": "animate", "num_frames": frames}, truth, seen.fps, seen.note)


def reconstruct(
    model: VideoDenoiser,
    *,
    clip: Path,
    frames: int,
    level: float,
    back: str = "noise",
    back_steps: int | None = None,
    start: int = 0,
    fps: float | None = None,
) -> Material:
    """Up to ``frames`` frames of the clip, and the way ``back``, "noise" or "inversion", to a ``level`` of noise.

    ``back_steps`` are those of the inversion; left out, ``Inverted`` has its own number.
    """
    if back != "inversion" and back_steps is not None:
        raise UserError("only inversion goes back step by step: leave back_steps out, or choose back inversion.")
    steps = {} if back_steps is None else {"steps": back_steps}
    begin = Inverted(level, **steps) if back == "inversion" else Noised(level)
    seen = _read(model, clip, frames, model.config.clip_frames, start, fps)
    options = {"task": "reconstruct", "start": begin}
    return Material(seen.frames, options, seen.frames, seen.fps, seen.note, seen.more)


MATERIALS: dict[str, Callable[..., Material]] = {
    "predict": predict,
    "past": past,
    "interpolate": interpolate,
    "infill": infill,
    "slowmo": slowmo,
    "generate": generate,
    "animate": animate,
    "reconstruct": reconstruct,
}
"""Name of a task -> (model, its options by name) -> its material.

``clip`` is a video or a folder of pictures, used from frame ``start`` on, counted from 0: ``fps`` frames a second, or
all of them. Raises ``UserError`` where it cannot be read or is too short, and for options that cannot be.
"""


def _read(model: VideoDenoiser, path: Path, most: int, least: int, start: int, fps: float | None) -> Clip:
    """Up to ``most`` frames of a clip as ``model`` takes them."""
    if most < least:
        raise UserError(f"the number of frames must be at least {least}, not {most}.")
    size, channels = model.config.image_size, model.config.channels
    return read_clip(path, size, channels, fps=fps, start=start, max_frames=min(most, MAX_FRAMES), min_frames=least)
