"""``lgcvd adapt``."""

from __future__ import annotations

import math
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from tyro.conf import DisallowNone, Positional

from lgcvd.adapt import HELD_OUT, RECIPE, Adaptation, read_clips, table
from lgcvd.checkpoints import load
from lgcvd.commands.common import Device, find_device, stop_signals
from lgcvd.config import DEFAULT_MODEL
from lgcvd.errors import UserError
from lgcvd.files import check_new_folder
from lgcvd.progress import progress_bar


@dataclass(frozen=True)
class Adapt:
    """Fine-tune a model on your own clips; what is kept is what is better on their held-out last part."""

    clips: Positional[tuple[Path, ...]]
    """Videos, folders of pictures, and folders of videos."""
    model: str = DEFAULT_MODEL
    """A shipped model, a checkpoint folder, or a Hugging Face hub id (owner/name)."""
    minutes: float = 2.0
    """Of training; Ctrl-C ends it earlier, and what there is by then is judged all the same."""
    out: Path = Path("adapted")
    """Folder for the adapted model, new or empty, with a film, a strip and the numbers of before and after. Nothing is
    written if the model did not get better."""
    fps: DisallowNone[float | None] = None
    """Read the clips at so many frames a second; left out, every frame is taken."""
    held_out: float = HELD_OUT
    """Share of every clip, its end, that is not trained on."""
    rate: float = RECIPE.rate
    """Learning rate."""
    batch_size: int = RECIPE.batch_size
    """Clips an iteration."""
    seed: int = 0
    """Of noise, time steps, tasks and order."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        if not 0 < self.minutes < math.inf:
            raise UserError(f"minutes must be above 0 and have an end, not {self.minutes:g}.")
        check_new_folder(self.out)
        model = load(self.model, find_device(self.device))
        videos = read_clips(self.clips, model.config.frame_shape, self.fps)
        for name, reason in videos.skipped:
            print(f"skipped {name}: {reason}", file=sys.stderr)
        for _, note in videos.notes:
            print(note, file=sys.stderr)
        settings = {name: getattr(self, name) for name in ("rate", "batch_size", "seed")}
        adaptation = Adaptation(model, videos, replace(RECIPE, **settings), share=self.held_out)
        for name, length in zip(videos.names, adaptation.trained.lengths, strict=True):
            if not length:
                print(f"{name} is shorter than a training clip: it is left out", file=sys.stderr)
        trained, held_out = (sum(part.lengths) for part in (adaptation.trained, adaptation.held_out))
        count = len(videos.names)
        print(f"{count} clip{'s' * (count > 1)}: {trained} frames to train on, the {held_out} after them to judge by")
        seconds = 60 * self.minutes
        with (
            stop_signals() as received,
            closing(adaptation.steps(self.minutes)) as steps,
            progress_bar(total=round(seconds), unit="s") as bar,
        ):
            for step in steps:
                bar.set_postfix(
                    {"iteration": step.training.iteration, "held out": f"{step.held_out:.4f}"}, refresh=False
                )
                bar.update(round(step.fraction * seconds) - bar.n)
                if received:
                    break
        if adaptation.improved:
            scores = adaptation.save(self.out)
            print(table(scores))
            before, after = scores["before"], scores["after"]
            if after["psnr"] < before["psnr"] and after.get("lpips", 1) > before.get("lpips", 0):
                print("kept for its held-out loss; its films are no better: look at held-out.mp4 before you use it")
            print(
                f"{self.out}: {self.model} after {adaptation.best_iteration} iterations; held-out.png and .mp4 show it"
            )
            print(f"to use it: lgcvd predict CLIP --model {self.out}")
            code = 0
        else:
            before, best = adaptation.losses[0], min(loss for at, loss in adaptation.losses.items() if at)
            print(
                f"lgcvd: the original is kept and nothing is written: its held-out loss is {before:.4g}, the best on "
                f"the way {best:.4g}; try more --minutes, another --rate (now {self.rate:g}), or more clips.",
                file=sys.stderr,
            )
            code = 2
        return 128 + received[0] if received else code
