"""How good a model's moving digits are, measured by what a blank frame cannot win."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lgcvd.baselines import blank_frame, copy_last_frame
from lgcvd.digit_classifier import IN_PLACE, recognised
from lgcvd.digits import CANVAS, MovingDigits, Split
from lgcvd.errors import UserError
from lgcvd.files import draft, write_json
from lgcvd.machine import describe_machine
from lgcvd.measures import MEASURES, PAIRWISE
from lgcvd.metrics import psnr, ssim
from lgcvd.models import VideoDenoiser
from lgcvd.pictures import filmstrip, write_image
from lgcvd.progress import move_to, progress_bar
from lgcvd.protocols import SAMPLING
from lgcvd.reports import markdown_table, panels
from lgcvd.rollout import check_new_frames, rollout
from lgcvd.sampling import Sampling
from lgcvd.seeds import checked_seed
from lgcvd.statistics import mean_with_interval
from lgcvd.video import from_uint8

BATCH = 16
"""Clips that are predicted together; fixed, because the noise is drawn for a whole batch."""

JUDGED_FRAMES = (10, 20, 30)
"""Frames, counted from 1, at which ink and digits are tabled."""

MODEL, COPY, BLANK, REAL = "model", "copy last frame", "blank frame", "real frames"

DIGIT_MEASURES = {name: MEASURES[name] for name in ("psnr", "ssim", "ink", "digits", "in_place")}
"""What is measured, per clip and new frame.

psnr, ssim: see ``lgcvd.metrics``.
ink: foreground mass (the sum of the pixels in [0, 1]) over that of the true frame; 1 is right, a blank frame has 0.
digits: share of the clip's digits that the classifier finds in the frame, anywhere. Blank, blurred and deformed digits
    are not found; a copied frame keeps its digits, and is caught by the next measure.
in_place: the same, within ``IN_PLACE`` pixels (of 64) of where the digit truly is.
"""

IN_SHORT = [
    measure.title if name in PAIRWISE else f"{measure.title}, last frame" for name, measure in DIGIT_MEASURES.items()
]
"""Titles where every measure has one column: PSNR and SSIM are those of all new frames."""


@dataclass(frozen=True)
class DigitsReport:
    """Results of ``evaluate_digits``.

    settings: all that decides the numbers, and where they were made; JSON values only.
    scores: row -> measure -> values (clips, new frames).
    samples: row -> the first clips, (n, T, 1, H, W) in [-1, 1], true frames under ``REAL``.
    """

    settings: dict
    scores: dict[str, dict[str, np.ndarray]]
    samples: dict[str, Tensor]

    def value(self, row: str, measure: str, frame: int | None = None) -> tuple[float, float, float]:
        """Mean over clips, and its 95 % bootstrap interval; of one frame (counted from 1) or of all new ones."""
        values = self.scores[row][measure]
        per_clip = values.mean(1) if frame is None else values[:, frame - 1 - self.settings["context_frames"]]
        return mean_with_interval(per_clip)

    def markdown(self) -> str:
        """The table, with the protocol and the command that repeats it."""
        s = self.settings
        rows = [
            [
                measure.title if frame is None else f"{measure.title}, frame {frame}",
                *(self._cell(row, name, frame) for row in self.scores),
            ]
            for name, measure in DIGIT_MEASURES.items()
            for frame in self._tabled_frames(name)
        ]
        machine = s["machine"]
        lines = [
            f"{s['clips']} {s['split']} clips of two reflecting digits, {s['image_size']} x {s['image_size']}, "
            f"{s['context_frames']} -> {s['frames']} frames, one trajectory a clip, sampler {s['sampler']} with "
            f"{s['steps']} {s['spacing']} steps, seed {s['seed']}. Means with 95 % bootstrap intervals over clips; "
            f"PSNR and SSIM over all new frames. In place: within {IN_PLACE:g} of {CANVAS} pixels.",
            "",
            markdown_table(["", *self.scores], rows),
            "",
            f"`{s['command']}`",
            f"({machine['processor']}, {machine['threads']} threads, torch {machine['torch']}; "
            f"{s['seconds']:.0f} s to predict)",
        ]
        return "\n".join(lines) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write ``results.json``, ``table.md``, ``curves.png`` and ``samples.png`` into ``folder``, and return it."""
        folder = Path(folder)
        write_json(folder / "results.json", self._as_json())
        with draft(folder / "table.md") as part:
            part.write_text(self.markdown())
        with draft(folder / "curves.png") as part:
            self.figure().savefig(part, dpi=120)
        strips = [
            filmstrip({"truth": truth, "prediction": prediction}, self.settings["context_frames"])
            for truth, prediction in zip(self.samples[REAL], self.samples[MODEL], strict=True)
        ]
        write_image(folder / "samples.png", torch.cat(strips, dim=1))
        return folder

    def figure(self):
        """Every measure against the frame number, as a matplotlib figure."""
        figure, all_axes = panels(len(DIGIT_MEASURES), 3, 3.2)
        first = self.settings["context_frames"] + 1
        for axes, (name, measure) in zip(all_axes, DIGIT_MEASURES.items(), strict=True):
            for row, scores in self.scores.items():
                if row == REAL and name in PAIRWISE:
                    continue
                curve = scores[name].mean(0)
                axes.plot(range(first, first + len(curve)), curve, label=row, linestyle="--" if row == REAL else "-")
            axes.set(title=measure.title, xlabel="frame", ylim=(0, None))
        axes.legend(fontsize="small")
        return figure

    def in_short(self, row: str) -> list[str]:
        """A row of values under the titles ``IN_SHORT``."""
        return [self._cell(row, name, self._tabled_frames(name)[-1]) for name in DIGIT_MEASURES]

    def _tabled_frames(self, measure: str) -> list[int | None]:
        if measure in PAIRWISE:
            return [None]
        seen, last = self.settings["context_frames"], self.settings["context_frames"] + self.settings["frames"]
        return sorted({frame for frame in JUDGED_FRAMES if seen < frame < last} | {last})

    def _cell(self, row: str, measure: str, frame: int | None) -> str:
        if row == REAL and measure in PAIRWISE:
            return "-"
        return MEASURES[measure].told(*self.value(row, measure, frame))

    def _as_json(self) -> dict:
        rows = {}
        for row, scores in self.scores.items():
            rows[row] = {}
            for measure, values in scores.items():
                named = {
                    f"frame {frame}" if frame else "mean": frame for frame in (None, *self._tabled_frames(measure))
                }
                rows[row][measure] = {
                    name: dict(zip(("value", "low", "high"), self.value(row, measure, frame), strict=True))
                    for name, frame in named.items()
                } | {"per_frame": [round(float(v), 5) for v in values.mean(0)]}
        return {"settings": self.settings, "rows": rows}


def evaluate_digits(
    model: VideoDenoiser,
    *,
    clips: int = 64,
    frames: int = 28,
    seed: int = 0,
    split: Split = "test",
    progress: bool = True,
    called: str | Path = "",
    **options: object,
) -> DigitsReport:
    """Predict ``frames`` frames after the first K of ``clips`` clips of reflecting digits, and judge them.

    One trajectory a clip; ``seed`` decides the noise, the clips are always the same; ``options`` are those of
    ``Sampling``, the model's own where they are left out. The rows beside the model's are the last seen frame copied,
    blank frames, and the real frames as the ceiling of what the classifier can read. ``called``: what the model was
    loaded by, for the command under the table.

    Raises ``UserError`` for a model that is not gray or whose frames are no square that 64 divides into, and for
    numbers of clips, frames or steps that make no sense.
    """
    size = model.config.image_size
    if model.config.channels != 1 or size[0] != size[1] or CANVAS % size[0]:
        raise UserError(
            f"this model works on {size[0]}x{size[1]} pixels with {model.config.channels} channels: moving digits "
            f"need a gray model of {CANVAS}x{CANVAS} pixels, or of a square that divides it."
        )
    if clips < 1:
        raise UserError(f"the number of clips must be at least 1, not {clips}.")
    check_new_frames(frames)
    seen = model.context_frames
    data = MovingDigits(split=split, length=clips, frames=seen + frames, image_size=size[0], motion="reflect")
    scenes = [data.clip_and_labels(i) for i in range(clips)]
    truth = from_uint8(torch.stack([clip for clip, _ in scenes]))
    started = time.perf_counter()
    predicted = _predict(model, truth[:, :seen], frames, seed, progress, options)
    seconds = time.perf_counter() - started

    videos = {
        MODEL: predicted,
        COPY: copy_last_frame(truth[:, :seen], frames),
        BLANK: blank_frame(truth[:, :seen], frames),
        REAL: truth,
    }
    labels = torch.tensor([labels for _, labels in scenes])
    centres = torch.stack([data.places(i) for i in range(clips)]).transpose(1, 2)  # (clips, T, digits, 2)
    scores = {row: _judge(video[:, seen:], truth[:, seen:], labels, centres[:, seen:]) for row, video in videos.items()}
    name = called or model.about.name or "MODEL"
    sampling = Sampling(**(model.about.sampling_for("predict") | options))
    sampling = {option: getattr(sampling, option) for option in SAMPLING}
    told = " ".join(f"--{option} {value}" for option, value in sampling.items())
    settings = {
        "model": asdict(model.about),
        "config": asdict(model.config),
        "data": "moving digits, motion reflect, data seed 0",
        "split": split,
        "clips": clips,
        "image_size": size[0],
        "context_frames": seen,
        "frames": frames,
        **sampling,
        "seed": seed,
        "batch": BATCH,
        "command": f"lgcvd evaluate-digits --model {name} --clips {clips} --frames {frames} {told} "
        f"--seed {seed} --split {split}",
        "machine": describe_machine(),
        "seconds": round(seconds, 1),
    }
    return DigitsReport(settings, scores, {row: videos[row][:4] for row in (MODEL, REAL)})


def sampler_table(reports: list[DigitsReport]) -> str:
    """Reports of one model with different samplers or steps, one row each, as a Markdown table."""
    told = [(report.settings, report.in_short(MODEL)) for report in reports]
    rows = ([s["sampler"], s["steps"], *cells, f"{s['seconds']:.0f}"] for s, cells in told)
    return markdown_table(["sampler", "steps", *IN_SHORT, "seconds"], rows) + "\n"


def _predict(model: VideoDenoiser, observed: Tensor, frames: int, seed: int, progress: bool, options: dict) -> Tensor:
    """Observed and new frames of all clips, in batches with their own seeds."""
    device = model.device
    videos = []
    with progress_bar(total=len(observed), desc="predicting clips", unit="clip", disable=not progress) as bar:
        for index, batch in enumerate(observed.split(BATCH)):
            generator = torch.Generator().manual_seed(1000 * checked_seed(seed) + index)
            steps = rollout(model, batch.to(device), num_frames=frames, every_step=True, generator=generator, **options)
            for window in steps:
                move_to(bar, round(index * BATCH + window.fraction * len(batch), 1))
            videos.append(window.video.cpu())
    return torch.cat(videos)


def _judge(video: Tensor, truth: Tensor, labels: Tensor, centres: Tensor) -> dict[str, np.ndarray]:
    """Every measure of the new frames (clips, F, 1, H, W) against the true ones: (clips, F) each."""
    parts: dict[str, list[Tensor]] = {measure: [] for measure in DIGIT_MEASURES}
    for v, t, label, centre in zip(*(x.split(BATCH) for x in (video, truth, labels, centres)), strict=True):
        digits = recognised(v.flatten(0, 1), label.repeat_interleave(v.shape[1], 0), centre.flatten(0, 1))
        ink = [(x + 1).sum((2, 3, 4)) for x in (v, t)]
        values = (psnr(v, t), ssim(v, t), ink[0] / ink[1], *(share.unflatten(0, v.shape[:2]) for share in digits))
        for measure, value in zip(DIGIT_MEASURES, values, strict=True):
            parts[measure].append(value)
    return {measure: torch.cat(values).double().numpy() for measure, values in parts.items()}
