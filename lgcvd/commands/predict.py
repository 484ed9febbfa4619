"""``lgcvd predict``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import DisallowNone, Positional

from lgcvd.commands.common import Device, Sampler, find_device
from lgcvd.sampling import DEFAULT_SAMPLER, DEFAULT_STEPS


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
        model = load(self.model, find_device(self.device))
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
