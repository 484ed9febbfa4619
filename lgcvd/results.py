"""Results files of ``lgcvd evaluate``: what is in them for those who read them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypedDict

from lgcvd.checks import fits
from lgcvd.errors import UserError
from lgcvd.measures import PAIRWISE


class Data(TypedDict):
    name: str
    split: str
    clips: int


class Judged(TypedDict):
    """The protocol."""

    name: str
    what: str
    context: int
    frames: int
    measures: dict[str, str]


class Model(TypedDict):
    name: str


class Settings(TypedDict):
    model: Model
    data: Data
    protocol: Judged
    trajectories: int
    sampler: str | None
    steps: int | None
    seed: int


class Interval(TypedDict):
    value: float
    low: float
    high: float


class Seconds(TypedDict):
    prediction: float


class Machine(TypedDict):
    processor: str
    threads: int
    device: str
    torch: str


class Curve(TypedDict):
    """A value a frame."""

    mean: list[float]
    low: list[float]
    high: list[float]


class OfClip(TypedDict):
    """Over the trajectories of a clip."""

    mean: float
    best: float


Curves = TypedDict("Curves", {"first": int} | dict.fromkeys(PAIRWISE, NotRequired[Curve]))
Clip = TypedDict("Clip", {"content": int} | dict.fromkeys(PAIRWISE, NotRequired[OfClip]))


class Results(TypedDict):
    """A results file, as far as something reads it again; what is measured clip by clip is there for all of them."""

    settings: Settings
    summary: dict[str, dict[str, Interval]]
    """Measure -> "mean" or "best" -> its value."""
    notes: list[str]
    seconds: Seconds
    machine: Machine
    per_frame: Curves
    clips: list[Clip]


def read_results(path: Path) -> dict:
    """The content of a results file, see ``Results``; ``UserError`` if there is none or the file is another one."""
    try:
        results = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"there are no results {path}: make them with lgcvd evaluate.") from error
    except (ValueError, OSError, RecursionError):
        results = None
    if not fits(results, Results) or not results["clips"] or not _whole(results):
        raise UserError(f"{path} is no results file of lgcvd evaluate: check the name.")
    return results


def _whole(results: dict) -> bool:
    """Whether every clip has all that the summary sums up of clips."""
    measured = results["summary"].keys() & {*PAIRWISE}
    return all(measured <= clip.keys() for clip in results["clips"])
