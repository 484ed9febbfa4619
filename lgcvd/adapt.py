"""A model adapted to a scene: fine-tuned on the first part of one's own clips, and judged by the last part of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lgcvd import metrics, pictures, video
from lgcvd.baselines import copy_last_frame
from lgcvd.checkpoints import write
from lgcvd.config import TrainConfig
from lgcvd.context import TaskMix
from lgcvd.data import VideoFiles, Videos, Windows, videos_below
from lgcvd.errors import UserError
from lgcvd.files import check_new_folder, draft_folder, write_json
from lgcvd.measures import MEASURES, PAIRWISE, Measure
from lgcvd.models import About, VideoDenoiser
from lgcvd.objective import objective_of
from lgcvd.reports import markdown_table
from lgcvd.rollout import predict
from lgcvd.run_folder import Validation, spread
from lgcvd.seeds import generator_for
from lgcvd.trainer import TrainStep, train

RECIPE = TrainConfig(
    iterations=10**9,  # as many as the time allows
    batch_size=4,
    rate=5e-4,
    beta2=0.99,
    warmup=10,
    clip_grad=1.0,
    ema=0.98,
    loss="l2",
    times="from_noise",
    estimate_level=0.5,
)
"""How a model is adapted unless told otherwise; objective and tasks are the model's own."""

HELD_OUT = 0.25
"""Share of a clip's frames that is held out."""

PREDICTION_SHARE = 0.6
"""Of the training; the other tasks that the model knows share the rest, so that it does not forget them."""

LOOKS = 6
"""Times that the held-out loss is measured on the way: with ``CLIPS`` clips, a fifth of the time or less."""

CLIPS, SCORED_CLIPS = 4, 8
"""Held-out clips, evenly spread, of the loss and of the scores."""

SHOWN_FRAMES = 28
"""Most new frames of the film and of the strip."""

RECORD = "adaptation.json"
"""What an adapted model's folder tells of how it came about."""


def read_clips(what: Sequence[str | Path], shape: tuple[int, int, int], fps: float | None = None) -> VideoFiles:
    """Videos, folders of pictures, and all of these below folders, cut and scaled to ``shape`` (H, W, C).

    ``fps`` takes so many frames a second; without it every frame is taken.
    """
    paths = [path for name in map(Path, what) for path in (videos_below(name) if name.is_dir() else []) or [name]]
    if not paths:
        raise UserError("there is no clip to adapt to: give a video, or a folder of videos or pictures.")
    for path in map(Path, what):
        video.check_exists(path)
    return VideoFiles({str(path): path for path in paths}, shape, fps)


class Stretches:
    """``lgcvd.data.Videos`` of which a stretch each is seen, and nothing else."""

    def __init__(self, videos: Videos, stretches: Sequence[range]):
        self.split, self.names, self.fps, self.shape = videos.split, videos.names, videos.fps, videos.shape
        self.skipped, self.notes = videos.skipped, videos.notes
        self.stretches, self.lengths = stretches, [len(stretch) for stretch in stretches]
        self._videos = videos

    def read(self, video: int, window: range) -> np.ndarray:
        first = self.stretches[video].start
        return self._videos.read(video, range(first + window.start, first + window.stop, window.step))


def split_in_time(videos: Videos, share: float, least: int) -> tuple[Stretches, Stretches]:
    """The first frames of every video, to train on, and all that come after them, to judge by.

    No frame is in both, and every held-out frame comes after all that are trained on. Held out are ``share`` of a
    video's frames, but at least ``least``, which also remain to be trained on. A video that is too short for both is
    trained on as a whole, one of fewer than ``least`` frames is left out. ``UserError`` if nothing could be held out.
    """
    if not 0 < share < 1:
        raise UserError(f"the share that is held out must be above 0 and below 1, not {share:g}.")
    if max(videos.lengths) < 2 * least:
        raise UserError(
            f"the clips are too short to hold a part of them out: the longest has {max(videos.lengths)} frames, and "
            f"{2 * least} are needed, {least} to train on and {least} to judge by; take a longer clip."
        )
    ends = [n if n < 2 * least else n - min(max(round(share * n), least), n - least) for n in videos.lengths]
    first = [range(end if end >= least else 0) for end in ends]
    last = [range(end, n) for end, n in zip(ends, videos.lengths, strict=True)]
    return Stretches(videos, first), Stretches(videos, last)


@dataclass(frozen=True)
class AdaptStep:
    """One iteration that is done."""

    training: TrainStep
    fraction: float
    """Of the time or of the iterations, whichever is more: in (0, 1]."""
    held_out: float
    """Held-out loss of the original, or of the averaged model at the last look."""
    best: float
    """The lowest held-out loss so far, of the original included."""


class Adaptation:
    """``model``, which stays as it is, adapted to ``videos`` of its size and channels.

    Iterate over ``steps``, then look: ``losses``, ``improved``, ``best``, ``scores()``, ``films()``, ``save(folder)``.

    The first part of every video is trained on, the last part, about ``share`` of its frames, is held out: see
    ``split_in_time``. The held-out loss is what is trained for, on ``CLIPS`` held-out clips, at fixed noise levels
    with fixed noise; see ``Validation``. The model with the lowest one is kept, and the original if there is no lower
    one. ``config`` is ``RECIPE`` with whatever you change; it needs no objective and no tasks.
    """

    def __init__(self, model: VideoDenoiser, videos: Videos, config: TrainConfig = RECIPE, *, share: float = HELD_OUT):
        about = model.about
        if about.steps:
            raise UserError(
                f"{about.name or 'the model'} was distilled to {about.steps} steps, which adapting would undo: adapt "
                "the model that it was distilled from, and distill the result."
            )
        if "predict" not in model.abilities:
            raise UserError(f"only models that predict can be adapted; this one knows {', '.join(about.tasks)}.")
        objective = "two_stage" if model.makes_whole_clips else "block_masking"
        self.config = replace(config, objective=objective, tasks=_mix(about.tasks))
        objective = objective_of(self.config)
        frames = objective.clip_frames(model.config)
        self.trained, self.held_out = split_in_time(videos, share, frames)
        self.data = Windows(self.trained, frames, draws=1_000_000, seed=config.seed)
        held_out = Windows(self.held_out, frames)
        self.validation = Validation.of(held_out, objective, CLIPS)
        self.scored = spread(held_out, SCORED_CLIPS)
        self.original = self.best = model.eval()
        self.losses: dict[int, float] = {}
        """Iteration -> held-out loss; 0 is the original."""

    @property
    def improved(self) -> bool:
        """Whether ``best`` is better than the original."""
        return self.best is not self.original

    @property
    def best_iteration(self) -> int:
        return min(self.losses, key=self.losses.get)

    def steps(self, minutes: float = 2.0) -> Iterator[AdaptStep]:
        """Train from the original on; yield after every iteration, until the time or ``config.iterations`` are over.

        The held-out loss is measured before, and ``LOOKS`` times at even distances, at the end last; its time counts.
        Closing the generator measures it too: to stop without loss, stop iterating.
        """
        if not minutes > 0:
            raise UserError(f"minutes must be above 0, not {minutes:g}.")
        self.best, self.losses = self.original, {0: self._held_out_loss(self.original)}
        started, looked = time.monotonic(), 0
        with closing(train(deepcopy(self.original), self.data, self.config)) as training:
            for step in training:
                spent = (time.monotonic() - started) / (60 * minutes)
                fraction = min(1.0, max(spent, step.iteration / self.config.iterations))
                if int(LOOKS * fraction) > looked:
                    looked = int(LOOKS * fraction)
                    self._judge(step)
                try:
                    yield AdaptStep(step, fraction, [*self.losses.values()][-1], min(self.losses.values()))
                except GeneratorExit:
                    self._judge(step)
                    raise
                if fraction >= 1:
                    break

    def _judge(self, step: TrainStep) -> None:
        if step.iteration in self.losses:
            return
        candidate = deepcopy(step.model).requires_grad_(False)
        loss = self._held_out_loss(candidate)
        if loss < min(self.losses.values()):
            self.best = candidate
        self.losses[step.iteration] = loss

    def _held_out_loss(self, model: VideoDenoiser) -> float:
        """Mean over stages and noise levels, and over the tasks with their shares of the training."""
        losses = self.validation.losses(model)
        weights = [getattr(self.config.tasks, task) for task, _, _ in losses]
        return sum(w * loss for w, loss in zip(weights, losses.values(), strict=True)) / sum(weights)

    def scores(self) -> dict[str, dict[str, float]]:
        """Row -> measure -> value, the rows being "copy last frame", "before" and "after".

        Held-out loss, and means of ``lgcvd.metrics`` over ``SCORED_CLIPS`` held-out clips' new frames, predicted from
        the first K ones with the same noise; LPIPS only where frames are large enough for it.
        """
        truth, k = video.from_uint8(self.scored), self.original.context_frames
        new = truth.shape[1] - k
        predicted = {"copy last frame": copy_last_frame(truth[:, :k], new)}
        predicted |= {name: _predict(model, truth[:, :k], new) for name, model in self._models().items()}
        losses = {"before": self.losses[0], "after": self.losses[self.best_iteration]}
        return {
            row: ({"held-out loss": losses[row]} if row in losses else {})
            | {name: float(values.mean()) for name, values in metrics.of_frames(made[:, k:], truth[:, k:]).items()}
            for row, made in predicted.items()
        }

    def films(self) -> tuple[dict[str, Tensor], float]:
        """ "truth", "before", "after" -> the longest held-out part, (T, C, H, W) in [-1, 1]; and its frames a second.

        At most ``SHOWN_FRAMES`` new ones.
        """
        k, lengths = self.original.context_frames, self.held_out.lengths
        longest = lengths.index(max(lengths))
        pixels = self.held_out.read(longest, range(min(k + SHOWN_FRAMES, lengths[longest])))
        truth = video.from_uint8(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
        made = {n: _predict(model, truth[None, :k], len(truth) - k)[0] for n, model in self._models().items()}
        return {"truth": truth, **made}, self.held_out.fps[longest] or video.PICTURE_FPS

    def _models(self) -> dict[str, VideoDenoiser]:
        return {"before": self.original} | ({"after": self.best} if self.improved else {})

    def about(self, name: str) -> About:
        """What the adapted model says of itself."""
        lengths = zip(self.trained.names, self.trained.lengths, strict=True)
        first, clips = self.original.about, [Path(clip).name for clip, length in lengths if length]
        named = ", ".join(clips[:3]) + (f" and {len(clips) - 3} more" if len(clips) > 3 else "")
        return replace(
            first,
            name=name,
            data=f"{first.data}; then, adapted from {first.name or 'that'}, the first part of {named}",
            licence=f"{first.licence}; besides, what the licence of those clips allows",
            step=first.step + self.best_iteration,
        )

    def save(self, folder: str | Path) -> dict[str, dict[str, float]]:
        """Write ``best`` as a checkpoint folder, with before and after beside it; return the ``scores``.

        ``held-out.mp4`` and ``held-out.png`` show ``films``; ``adaptation.json`` tells model, clips, settings, losses
        and scores. The folder must be new or empty: see ``files.check_new_folder``.
        """
        folder, k = Path(folder), self.original.context_frames
        check_new_folder(folder)
        if not self.improved:
            raise UserError("the adapted model is not better than the original: there is nothing to save.")
        films, fps = self.films()
        scores = self.scores()
        stretches = zip(self.trained.names, self.trained.stretches, self.held_out.stretches, strict=True)
        record = {
            "from": asdict(self.original.about),
            "clips": [
                {"name": name, "frames": held_out.stop, "trained on": len(first), "held out": len(held_out)}
                for name, first, held_out in stretches
            ],
            "train": asdict(self.config),
            "held-out loss by iteration": self.losses,
            "kept": self.best_iteration,
            "scores": scores,
        }
        with draft_folder(folder) as part:
            write(self.best, part, self.about(folder.name))
            video.write_video(part / "held-out.mp4", pictures.panel_frames(films, k), fps)
            pictures.write_image(part / "held-out.png", pictures.filmstrip(films, k))
            write_json(part / RECORD, record)
        return scores


def table(scores: dict[str, dict[str, float]]) -> str:
    """``scores`` in Markdown."""
    columns = {"held-out loss": Measure("held-out loss", ".4f", False)} | {name: MEASURES[name] for name in PAIRWISE}
    rows = [
        [row, *(measure.told(values[name]) if name in values else "-" for name, measure in columns.items())]
        for row, values in scores.items()
    ]
    return markdown_table(["", *(measure.title for measure in columns.values())], rows)


def _mix(known: Sequence[str]) -> TaskMix:
    """The tasks of a training that keeps what a model knows."""
    shares = {"prediction": 0.0} | dict.fromkeys(known, (1 - PREDICTION_SHARE) / len(known))
    shares["prediction"] += PREDICTION_SHARE
    return TaskMix.of(**shares)


def _predict(model: VideoDenoiser, observed: Tensor, frames: int) -> Tensor:
    """Always with the same noise."""
    noise = [generator_for(0, index) for index in range(len(observed))]
    return predict(model, observed.to(model.device), frames, generator=noise).cpu()
