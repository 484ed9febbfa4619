"""Samplers: quality against the number of steps, and against seconds; and where the steps had best lie.

    python benchmarks/samplers.py --data PATH/pushing --out docs

Every sampler predicts the same test clips with 2 to 100 steps a window, from the same noise. PSNR, SSIM and LPIPS say
how near each film comes to the one true future, FVD how near the films come to true ones as a set. With ``--out``, the
tables take the place of those in samplers.md there, and samplers.png is drawn anew.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from plain import machine_line, random_model
from torch import Tensor

import lgcvd
from lgcvd import PRESETS, SAMPLERS, VideoDenoiser
from lgcvd.config import DEFAULT_MODEL
from lgcvd.evaluation import open_clips
from lgcvd.metrics import frechet_distance, of_frames, video_features
from lgcvd.progress import progress_bar
from lgcvd.sampling import DEFAULT_SPACING, SPACINGS
from lgcvd.video import draft, from_uint8

STEPS = (2, 4, 6, 8, 10, 15, 20, 50, 100)
NAMES = tuple(name for name in SAMPLERS if name != "euler")
"""Without euler, whose numbers are those of ddim."""
SPACING_STEPS = (4, 6, 8, 10)
REFERENCE = ("ddpm", "ends", 100)
"""What the authors' released code does."""
NEAR = 0.02
"""A row is as good as the reference if no measure is worse by more than this share."""
AGAIN = "the same, other noise"
"""What it does with other noise: differences that are no larger mean nothing."""
BATCH = 16
HEADER = "steps | asked | PSNR, dB | SSIM | LPIPS | FVD | CPU s | worst measure |"


@dataclass(frozen=True)
class Row:
    """What came of one sampler with one number of steps."""

    sampler: str
    spacing: str
    steps: int
    measures: dict[str, float]
    """psnr and ssim, the more the better; lpips and fvd, the less."""
    seconds: float

    @property
    def asked(self) -> int:
        """Times that the network was asked, a window."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps

    def worse_than(self, other: Row) -> float:
        """Share by which its worst measure is worse; negative if all are better."""
        ratios = {name: value / max(other.measures[name], 1e-9) - 1 for name, value in self.measures.items()}
        return max(-ratio if name in ("psnr", "ssim") else ratio for name, ratio in ratios.items())

    def cells(self, reference: Row) -> str:
        m = self.measures
        numbers = f"{self.steps} | {self.asked} | {m['psnr']:.2f} | {m['ssim']:.3f} | {m['lpips']:.3f} | {m['fvd']:.0f}"
        return f"{numbers} | {self.seconds:.1f} | {self.worse_than(reference):+.1%} |"


def measure(model: VideoDenoiser, truth: Tensor, sampler: str, spacing: str, steps: int, seed: int = 0) -> Row:
    """Predict what follows the first K frames of ``truth`` (B, T, C, H, W), and compare the new frames."""
    k = model.context_frames
    started, films = time.process_time(), []
    for index, clips in enumerate(truth.split(BATCH)):
        seeds = lgcvd.seeded(*range(seed + index * BATCH, seed + index * BATCH + len(clips)))
        options = {"sampler": sampler, "spacing": spacing, "steps": steps, "generator": seeds}
        films.append(lgcvd.predict(model, clips[:, :k], truth.shape[1] - k, **options))
    seconds = time.process_time() - started
    new, true = torch.cat(films)[:, k:], truth[:, k:]
    measures = {name: values.mean().item() for name, values in of_frames(new, true).items()}
    with warnings.catch_warnings(action="ignore"):  # of too few clips, which the page speaks of
        measures["fvd"] = frechet_distance(video_features(true), video_features(new))
    return Row(sampler, spacing, steps, measures, seconds)


def tables(rows: dict[tuple[str, str, int], Row], again: Row, settings: str) -> str:
    """Both tables and what follows from them, as Markdown."""
    reference = rows[REFERENCE]
    lines = ["", f"| sampler | {HEADER}", "|---" * 9 + "|", f"| {REFERENCE[0]}, {REFERENCE[1]} | "]
    lines[-1] += reference.cells(reference)
    lines.append(f"| {AGAIN} | {again.cells(reference)}")
    main = [row for key, row in rows.items() if row.spacing == DEFAULT_SPACING]
    lines += [f"| {row.sampler} | {row.cells(reference)}" for row in main]
    near = sorted((row for row in rows.values() if row.worse_than(reference) <= NEAR), key=lambda row: row.asked)
    best = f"{near[0].sampler}, {near[0].spacing}, {near[0].steps} steps" if near else "none"
    lines += ["", f"Fewest questions to the network within {NEAR:.0%} of the first row on every measure: **{best}**."]
    others = [row for row in rows.values() if row.steps in SPACING_STEPS and row.spacing in SPACINGS]
    if len({row.spacing for row in others}) > 1:
        lines += ["", "Where the steps lie:", "", f"| sampler | spacing | {HEADER}", "|---" * 10 + "|"]
        others.sort(key=lambda row: (row.sampler, row.steps))
        lines += [f"| {row.sampler} | {row.spacing} | {row.cells(reference)}" for row in others]
    return "\n".join([*lines, "", settings, ""])


def figure(rows: dict[tuple[str, str, int], Row]):
    """Every measure against the questions to the network and against seconds, as a matplotlib figure."""
    from matplotlib.figure import Figure

    names = {"psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS, less is better", "fvd": "FVD, less is better"}
    picture = Figure(figsize=(17, 7), layout="constrained")
    axes = picture.subplots(2, len(names))
    for line, (x, label) in enumerate((("asked", "times the network is asked, a window"), ("seconds", "CPU seconds"))):
        for column, (y, name) in enumerate(names.items()):
            panel = axes[line][column]
            for sampler in NAMES:
                curve = [r for r in rows.values() if r.sampler == sampler and r.spacing == DEFAULT_SPACING]
                panel.plot([getattr(r, x) for r in curve], [r.measures[y] for r in curve], ".-", label=sampler)
            panel.axhline(rows[REFERENCE].measures[y], color="gray", linestyle=":", label="ddpm, 100 steps")
            panel.set(xscale="log", xlabel=label, ylabel=name)
            panel.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
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
    parser.add_argument("--quick", action="store_true", help="a small random network, to see that this script works")
    parser.add_argument("--out", type=Path, help="folder of samplers.md, whose tables are replaced, and samplers.png")
    options = parser.parse_args()
    model = random_model(replace(PRESETS["digits-64"].model, dim=8)) if options.quick else lgcvd.load(options.model)
    shape, frames = (*model.config.image_size, model.config.channels), model.context_frames + options.frames
    clips = open_clips(options.data, frames=frames, clips=options.clips, seed=0, shape=shape, split=options.split)
    truth = from_uint8(torch.stack([clips.data[index] for index in clips.indices]))

    wanted = [REFERENCE] + [(name, DEFAULT_SPACING, steps) for name in options.only for steps in options.steps]
    few = [steps for steps in SPACING_STEPS if steps in options.steps]
    wanted += [(name, s, n) for s in options.spacings for name in options.only if name != "ddpm" for n in few]
    wanted = list(dict.fromkeys(wanted))
    lgcvd.predict(model, truth[:1, : model.context_frames], 1, steps=2)  # loads diffusers, warms the network up
    rows = {}
    with progress_bar(total=sum(steps for *_, steps in [REFERENCE, *wanted]), unit="step") as bar:
        again = measure(model, truth, *REFERENCE, seed=options.clips)
        bar.update(REFERENCE[-1])
        for key in wanted:
            rows[key] = measure(model, truth, *key)
            bar.update(key[-1])
    made_by = "a random network" if options.quick else options.model
    settings = (
        f"{options.clips} {options.split} clips of {clips.name}, {options.frames} new frames each, by {made_by}; CPU "
        f"seconds for all of them. {machine_line()}"
    )
    text = tables(rows, again, settings)
    print(text)
    if options.out:
        page = options.out / "samplers.md"
        begin, end = "<!-- tables -->", "<!-- end of tables -->"
        replaced = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", page.read_text(), flags=re.S)
        with draft(page) as part:
            part.write_text(replaced)
        figure(rows).savefig(options.out / "samplers.png", dpi=110)


if __name__ == "__main__":
    main()
