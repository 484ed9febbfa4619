"""The command line: ``lgcvd`` or ``python -m lgcvd``. One dataclass a verb; its fields are the options."""

from __future__ import annotations

import atexit
import io
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Union

import tyro
from tyro.conf import DisallowNone, Positional, Suppress, subcommand

from lgcvd.config import PRESETS, ModelConfig, TrainConfig
from lgcvd.errors import UserError
from lgcvd.sampling import DEFAULT_SAMPLER, DEFAULT_STEPS, SAMPLERS

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset

    from lgcvd.models import LGCVD, About
    from lgcvd.trainer import TrainStep

Device = Literal["auto", "cpu", "cuda", "mps"]
Sampler = tyro.extras.literal_type_from_choices(list(SAMPLERS))

DIGITS = "moving digits, made on the fly from MNIST (LeCun, Cortes and Burges)"
DIGITS_LICENCE = "the digits are under Creative Commons Attribution-ShareAlike 3.0"


@dataclass(frozen=True)
class Predict:
    """Watch a clip's first frames and predict how it goes on."""

    clip: Positional[Path]
    """A video (mp4, webm, mov, avi, gif) or a folder of pictures."""
    model: str = "moving-digits"
    """A shipped model, a checkpoint folder, or a Hugging Face hub id (owner/name)."""
    frames: int = 28
    """New frames."""
    start: int = 0
    """The first of the frames that the model observes, counted from 0."""
    fps: DisallowNone[float | None] = None
    """Read the clip at so many frames a second; left out, every frame is taken."""
    sampler: Sampler = DEFAULT_SAMPLER
    """How to denoise."""
    steps: int = DEFAULT_STEPS
    """Denoising steps for every few new frames: more take longer."""
    seed: int = 7
    """Of the noise: the same seed gives the same future."""
    out: Path = Path("prediction.mp4")
    """Truth and prediction side by side, as .mp4 or .gif."""
    strip: DisallowNone[Path | None] = None
    """Also a filmstrip, as .png."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        import torch
        from tqdm import tqdm

        from lgcvd import video
        from lgcvd.checkpoints import load
        from lgcvd.rollout import MAX_FRAMES, rollout

        video.check_output(self.out)
        if self.strip:
            video.check_output(self.strip, (".png",))
        model = load(self.model, _device(self.device))
        k = model.context_frames
        clip = video.read_clip(
            self.clip,
            model.config.image_size,
            model.config.channels,
            fps=self.fps,
            start=self.start,
            max_frames=k + min(max(self.frames, 1), MAX_FRAMES),
            min_frames=k,
        )
        windows = rollout(
            model,
            clip.frames[None, :k].to(next(model.parameters()).device),
            num_frames=self.frames,
            sampler=self.sampler,
            steps=self.steps,
            generator=torch.Generator().manual_seed(self.seed),
            every_step=True,
        )
        with tqdm(desc="denoising", unit="step", disable=None) as bar:
            for window in windows:
                bar.total = window.windows * window.steps
                bar.update()
        prediction = window.video[0].cpu()
        video.write_video(self.out, video.side_by_side_frames(clip.frames, prediction, k), clip.fps)
        if clip.note:
            print(clip.note, file=sys.stderr)
        print(f"{self.out}: {k} observed frames, {self.frames} predicted ones")
        if self.strip:
            video.write_image(self.strip, video.filmstrip({"truth": clip.frames, "prediction": prediction}, k))
            print(f"{self.strip}: the same as a strip")
        return 0


@dataclass(frozen=True)
class Train:
    """Train a model; to stop, press Ctrl-C: the run is saved and the same command goes on with it."""

    preset: Suppress[str]
    folder: Path
    """Where the run lives: checkpoint.pt, losses.csv and, ready for ``lgcvd predict``, model/."""
    model: ModelConfig
    train: TrainConfig
    data: str = "digits"
    """"digits" that bounce off the walls, "stochastic-digits" that leave them in a random direction, or where your own
    are: an HDF5 file, a folder of them or of videos, a folder with one of these for each split."""
    stride: int = 1
    """Of the frames of your own data, every so many is taken."""
    flip: bool = False
    """Mirror half of the clips of your own data."""
    jitter: float = 0.0
    """Change brightness, contrast and saturation of your own data by up to this share."""
    init: DisallowNone[str | None] = None
    """Begin with the weights of this model (shipped, a checkpoint folder, or a hub id) instead of random ones."""
    workers: int = 0
    """Processes that prepare batches; 0 is enough for small frames."""
    minutes: DisallowNone[float | None] = None
    """Stop after so many minutes; the same command goes on."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        import torch

        from lgcvd.models import LGCVD
        from lgcvd.objective import TwoStage
        from lgcvd.progress import progress_bar
        from lgcvd.trainer import any_process, train

        device, main = _join_processes(_device(self.device))
        torch.manual_seed(self.train.seed)
        model = LGCVD(self.model)
        if self.init:
            self._take_weights(model)
        model.to(device)
        data = self._clips(TwoStage().clip_frames(model))
        reached, end = self._reached(), time.monotonic() + 60 * (self.minutes or math.inf)
        if reached and main:
            print(f"{self.folder}: going on after iteration {reached}")
        with (
            _stop_signals() as received,
            closing(train(model, data, self.train, folder=self.folder, workers=self.workers)) as steps,
            _loss_table(self.folder / "losses.csv" if main else Path(os.devnull), reached) as write,
            progress_bar(
                initial=reached, total=self.train.iterations, unit="it", smoothing=0.02, disable=not main
            ) as bar,
        ):
            for step in steps:
                shown = {stage: f"{loss:.4f}" for stage, loss in step.losses.items()}
                bar.set_postfix({**shown, "rate": f"{step.rate:.1e}"}, refresh=False)
                bar.update()
                write(step)
                if step.saved:
                    self._export()
                if any_process(bool(received) or time.monotonic() > end):
                    break
        if not main:
            return 0
        exported = self._export()
        print(
            f"{self.folder}: {exported.step} of {self.train.iterations} iterations; the model is in {self.folder}/model"
        )
        if exported.step < self.train.iterations:
            print("run the same command again to go on")
        return 128 + received[0] if received else 0

    def _take_weights(self, model: LGCVD) -> None:
        from lgcvd.checkpoints import load
        from lgcvd.trainer import differences

        start = load(self.init)
        different = differences(asdict(start.config), asdict(model.config))
        if different:
            raise UserError(f"the weights of {self.init} do not fit ({'; '.join(different)}): set the model's options.")
        model.load_state_dict(start.state_dict())

    def _clips(self, frames: int) -> Dataset:
        from lgcvd import data

        shape = (*self.model.image_size, self.model.channels)
        own = {} if self.data in data.GENERATED else {"draws": 1_000_000, "seed": self.train.seed}
        changed = {
            name: getattr(self, name)
            for name in ("stride", "flip", "jitter")
            if getattr(self, name) != getattr(Train, name)
        }
        return data.open(self.data, frames=frames, shape=shape, **own, **changed)

    def _checkpoint(self) -> dict:
        from lgcvd.checkpoints import read_torch_file
        from lgcvd.trainer import CHECKPOINT

        return read_torch_file(self.folder / CHECKPOINT, ("iteration", "ema", "config"))

    def _reached(self) -> int:
        from lgcvd.trainer import CHECKPOINT

        return self._checkpoint()["iteration"] if (self.folder / CHECKPOINT).exists() else 0

    def _export(self) -> About:
        """Write the checkpoint's averaged model in our own format."""
        import torch

        from lgcvd.checkpoints import save
        from lgcvd.data import GENERATED
        from lgcvd.models import LGCVD, About

        saved = self._checkpoint()
        digits = self.data in GENERATED
        about = About(
            self.folder.name,
            f"{self.data}: {DIGITS}" if digits else Path(self.data).resolve().name,
            DIGITS_LICENCE if digits else "ask whoever trained it, and see the licence of the data",
            saved["iteration"],
        )
        model = LGCVD(ModelConfig(**saved["config"]["model"]))
        inside = "module."  # AveragedModel's name for what it averages
        weights = {key.removeprefix(inside): value for key, value in saved["ema"].items() if key.startswith(inside)}
        model.load_state_dict(weights)
        save(model, self.folder / "model", about, dtype=torch.float16)
        return about


@dataclass(frozen=True)
class ImportReleased:
    """Turn a checkpoint file of the LGC-VD authors into a model folder."""

    file: Positional[Path]
    """What their trainer saved: a torch file with model, ema and step."""
    out: Path
    """Folder to write."""
    preset: Literal["bair-64", "cityscapes-128"] = "bair-64"
    """What the checkpoint was trained as."""

    def run(self) -> int:
        from lgcvd.checkpoints import save
        from lgcvd.released import load_released

        save(load_released(self.file, self.preset), self.out)
        print(f"{self.out}: ready for lgcvd predict --model {self.out}")
        return 0


@dataclass(frozen=True)
class Models:
    """List the models that come with lgcvd."""

    def run(self) -> int:
        from lgcvd.checkpoints import load, shipped_models

        for name in shipped_models():
            model = load(name)
            print(f"{name}: {_in_words(model.config)}")
            print(f"    trained on {model.about.data}, {model.about.step:,} iterations")
            print(f"    licence: {model.about.licence}")
        return 0


@dataclass(frozen=True)
class EvaluateDigits:
    """Measure how good a model's moving digits are, against copying, blank and real frames."""

    model: str = "moving-digits"
    """A shipped model, a checkpoint folder, or a Hugging Face hub id (owner/name)."""
    clips: int = 64
    """Clips to predict."""
    frames: int = 28
    """New frames a clip."""
    sampler: Sampler = DEFAULT_SAMPLER
    """How to denoise."""
    steps: int = DEFAULT_STEPS
    """Denoising steps for every few new frames."""
    seed: int = 0
    """Of the noise; the clips are always the same."""
    split: Literal["train", "validation", "test"] = "test"
    """Which digits."""
    out: DisallowNone[Path | None] = None
    """Folder for the table, the curves and sample strips."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        from lgcvd.checkpoints import load
        from lgcvd.evaluation import evaluate_digits

        options = {name: getattr(self, name) for name in ("clips", "frames", "sampler", "steps", "seed", "split")}
        report = evaluate_digits(load(self.model, _device(self.device)), **options)
        print(report.markdown())
        if self.out:
            print(f"{report.save(self.out)}: table.md, results.json, curves.png, samples.png")
        return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 2 for what the user can mend, 128 + n after signal n."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--version"]:
        print(f"lgcvd {_version()}")
        return 0
    try:
        return _parse(argv).run()
    except SystemExit as stop:
        return stop.code or 0
    except UserError as error:
        print(f"lgcvd: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lgcvd: stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def _parse(argv: list[str]) -> Predict | Train | ImportReleased | Models | EvaluateDigits:
    presets = [
        Annotated[
            Train,
            subcommand(
                name,
                default=Train(name, Path("runs") / name, preset.model, preset.train),
                description=f"{_in_words(preset.model)}; {preset.train.iterations:,} iterations.",
            ),
        ]
        for name, preset in PRESETS.items()
    ]
    verbs = [
        Annotated[Predict, subcommand("predict")],
        Annotated[Union[tuple(presets)], subcommand("train", description=Train.__doc__)],  # noqa: UP007
        Annotated[EvaluateDigits, subcommand("evaluate-digits")],
        Annotated[Models, subcommand("models")],
        Annotated[ImportReleased, subcommand("import-released")],
    ]
    messages = io.StringIO()
    try:
        with redirect_stderr(messages):
            return tyro.cli(
                Union[tuple(verbs)],  # noqa: UP007
                prog="lgcvd",
                description="Watch the first frames of a clip, predict the rest: video diffusion with local and global "
                "context. `lgcvd VERB --help` tells the options of a verb, `lgcvd --version` the version.",
                args=argv,
                config=(tyro.conf.PositionalMetavarFromFieldName,),
            )
    except SystemExit as stop:  # help, a message, or a box around what a config said: then the sentence alone
        cause: BaseException | None = stop
        while cause and not isinstance(cause, UserError):
            cause = cause.__context__
        if cause:
            raise cause from None
        sys.stderr.write(messages.getvalue())
        raise


def _in_words(config: ModelConfig) -> str:
    """A model's purpose in short: what it sees and adds."""
    height, width = config.image_size
    colours = "gray" if config.channels == 1 else "RGB"
    return f"{colours}, {height}x{width} pixels, {config.context_frames} + {config.new_frames} frames a window"


def _device(name: Device) -> str:
    """ "auto" is the fastest there is."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, available in there.items() if available)
    if not there[name]:
        raise UserError(f"there is no {name} device here: use --device auto.")
    return name


def _join_processes(device: str) -> tuple[torch.device, bool]:
    """This process's device, and whether it is the main one, of those that ``torchrun`` may have started."""
    import torch
    import torch.distributed as dist

    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return torch.device(device), True
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")  # flags are on the CPU
    atexit.register(dist.destroy_process_group)
    return torch.device(device), dist.get_rank() == 0


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that work ends where it loses nothing; a second one stops at once."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        received.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()


@contextmanager
def _loss_table(path: Path, reached: int) -> Iterator[Callable[[TrainStep], None]]:
    """A CSV file with a line an iteration; lines after the checkpoint that a run goes on from are dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines(keepends=True) if reached and path.exists() else []
    with path.open("w") as file:
        file.writelines(line for line in lines if not line[0].isdigit() or int(line.split(",")[0]) <= reached)

        from lgcvd.objective import STAGES

        def write(step: TrainStep) -> None:
            if not file.tell():
                file.write(f"iteration,{','.join(STAGES)},rate\n")
            losses = (f"{step.losses[stage]:.6g}" if stage in step.losses else "" for stage in STAGES)
            file.write(f"{step.iteration},{','.join(losses)},{step.rate:.6g}\n")
            if step.saved:
                file.flush()

        yield write


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lgcvd")
    except PackageNotFoundError:
        return "(not installed: run from a checkout)"


if __name__ == "__main__":
    sys.exit(main())
