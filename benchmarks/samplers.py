"""Samplers: quality against the number of steps, and against seconds; and where the steps had best lie.

    python benchmarks/samplers.py --data PATH/pushing --out docs

Every sampler predicts the same test clips with 2 to 100 steps a window, from the same noise; so do models that are
``--distilled`` from the same one, as they are meant to be sampled. PSNR, SSIM and LPIPS say how near each film comes to
the one true future, FVD how near the films come to true ones as a set. With ``--out``, the tables take the place of
those in samplers.md there, samplers.png is drawn anew, and what is measured is kept in samplers.json: the same command
goes on with it, and more samplers, steps or models can be added.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from plain import machine_line, random_model
from torch import Tensor

import lgcvd
from lgcvd import PRESETS, SAMPLERS, VideoDenoiser
from lgcvd.config import DEFAULT_MODEL
from lgcvd.evaluation import of_model, open_clips
from lgcvd.files import draft, write_json
from lgcvd.measures import MEASURES, PAIRWISE
from lgcvd.metrics import frechet_distance, of_frames, video_features
from lgcvd.program import run_as_program
from lgcvd.progress import progress_bar
from lgcvd.reports import legend_below, markdown_table
from lgcvd.sampling import DEFAULT_SPACING, SPACINGS
from lgcvd.video import from_uint8

STEPS = (2, 4, 6, 8, 10, 15, 20, 50, 100)
NAMES = tuple(name for name in SAMPLERS if name != "euler")
"""Without euler, whose numbers are those of ddim."""
SPACING_STEPS = (2, 4, 6, 8, 10)
NEAR = 0.02
"""A row is as good as the reference if no measure is worse by more than this share."""
BATCH = 16
JUDGED = {name: MEASURES[name] for name in (*PAIRWISE, "fvd")}
"""What is measured of every setting."""
HEADER = ["steps", "asked", *(measure.title for measure in JUDGED.values()), "CPU s", "worst measure"]


@dataclass(frozen=True)
class Setting:
    """How films are made."""

    sampler: str
    spacing: str
    steps: int
    seed: int = 0
    """The noise."""
    distilled: bool = False
    """Whether by a model that was distilled to so many steps."""


REFERENCE = Setting("ddpm", "ends", 100)
"""What the authors' released code does."""
AGAIN = replace(REFERENCE, seed=1)
"""The same with other noise: differences that are no larger mean nothing."""


@dataclass(frozen=True)
class Row:
    """What came of a setting."""

    setting: Setting
    measures: dict[str, float]
    """Of ``JUDGED``."""
    seconds: float

    @property
    def asked(self) -> int:
        """Times that the network was asked, a window."""
        steps = self.setting.steps
        return 2 * steps - 1 if self.setting.sampler == "heun" else steps

    def worse_than(self, other: Row) -> float:
        """Share by which its worst measure is worse; negative if all are better."""
        ratios = {name: value / max(other.measures[name], 1e-9) - 1 for name, value in self.measures.items()}
        return max(-ratio if JUDGED[name].higher_is_better else ratio for name, ratio in ratios.items())

    def cells(self, reference: Row) -> list[object]:
        """Under ``HEADER``."""
        numbers = [measure.told(self.measures[name]) for name, measure in JUDGED.items()]
        worse = (
            "-" if self.setting == reference.setting else f"{self.worse_than(reference):+.1%}".replace("-0.0", "0.0")
        )
        return [self.setting.steps, self.asked, *numbers, f"{self.seconds:.1f}", worse]


def measure(model: VideoDenoiser, truth: Tensor, setting: Setting) -> Row:
    """Predict what follows the first K frames of ``truth`` (B, T, C, H, W), and compare the new frames."""
    k, first = model.context_frames, setting.seed * len(truth)
    options = {name: getattr(setting, name) for name in ("sampler", "spacing", "steps")}
    started, films = time.process_time(), []
    for index, clips in enumerate(truth.split(BATCH)):
        seeds = range(first + index * BATCH, first + index * BATCH + len(clips))
        films.append(lgcvd.predict(model, clips[:, :k], truth.shape[1] - k, generator=lgcvd.seeded(*seeds), **options))
    seconds = time.process_time() - started
    new, true = torch.cat(films)[:, k:], truth[:, k:]
    measures = {name: values.mean().item() for name, values in of_frames(new, true).items()}
    with warnings.catch_warnings(action="ignore"):  # of too few clips, which the page speaks of
        measures["fvd"] = frechet_distance(video_features(true), video_features(new))
    return Row(setting, measures, seconds)


def kept(path: Path, settings: dict[str, str]) -> dict[Setting, Row]:
    """What an earlier run with the same ``settings`` has measured and left in ``path``."""
    if not path.exists():
        return {}
    there = json.loads(path.read_text())
    if there["settings"] != settings:
        raise SystemExit(f"{path} is of {there['settings']}, not of {settings}: use another --out, or remove it.")
    rows = [Row(**row | {"setting": Setting(**row["setting"])}) for row in there["rows"]]
    return {row.setting: row for row in rows}


def tables(rows: dict[Setting, Row], words: str) -> str:
    """Both tables and what follows from them, as Markdown."""
    reference = rows[REFERENCE]
    plain = [row for row in rows.values() if not row.setting.distilled]
    main = [row for row in plain if row.setting.spacing == DEFAULT_SPACING]
    named = [(f"{REFERENCE.sampler}, {REFERENCE.spacing}", reference), ("the same, other noise", rows[AGAIN])]
    named += [(row.setting.sampler, row) for row in sorted(main, key=_order)]
    distilled = [row for row in rows.values() if row.setting.distilled]
    named += [(f"distilled, {row.setting.sampler}, {row.setting.spacing}", row) for row in distilled]
    lines = ["", f"Where a row names no other spacing it is `{DEFAULT_SPACING}`.", ""]
    lines += [markdown_table(["sampler", *HEADER], ([name, *row.cells(reference)] for name, row in named))]
    near = sorted((row for row in plain if row.worse_than(reference) <= NEAR), key=lambda row: row.asked)
    best = "{0.sampler}, {0.spacing}, {0.steps} steps".format(near[0].setting) if near else "none"
    lines += ["", f"Fewest questions to the network within {NEAR:.0%} of the first row on every measure: **{best}**."]
    few = sorted((row for row in plain if row.setting.steps in SPACING_STEPS), key=_order)
    spaced = ([row.setting.sampler, row.setting.spacing, *row.cells(reference)] for row in few)
    lines += ["", "Where the steps lie:", "", markdown_table(["sampler", "spacing", *HEADER], spaced)]
    return "\n".join([*lines, "", words, ""])


def _order(row: Row) -> tuple[int, int, int]:
    setting = row.setting
    return NAMES.index(setting.sampler), setting.steps, list(SPACINGS).index(setting.spacing)


def figure(rows: dict[Setting, Row], clips: int):
    """Every measure against the questions to the network and against seconds, as a matplotlib figure."""
    from matplotlib.figure import Figure

    seconds = f"CPU seconds for {clips} films"
    picture = Figure(figsize=(17, 7), layout="constrained")
    axes = picture.subplots(2, len(JUDGED))
    for line, (x, label) in enumerate((("asked", "times the network is asked, a window"), ("seconds", seconds))):
        for panel, (y, judged) in zip(axes[line], JUDGED.items(), strict=True):
            name = judged.title if judged.higher_is_better else f"{judged.title}, less is better"
            for sampler in NAMES:
                curve = sorted(
                    (r for s, r in rows.items() if (s.sampler, s.spacing) == (sampler, DEFAULT_SPACING)), key=_order
                )
                panel.plot([getattr(r, x) for r in curve], [r.measures[y] for r in curve], ".-", label=sampler)
            for row in (row for setting, row in rows.items() if setting.distilled):
                steps = row.setting.steps
                panel.plot(
                    getattr(row, x),
                    row.measures[y],
                    color="k",
                    linestyle="",
                    marker=f"${steps}$",
                    label=f"distilled, {row.setting.spacing}, {steps} steps",
                )
            named = f"{REFERENCE.sampler}, {REFERENCE.spacing}, {REFERENCE.steps} steps"
            panel.axhline(rows[REFERENCE].measures[y], color="gray", linestyle=":", label=named)
            panel.set(xscale="log", xlabel=label, ylabel=name)
            panel.grid(alpha=0.3)
    title = f"where no other spacing is named: {DEFAULT_SPACING}"
    legend_below(picture, axes[0][0], ncols=10, title=title)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a shipped model or a checkpoint folder")
    parser.add_argument("--data", required=True, help='what the model is for: "digits", or a folder')
    parser.add_argument("--split", default="validation", help="of the data")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--frames", type=int, default=16, help="new frames a clip")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="numbers of steps")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="some samplers only")
    parser.add_argument("--spacings", nargs="*", choices=list(SPACINGS), default=list(SPACINGS), help="to compare")
    parser.add_argument("--distilled", nargs="+", default=[], help="models of lgcvd distill, to compare")
    parser.add_argument("--quick", action="store_true", help="a small random network, to see that this script works")
    parser.add_argument("--out", type=Path, help="folder of samplers.md, samplers.png and samplers.json")
    options = parser.parse_args()
    model = random_model(replace(PRESETS["digits-64"].model, dim=8)) if options.quick else lgcvd.load(options.model)
    shape, frames = model.config.frame_shape, model.context_frames + options.frames
    clips = open_clips(options.data, frames=frames, clips=options.clips, seed=0, shape=shape, split=options.split)
    truth = from_uint8(torch.stack([clips.data[index] for index in clips.indices]))

    made_by = "a random network" if options.quick else options.model
    words = (
        f"{options.clips} {options.split} clips of {clips.name}, {options.frames} new frames each, by {made_by}; CPU "
        f"seconds for all of them. {machine_line()}"
    )
    settings = {"words": words, "weights": of_model(model).about["weights"]}
    results = options.out and options.out / "samplers.json"
    rows = kept(results, settings) if results else {}

    wanted = dict.fromkeys((REFERENCE, AGAIN), model)
    wanted |= {Setting(name, DEFAULT_SPACING, steps): model for name in options.only for steps in options.steps}
    few = [steps for steps in SPACING_STEPS if steps in options.steps]
    solvers = [name for name in options.only if name != "ddpm"]
    wanted |= {Setting(name, s, n): model for name in solvers for n in few for s in options.spacings}
    for distilled in map(lgcvd.load, options.distilled):
        wanted[Setting(**distilled.about.sampling, distilled=True)] = distilled
    wanted = {setting: its_model for setting, its_model in wanted.items() if setting not in rows}
    lgcvd.predict(model, truth[:1, : model.context_frames], 1, steps=2)  # loads diffusers, warms the network up
    with progress_bar(total=sum(setting.steps for setting in wanted), unit="step") as bar:
        for setting, its_model in wanted.items():
            rows[setting] = measure(its_model, truth, setting)
            if results:
                write_json(results, {"settings": settings, "rows": [asdict(row) for row in rows.values()]})
            bar.update(setting.steps)
    text = tables(rows, words)
    print(text)
    if options.out:
        page = options.out / "samplers.md"
        begin, end = "<!-- tables -->", "<!-- end of tables -->"
        replaced = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", page.read_text(), flags=re.S)
        with draft(page) as part:
            part.write_text(replaced)
        figure(rows, options.clips).savefig(options.out / "samplers.png", dpi=110)


if __name__ == "__main__":
    run_as_program(main)
