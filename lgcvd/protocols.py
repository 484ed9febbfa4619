"""What is measured in an evaluation, and how: protocols by name. docs/evaluation.md explains them to readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from lgcvd.errors import UserError
from lgcvd.metrics import lpips, psnr, ssim
from lgcvd.rollout import MAX_FRAMES
from lgcvd.sampling import DEFAULT_SAMPLER, DEFAULT_SPACING, DEFAULT_STEPS


@dataclass(frozen=True)
class FrameMeasure:
    """A distance, or a likeness, of each predicted frame to the true one."""

    per_frame: Callable[[Tensor, Tensor], Tensor]
    """Predicted and true videos (B, T, C, H, W) in [-1, 1] -> (B, T)."""
    what: str
    """In words, for the results file."""
    over_frames: Callable[[np.ndarray], np.ndarray] = lambda values: values.mean(-1)
    """(..., T) -> (...), the value of a whole prediction."""


def each_clip(values: np.ndarray) -> list[np.ndarray]:
    """What "best of N" chooses from: (clips, N) -> the N predictions of each clip."""
    return list(values)


def released_groups(values: np.ndarray) -> list[np.ndarray]:
    """The same as the authors' ``eva.py`` has it, where a group ends one file too early.

    A clip's N predictions come in 10 files of N / 10. Their loop closes a group at files 0, 10, 20 ...: the first holds
    one file, every other nine files of a clip and one of the next, and the last nine files enter none.
    """
    size = values.shape[1]
    first = max(1, size // 10)
    predictions = values.reshape(-1)
    return [predictions[:first], *(predictions[i : i + size] for i in range(first, len(predictions) - size + 1, size))]


SAMPLING = ("sampler", "steps", "spacing")
"""What a protocol says of how a model denoises. By "ours" each does it in its own way, if it has one."""


@dataclass(frozen=True)
class Protocol:
    """A way to evaluate. Numbers of two protocols are not to be compared."""

    name: str
    what: str
    """In words, for the results file."""
    measures: Mapping[str, FrameMeasure] = field(repr=False)
    """By the names in ``lgcvd.measures``."""
    context: int = 2
    """Frames that are observed."""
    frames: int = 28
    """New frames."""
    clips: int = 256
    trajectories: int = 10
    """N, predictions of each clip."""
    sampler: str = DEFAULT_SAMPLER
    steps: int = DEFAULT_STEPS
    """Denoising steps a window."""
    spacing: str = DEFAULT_SPACING
    """Where the steps lie: a name of ``sampling.SPACINGS``."""
    fvd_observed: bool = False
    """Whether FVD sees the observed frames too, which are the same on both sides."""
    groups: Callable[[np.ndarray], list[np.ndarray]] = field(default=each_clip, repr=False)
    """What "best of N" chooses from."""
    files: int = field(default=1, repr=False)
    """That the trajectories of a clip are in, equally many in each."""

    def __post_init__(self) -> None:
        for name in ("context", "frames", "clips", "trajectories", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.trajectories % self.files:
            raise UserError(
                f"{self.name} groups trajectories by {self.files} files a clip: trajectories must be a multiple of "
                f"{self.files}, not {self.trajectories}."
            )
        if self.frames > MAX_FRAMES:
            raise UserError(f"frames must be at most {MAX_FRAMES}, not {self.frames}.")


def _psnr_of_mean_error(decibels: np.ndarray) -> np.ndarray:
    """PSNR of the squared error's mean over frames: a poor frame counts for more than in the mean of PSNRs."""
    return -10 * np.log10((10 ** (-decibels / 10)).mean(-1))


def _enlarged(video: Tensor, size: int = 128) -> Tensor:
    frames = interpolate(video.flatten(0, 1), size=(size, size), mode="bilinear", align_corners=False)
    return frames.unflatten(0, video.shape[:2]).clamp(-1, 1)


PSNR = FrameMeasure(psnr, "PSNR in dB on RGB, the mean of the frames'")
SSIM = FrameMeasure(ssim, "SSIM on RGB, uniform 7 x 7 window, the mean of the frames'")
LPIPS = FrameMeasure(lpips, "LPIPS (AlexNet, v0.1) of frames in [-1, 1], the mean of the frames'")

OURS = Protocol(
    "ours",
    "Mean and best of N over the trajectories of each clip, curves over frames, 95 % intervals by bootstrap over "
    "clips; FVD of the new frames of all trajectories.",
    MappingProxyType({"psnr": PSNR, "ssim": SSIM, "lpips": LPIPS}),
)

MCVD = Protocol(
    "mcvd",
    "As Voleti et al. (2022) evaluate: best of N for each measure by itself; FVD of all trajectories with the observed "
    "frames. The sampler is ancestral with 100 even steps.",
    MappingProxyType(
        {
            "psnr": FrameMeasure(psnr, "PSNR in dB of the mean squared error over all frames", _psnr_of_mean_error),
            "ssim": FrameMeasure(
                lambda predicted, true: ssim(predicted, true, window="gaussian"),
                "SSIM on gray, Gaussian window, the mean of the frames'",
            ),
            "lpips": FrameMeasure(
                lambda predicted, true: lpips(_enlarged(predicted), _enlarged(true)),
                "LPIPS (AlexNet, v0.1) of frames scaled to 128 x 128, the mean of the frames'",
            ),
        }
    ),
    sampler="ddpm",
    steps=100,
    spacing="ends",
    fvd_observed=True,
)

LGCVD_RELEASED = Protocol(
    "lgcvd-released",
    "As the authors' released eva.py evaluates: best of N in groups that end one file too early, LPIPS of frames in "
    "[0, 1]; FVD of all trajectories with the observed frames. The sampler is ancestral with 100 even steps.",
    MappingProxyType(
        {
            "psnr": PSNR,
            "ssim": SSIM,
            "lpips": FrameMeasure(
                lambda predicted, true: lpips((predicted + 1) / 2, (true + 1) / 2),
                "LPIPS (AlexNet, v0.1) of frames in [0, 1], where the network wants [-1, 1]; the mean of the frames'",
            ),
        }
    ),
    trajectories=100,
    sampler="ddpm",
    steps=100,
    spacing="ends",
    fvd_observed=True,
    groups=released_groups,
    files=10,
)

PROTOCOLS = {protocol.name: protocol for protocol in (OURS, MCVD, LGCVD_RELEASED)}
"""Name -> protocol."""
