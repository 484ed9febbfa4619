"""Evaluation of a predictor on clips by a protocol: any number of processes, resumed after a kill, one results file.

A clip's values depend on the clip, the seed and the protocol, and on nothing else: its noise comes from a generator for
each trajectory. Each finished clip is a file beside the result, so that nothing is computed twice.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lgcvd import data as clip_data
from lgcvd import metrics
from lgcvd.baselines import BASELINES
from lgcvd.digits import CANVAS, Split
from lgcvd.errors import UserError
from lgcvd.files import draft, write_json
from lgcvd.measures import MEASURES, METRICS, PAIRWISE
from lgcvd.models import VideoDenoiser
from lgcvd.objective import WHOLE, Share
from lgcvd.protocols import Protocol
from lgcvd.results import Machine, read_results
from lgcvd.rollout import predict
from lgcvd.seeds import checked_seed, generator_for
from lgcvd.settings import checksum, differences, filled
from lgcvd.shards import shard_paths
from lgcvd.statistics import bootstrap_interval, mean_with_interval
from lgcvd.video import from_uint8

Shape = tuple[int, int, int]
"""H, W, C."""


@dataclass(frozen=True)
class Predictor:
    """What is evaluated: a model with its sampler, or a baseline."""

    name: str
    predict: Callable[[Tensor, int, list[torch.Generator]], Tensor]
    """(observed (B, K', C, H, W) in [-1, 1], new frames, a generator a row) -> (B, K' + frames, C, H, W)."""
    about: dict
    """What the results file says of it."""
    shape: Shape | None = None
    """What it was made for; None: anything."""
    random: bool = True
    """Whether other noise gives another prediction."""


def of_baseline(name: str) -> Predictor:
    """One of ``BASELINES``."""

    def extended(observed: Tensor, frames: int, generators: list[torch.Generator]) -> Tensor:
        return BASELINES[name](observed, frames)

    return Predictor(name, extended, {"baseline": name}, random=False)


def of_model(model: VideoDenoiser, *, name: str = "", memory: str = "decay", **sampling: object) -> Predictor:
    """``model`` as it predicts with options of ``Sampling``; it is called what it calls itself, or as its folder.

    memory: what it remembers of the windows before, a name of ``rollout.MEMORIES``; another one than the model was
        trained with is told in its name.
    """
    name = model.about.name or Path(name).name or "model"
    if memory != "decay":
        if not model.keeps_memory:
            raise UserError(f"{name} keeps no memory of earlier windows: leave out --memory.")
        name = f"{name}, memory {memory}"
    about = {
        "kind": type(model).__name__,
        "about": asdict(model.about),
        "config": asdict(model.config),
        "weights": checksum(model.state_dict().values()),
    }

    def rolled_out(observed: Tensor, frames: int, generators: list[torch.Generator]) -> Tensor:
        return predict(model, observed, frames, generator=generators, memory=memory, **sampling)

    return Predictor(name, rolled_out, about, model.config.frame_shape)


# --------------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Clips:
    """Clips of a split, evenly spread over it."""

    data: Dataset
    """Clips (T, C, H, W) uint8."""
    name: str
    split: str
    shape: Shape
    indices: tuple[int, ...]
    stride: int = 1
    notes: tuple[str, ...] = ()
    """What a reader of the numbers should know of them."""

    def __len__(self) -> int:
        return len(self.indices)

    def place(self, position: int) -> str:
        """Which clip this is: its number, or its video and first frame."""
        index = self.indices[position]
        if isinstance(self.data, clip_data.Windows):
            video, start = self.data.place(index)
            return f"{self.data.videos.names[video]}, frame {start}"
        return str(index)

    def content(self, position: int) -> int:
        """A checksum of its pixels: clips with the same are the same, wherever they come from."""
        return _checksum(self.data[self.indices[position]])


def _checksum(clip: Tensor) -> int:
    return zlib.crc32(clip.numpy().tobytes())


def open_clips(
    what: str, *, frames: int, clips: int, seed: int, shape: Shape, split: Split = "test", stride: int = 1
) -> Clips:
    """``clips`` clips of ``frames`` frames: one from each of as many equal parts of the split, where ``seed`` says.

    Data without folders of splits may tell their split themselves, and then it must be ``split``; else a note says that
    they are not divided.
    """
    checked_seed(seed)
    options = {} if stride == 1 else {"stride": stride}
    data = clip_data.open(what, frames=frames, shape=shape, split=split, **options)
    if clips > len(data):
        raise UserError(f"the {split} split of {what} has {len(data)} clips of {frames} frames: set --clips lower.")
    parts = np.random.default_rng(seed).random(clips) + np.arange(clips)
    indices = (parts * len(data) / clips).astype(int)
    notes = []
    if isinstance(data, clip_data.Windows):
        if not clip_data.split_folders(Path(what)):
            own = clip_data.own_split(Path(what), data.videos)
            if own and own != split:
                raise UserError(f"{what} is the {own} split, not {split}: give --split {own}, or the folder above it.")
            notes += [] if own else [f"{Path(what).name} is not divided into splits: a model may know these clips."]
        notes += clip_data.remarks(data)
    return Clips(data, Path(what).name, split, shape, tuple(indices.tolist()), stride, tuple(notes))


def worst_of(results: dict, clips: Clips, count: int) -> Clips:
    """Of the ``clips`` that ``results`` are about, the ``count`` that were predicted worst, the worst first.

    By LPIPS, or where that was not measured by PSNR or SSIM, the mean of all trajectories.
    """
    name = next((name for name in ("lpips", "psnr", "ssim") if name in results["summary"]), None)
    if name is None:
        raise UserError("the results have no measure of single clips: evaluate with --metrics lpips, psnr or ssim.")
    rows, worst_is_highest = results["clips"], not MEASURES[name].higher_is_better
    order = sorted(range(len(rows)), key=lambda i: rows[i][name]["mean"], reverse=worst_is_highest)[:count]
    for i in order:
        if clips.content(i) != rows[i]["content"]:
            raise UserError("the results are of other clips: give the data, split, seed and frames of that evaluation.")
    return replace(clips, indices=tuple(clips.indices[i] for i in order))


def shape_of(what: str, split: Split, image_size: tuple[int, int] | None = None, channels: int | None = None) -> Shape:
    """H, W, C for what was not made for one: what is asked for, or else the data's own."""
    if image_size and min(image_size) < 1:
        raise UserError(f"height and width must be at least 1, not {image_size[0]} and {image_size[1]}.")
    path = clip_data.split_folders(Path(what)).get(split, Path(what))
    shards = shard_paths(path) if path.is_dir() else [path]
    if what in clip_data.GENERATED:
        *size, own_channels = CANVAS, CANVAS, 1
    elif shards:
        *size, own_channels = clip_data.Shards(shards).shape
    elif image_size:
        size, own_channels = image_size, 3
    else:
        raise UserError(f"{what} are videos of any size: say which with --image-size, and --channels 1 for gray.")
    return (*(image_size or size), channels or own_channels)


# --------------------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Evaluation:
    """All that decides the numbers of a results file."""

    predictor: Predictor
    clips: Clips
    protocol: Protocol
    seed: int = 0
    metrics: Sequence[str] = METRICS
    device: torch.device | str = "cpu"
    """Where the predictor is, and where its predictions are measured."""
    cache: Path | None = None
    """Folder that keeps the true clips' features for FVD from one evaluation to the next."""

    def __post_init__(self) -> None:
        unknown = set(self.metrics) - set(METRICS)
        if unknown or not self.metrics:
            raise UserError(
                f"metrics must be some of {', '.join(METRICS)}, not {', '.join(sorted(unknown)) or 'none'}."
            )

    @property
    def trajectories(self) -> int:
        """Predictions of a clip: one for all where all are the same."""
        return self.protocol.trajectories if self.predictor.random else 1

    def settings(self) -> dict:
        """As JSON values, for the results file and to know an evaluation again."""
        p = self.protocol
        protocol = {
            name: getattr(p, name) for name in ("name", "what", "context", "frames", "trajectories", "fvd_observed")
        }
        measures = {name: p.measures[name].what for name in PAIRWISE if name in self.metrics}
        settings = {
            "model": {"name": self.predictor.name, **self.predictor.about},
            "data": {
                "name": self.clips.name,
                "split": self.clips.split,
                "shape": list(self.clips.shape),
                "clips": len(self.clips),
            },
            "protocol": {**protocol, "measures": measures},
            "trajectories": self.trajectories,
            "sampler": p.sampler if self.predictor.random else None,
            "steps": p.steps if self.predictor.random else None,
            "spacing": p.spacing if self.predictor.random else None,
            "seed": self.seed,
            "stride": self.clips.stride,
            "metrics": [name for name in METRICS if name in self.metrics],
        }
        return json.loads(json.dumps(settings))  # JSON has lists where configs have tuples

    def judge(self, positions: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Predict these clips together; the values of each, arrays by name."""
        p, n, k = self.protocol, self.trajectories, self.protocol.context
        pixels = [self.clips.data[self.clips.indices[position]] for position in positions]
        true = from_uint8(torch.stack(pixels).to(self.device))
        generators = [
            generator_for(self.seed, self.clips.indices[position], trajectory)
            for position in positions
            for trajectory in range(n)
        ]
        started = time.perf_counter()
        predicted = self.predictor.predict(true[:, :k].repeat_interleave(n, 0), p.frames, generators)
        if predicted.is_cuda:
            torch.cuda.synchronize(predicted.device)
        seconds = (time.perf_counter() - started) / len(positions)
        if predicted.shape[1:] != true.shape[1:]:
            raise UserError(
                f"{self.predictor.name} predicts {tuple(predicted.shape[1:])} where the clips are "
                f"{tuple(true.shape[1:])}: it does not fit these data."
            )
        if not predicted.isfinite().all():
            raise UserError(
                f"{self.predictor.name} predicts NaN for clip {self.clips.place(positions[0])} or one after it: the "
                "weights or the sampler's settings are broken."
            )
        values: dict[str, Tensor] = {}
        repeated = true.repeat_interleave(n, 0)
        for name in PAIRWISE:
            if name in self.metrics:
                values[name] = p.measures[name].per_frame(predicted[:, k:], repeated[:, k:]).unflatten(0, (-1, n))
        if "fvd" in self.metrics:
            first = 0 if p.fvd_observed else k
            values["real"] = metrics.video_features(true[:, first:], cache=self.cache)
            values["fake"] = metrics.video_features(predicted[:, first:]).unflatten(0, (-1, n))
        if "diversity" in self.metrics and n > 1:
            values["diversity"] = metrics.diversity(predicted[:, k:].unflatten(0, (-1, n)).transpose(0, 1))
        return [
            {name: of_all[i].cpu().numpy() for name, of_all in values.items()}
            | {"seconds": np.array(seconds), "content": np.array(_checksum(pixels[i]))}
            for i in range(len(positions))
        ]


@dataclass(frozen=True)
class Done:
    """How far an evaluation has come, all processes together."""

    clips: int
    of: int


def count_judged(out: Path) -> int:
    """How many clips of an evaluation that goes to ``out`` are done."""
    return sum(1 for _ in _parts(out).glob("[0-9]*.npz"))


def evaluate(evaluation: Evaluation, out: Path, *, batch: int = 4, share: Share = WHOLE) -> Iterator[Done]:
    """Judge the clips that are not judged yet, ``batch`` at a time, and yield after each batch.

    Every clip becomes a file in a folder beside ``out``, which ``gather`` makes the results of. To stop, stop
    iterating; the same call goes on. Processes take a ``share`` each and must see the same folder.
    """
    if batch < 1:
        raise UserError(f"batch must be at least 1, not {batch}.")
    folder, note, of = _parts(out), _parts(out) / "settings.json", len(evaluation.clips)
    settings = evaluation.settings()
    if note.exists():
        _check_same(json.loads(note.read_text()), settings, folder)
        for position in range(of):
            if _whole(_part(out, position)):
                with np.load(_part(out, position)) as part:
                    _check_content(int(part["content"]), evaluation.clips, position, folder)
    # whole batches are shared out: what is computed together does not depend on the number of processes
    for positions in share([range(first, min(first + batch, of)) for first in range(0, of, batch)]):
        if not all(_whole(_part(out, position)) for position in positions):
            judged = evaluation.judge(positions)
            if not note.exists():
                write_json(note, settings)
            for position, values in zip(positions, judged, strict=True):
                with draft(_part(out, position)) as part:
                    np.savez(part, **values)
        yield Done(count_judged(out), of)


def gather(evaluation: Evaluation, out: Path, machine: Machine) -> dict:
    """The results, once all clips are judged; written to ``out``, and the clips' files removed."""
    folder = _parts(out)
    clips = []
    if not all(_whole(_part(out, position)) for position in range(len(evaluation.clips))):
        raise UserError(f"{folder} lacks clips: put it where all processes can write, and start again.")
    for position in range(len(evaluation.clips)):
        with np.load(_part(out, position)) as file:
            clips.append(dict(file))
    results = results_of(evaluation, clips, machine)
    write_json(out, results)
    shutil.rmtree(folder)
    return results


def finished(evaluation: Evaluation, out: Path) -> dict | None:
    """The results in ``out``, if they are there and of this evaluation; ``UserError`` if they are of another."""
    if out.suffix != ".json":
        raise UserError(f"{out} must be a .json file: results are written as JSON.")
    if not out.exists():
        return None
    results = read_results(out)
    _check_same(results["settings"], evaluation.settings(), out)
    for position, row in enumerate(results["clips"]):
        _check_content(row["content"], evaluation.clips, position, out)
    return results


def results_of(evaluation: Evaluation, clips: list[dict[str, np.ndarray]], machine: Machine) -> dict:
    """A results file's content, of what ``Evaluation.judge`` says of each clip."""
    protocol, n = evaluation.protocol, evaluation.trajectories
    summary, per_frame, notes = {}, {}, [*evaluation.clips.notes]
    rows = [
        {"clip": evaluation.clips.place(i), "content": int(clip["content"]), "seconds": _short(clip["seconds"])}
        for i, clip in enumerate(clips)
    ]
    for name in (name for name in PAIRWISE if name in evaluation.metrics):
        measure = protocol.measures[name]
        values = np.stack([clip[name] for clip in clips]).astype(np.float64)  # (clips, N, frames)
        whole = measure.over_frames(values)
        mean, best = whole.mean(1), np.array([MEASURES[name].best(group) for group in protocol.groups(whole)])
        summary[name] = {"mean": _with_interval(mean), "best": _with_interval(best)}
        curve = values.mean(1)
        per_frame[name] = {
            "mean": _short(curve.mean(0)),
            **dict(zip(("low", "high"), map(_short, zip(*map(bootstrap_interval, curve.T), strict=True)), strict=True)),
        }
        for row, value, best_value in zip(rows, mean, best, strict=True):
            row[name] = {"mean": _short(value), "best": _short(best_value)}
    if "diversity" in evaluation.metrics and (n > 1 or not evaluation.predictor.random):  # else nobody knows
        spread = np.array([clip.get("diversity", 0.0) for clip in clips], np.float64)
        summary["diversity"] = {"mean": _with_interval(spread)}
        for row, value in zip(rows, spread, strict=True):
            row["diversity"] = {"mean": _short(value)}
    if "fvd" in evaluation.metrics:
        summary["fvd"], note = _fvd(clips)
        notes += [note] if note else []
    if len(clips) < 20:
        notes.append(f"Intervals over {len(clips)} clips are too narrow: take 20 or more.")
    if n == 1 and protocol.trajectories > 1:
        notes.append("The prediction is always the same: one trajectory stands for all, and its best is its mean.")
    seconds = [float(clip["seconds"]) for clip in clips]
    return {
        "settings": evaluation.settings(),
        "summary": summary,
        "notes": notes,
        "seconds": {"prediction": _short(sum(seconds) / (len(seconds) * n)), "all": _short(sum(seconds))},
        "machine": machine,
        "per_frame": {"first": protocol.context + 1, **per_frame},
        "clips": rows,
    }


def _fvd(clips: list[dict[str, np.ndarray]]) -> tuple[dict, str]:
    real, fake = (torch.from_numpy(np.stack([clip[name] for clip in clips])) for name in ("real", "fake"))
    if len(clips) < 2:
        return {}, "FVD needs at least 2 clips."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the note says it
        distance = metrics.frechet_distance(real, fake)
    low, high = metrics.frechet_interval(real, fake)
    return {"mean": {"value": _short(distance), "low": _short(low), "high": _short(high)}}, metrics.too_few(len(clips))


# -------------------------------------------------------------------------------------------------- files and numbers


def _parts(out: Path) -> Path:
    """Where the clips that are done lie until all are."""
    return out.with_name(f"{out.name}.parts")


def _part(out: Path, position: int) -> Path:
    return _parts(out) / f"{position:06}.npz"


def _check_same(there: dict, wanted: dict, place: Path) -> None:
    # a model is told by its weights: a later version of lgcvd may say more of its config, and of the stride
    there = filled(there, {"stride": wanted["stride"]})
    different = differences(*(s | {"model": s["model"] | {"config": None, "about": None}} for s in (there, wanted)))
    if different:
        raise UserError(
            f"{place} is of another evaluation ({'; '.join(different[:3])}): choose another --out, or remove it."
        )


def _check_content(there: int, clips: Clips, position: int, place: Path) -> None:
    """Data may have the same name and size and yet be others."""
    if clips.content(position) != there:
        raise UserError(
            f"{place} is of other clips: {clips.place(position)} is not what it was there; choose another --out, or "
            "remove it."
        )


def _whole(path: Path) -> bool:
    """Whether this clip is done; a file that a full disk cut short is not."""
    return path.exists() and zipfile.is_zipfile(path)


def _short(value: float | np.ndarray | Sequence[float]) -> float | list[float]:
    """Six digits are more than any of these numbers is worth."""
    rounded = [float(f"{number:.6g}") for number in np.ravel(value)]
    return rounded if np.ndim(value) else rounded[0]


def _with_interval(per_clip: np.ndarray) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), map(_short, mean_with_interval(per_clip)), strict=True))
