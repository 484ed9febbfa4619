"""What the parts of the method are worth: variants of a preset, trained under one budget and compared."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lgcvd.baselines import copy_last_frame
from lgcvd.checkpoints import load
from lgcvd.config import ModelConfig, Preset, TrainConfig, in_one_stage
from lgcvd.context import TaskMix
from lgcvd.data import described, videos_told_apart
from lgcvd.errors import UserError
from lgcvd.files import draft, write_json
from lgcvd.machine import describe_machine
from lgcvd.measures import MEASURES, PAIRWISE
from lgcvd.metrics import of_frames
from lgcvd.models import VideoDenoiser, build
from lgcvd.objective import objective_of
from lgcvd.reports import markdown_table, panels
from lgcvd.rollout import check_new_frames, predict
from lgcvd.run_folder import watch
from lgcvd.seeds import generator_for
from lgcvd.settings import check_same, checksum, filled
from lgcvd.statistics import mean_with_interval
from lgcvd.trainer import TrainStep, train
from lgcvd.video import from_uint8

COPY = "copy last frame"
BATCH = 8
"""Clips that are predicted together; fixed, because their noise is drawn together."""


@dataclass(frozen=True)
class Variant:
    """A preset with something changed."""

    words: str
    change: Callable[[Preset], Preset]


def _model(words: str, **settings: object) -> Variant:
    return Variant(words, lambda preset: replace(preset, model=replace(preset.model, **settings)))


def _train(words: str, **settings: object) -> Variant:
    return Variant(words, lambda preset: replace(preset, train=replace(preset.train, **settings)))


VARIANTS: dict[str, Variant] = {
    "whole": Variant("the preset as it is", lambda preset: preset),
    "single-stage": Variant(
        "one stage, true context only, as many optimizer steps",
        lambda preset: replace(preset, train=in_one_stage(preset.train, "single_stage")),
    ),
    "all-estimates": _train("stage 2 sees estimates of any noise, as in the paper", estimate_level=1.0),
    "no-global-context": _model("no encoder, no memory", global_context=False),
    "no-position-planes": _model("local frames without their positions", position_planes=False),
    "no-things": _model("the motion skip moves patches, not whole things", motion_things=0),
    "no-motion-skip": _model("all is painted, nothing is moved", motion=0, motion_things=0),
    "prediction-only": _train("no other task is trained", tasks=TaskMix(1.0, 0.0, 0.0, 0.0)),
    "paper-tasks": _train("the paper's task mix", tasks=TaskMix()),
    "last-clip-only": _model("the memory holds the last clip only (same weights)", memory_decay=0.0),
    "long-memory": _model("3/4 of the memory stays (same weights)", memory_decay=0.75),
}
"""What can be compared. Variants that differ in the rollout alone share one training."""


@dataclass(frozen=True)
class Budget:
    """What every variant may use: minutes of training, or the optimizer steps of so many iterations of the preset."""

    iterations: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.iterations, self.minutes) if value is not None]
        if len(given) != 1 or given[0] <= 0:
            raise UserError("give the budget either in iterations or in minutes, more than 0 of them.")

    def of(self, config: TrainConfig) -> TrainConfig:
        """The training that fits: its phases shortened alike; with a time limit, two stages and one rate throughout."""
        if self.minutes:
            return replace(config, iterations=10**9, single_stage=0, cooldown=0)
        share = self.iterations / config.iterations
        phases = {name: round(share * getattr(config, name)) for name in ("warmup", "cooldown", "single_stage")}
        return replace(config, iterations=self.iterations, **phases)


@dataclass(frozen=True)
class Score:
    """How well a variant predicts."""

    values: dict[str, np.ndarray]
    """Measure -> value of every clip and new frame, (n, frames)."""
    iterations: float = 0
    seconds: float = 0.0
    parameters: float = 0

    @classmethod
    def of_frames(cls, predicted: Tensor, true: Tensor, **training: float) -> Score:
        """Of videos (n, frames, C, H, W) in [-1, 1]: see ``metrics.of_frames``."""
        return cls({name: values.numpy() for name, values in of_frames(predicted, true).items()}, **training)

    @classmethod
    def of_seeds(cls, scores: Sequence[Score]) -> Score:
        """The mean of the same variant trained with several seeds."""
        values = {name: np.mean([score.values[name] for score in scores], 0) for name in scores[0].values}
        training = ("iterations", "seconds", "parameters")
        return cls(values, **{name: np.mean([getattr(score, name) for score in scores]) for name in training})

    def as_json(self) -> dict:
        return vars(self) | {
            "values": {name: array.astype(float).round(5).tolist() for name, array in self.values.items()}
        }

    @classmethod
    def from_json(cls, saved: dict) -> Score:
        return cls(**saved | {"values": {name: np.array(values) for name, values in saved["values"].items()}})


@dataclass(frozen=True)
class AblationStep:
    """How far a comparison has come."""

    variant: str
    seed: int
    index: int
    """Of the training, from 1: every variant with every seed."""
    trainings: int
    step: TrainStep
    seconds: float
    """That this training has taken."""
    fraction: float
    """Of its budget."""


def ablate(
    preset: Preset,
    names: Sequence[str],
    data: Dataset,
    held_out: Tensor,
    folder: Path,
    budget: Budget,
    *,
    seeds: Sequence[int] = (0,),
    device: str = "cpu",
) -> Iterator[AblationStep]:
    """Train the variants ``names`` of ``preset`` one after the other, yield after every iteration, compare at the end.

    Each is trained once with each of ``seeds``, which decide its first weights and all that is drawn. Every training
    has a run folder below ``folder``; what was broken off goes on there, and seeds can be added later. Then all of them
    predict ``held_out``, clips (n, more than K, C, H, W) uint8, from their first K frames. Writes ``table.md``,
    ``table.csv`` and ``figure.png``.
    """
    if not preset.train.tasks.prediction:
        raise UserError("variants are compared by what they predict: give prediction a share of the tasks.")
    k = preset.model.context_frames
    check_new_frames(held_out.shape[1] - k)
    for name in names:
        variant = VARIANTS[name].change(preset)
        variant.model.check_width()
        objective_of(variant.train).clip_frames(variant.model)  # refuses what does not fit
    folder = Path(folder)
    preset = replace(preset, train=budget.of(preset.train))
    settings = {
        "preset": asdict(preset),
        "budget": asdict(budget),
        "clips": held_out.shape,
        "data": described(data),
        **videos_told_apart(data),
        "held out": checksum([held_out]),
        "measures": list(PAIRWISE),
    }
    told = folder / "settings.json"
    _same_settings(told, settings)
    truth = from_uint8(held_out)
    scores: dict[str, list[Score]] = {}
    trained: dict[Preset, Path] = {}
    trainings = [(seed, name) for seed in seeds for name in names]
    for index, (seed, name) in enumerate(trainings, 1):
        changed = VARIANTS[name].change(replace(preset, train=replace(preset.train, seed=seed)))
        weights = replace(changed, model=replace(changed.model, memory_decay=preset.model.memory_decay))
        own = folder / f"{name}-{seed}"
        cache, run = own.with_name(f"{own.name}.json"), trained.setdefault(weights, own)
        if not cache.exists():
            if not (run / "done.json").exists():
                for step, seconds, fraction in _train_until(run, weights, data, budget, device):
                    if not told.exists():  # a training that is refused leaves none
                        write_json(told, settings)
                    yield AblationStep(name, seed, index, len(trainings), step, seconds, fraction)
            done = json.loads((run / "done.json").read_text())
            score = _score(_with_decay(run / "model", changed.model, device), truth, **done)
            write_json(cache, score.as_json())
        scores.setdefault(name, []).append(Score.from_json(json.loads(cache.read_text())))
    copied = copy_last_frame(truth[:, :k], truth.shape[1] - k)
    scores[COPY] = [Score.of_frames(copied[:, k:], truth[:, k:])]
    _write(scores, seeds, folder, budget, k)


def _same_settings(path: Path, settings: dict) -> None:
    """Raise ``UserError`` if a comparison was begun under other settings; complete what an older one tells of them."""
    settings = json.loads(json.dumps(settings))  # JSON has lists where configs have tuples
    if path.exists():
        # what a folder does not tell had its default, or was not told in its time
        untold = {name: settings.get(name) for name in ("videos", "held out")}
        newer = {"preset": asdict(Preset(ModelConfig(), TrainConfig())), **untold}
        check_same(filled(json.loads(path.read_text()), newer), settings, f"{path.parent} compares under")
        write_json(path, settings)


def _train_until(
    run: Path, preset: Preset, data: Dataset, budget: Budget, device: str
) -> Iterator[tuple[TrainStep, float, float]]:
    """Train in ``run`` until the budget is used up, counting the time of earlier attempts; then write ``done.json``."""
    torch.manual_seed(preset.train.seed)
    model = build(preset.model).to(device)
    clock = run / "seconds.json"
    spent = json.loads(clock.read_text()) if clock.exists() else 0.0
    started, step = time.monotonic(), None

    def seconds() -> float:
        return spent + time.monotonic() - started

    steps = watch(train(model, data, preset.train, folder=run), run, preset.train, every=10**9, data=data)
    with closing(steps):
        for step in steps:
            share = seconds() / (60 * budget.minutes) if budget.minutes else step.iteration / preset.train.iterations
            if step.saves:
                write_json(clock, seconds())
            try:
                yield step, seconds(), min(share, 1.0)
            except GeneratorExit:
                write_json(clock, seconds())
                raise
            if share >= 1:
                break
    write_json(clock, seconds())
    done = {"iterations": step.iteration if step else preset.train.iterations, "seconds": seconds()}
    write_json(run / "done.json", done)


def _with_decay(folder: Path, config: ModelConfig, device: str) -> VideoDenoiser:
    """The trained model, remembering as ``config`` says."""
    model = build(config)
    model.load_state_dict(load(folder).state_dict())
    return model.to(device).eval()


def _score(model: VideoDenoiser, truth: Tensor, iterations: int, seconds: float) -> Score:
    k, device = model.context_frames, model.device
    predicted = [
        predict(model, clips[:, :k].to(device), truth.shape[1] - k, generator=generator_for(0, index)).cpu()
        for index, clips in enumerate(truth.split(BATCH))
    ]
    parameters = sum(weight.numel() for weight in model.parameters())
    new, training = torch.cat(predicted)[:, k:], {"iterations": iterations, "seconds": seconds}
    return Score.of_frames(new, truth[:, k:], parameters=parameters, **training)


def _write(scores: dict[str, list[Score]], seeds: Sequence[int], folder: Path, budget: Budget, k: int) -> None:
    def told(measure: str, values: np.ndarray, sign: str = "") -> str:
        """The mean over clips and frames, with its 95 % bootstrap interval over clips."""
        return MEASURES[measure].told(*mean_with_interval(values.mean(1)), sign=sign)

    means = {name: Score.of_seeds(of_seeds) for name, of_seeds in scores.items()}
    first, measured = next(iter(means)), means[COPY].values
    titles = [MEASURES[measure].title for measure in measured]
    header = ["variant", "what is changed", "parameters", "iterations", "seconds", *titles]
    header += [*(f"{title}, difference from {first}" for title in titles), "PSNR, last frame"]
    if len(seeds) > 1:
        header += [f"{title} by seed" for title in titles]
    rows = []
    for name, score in means.items():
        words = VARIANTS[name].words if name in VARIANTS else "the baseline"
        model = [f"{score.parameters / 1e6:.2f} M", f"{score.iterations:.0f}", f"{score.seconds:.0f}"]
        row = [name, words, *(model if score.parameters else ["-"] * 3)]
        row += [told(measure, score.values[measure]) for measure in measured]
        for measure in measured:
            difference = score.values[measure] - means[first].values[measure]
            row.append("-" if name == first else told(measure, difference, "+"))
        row.append(MEASURES["psnr"].told(score.values["psnr"][:, -1].mean()))
        if len(seeds) > 1:
            for measure in measured:
                each = [of_seed.values[measure].mean() for of_seed in scores[name]]
                row.append(" / ".join(map(MEASURES[measure].told, each)))
        rows.append(row)
    clips, frames = measured["psnr"].shape
    spent = (
        f"The optimizer steps of {budget.iterations:,} iterations of the preset"
        if budget.iterations
        else f"{budget.minutes:g} minutes of training"
    )
    machine = "{processor}, {threads} threads, torch {torch}".format(**describe_machine())
    trained = "one seed" if len(seeds) == 1 else f"means of the seeds {', '.join(map(str, seeds))}"
    lines = [
        markdown_table(header, rows),
        "",
        f"{spent} each, {trained}; {clips} held-out clips, {k} -> {frames} frames, one prediction a clip; 95 % "
        f"bootstrap intervals over clips, of differences clip by clip. {machine}.",
    ]
    with draft(folder / "table.md") as part:
        part.write_text("\n".join(lines) + "\n")
    with draft(folder / "table.csv") as part, part.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    with draft(folder / "figure.png") as part:
        _figure(means, k).savefig(part, dpi=110)


def _figure(scores: dict[str, Score], k: int):
    """Every measure over the predicted frames."""
    measured = scores[COPY].values
    figure, all_axes = panels(len(measured), 5.5, 4)
    for axes, measure in zip(all_axes, measured, strict=True):
        for name, score in scores.items():
            curve = score.values[measure].mean(0)
            style = {"color": "black", "ls": "--"} if name == COPY else {}
            axes.plot(range(k + 1, k + 1 + len(curve)), curve, label=name, **style)
        axes.set(title=MEASURES[measure].title, xlabel="frame")
    axes.legend(fontsize="small")
    return figure
