"""``lgcvd gallery``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import DisallowNone

from lgcvd import gallery
from lgcvd.baselines import BASELINES
from lgcvd.checkpoints import load
from lgcvd.commands.common import Device, OfClips, OfSteps, find_device
from lgcvd.errors import UserError
from lgcvd.evaluation import of_baseline, of_model, worst_of
from lgcvd.files import check_place
from lgcvd.results import read_results
from lgcvd.video import MAX_FPS, MIN_FPS


@dataclass(frozen=True, kw_only=True)
class Gallery(OfSteps, OfClips):
    """Show what several models make of the same clips: predictions, generation, infilling and interpolation."""

    models: tuple[str, ...]
    """Models and baselines in the order of their rows, as `lgcvd evaluate` takes them."""
    out: Path
    """Folder for prediction.gif, generation-MODEL.gif, interpolation.png and infilling.png."""
    clips: int = 4
    """Clips, evenly spread over the split; the seed decides which."""
    worst_of: DisallowNone[Path | None] = None
    """Instead, the clips that were predicted worst in the evaluation with this results file."""
    context: int = 2
    """Frames that are observed."""
    frames: int = 28
    """New frames."""
    all_frames_strip: bool = False
    """Also every frame of each clip side by side, as papers show them."""
    fps: float = 5.0
    """Frames a second of the GIFs."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        if not self.models:
            raise UserError("a gallery needs at least one model or baseline: name it with --models.")
        for name in ("context", "frames", "clips"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise UserError(f"fps must be between {MIN_FPS:g} and {MAX_FPS:g}, not {self.fps:g}.")
        check_place(self.out / "prediction.gif")
        models, predictors, device, sampling = {}, [], find_device(self.device), self.sampling()
        for name in self.models:
            if name in BASELINES:
                predictors.append(of_baseline(name))
                continue
            model = load(name, device)
            predictors.append(of_model(model, **sampling, name=name))
            models[predictors[-1].name] = model
        if len({predictor.name for predictor in predictors}) < len(predictors):
            raise UserError("two of the models have the same name: give each once.")
        shape = next((p.shape for p in predictors if p.shape), None)
        results = read_results(self.worst_of) if self.worst_of else None
        clips = self.open(len(results["clips"]) if results else self.clips, self.context + self.frames, shape)
        clips = worst_of(results, clips, self.clips) if results else clips
        for note in clips.notes:
            print(note, file=sys.stderr)
        shown = gallery.Gallery(clips, predictors, models, self.context, self.seed, sampling, self.fps, device)
        for line in shown.save(self.out, self.all_frames_strip):
            print(line)
        return 0
