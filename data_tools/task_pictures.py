"""A picture for each task, of the first example clip, by the command line: docs/tasks.

    python data_tools/task_pictures.py --model robot-pushing --out docs/tasks

The clips and seeds are the first ones, not chosen. A task that the model was not trained for gets no picture. Beside
the tasks: many futures, what the cross-attention reads, and the memories and guidance side by side.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

import lgcvd
from lgcvd.__main__ import main as command_line
from lgcvd.config import DEFAULT_MODEL
from lgcvd.examples import write_examples
from lgcvd.pictures import filmstrip, write_image
from lgcvd.program import run_as_program
from lgcvd.video import read_clip

TASKS = {
    "predict": ["--frames", "12"],
    "past": ["--frames", "8", "--start", "8"],
    "interpolate": ["--frames", "4"],
    "infill": ["--frames", "8", "--missing", "3", "6"],
    "slowmo": ["--frames", "3", "--factor", "4"],
    "generate": ["--frames", "12"],
    "animate": ["--frames", "9"],
    "reconstruct": ["--frames", "10", "--level", "0.7"],
}
"""Options of every verb."""
GUIDANCE = {"none": {}, "local 2": {"local_guidance": 2.0}, "memory 2": {"memory_guidance": 2.0}}


def task_strips(model: str, clip: Path, out: Path) -> list[str]:
    """Strips of the tasks that ``model`` can do; those it cannot, by name."""
    able = lgcvd.load(model).abilities
    runs = {name: [name, *options] for name, options in TASKS.items() if name in able}
    runs["futures"] = ["predict", "--frames", "12", "--futures", "8"]
    runs["inversion"] = ["reconstruct", *TASKS["reconstruct"], "--back", "inversion"]
    with tempfile.TemporaryDirectory() as folder:
        for name, (verb, *options) in runs.items():
            files = ["--strip", str(out / f"{name}.png"), "--out", str(Path(folder) / "film.mp4")]
            if name == "predict":
                files += ["--attention", str(out / "attention.png")]
            source = [] if verb == "generate" else [str(clip)]
            if code := command_line([verb, *source, "--model", model, *options, *files]):
                sys.exit(code)
    return [name for name in TASKS if name not in able]


def comparisons(model: lgcvd.VideoDenoiser, clip: torch.Tensor, out: Path) -> None:
    """The same noise under every memory, and under guidance."""
    observed, new = clip[None, : model.context_frames], len(clip) - model.context_frames

    def film(**options: object) -> torch.Tensor:
        return lgcvd.predict(model, observed, new, generator=lgcvd.seeded(7), **options)[0]

    for name, variants in (
        ("memories", {memory: {"memory": memory} for memory in lgcvd.MEMORIES}),
        ("guidance", GUIDANCE),
    ):
        rows = {variant: film(**options) for variant, options in variants.items()}
        write_image(out / f"{name}.png", filmstrip({"truth": clip} | rows, model.context_frames))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="of squares that 64 divides into")
    parser.add_argument("--out", type=Path, default=Path("docs/tasks"))
    options = parser.parse_args()
    model = lgcvd.load(options.model)
    channels = model.config.channels
    with tempfile.TemporaryDirectory() as folder:
        source = write_examples(Path(folder))[channels][0]
        clip = read_clip(source, model.config.image_size, channels).frames
        missing = task_strips(options.model, source, options.out)
    comparisons(model, clip[: model.context_frames + 16], options.out)
    if missing:
        print(f"{options.model} was not trained for {', '.join(missing)}: no picture")


if __name__ == "__main__":
    run_as_program(main)
