"""What a visitor of the page asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lgcvd.errors import UserError
from lgcvd.material import MATERIALS, Material
from lgcvd.models import VideoDenoiser
from lgcvd.sampling import DEFAULT_SPACING

MAX_NEW_FRAMES, MAX_FUTURES, MAX_SEED = 120, 8, 2**31
DEFAULT_SEED, DEFAULT_MISSING = 7, "3, 6"
DEFAULT_BESIDE = ("copy-last-frame",)


@dataclass(frozen=True)
class Wish:
    """What a visitor chose; the page has an input for each."""

    start: int
    frames: int
    sampler: str
    steps: int
    seed: int | None
    task: str = "predict"
    missing: str = DEFAULT_MISSING
    factor: int = 2
    level: float = 0.5
    spacing: str = DEFAULT_SPACING
    threshold: str = "clip"
    local_guidance: float = 1.0
    memory_guidance: float = 1.0
    memory: str = "decay"
    futures: int = 1
    beside: Sequence[str] = DEFAULT_BESIDE
    """Baselines and models whose answers are shown, too."""

    def check(self) -> None:
        """Raise ``UserError`` where it is more than the page makes; the rest is checked where it is used."""
        if not 1 <= self.frames <= MAX_NEW_FRAMES:
            raise UserError(f"this page makes 1 to {MAX_NEW_FRAMES} frames, not {self.frames}: ask for fewer.")
        if not 1 <= self.futures <= MAX_FUTURES:
            raise UserError(f"this page makes 1 to {MAX_FUTURES} futures at once, not {self.futures}: ask for fewer.")
        if self.seed is None or not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"the seed is a whole number from 0 to {MAX_SEED:,}: write one, such as {DEFAULT_SEED}.")

    def sampling(self) -> dict:
        """Options of ``lgcvd.Sampling``."""
        names = ("sampler", "steps", "spacing", "threshold", "local_guidance", "memory_guidance")
        return {name: getattr(self, name) for name in names}

    def missing_frames(self) -> tuple[int, ...]:
        """Numbers of the frames, the first is 1."""
        parts = re.sub(r"\s*-\s*", "-", re.sub("[,;]", " ", self.missing)).split()
        if not parts or not all(re.fullmatch(r"\d{1,4}(-\d{1,4})?", part) for part in parts):
            raise UserError(f"{self.missing!r} names no frames: write their numbers, like {DEFAULT_MISSING} or 3-6.")
        ranges = [sorted(int(end) for end in part.split("-")) for part in parts]
        return tuple(number for ends in ranges for number in range(ends[0], ends[-1] + 1))

    def material(self, clip: Path, model: VideoDenoiser) -> Material:
        """What the task takes from the clip: the same as on the command line."""
        options: dict[str, Any] = {"frames": self.frames}
        if self.task != "generate":
            options |= {"clip": clip, "start": self.start}
        if self.task == "infill":
            options["missing"] = self.missing_frames()
        elif self.task in ("slowmo", "reconstruct"):
            name = {"slowmo": "factor", "reconstruct": "level"}[self.task]
            options[name] = getattr(self, name)
        return MATERIALS[self.task](model, **options)
