"""Answers that take no model, and how close answers come to the truth."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

import torch
from torch import Tensor

from lgcvd import metrics
from lgcvd.baselines import flow_extrapolation
from lgcvd.commands.tasks import Material
from lgcvd.context import TASKS

BASIC = {"copy-last-frame": "copy", "mean-frame": "average", "blank-frame": "black", "optical-flow": "flow"}
"""Baseline -> what it is called in films and curves: never like a panel of several futures."""
ALWAYS = ("copy-last-frame", "blank-frame")
"""Those of them that are in every curve."""

COLOURS = {
    **{"prediction": "#0ea5e9", "copy": "#f59e0b", "black": "#94a3b8", "flow": "#10b981", "average": "#a16207"},
    **{"best": "#0ea5e9", "worst": "#1e3a8a", "mean": "#0f766e"},
    **{"mcvd-concat": "#dc2626", "mcvd-spatin": "#8b5cf6"},
}
"""Of the answers."""
MORE_COLOURS = ("#db2777", "#4d7c0f", "#7c2d12")
"""Of models that have none among those."""


def without_model(names: Sequence[str], material: Material) -> dict[str, Tensor]:
    """Films (T, C, H, W) in [-1, 1] of the baselines among ``names`` that can do the task."""
    seen, options = material.observed, material.options
    task = options.get("task", "infill" if "known" in options else "predict")
    if seen is None:
        return {}
    new = options.get("num_frames", len(seen))
    given = options.get("known") or TASKS[task].known(len(seen), new)
    known = [index for index, there in enumerate(given) if there]
    films = {"blank-frame": torch.full((len(given), *seen.shape[1:]), -1.0)}
    if known:
        nearest = [min(range(len(known)), key=lambda k, i=index: abs(known[k] - i)) for index in range(len(given))]
        films |= {"copy-last-frame": seen[nearest], "mean-frame": seen.mean(0).repeat(len(given), 1, 1, 1)}
        for film in films.values():
            film[known] = seen
    if task in ("predict", "animate", "past") and "optical-flow" in names:
        turn = (0,) if task == "past" else ()
        films["optical-flow"] = flow_extrapolation(seen.flip(turn)[None], new)[0].flip(turn)
    return {name: films[name] for name in names if name in films}


def frame_scores(truth: Tensor, answers: dict[str, Tensor], given: Sequence[bool]) -> dict[str, list] | None:
    """PSNR and SSIM of every frame that ``answers`` show, to the last new one that has a truth; given ones have none.

    Films are (T, C, H, W) in [-1, 1]. The columns of a table: frame, PSNR, SSIM, answer; None where fewer than two new
    frames have a truth.
    """
    new = [index for index, there in enumerate(given) if not there and index < len(truth)]
    if len(new) < 2:  # a point is no curve
        return None
    frames, places = [], []
    for index in range(new[0], new[-1] + 1):
        alone = index in new and {index - 1, index + 1}.isdisjoint(new)  # a dash: lines break where frames were given
        for frame in (index + 0.8, index + 1.2) if alone else (index + 1,):
            frames.append(frame)
            places.append(new.index(index) if index in new else -1)

    def curves(score: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
        scores = [[*score(truth[None, new], film[None, new])[0].tolist(), float("nan")] for film in answers.values()]
        return [curve[place] for curve in scores for place in places]

    return {
        "frame": frames * len(answers),
        "PSNR": curves(metrics.psnr),
        "SSIM": curves(metrics.ssim),
        "answer": [name for name in answers for _ in frames],
    }


def colour_of(answer: str) -> str:
    """The same for a name whenever it is shown."""
    return COLOURS.get(answer) or MORE_COLOURS[crc32(answer.encode()) % len(MORE_COLOURS)]


def legend_of(answers: Iterable[str]) -> str:
    """Names and colours of the curves as HTML: the plots' own legend is cut off where it is wider than they are."""
    keys = (f'<span><i style="background: {colour_of(name)}"></i>{html.escape(name)}</span>' for name in answers)
    return f'<div class="legend">{"".join(keys)}</div>'
