"""What a training leaves behind: settings, command, log, curves, samples, the model. To watch changes nothing."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

from lgcvd import pictures, video
from lgcvd.checkpoints import save
from lgcvd.config import TrainConfig
from lgcvd.context import LAYOUTS, TaskMix
from lgcvd.cost import told_when_too_large
from lgcvd.data import remarks
from lgcvd.errors import UserError
from lgcvd.files import clear_drafts, draft, write_json
from lgcvd.machine import describe_machine, git_revision
from lgcvd.models import About, VideoDenoiser
from lgcvd.objective import STAGES, Denoising
from lgcvd.rollout import predict
from lgcvd.seeds import generator_for
from lgcvd.trainer import TrainStep, settings_of

LEVELS = (1.0, 0.75, 0.5, 0.25)
"""Noise levels of the validation loss, as shares of the diffusion's length."""

SAMPLES = 3
"""Clips that are predicted at intervals."""

STAGES_OF_TASKS = [(stage, task.name) for stage in STAGES for task in fields(TaskMix)]
"""Columns of the losses by task."""

CURVE_EVERY = 10
"""Iterations between points of tensorboard's training curves."""


@dataclass(frozen=True)
class Validation:
    """Loss on clips that are not trained on, at fixed noise levels with fixed noise: comparable all through a run."""

    clips: Tensor
    """(n, clip_frames, C, H, W) uint8."""
    objective: Denoising

    @classmethod
    def of(cls, data: Dataset, objective: Denoising, clips: int = 8) -> Validation:
        """So many ``clips`` of ``data``."""
        return cls(spread(data, clips), objective)

    @torch.no_grad()
    def losses(self, model: VideoDenoiser) -> dict[tuple[str, str, int], float]:
        """(task, stage, time step) -> loss."""
        clips = video.from_uint8(self.clips.to(model.device))
        losses = {}
        for task in [name for name in LAYOUTS if name in self.objective.tasks.trained] or LAYOUTS:
            for level in LEVELS:
                t = round(level * (model.schedule.steps - 1))
                for stage in self.objective.at(task, t)(model, clips, generator_for(0)):
                    losses[task, stage.stage, t] = stage.loss.item()
        return losses

    def samples(self, model: VideoDenoiser) -> list[tuple[Tensor, Tensor]]:
        """True and predicted videos (T, C, H, W) in [-1, 1] of the first clips; always the same noise."""
        truth = video.from_uint8(self.clips[:SAMPLES])
        k = model.context_frames
        observed = truth[:, :k].to(model.device)
        predicted = predict(model, observed, truth.shape[1] - k, generator=generator_for(0)).cpu()
        return list(zip(truth, predicted, strict=True))

    def too_large(self) -> str:
        """What to do where looking at the clips takes more memory than there is."""
        return f"out of memory: {len(self.clips)} clips are looked at at once: lower validation_clips."


def spread(data: Dataset, clips: int) -> Tensor:
    """At most ``clips`` items of ``data``, evenly spread over it."""
    clips = min(clips, len(data))
    return torch.stack([data[i * len(data) // clips] for i in range(clips)])


def watch(
    steps: Iterator[TrainStep],
    folder: str | Path,
    config: TrainConfig,
    *,
    validation: Validation | None = None,
    every: int = 500,
    about: About | None = None,
    data: object = None,
) -> Iterator[TrainStep]:
    """Pass on the ``steps`` of ``lgcvd.train`` and keep a record of them in ``folder``.

    Every iteration goes to ``losses.csv`` and to ``tensorboard/``, where that is installed. Every ``every`` iterations
    and at the end: validation losses (``validation.csv``), predicted clips (``samples/``) and ``curves.png``, of the
    averaged model. ``model/`` is that model at the last checkpoint, ready for ``lgcvd.load``. ``config.json``,
    ``commands.txt`` and ``log.txt`` tell how the run was made, each time it was started.
    """
    about = replace(about or About(), tasks=config.tasks.trained)
    record = _Record(Path(folder), config, validation, about, data)
    with closing(steps), closing(record):
        try:
            for step in steps:
                record.add(step, look=step.iteration % every == 0 or step.iteration == step.iterations)
                yield step
        except UserError as error:
            if record.last:  # else it was refused before it began, and leaves nothing
                record.log(f"stopped: {error}")
            raise


class _Record:
    """The files of a run folder that is being written."""

    def __init__(self, folder: Path, config: TrainConfig, validation: Validation | None, about: About, data: object):
        self.folder, self.config, self.validation, self.about, self.data = folder, config, validation, about, data
        self.last: TrainStep | None = None
        self.looked = False
        """Whether what is drawn tells of the last step."""
        self.board = None
        self.recent: dict[tuple[str, str], list[float]] = {}
        """(stage, task) -> losses since the last point of tensorboard's curves: few batches hold every task."""

    def add(self, step: TrainStep, look: bool) -> None:
        if self.last is None:
            self._begin(step)
        values = [
            *(step.losses.get(stage) for stage in STAGES),
            *(step.norms.get(stage) for stage in STAGES),
            step.rate,
            *(step.task_losses.get(key) for key in STAGES_OF_TASKS),
        ]
        cells = ("" if value is None else f"{value:.6g}" for value in values)
        self.table.write(f"{step.iteration},{','.join(cells)}\n")
        self.last = step
        if self.board:
            for key, loss in step.task_losses.items():
                self.recent.setdefault(key, []).append(loss)
            if step.iteration % CURVE_EVERY == 0:
                self._scalars(step)
        if step.saves:
            self._export()
        self.looked = look
        if look:
            self._look(step)

    def log(self, line: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.txt").open("a") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")

    def close(self) -> None:
        """At the end, or where the run is stopped."""
        if self.last is None:
            return
        if not self.last.saves:
            self._export()
        if not self.looked:
            self._draw()
        self.table.close()
        if self.board:
            self.board.close()
        self.log(f"ended after iteration {self.last.iteration} of {self.last.iterations}")

    def _begin(self, step: TrainStep) -> None:
        reached = step.iteration - 1
        self.folder.mkdir(parents=True, exist_ok=True)
        for place in (self.folder, self.folder / "samples"):
            clear_drafts(place)
        settings = settings_of(step.model.config, self.config, self.data)
        write_json(self.folder / "config.json", settings)
        with (self.folder / "commands.txt").open("a") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {how_it_was_started()}\n")
        self.log(f"{'begun' if reached == 0 else f'going on after iteration {reached}'}: {how_it_was_started()}")
        for line in remarks(self.data):
            self.log(line)
        names = [f"{stage}{end}" for end in ("", "_norm") for stage in STAGES]
        names += ["rate", *map(" ".join, STAGES_OF_TASKS)]
        self.table = _rows_until(self.folder / "losses.csv", f"iteration,{','.join(names)}", reached)
        _rows_until(self.folder / "validation.csv", "iteration,task,stage,t,loss", reached).close()
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(self.folder / "tensorboard", purge_step=reached + 1 if reached else None)
        except ImportError:
            self.log("no tensorboard here: pip install 'lgcvd[train]' gives its curves")
        self.since, self.counted = time.monotonic(), reached

    def _scalars(self, step: TrainStep) -> None:
        now = time.monotonic()
        speed = (step.iteration - self.counted) * self.config.batch_size / (now - self.since)
        self.since, self.counted = now, step.iteration
        for stage in step.losses:
            self.board.add_scalar(f"loss/{stage}", step.losses[stage], step.iteration)
            self.board.add_scalar(f"gradient norm/{stage}", step.norms[stage], step.iteration)
        for (stage, task), losses in self.recent.items():
            self.board.add_scalar(f"loss by task/{stage} {task}", sum(losses) / len(losses), step.iteration)
        self.recent.clear()
        self.board.add_scalar("rate", step.rate, step.iteration)
        self.board.add_scalar("clips a second", speed, step.iteration)

    def _export(self) -> None:
        save(self.last.model, self.folder / "model", replace(self.about, step=self.last.iteration), torch.float16)

    def _look(self, step: TrainStep) -> None:
        """Validation losses, samples and curves."""
        started = time.monotonic()
        told = ", ".join(f"{stage} {loss:.4f}" for stage, loss in step.losses.items())
        if self.validation:
            with told_when_too_large(self.validation.too_large):
                losses = self.validation.losses(step.model)
                samples = self.validation.samples(step.model) if "predict" in step.model.abilities else []
            with (self.folder / "validation.csv").open("a") as file:
                for (task, stage, t), loss in losses.items():
                    file.write(f"{step.iteration},{task},{stage},{t},{loss:.6g}\n")
                    if self.board:
                        self.board.add_scalar(f"validation {task}/{stage}, t = {t}", loss, step.iteration)
            told += f", validation {sum(losses.values()) / len(losses):.4f}"
            if samples:
                self._show(samples, step)
        self._draw()
        self.log(f"iteration {step.iteration}: {told}")
        self.since += time.monotonic() - started  # throughput is the training's alone

    def _show(self, samples: list[tuple[Tensor, Tensor]], step: TrainStep) -> None:
        k = step.model.context_frames
        strips = [pictures.filmstrip({"truth": truth, "prediction": predicted}, k) for truth, predicted in samples]
        strip = torch.cat(strips, dim=1)
        pictures.write_image(self.folder / "samples" / f"{step.iteration:08}.png", strip)
        frames = pictures.side_by_side(*samples[0], k, height=128)
        movie = self.folder / "samples" / f"{step.iteration:08}.gif"
        video.write_video(movie, frames, video.PICTURE_FPS)
        if self.board:
            self.board.add_image("samples", (strip + 1) / 2, step.iteration)
            _add_gif(self.board, "prediction", movie.read_bytes(), frames.shape[-2:], step.iteration)

    def _draw(self) -> None:
        figure = curves(self.folder)
        with draft(self.folder / "curves.png") as part:
            figure.savefig(part, dpi=110)


def _add_gif(board, tag: str, gif: bytes, size: tuple[int, int], iteration: int) -> None:
    """A moving picture: tensorboard shows the GIF as it is; its own add_video needs moviepy to make the same."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    picture = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=gif)
    board._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=picture)]), iteration)


def _rows_until(path: Path, header: str, iteration: int):
    """A CSV file to go on writing, line by line; its rows after ``iteration`` are dropped: they will come again."""
    lines = path.read_text().splitlines(keepends=True)[1:] if path.exists() and iteration else []
    whole = (line for line in lines if line.endswith("\n") and line.split(",")[0].isdigit())
    kept = [line for line in whole if int(line.split(",")[0]) <= iteration]
    with draft(path) as part:
        part.write_text("".join([f"{header}\n", *kept]))
    return path.open("a", buffering=1)


def how_it_was_started() -> str:
    """Command, git revision, versions and machine, in one line."""
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    processes = dist.get_world_size() if dist.is_initialized() else 1
    return f"{shlex.join(sys.argv)} | revision {git_revision()} | {processes} processes, {machine}"


def curves(folder: Path):
    """Losses, also by task, validation losses of predictions, gradient norms and rate, as a matplotlib figure."""
    import csv

    from matplotlib.figure import Figure

    def rows(name: str) -> list[dict]:
        path = Path(folder) / name
        return list(csv.DictReader(path.open())) if path.exists() else []

    steps = rows("losses.csv")
    stages = [stage for stage in STAGES if any(row.get(stage) for row in steps)]
    figure = Figure(figsize=(16, 7), layout="constrained")
    loss, held_out, norm, rate, *by_task = figure.subplots(2, 3).flat
    for axes in by_task[len(stages) :]:
        axes.remove()
    by_task = by_task[: len(stages)]

    def plot(axes, column: str, **style) -> None:
        points = [(int(row["iteration"]), float(row[column])) for row in steps if row.get(column)]
        if points:
            axes.plot(*_thinned(points), **style)

    for stage, axes in zip(stages, by_task, strict=True):
        plot(loss, stage, label=stage)
        plot(norm, f"{stage}_norm", label=stage)
        for of_stage, task in STAGES_OF_TASKS:
            if of_stage == stage:
                plot(axes, f"{stage} {task}", label=task)
    plot(rate, "rate")
    lines: dict[tuple[str, str], list] = {}
    for row in rows("validation.csv"):
        if row["task"] == "prediction":
            lines.setdefault((row["stage"], row["t"]), []).append((int(row["iteration"]), float(row["loss"])))
    for (stage, t), points in lines.items():
        held_out.plot(*zip(*points, strict=True), label=f"{stage}, t = {t}", marker=".")
    titles = {
        loss: "training loss",
        **{axes: f"training loss by task, {stage}" for stage, axes in zip(stages, by_task, strict=True)},
        held_out: "validation loss of predictions (EMA)",
        norm: "gradient norm",
        rate: "learning rate",
    }
    for axes, title in titles.items():
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
        if axes is not rate:
            axes.set_yscale("log")
        if axes.lines and axes is not rate:
            axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))  # where it covers nothing
    return figure


def _thinned(points: list[tuple[int, float]], most: int = 200) -> tuple[list[float], list[float]]:
    """Means over stretches of the points, so that at most ``most`` are drawn."""
    size = math.ceil(len(points) / most)
    stretches = [points[i : i + size] for i in range(0, len(points), size)]
    means = [[sum(values) / len(values) for values in zip(*stretch, strict=True)] for stretch in stretches]
    x, y = zip(*means, strict=True)
    return list(x), list(y)
