"""Answers that take no model, and how close answers come to the truth."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

from torch import Tensor

from lgcvd import metrics
from lgcvd.baselines import BASELINES, fill
from lgcvd.material import Material

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


def without_model(names: Iterable[str], material: Material) -> dict[str, Tensor]:
    """Films (T, C, H, W) in [-1, 1] of the baselines among ``names`` that can do the task."""
    if material.observed is None:
        return {}
    films = {name: fill(name, material.observed[None], material.known) for name in names if name in BASELINES}
    return {name: film[0] for name, film in films.items() if film is not None}


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
