"""``lgcvd predict``, ``past``, ``interpolate``, ``infill``, ``slowmo``, ``generate``, ``animate``, ``reconstruct``."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from tqdm import tqdm
from tyro.conf import DisallowNone, Positional

from lgcvd import attention, video
from lgcvd.checkpoints import load
from lgcvd.commands.common import Device, OfSampling, find_device
from lgcvd.config import DEFAULT_MODEL
from lgcvd.errors import UserError
from lgcvd.files import check_output
from lgcvd.futures import Futures
from lgcvd.material import MATERIALS, Material
from lgcvd.models import VideoDenoiser
from lgcvd.pictures import NEUTRAL, filmstrip, panel_frames, sheet, write_image
from lgcvd.rollout import MEMORIES, Window


@dataclass(frozen=True, kw_only=True)
class Make(OfSampling):
    """What the verbs share: the model, how it denoises, and what is written."""

    model: str = DEFAULT_MODEL
    """A shipped model, a checkpoint folder, or a Hugging Face hub id (owner/name)."""
    memory: Literal[*MEMORIES] = "decay"
    """What is remembered of the windows before: fading, all alike, the last one, nothing."""
    seed: int = 7
    """Of the noise: the same seed gives the same film."""
    futures: int = 1
    """Films to make of the same frames, with the seeds that follow: shown are best, worst, mean and spread."""
    out: Path = Path("prediction.mp4")
    """Truth, where there is one, and result side by side, as .mp4 or .gif."""
    strip: DisallowNone[Path | None] = None
    """Also a filmstrip, as .png."""
    attention: DisallowNone[Path | None] = None
    """Also a picture of what every window reads of the memory, as .png."""
    device: Device = "auto"
    """Where to compute."""
    made: ClassVar[str] = "predicted"
    """What becomes of the frames that are not given."""

    def material(self, model: VideoDenoiser) -> Material:
        """What the verb works on. The options that it does not share with all others are those of ``MATERIALS``."""
        shared = {option.name for option in fields(Make)}
        own = {option.name: getattr(self, option.name) for option in fields(self) if option.name not in shared}
        return MATERIALS[type(self).__name__.lower()](model, **own)

    def run(self) -> int:
        check_output(self.out, video.WRITERS)
        for picture in filter(None, (self.strip, self.attention)):
            check_output(picture, (".png",))
        self._check_places()
        if self.attention and not {self.local_guidance, self.memory_guidance} <= {None, 1}:
            raise UserError("--attention shows what one pass of the network reads: leave the guidance out with it.")
        model = load(self.model, find_device(self.device))
        if not model.keeps_memory and (self.memory != "decay" or self.memory_guidance not in (None, 1)):
            raise UserError(
                f"{self.model} keeps no memory of earlier windows: leave out --memory and --memory-guidance."
            )
        material = self.material(model)
        film, pictures = self._make(model, material)
        panels = Futures(film.video.cpu(), film.given).beside(material.truth)
        video.write_video(self.out, panel_frames(panels, film.given), material.fps)
        if material.note:
            print(material.note, file=sys.stderr)
        if material.rest:
            print("the clip goes on: --frames takes more of it", file=sys.stderr)
        given = sum(film.given)
        new = len(film.given) - given
        print(f"{self.out}: {f'{given} observed, ' * (given > 0)}{new} {self.made} frame{'s' * (new != 1)}")
        if self.strip:
            write_image(self.strip, filmstrip(panels, film.given))
            print(f"{self.strip}: the same as a strip")
        if self.attention:
            write_image(self.attention, pictures)
            print(f"{self.attention}: where each window reads the memory, on the last frame that it remembers")
        return 0

    def _check_places(self) -> None:
        """Raise ``UserError`` where one file that is written would replace another, or a clip that is read."""
        read, written = (
            [os.path.realpath(file) for name in names if (file := getattr(self, name, None))]
            for names in (("clip", "second"), ("out", "strip", "attention"))
        )
        if len({*written} - {*read}) < len(written):
            raise UserError("what is written would replace what is read or written: give each file a name of its own.")

    def _make(self, model: VideoDenoiser, material: Material) -> tuple[Window, Tensor | None]:
        """The finished film, and the picture of the attention if one is asked for."""
        windows = material.films(model, self.futures, seed=self.seed, memory=self.memory, **self.sampling())
        pictures, remembered = [], None
        with ExitStack() as stack:
            bar = stack.enter_context(tqdm(desc="denoising", unit="step", disable=None))
            if self.attention:
                cross = attention.reads_memory(model)
                weights = stack.enter_context(attention.recorded_attention(cross))
            for window in windows:
                bar.total = window.windows * window.steps
                bar.update()
                if self.attention and window.done:
                    frame = window.clip[:1, -1]
                    seen = torch.zeros_like(frame) if remembered is None else remembered
                    pictures.append(attention.attention_picture(seen, weights[-1][:1])[0])
                    remembered = frame
                    weights.clear()
        if not pictures:
            return window, None
        cells = [(picture, NEUTRAL) for picture in pictures]
        return window, sheet([("read by", cells)], [f"window {n}" for n in range(1, len(cells) + 1)], height=160)


@dataclass(frozen=True, kw_only=True)
class OfClip(Make):
    """What the verbs share that start from a clip."""

    start: int = 0
    """The first frame that is used, counted from 0."""
    fps: DisallowNone[float | None] = None
    """Read the clip at so many frames a second; left out, every frame is taken."""


@dataclass(frozen=True)
class Predict(OfClip):
    """Watch a clip's first frames and predict how it goes on."""

    clip: Positional[Path]
    """A video (mp4, webm, mov, avi, gif) or a folder of pictures."""
    frames: int = 28
    """New frames."""


@dataclass(frozen=True)
class Past(OfClip):
    """Watch frames of a clip and tell what came before them."""

    clip: Positional[Path]
    """A video or a folder of pictures; the frames from --start on are seen."""
    frames: int = 12
    """New frames, before those. If the clip has them they are shown beside."""


@dataclass(frozen=True)
class Interpolate(OfClip):
    """Bridge the gap between two pictures, two clips, or two places in one clip."""

    clip: Positional[Path]
    """What comes before: a video or a folder of pictures."""
    second: DisallowNone[Path | None] = None
    """What comes after; left out, the frames of the first clip that lie behind the gap, and the truth is known."""
    frames: int = 6
    """New frames between them."""


@dataclass(frozen=True)
class Infill(OfClip):
    """Make the missing frames of a clip anew, from all the others."""

    clip: Positional[Path]
    """A video or a folder of pictures."""
    missing: tuple[int, ...]
    """Which frames are missing, by their numbers as in strips: the one at --start is 1."""
    frames: int = 60
    """Frames of the clip to take, if it has so many."""


@dataclass(frozen=True)
class Slowmo(OfClip):
    """Show a clip in slow motion: new frames between all of its own."""

    clip: Positional[Path]
    """A video or a folder of pictures."""
    factor: Literal[2, 4, 8] = 2
    """How many times slower."""
    frames: int = 8
    """Frames of the clip to take."""


@dataclass(frozen=True)
class Generate(Make):
    """Dream a clip up from nothing."""

    frames: int = 28
    """How many."""
    made: ClassVar[str] = "generated"


@dataclass(frozen=True)
class Animate(OfClip):
    """Let one picture move."""

    clip: Positional[Path]
    """A picture, or a video or folder of which one frame, --start, is taken."""
    frames: int = 28
    """New frames."""


@dataclass(frozen=True)
class Reconstruct(OfClip):
    """Take a clip back towards noise and denoise it again: what stays is what the model knows of it."""

    clip: Positional[Path]
    """A video or a folder of pictures."""
    level: float = 0.5
    """How far back, as a share of the diffusion: 1 is nothing but noise."""
    back: Literal["noise", "inversion"] = "noise"
    """Add noise, or invert: seek the noise that the model itself would turn into the clip, with DDIM."""
    back_steps: DisallowNone[int | None] = None
    """Steps a window back by inversion; left out, 100. Fewer are faster and come back less close to the clip."""
    frames: int = 60
    """Frames of the clip to take, if it has so many."""
    made: ClassVar[str] = "reconstructed"


VERBS: dict[str, type[Make]] = {
    "predict": Predict,
    "past": Past,
    "interpolate": Interpolate,
    "infill": Infill,
    "slowmo": Slowmo,
    "generate": Generate,
    "animate": Animate,
    "reconstruct": Reconstruct,
}
"""Name -> verb, one for each of ``context.TASKS``."""
