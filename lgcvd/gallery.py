"""Galleries like the paper's: what several models make of the same clips, in rows under the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lgcvd.errors import UserError
from lgcvd.evaluation import Clips, Predictor
from lgcvd.models import VideoDenoiser
from lgcvd.pictures import NEUTRAL, OBSERVED, PREDICTED, Colour, sheet, write_image
from lgcvd.progress import progress_bar
from lgcvd.rollout import predict
from lgcvd.seeds import generator_for
from lgcvd.video import from_uint8, write_video

TRUTH, GIVEN = "truth", "given"


@dataclass(frozen=True)
class Gallery:
    """What is shown: clips, and who predicts them."""

    clips: Clips
    predictors: Sequence[Predictor]
    models: dict[str, VideoDenoiser]
    """Those of the predictors that are models: only they can generate and fill in."""
    context: int = 2
    """Frames that are observed."""
    seed: int = 0
    """Of the noise. A prediction is the first trajectory of an evaluation with this seed."""
    sampling: dict | None = None
    """Options of ``Sampling`` of what the models generate and fill in."""
    fps: float = 5.0
    """Frames a second of the GIFs."""
    device: torch.device | str = "cpu"
    """Where the predictors are."""

    def __post_init__(self) -> None:
        for predictor in self.predictors:
            if predictor.shape not in (None, self.clips.shape):
                raise UserError(
                    f"{predictor.name} works on frames of {predictor.shape}, the others of {self.clips.shape} (height, "
                    "width, channels): a gallery needs one size."
                )

    def truth(self) -> Tensor:
        """The clips, (n, T, C, H, W) in [-1, 1]."""
        return from_uint8(torch.stack([self.clips.data[index] for index in self.clips.indices]))

    def predictions(self) -> dict[str, Tensor]:
        """Row -> clips (n, T, C, H, W)."""
        truth = self.truth()
        rows = {TRUTH: truth}
        observed, frames = truth[:, : self.context], truth.shape[1] - self.context
        for predictor in progress_bar(iterable=self.predictors, desc="predicting", unit="model"):
            noise = [generator_for(self.seed, index, 0) for index in self.clips.indices]
            rows[predictor.name] = predictor.predict(observed.to(self.device), frames, noise).cpu()
        return rows

    def save(self, folder: Path, all_frames: bool = False) -> Iterator[str]:
        """Write the files one after the other; yields a sentence on each that is done, or left out."""
        rows = self.predictions()
        frames = rows[TRUTH].shape[1]
        given = [t < self.context for t in range(frames)]
        write_video(folder / "prediction.gif", _film(rows, given), self.fps)
        yield f"{folder / 'prediction.gif'}: {len(self.clips)} clips, {frames} frames"
        if all_frames:
            for i in range(len(self.clips)):
                path = folder / f"prediction-{i + 1}.png"
                write_image(path, _strip({name: clips[i] for name, clips in rows.items()}, given))
                yield f"{path}: every frame of clip {self.clips.place(i)}"
        for name, model in self.models.items():
            try:
                made = self._made(model, task="generate", num_frames=frames)
            except UserError as error:
                yield f"{name} is left out of the generation: {error}"
                continue
            path = folder / f"generation-{name}.gif"
            write_video(path, _grid(made, len(self.clips)), self.fps)
            yield f"{path}: {len(made)} clips from nothing"
        for task, known in self._gaps(frames):
            yield from self._filled(folder / f"{task}.png", task, known)

    def _gaps(self, frames: int) -> Iterator[tuple[str, list[bool]]]:
        """What is given where frames are missing between others: one gap of a window's new frames, and two."""
        model = next(iter(self.models.values()), None)
        if model:
            end, gap = [True] * self.context, [False] * model.new_frames
            half = [True] * max(1, self.context // 2)
            for task, known in (("interpolation", half + gap + half), ("infilling", end + gap + end + gap + end)):
                if len(known) <= frames:
                    yield task, known

    def _filled(self, path: Path, task: str, known: list[bool]) -> Iterator[str]:
        """The first clip with gaps, and what the models put there."""
        truth = self.truth()[:1, : len(known)]
        rows = {TRUTH: truth[0], GIVEN: truth[0]}
        for name, model in self.models.items():
            try:
                rows[name] = self._made(model, truth[:, known], task="infill", known=known)[0]
            except UserError as error:
                yield f"{name} is left out of the {task}: {error}"
        if len(rows) > 2:
            write_image(path, _strip(rows, known))
            yield f"{path}: {sum(known)} frames given, {len(known) - sum(known)} made"

    def _made(self, model: VideoDenoiser, given: Tensor | None = None, **task: object) -> Tensor:
        """What a model makes of ``given``, or from nothing: as many clips in a square as there are in a row."""
        height, width, channels = self.clips.shape
        given = torch.empty(len(self.clips) ** 2, 0, channels, height, width) if given is None else given
        noise = [generator_for(self.seed, index, 0) for index in range(len(given))]
        return predict(model, given.to(self.device), generator=noise, **task, **(self.sampling or {})).cpu()


def _colour(row: str, given: bool) -> Colour:
    return OBSERVED if given else NEUTRAL if row == TRUTH else PREDICTED


def _film(rows: dict[str, Tensor], given: Sequence[bool]) -> Iterator[Tensor]:
    """Frames of a film: a row each, the clips (n, T, C, H, W) beside each other."""
    for t, known in enumerate(given):
        cells = [(name, [(clip[t], _colour(name, known)) for clip in clips]) for name, clips in rows.items()]
        yield sheet(cells, title=f"frame {t + 1} of {len(given)}")


def _grid(clips: Tensor, columns: int) -> Iterator[Tensor]:
    """Frames of a film: made clips (n, T, C, H, W) in rows of ``columns``."""
    for t in range(clips.shape[1]):
        rows = [("", [(frame, PREDICTED) for frame in row]) for row in clips[:, t].split(columns)]
        yield sheet(rows, title=f"frame {t + 1} of {clips.shape[1]}")


def _strip(rows: dict[str, Tensor], given: Sequence[bool]) -> Tensor:
    """All frames of one clip: rows (T, C, H, W), frame beside frame."""
    cells = [
        (
            name,
            [
                (None if name == GIVEN and not known else frame, _colour(name, known))
                for frame, known in zip(video, given, strict=True)
            ],
        )
        for name, video in rows.items()
    ]
    return sheet(cells, [str(t + 1) for t in range(len(given))])
