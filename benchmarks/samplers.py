"""Samplers: quality against the number of steps, and against seconds; and where the steps had best lie.

    python benchmarks/samplers.py --out docs

Every sampler predicts the same test clips of moving digits with 2 to 100 steps a window, from the same noise. Three
measures: PSNR and SSIM, how near each film comes to the one true future; and the Fréchet distance of the frames in the
eyes of the digit classifier, how near they come to true ones as a whole, which sees blur that PSNR rewards. With
``--out``, the tables take the place of those in samplers.md there, and samplers.png is drawn anew.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from plain import machine_line, random_model
from torch import Tensor

import lgcvd
from lgcvd import PRESETS, SAMPLERS, MovingDigits, VideoDenoiser
from lgcvd.digit_classifier import shipped_classifier
from lgcvd.digits import CANVAS
from lgcvd.metrics import frechet_distance, psnr, ssim
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
BATCH = 16
HEADER = "steps | asked | PSNR, dB | SSIM | Fréchet distance | CPU s | worst measure |"


@dataclass(frozen=True)
class Row:
    """What came of one sampler with one number of steps."""

    sampler: str
    spacing: str
    steps: int
    psnr: float
    ssim: float
    distance: float
    seconds: float

    @property
    def asked(self) -> int:
        """Times that the network was asked, a window."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps

    def worse_than(self, other: Row) -> float:
        """Share by which its worst measure is worse; negative if all are better."""
        return max(
            1 - self.psnr / other.psnr, 1 - self.ssim / other.ssim, self.distance / max(other.distance, 1e-9) - 1
        )

    def cells(self, reference: Row) -> str:
        numbers = f"{self.steps} | {self.asked} | {self.psnr:.2f} | {self.ssim:.3f} | {self.distance:.4f}"
        return f"{numbers} | {self.seconds:.1f} | {self.worse_than(reference):+.1%} |"


@torch.no_grad()
def distribution_distance(films: Tensor, true: Tensor) -> float:
    """Fréchet distance of what a digit classifier sees in the frames of both (B, T, 1, H, W): 0 or more.

    A frame's features are the surest score of each of the ten digits, anywhere in it: they are low where digits are
    blurred or deformed, whatever place they are in.
    """
    features = []
    for clips in (films, true):
        frames = F.interpolate(clips.flatten(0, 1), (CANVAS, CANVAS), mode="area")
        features.append(torch.cat([shipped_classifier()(part).amax((2, 3)) for part in frames.split(64)]))
    return frechet_distance(*features)


def measure(model: VideoDenoiser, truth: Tensor, sampler: str, spacing: str, steps: int) -> Row:
    """Predict what follows the first K frames of ``truth`` (B, T, C, H, W), and compare."""
    k = model.context_frames
    started, films = time.process_time(), []
    for index, clips in enumerate(truth.split(BATCH)):
        seeds = lgcvd.seeded(*range(index * BATCH, index * BATCH + len(clips)))
        options = {"sampler": sampler, "spacing": spacing, "steps": steps, "generator": seeds}
        films.append(lgcvd.predict(model, clips[:, :k], truth.shape[1] - k, **options))
    seconds = time.process_time() - started
    new, true = torch.cat(films)[:, k:], truth[:, k:]
    near = (psnr(new, true).mean().item(), ssim(new, true).mean().item())
    return Row(sampler, spacing, steps, *near, distribution_distance(new, true), seconds)


def tables(rows: dict[tuple[str, str, int], Row], settings: str) -> str:
    """Both tables and what follows from them, as Markdown."""
    reference = rows[REFERENCE]
    lines = ["", f"| sampler | {HEADER}", "|---" * 8 + "|", f"| {REFERENCE[0]}, {REFERENCE[1]} | "]
    lines[-1] += reference.cells(reference)
    main = [row for key, row in rows.items() if row.spacing == DEFAULT_SPACING]
    lines += [f"| {row.sampler} | {row.cells(reference)}" for row in main]
    near = sorted((row for row in rows.values() if row.worse_than(reference) <= NEAR), key=lambda row: row.asked)
    best = f"{near[0].sampler}, {near[0].spacing}, {near[0].steps} steps" if near else "none"
    lines += ["", f"Fewest questions to the network within {NEAR:.0%} of the first row on every measure: **{best}**."]
    others = [row for row in rows.values() if row.steps in SPACING_STEPS and row.spacing in SPACINGS]
    if len({row.spacing for row in others}) > 1:
        lines += ["", "Where the steps lie:", "", f"| sampler | spacing | {HEADER}", "|---" * 9 + "|"]
        others.sort(key=lambda row: (row.sampler, row.steps))
        lines += [f"| {row.sampler} | {row.spacing} | {row.cells(reference)}" for row in others]
    return "\n".join([*lines, "", settings, ""])


def figure(rows: dict[tuple[str, str, int], Row]):
    """Every measure against the questions to the network and against seconds, as a matplotlib figure."""
    from matplotlib.figure import Figure

    names = {"psnr": "PSNR, dB", "ssim": "SSIM", "distance": "Fréchet distance, less is better"}
    picture = Figure(figsize=(13, 7), layout="constrained")
    axes = picture.subplots(2, 3)
    for line, (x, label) in enumerate((("asked", "times the network is asked, a window"), ("seconds", "CPU seconds"))):
        for column, (y, name) in enumerate(names.items()):
            panel = axes[line][column]
            for sampler in NAMES:
                curve = [r for r in rows.values() if r.sampler == sampler and r.spacing == DEFAULT_SPACING]
                panel.plot([getattr(r, x) for r in curve], [getattr(r, y) for r in curve], ".-", label=sampler)
            reference = getattr(rows[REFERENCE], y)
            panel.axhline(reference, color="gray", linestyle=":", label="ddpm, 100 steps")
            panel.set(xscale="log", xlabel=label, ylabel=name)
            panel.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="moving-digits", help="a gray model of squares that 64 divides into")
    parser.add_argument("--clips", type=int, default=32, help="test clips")
    parser.add_argument("--frames", type=int, default=8, help="new frames a clip")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="numbers of steps")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="some samplers only")
    parser.add_argument("--spacings", nargs="*", choices=list(SPACINGS), default=list(SPACINGS), help="to compare")
    parser.add_argument("--quick", action="store_true", help="a tiny network, to see that this script works")
    parser.add_argument("--out", type=Path, help="folder of samplers.md, whose tables are replaced, and samplers.png")
    options = parser.parse_args()
    model = random_model(PRESETS["tiny"].model) if options.quick else lgcvd.load(options.model)
    data = MovingDigits(
        "test", options.clips, model.context_frames + options.frames, image_size=model.config.image_size[0]
    )
    truth = from_uint8(torch.stack([data[i] for i in range(options.clips)]))

    wanted = [REFERENCE] + [(name, DEFAULT_SPACING, steps) for name in options.only for steps in options.steps]
    few = [steps for steps in SPACING_STEPS if steps in options.steps]
    wanted += [(name, s, n) for s in options.spacings for name in options.only if name != "ddpm" for n in few]
    wanted = list(dict.fromkeys(wanted))
    lgcvd.predict(model, truth[:1, : model.context_frames], 1, steps=2)  # loads diffusers, warms the network up
    rows = {}
    with progress_bar(total=sum(steps for *_, steps in wanted), unit="step") as bar:
        for key in wanted:
            rows[key] = measure(model, truth, *key)
            bar.update(key[-1])
    settings = (
        f"{options.clips} test clips of moving digits, {options.frames} new frames each, by "
        f"{'a tiny network' if options.quick else options.model}; CPU seconds for all of them. {machine_line()}"
    )
    text = tables(rows, settings)
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
