"""Train the models that come with lgcvd again, from the data, as their cards tell, and MCVD's under the same budget.

    python data_tools/train_weights.py                                  # all, and MCVD's beside them: days on a CPU
    python data_tools/train_weights.py robot-pushing --budget 0.1       # a tenth of the iterations
    python data_tools/train_weights.py robot-hands --data robot_hands --processes 2 -- --device cuda

What is behind -- goes to every ``lgcvd train``. Each command is printed before it runs; after a stop the same call goes
on. Weights come to --out/NAME in half precision; nothing that is shipped changes.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from lgcvd import load, save
from lgcvd.config import PRESETS, in_one_stage
from lgcvd.convert import main
from lgcvd.errors import UserError

BUDGETED = ("iterations", "single_stage", "cooldown", "warmup")
"""Training settings that ``--budget`` multiplies."""


@dataclass(frozen=True)
class Run:
    """One ``lgcvd train``."""

    iterations: int
    single_stage: int
    cooldown: int
    warmup: int = PRESETS["digits"].train.warmup
    """The small presets', unless it goes on from weights."""
    objective: str = "two_stage"
    options: str = ""
    """More of its options."""


@dataclass(frozen=True)
class Recipe:
    """How a shipped model is trained."""

    preset: str
    source: str
    """The name of the data, a colon, and what they are and whose."""
    licence: str
    runs: tuple[Run, ...]
    """Each begins with the weights of the one before."""
    begins_with: str = ""
    """A shipped model whose weights the first run begins with."""
    compared: int | None = None
    """How many of these runs MCVD's models, which it is compared with, are trained for; None: for all."""
    sampling: dict[str, str | int] = field(default_factory=dict)
    """How it is sampled unless someone says how: what was best on validation clips."""
    sampling_by_task: dict[str, dict[str, int]] = field(default_factory=dict)
    """Where a task wants it otherwise."""
    make: tuple[str, ...] = ()
    """The script that makes the data, and its options."""
    get: str = ""
    """Where to get data that nothing makes."""

    @property
    def data(self) -> str:
        return self.source.partition(":")[0]

    @property
    def told(self) -> str:
        """What the model was trained on, for its checkpoint."""
        return f"{self.source}; it began with the weights of {self.begins_with}" if self.begins_with else self.source


ROBOTS = "--flip --train.precision bfloat16 --model.motion 6 --model.motion-stride 2 --model.motion-sharpness 1.5"
"""What all runs for robots share."""
ALL_ESTIMATES = "--train.estimate-level 1"
"""The runs for pushing are older than the preset's limit."""

FEW_STEPS = {"sampler": "dpm++2m", "spacing": "trailing", "steps": 4}
RECIPES = {
    "moving-digits": Recipe(
        "digits-64",
        "digits: moving digits, made on the fly from MNIST (LeCun, Cortes and Burges)",
        "the digits are under Creative Commons Attribution-ShareAlike 3.0",
        (
            Run(
                3455,
                2080,
                362,
                options="--model.motion-things 0 --train.batch-size 64 --train.precision bfloat16",
            ),
            Run(11000, 5000, 2500, options="--train.precision bfloat16 --train.clip-grad 0.1"),
        ),
        sampling=FEW_STEPS | {"steps": 1},
        sampling_by_task={"generate": {"steps": 20}, "animate": {"steps": 20}},  # one makes the mean of all films
    ),
    "robot-pushing": Recipe(
        "robot-64",
        "pushing: 4,000 simulated clips of a robot arm that pushes things about in a tray "
        "(data_tools/simulate_pushing.py, seed 0), 64 x 64, 10 frames a second",
        "MIT, as the project",
        (
            Run(
                3468,
                2077,
                364,
                options=f"{ROBOTS} --train.batch-size 32 {ALL_ESTIMATES}",
            ),
            Run(
                5500,
                0,
                3300,
                options=f"{ROBOTS} --train.batch-size 8 --train.rate 5e-4 --train.times high_noise "
                f"--train.clip-grad 0.1 {ALL_ESTIMATES}",
            ),
        ),
        compared=1,
        sampling={"sampler": "ddpm", "spacing": "trailing", "steps": 8},
        make=("simulate_pushing.py", "--clips", "4000", "--image_size", "64", "--seed", "0"),
    ),
    "robot-hands": Recipe(
        "robot-64",
        "robot_hands: 80 episodes of a humanoid robot's hands, github.com/YifanTian07/G1-policy-train at "
        "commit d1d3bb4 (MIT), 64 x 64, 10 frames a second",
        "MIT, as the clips that it was trained on; name their source",
        (
            Run(4000, 0, 2000, options=f"{ROBOTS} --train.rate 5e-4 --train.clip-grad 0.1"),
            Run(
                4000,
                0,
                3000,
                warmup=100,
                objective="single_stage",
                options=f"{ROBOTS} --train.batch-size 8 --train.rate 3e-4 --train.clip-grad 0.1",
            ),
        ),
        begins_with="robot-pushing",
        sampling=FEW_STEPS,
        get="convert the camera cam_high of that repository's episodes with data_tools/lerobot_convert.py",
    ),
}


def _against(recipe: Recipe, kind: str) -> Recipe:
    """MCVD's training to compare with: the same data, and as many optimizer steps, of which two stages take two."""
    runs = []
    for run in recipe.runs[: recipe.compared]:
        settings = {name: getattr(run, name) for name in (*BUDGETED, "objective")}
        theirs = in_one_stage(replace(PRESETS[recipe.preset].train, **settings), "block_masking")
        runs.append(replace(run, **{name: getattr(theirs, name) for name in settings}))
    begins_with = recipe.begins_with and f"{recipe.begins_with}-{kind}"
    return replace(recipe, preset=f"{recipe.preset}-{kind}", runs=tuple(runs), begins_with=begins_with)


RECIPES |= {
    f"{name}-{kind}": _against(RECIPES[name], kind)
    for name in ("moving-digits", "robot-pushing", "robot-hands")
    for kind in ("mcvd-concat", "mcvd-spatin")
}


def commands(name: str, options: argparse.Namespace) -> Iterator[list[str]]:
    """What has to be run, one program with its arguments after the other, until the last run folder holds the model."""
    recipe, folders = RECIPES[name], run_folders(name, options.out)
    data = options.data or options.out / recipe.data
    if recipe.make:
        script, *its_options = recipe.make
        if not options.data:
            yield [sys.executable, str(Path(__file__).with_name(script)), *its_options, "--out_dir", str(data)]
    elif recipe.get:
        if not data.is_dir():
            raise UserError(f"{name} needs {recipe.source}: {recipe.get}, and give the folder with --data.")
    else:
        data = recipe.data  # made on the fly
    program = [sys.executable, "-m", "lgcvd", "train", recipe.preset]
    if options.processes > 1:
        program[1:2] = ["-m", "torch.distributed.run", "--nproc-per-node", str(options.processes), "-m"]
    both = ["--data", str(data), "--source", recipe.told, "--licence", recipe.licence]
    for index, (run, folder) in enumerate(zip(recipe.runs, folders, strict=True)):
        train = [*program, "--folder", str(folder), *both, *shlex.split(run.options)]
        for setting in BUDGETED:
            count = round(getattr(run, setting) * options.budget)
            train += [f"--train.{setting.replace('_', '-')}", str(max(count, int(setting == "iterations")))]
        if run.objective != PRESETS[recipe.preset].train.objective:
            train += ["--train.objective", run.objective]
        if begins_with := str(folders[index - 1] / "model") if index else recipe.begins_with:
            train += ["--init", begins_with]
        yield [*train, *options.more]


def run_folders(name: str, out: Path) -> list[Path]:
    """Where the runs of a recipe live."""
    return [out / "runs" / f"{name}-{number}" for number, _ in enumerate(RECIPES[name].runs, 1)]


def call(command: list[str]) -> int:
    """Run a program; the exit code. What would stop this one stops that one, which saves what it has."""
    with subprocess.Popen(command) as child:
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),  # Ctrl-C comes to both
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
        }
        try:
            return child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def ship(name: str, out: Path) -> Path:
    """Write the trained model as it is shipped, and return its folder."""
    models = [load(folder / "model") for folder in run_folders(name, out)]
    recipe, steps = RECIPES[name], sum(model.about.step for model in models)
    sampling = {"sampling": recipe.sampling, "sampling_by_task": recipe.sampling_by_task}
    about = replace(models[-1].about, name=name, step=steps, **sampling)
    save(models[-1], out / name, about, torch.float16)
    return out / name


def run(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; all, if left out")
    parser.add_argument("--budget", type=float, default=1.0, help="how many times the iterations of the shipped ones")
    parser.add_argument("--data", type=Path, help="folder of the data of one model")
    parser.add_argument("--processes", type=int, default=1, help="that train together: one a GPU, or one a core")
    parser.add_argument("--out", type=Path, default=Path("runs") / "weights", help="folder to write")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and stop")
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:split])
    options.more = given[split + 1 :]
    names = options.names or list(RECIPES)
    for name in names:
        if name not in RECIPES:
            raise UserError(f"there is no recipe for {name!r}: choose one of {', '.join(RECIPES)}.")
    if options.budget <= 0 or options.processes < 1:
        raise UserError("--budget must be positive, and --processes at least 1.")
    if options.data and len(names) > 1:
        raise UserError("--data belongs to one model: name it.")
    for name in names:
        for command in commands(name, options):
            print(shlex.join(["python", *command[1:]]), flush=True)
            if not options.dry_run and (code := call(command)):
                return code
        if not options.dry_run:
            print(f"{ship(name, options.out)}: ready for lgcvd predict --model {options.out / name}")
    return 0


if __name__ == "__main__":
    main(run)
