"""Time and memory of one two-stage training iteration: the library's form against the straightforward one.

    python benchmarks/train_step.py                    # on a CPU; with --bfloat16 if it multiplies that fast (AMX)
    python benchmarks/train_step.py --device cuda --batch 8 16 32 64 --presets robot-64 bair-64 cityscapes-128

Straightforward: float32, contiguous layout, attention as einsum and softmax, a motion skip whose derivative is left to
autograd (benchmarks/plain.py), one optimizer kernel a weight. Ours: channels-last, fused attention and fused Adam; on a
GPU compiled and in bfloat16 as well, on a CPU in bfloat16 if asked for. Both take turns in one run, and their losses
must agree before they are timed. On a GPU the table also says what share of the card's measured bfloat16 matrix rate
the operations of an iteration (counted, see lgcvd.cost) reach.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from plain import machine_line, random_model, straightforward
from torch import Tensor

from lgcvd import PRESETS, ModelConfig, TwoStage
from lgcvd.checkpoints import compile_networks
from lgcvd.cost import GB, cost_of
from lgcvd.errors import UserError
from lgcvd.models import VideoDenoiser
from lgcvd.program import run_as_program
from lgcvd.reports import markdown_row, markdown_table
from lgcvd.seeds import generator_for

FORMS = ("straightforward", "lgcvd")


class Form:
    """A model with its optimizer, and how an iteration of it is made."""

    def __init__(self, name: str, config: ModelConfig, device: torch.device, bfloat16: bool):
        ours, gpu = name == "lgcvd", device.type == "cuda"
        model = random_model(config).to(device)
        self.model: VideoDenoiser = (model if ours else straightforward(model)).train()
        self.precision = torch.autocast(device.type, torch.bfloat16, enabled=ours and bfloat16)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), 1e-7, fused=ours, foreach=None if ours else False
        )  # so small a rate that every iteration begins as the first one
        if ours and gpu:
            compile_networks(self.model)

    def iteration(self, clips: Tensor) -> Iterator[float]:
        """One optimizer step a stage; yields their losses."""
        stages = TwoStage()(self.model, clips, generator_for(0))
        while True:
            with self.precision:
                stage = next(stages, None)
            if stage is None:
                return
            self.optimizer.zero_grad()
            stage.loss.backward()
            self.optimizer.step()
            yield stage.loss.item()


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds; on one thread of a CPU those that it worked, whoever else is at work."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def compare(preset: str, batch: int, rounds: int, device: torch.device, bfloat16: bool) -> str:
    """A row of the table."""
    config = PRESETS[preset].model
    forms = {name: Form(name, config, device, bfloat16) for name in FORMS}
    generator = torch.Generator().manual_seed(0)
    shape = (batch, TwoStage().clip_frames(config), config.channels, *config.image_size)
    clips = (torch.rand(shape, generator=generator) * 2 - 1).to(device)

    losses = {name: list(form.iteration(clips)) for name, form in forms.items()}  # warms up, too
    tolerance = 0.02 if bfloat16 else 1e-3
    for plain, own in zip(*losses.values(), strict=True):
        if abs(plain - own) > tolerance * plain:
            raise SystemExit(f"the forms disagree on {preset}: losses {losses}.")
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            seconds[name].append(timed(lambda form=form: list(form.iteration(clips)), device))
    plain, own = (statistics.median(seconds[name]) for name in FORMS)
    del forms
    memory = [peak_memory(preset, name, batch, device, bfloat16) for name in FORMS]
    cells = [preset, batch, f"{plain:.3g}", f"{own:.3g}", f"{own / plain:.2f}", f"{batch / own:.3g}"]
    cells += [*(f"{m:.2f}" for m in memory), f"{memory[1] / memory[0]:.2f}" if memory[0] else "-"]
    if device.type == "cuda":
        flops = batch * sum(cost_of(config, PRESETS[preset].train).flops.values())
        cells.append(f"{flops / own / matrix_rate(device):.0%}")
    return markdown_row(cells)


def peak_memory(preset: str, form: str, batch: int, device: torch.device, bfloat16: bool) -> float:
    """Peak of an iteration in GB, in a process of its own: on a CPU nothing else tells it apart."""
    command = [sys.executable, __file__, "--device", str(device), "--alone", preset, form, str(batch)]
    command += ["--bfloat16"] * bfloat16
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def alone(preset: str, form: str, batch: int, device: torch.device, bfloat16: bool) -> float:
    """Peak memory in GB of two iterations; on a CPU, less what was there before the model (Linux only)."""
    before, config = _resident("VmRSS"), PRESETS[preset].model
    made = Form(form, config, device, bfloat16)
    shape = (batch, TwoStage().clip_frames(config), config.channels, *config.image_size)
    for _ in range(2):
        list(made.iteration(torch.zeros(shape, device=device)))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / GB
    return (_resident("VmHWM") - before) / GB


def _resident(what: str) -> int:
    """Bytes: "VmRSS" of now, "VmHWM" at most."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(what)), 0)


def matrix_rate(device: torch.device, size: int = 8192) -> float:
    """Operations a second of large bfloat16 matrix products."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * size**3 / timed(lambda: [a @ a for _ in range(20)], device)


def costs() -> None:
    """What every preset costs, as ``lgcvd train PRESET --dry-run`` tells it; nothing is timed."""
    names = ["preset", "parameters", "TFLOP an iteration", "batch", "parts", "memory, GB", "a clip of it, GB"]
    print(markdown_table(names))
    for name, preset in PRESETS.items():
        cost, clips = cost_of(preset.model, preset.train), preset.train.batch_size // preset.train.accumulate
        cells = [name, f"{cost.parameters / 1e6:.1f} M"]
        cells += [f"{preset.train.batch_size * sum(cost.flops.values()) / 1e12:.3g}", preset.train.batch_size]
        cells += [preset.train.accumulate, f"{cost.memory(clips) / GB:.1f}", f"{cost.activations / GB:.3f}"]
        print(markdown_row(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["robot-64", "bair-64"])
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--rounds", type=int, default=5, help="times that every form is timed")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="our form in bfloat16, as on a GPU it always is")
    parser.add_argument("--quick", action="store_true", help="a tiny network, to see that this script works")
    parser.add_argument("--costs", action="store_true", help="tell every preset's cost instead, by calculation")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(*options.batch, options.rounds) < 1:
        raise UserError("--batch and --rounds must be at least 1.")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no cuda device here: use --device cpu.")
    device = torch.device(options.device)
    bfloat16 = options.bfloat16 or device.type == "cuda"
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as in training, for both forms
    if options.costs:
        return costs()
    if options.alone:
        preset, form, batch = options.alone
        print(alone(preset, form, int(batch), device, bfloat16))
        return

    names = ["preset", "batch", "straightforward, s", "lgcvd, s", "ratio", "clips/s"]
    names += ["straightforward, GB", "lgcvd, GB", "ratio"] + ["of the matrix rate"] * (device.type == "cuda")
    print(markdown_table(names))
    for preset in ["tiny"] if options.quick else options.presets:
        for batch in options.batch:
            print(compare(preset, batch, options.rounds, device, bfloat16), flush=True)
    print(f"\nMedian of {options.rounds} rounds. {machine_line()}")
    if device.type == "cuda":
        rate = matrix_rate(device)
        print(f"{torch.cuda.get_device_name()}, {rate / 1e12:.0f} TFLOP/s of bfloat16 matrix products.")
    else:
        print("No GPU was at hand; for one, see --device cuda.")


if __name__ == "__main__":
    run_as_program(main)
