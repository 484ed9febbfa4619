"""How close two videos are, frame by frame, and two sets of videos as a whole. Videos are (B, T, C, H, W) in [-1, 1].

``psnr``, ``ssim`` and ``lpips`` compare a predicted with the true frame. ``frechet_distance`` of the
``video_features`` of two sets is the FVD (Unterthiner et al. 2018). ``diversity`` says how much the predictions for
one clip differ. Gray frames are repeated to RGB where a network looks at them. All raise ``UserError`` for shapes that
do not fit, values outside [-1, 1] and NaN: ranges are checked, not guessed. Everything is computed on the device of
the videos and without gradients.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lgcvd import i3d
from lgcvd import lpips as lpips_network
from lgcvd.errors import UserError
from lgcvd.files import draft
from lgcvd.video import rgb

MAX_PSNR = 100.0
"""PSNR of identical frames, in dB: it would be infinite, and one such frame would swallow every mean."""

Window = Literal["uniform", "gaussian"]

SSIM_WINDOWS: dict[Window, int] = {"uniform": 7, "gaussian": 11}
"""Sides of the windows of SSIM, in pixels; frames must not be smaller."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601)."""

BATCH_FRAMES = 64
"""Frames that go through I3D together; memory for them is about 0.4 GB, or 5 MB for each frame of a longer clip."""
NETWORK_PIXELS, WINDOW_PIXELS = 2**17, 2**15
"""Pixels that AlexNet sees, and SSIM's windows slide over, together: few, as a processor is slower at more."""


@torch.no_grad()
def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame, (B, T) in dB, at most ``MAX_PSNR``; higher is closer."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    def measure(a: Tensor, b: Tensor) -> Tensor:
        return peak_signal_noise_ratio(a, b, data_range=2.0, dim=(1, 2, 3), reduction=None).clamp(max=MAX_PSNR)

    _check(predicted, true)
    return _frame_by_frame(measure, predicted, true, WINDOW_PIXELS)


@torch.no_grad()
def ssim(predicted: Tensor, true: Tensor, window: Window = "uniform") -> Tensor:
    """Structural similarity (Wang et al. 2004) of each frame, (B, T) in [-1, 1]; 1 is identical.

    Pixels are taken to [0, 1]; the mean is over the windows that lie inside the frame. The field has two variants:

    "uniform": 7 x 7 with unbiased variances, mean over colours, as in scikit-image's default.
    "gaussian": 11 x 11 with a standard deviation of 1.5, on gray frames (``LUMA``), as Wang's. MCVD's too, which rounds
        gray to whole levels of 255 first.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check(predicted, true)
    if window not in SSIM_WINDOWS:
        raise UserError(f"SSIM knows the windows {' and '.join(SSIM_WINDOWS)}, not {window!r}.")
    side = SSIM_WINDOWS[window]
    if min(true.shape[-2:]) < side:
        raise UserError(f"SSIM needs frames of at least {side} x {side} pixels, not {tuple(true.shape)}.")
    uniform, border = window == "uniform", side // 2
    k2 = 0.03 * math.sqrt(1 - 1 / side**2) if uniform else 0.03  # Wang's 0.03, corrected for unbiased variances

    def measure(a: Tensor, b: Tensor) -> Tensor:
        a, b = ((x if uniform else _gray(x)) / 2 + 0.5 for x in (a, b))  # SSIM changes when values are shifted
        _, windows = structural_similarity_index_measure(
            a,
            b,
            gaussian_kernel=not uniform,
            sigma=1.5,
            kernel_size=side,
            reduction=None,
            data_range=1.0,
            k2=k2,
            return_full_image=True,
        )
        return windows[..., border:-border, border:-border].mean((1, 2, 3)).clamp(max=1)

    return _frame_by_frame(measure, predicted, true, WINDOW_PIXELS)


@torch.no_grad()
def lpips(predicted: Tensor, true: Tensor) -> Tensor:
    """LPIPS 0.1 with AlexNet (Zhang et al. 2018) of each frame, (B, T), 0 or more; lower looks closer.

    Frames are seen at their own size, of at least 31 x 31 pixels.
    """
    _check(predicted, true)
    return _frame_by_frame(lambda a, b: (look(a) - look(b)).square().sum(1), predicted, true, NETWORK_PIXELS)


def of_frames(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """PSNR, SSIM and, where its network can see frames of this size, LPIPS: name -> value of each frame, (B, T)."""
    measures = {"psnr": psnr, "ssim": ssim, "lpips": lpips}
    if min(true.shape[-2:]) < lpips_network.SMALLEST:
        del measures["lpips"]
    return {name: measure(predicted, true) for name, measure in measures.items()}


@torch.no_grad()
def video_features(video: Tensor, cache: str | Path | None = None) -> Tensor:
    """I3D's Kinetics-400 logits of each video, (B, 400): what FVD compares. At least 9 frames.

    This is slow, about a second a clip on a CPU core: hand over many clips in parts, and show progress between.

    cache: folder that keeps features, found again by the videos' content. Meant for real clips, whose features are
        needed again and again. A damaged file is made anew.
    """
    _check(video)
    if video.shape[1] < i3d.SHORTEST:
        raise UserError(f"FVD needs videos of at least {i3d.SHORTEST} frames, not {video.shape[1]}.")
    if cache is None:
        network = i3d.shipped_i3d(video.device)
        batches = video.split(max(1, BATCH_FRAMES // video.shape[1]))
        return torch.cat([network(rgb(batch).float().transpose(1, 2)) for batch in batches])
    files = [Path(cache) / f"i3d-{_digest(clip)}.safetensors" for clip in video]
    known = {file: logits for file in files if (logits := _read_logits(file)) is not None}
    if new := {file: clip for file, clip in zip(files, video, strict=True) if file not in known}:
        for file, logits in zip(new, video_features(torch.stack([*new.values()])).cpu(), strict=True):
            with draft(file) as part:
                part.write_bytes(save({"logits": logits}))
            known[file] = logits
    return torch.stack([known[file] for file in files]).to(video.device)


def _read_logits(file: Path) -> Tensor | None:
    try:
        return load_file(str(file))["logits"]
    except (OSError, SafetensorError, KeyError):
        return None


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance of two Gaussians with the means and covariances of the features, (n, D) each, 0 or more.

    ``|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``. Features may also be (n, k, D): k videos for each of
    n clips, which all count.

    Warns if there are fewer features than the covariances need, see ``too_few``.
    """
    a, b = _feature_sets(features_a, features_b)
    if note := too_few(min(len(a.flatten(0, -2)), len(b.flatten(0, -2))), a.shape[-1]):
        warnings.warn(note, stacklevel=2)
    return _frechet(a, b)


def too_few(videos: int, dimensions: int = i3d.LOGITS) -> str:
    """A sentence on what a Fréchet distance of so few videos is worth, empty if there are enough."""
    if videos > dimensions:
        return ""
    return (
        f"The Fréchet distance of {videos} videos is too large, as their covariance in {dimensions} dimensions has "
        f"rank {videos - 1} at most: compare it only with distances of just as many videos, and take more than "
        f"{dimensions} for a number to publish."
    )


def frechet_interval(
    features_a: Tensor, features_b: Tensor, resamples: int = 200, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval of the Fréchet distance for other clips, just as many: (low, high).

    Features are (n, D) or (n, k, D) as in ``frechet_distance``; clips are drawn again with all their videos. Sets of
    equally many clips are drawn together, which is right whether they belong to the same clips or not. A resample
    repeats clips, so its distance is too large; so only the spread of the resamples is taken, around the distance of
    the sets themselves; with fewer clips than dimensions it is rather too wide. The draws are always the same.
    """
    a, b = _feature_sets(features_a, features_b)
    if resamples < 2 or not 0 < level < 1:
        raise UserError(f"an interval needs 2 resamples and a level between 0 and 1, not {resamples} and {level:g}.")
    generator = torch.Generator().manual_seed(0)
    distances = []
    for _ in range(resamples):
        drawn_a, drawn_b = (torch.randint(len(x), (len(x),), generator=generator) for x in (a, b))
        distances.append(_frechet(a[drawn_a], b[drawn_a if len(a) == len(b) else drawn_b]))
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    spread = torch.tensor(distances, dtype=torch.float64)
    low, high = (_frechet(a, b) + spread.quantile(ends) - spread.median()).clamp(min=0).tolist()
    return low, high


Embedding = Callable[[Tensor], Tensor]
"""Frames (M, C, H, W) in [-1, 1] -> (M, D), so that their distance is the squared distance of the embeddings."""


@torch.no_grad()
def look(frames: Tensor) -> Tensor:
    """The embedding whose distance is LPIPS."""
    if min(frames.shape[-2:]) < lpips_network.SMALLEST:
        side = lpips_network.SMALLEST
        raise UserError(f"LPIPS needs frames of at least {side} x {side} pixels, not {tuple(frames.shape[-2:])}.")
    return lpips_network.shipped_lpips(frames.device)(rgb(frames))


def pixels(frames: Tensor) -> Tensor:
    """The embedding whose distance is the mean squared difference of pixels in [0, 1]."""
    return frames.flatten(1) / (2 * math.sqrt(frames[0].numel()))


@torch.no_grad()
def diversity(trajectories: Tensor, embedding: Embedding = look) -> Tensor:
    """Mean distance between two different trajectories of one clip, and over its frames: (n, B, T, C, H, W) -> (B,).

    embedding: ``look`` for LPIPS, which needs frames of at least 31 x 31 pixels, or ``pixels``.
    """
    if trajectories.ndim != 6 or len(trajectories) < 2:
        raise UserError(
            f"diversity needs (n, B, T, C, H, W) with at least two trajectories, not {tuple(trajectories.shape)}."
        )
    _check(trajectories.flatten(0, 1))
    n, clips = trajectories.shape[:2]
    frames = trajectories.flatten(1, 2)
    spreads = []
    for part in frames.split(max(1, NETWORK_PIXELS // frames[:, 0, 0].numel()), dim=1):
        batches = _frame_batches(part.flatten(0, 1), NETWORK_PIXELS)
        embedded = torch.cat([embedding(batch) for batch in batches]).unflatten(0, (n, -1))
        # the mean squared distance of all pairs is twice the unbiased variance: n embeddings do for n (n - 1) / 2 pairs
        spreads.append(2 * embedded.var(0).sum(1))
    return torch.cat(spreads).unflatten(0, (clips, -1)).mean(1)


def _frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of (..., D), in double precision.

    With centred features A and B (one a row, divided by sqrt(n - 1)), C_a = A^T A and C_b = B^T B, and C_a C_b has the
    eigenvalues of (A B^T)(A B^T)^T, so the trace of its root is the sum of A B^T's singular values: no root of a
    covariance is taken, which few samples leave singular.
    """
    a, b = (x.flatten(0, -2) for x in (a, b))
    roots = [(x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b)]
    roots = [torch.linalg.qr(x, mode="r").R if len(x) > x.shape[1] else x for x in roots]  # the same C, fewer rows
    shared = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + sum(x.square().sum() for x in roots) - 2 * shared
    return max(0.0, float(distance))


def _feature_sets(*sets: Tensor) -> list[Tensor]:
    """Both sets in double precision on the CPU, checked."""
    a, b = sets
    if a.ndim not in (2, 3) or b.ndim not in (2, 3) or a.shape[-1] != b.shape[-1]:
        raise UserError(f"features must both be (n, D) or (n, k, D), not {tuple(a.shape)} and {tuple(b.shape)}.")
    if min(len(a), len(b)) < 2:
        raise UserError(f"a Fréchet distance needs at least 2 clips on each side, not {len(a)} and {len(b)}.")
    if not all(x.isfinite().all() for x in sets):
        raise UserError("features must be finite: some are NaN or infinite.")
    return [x.detach().cpu().double() for x in sets]


def _check(*videos: Tensor) -> None:
    """Refuse what is no pair of videos in [-1, 1], or no such video."""
    shapes = " and ".join(str(tuple(video.shape)) for video in videos)
    if any(video.ndim != 5 or video.shape != videos[0].shape or not video.numel() for video in videos):
        raise UserError(f"videos must {'both ' * (len(videos) > 1)}be (B, T, C, H, W) and not empty, not {shapes}.")
    if videos[0].shape[2] not in (1, 3):
        raise UserError(f"videos must have 1 or 3 channels, not {videos[0].shape[2]}.")
    for video in videos:
        low, high = (float(end) for end in torch.aminmax(video))
        if math.isnan(low):
            raise UserError("videos must be in [-1, 1], but some values are NaN: look for what made them.")
        if not video.is_floating_point() or not -1 - 1e-4 <= low <= high <= 1 + 1e-4:
            raise UserError(
                f"videos must be in [-1, 1], not {str(video.dtype).removeprefix('torch.')} in [{low:.3g}, {high:.3g}]; "
                "convert uint8 first."
            )


def _frame_by_frame(
    measure: Callable[[Tensor, Tensor], Tensor], predicted: Tensor, true: Tensor, at_once: int
) -> Tensor:
    """``measure`` of two batches of frames (M, C, H, W) in float32, (M,), for all frames: (B, T)."""
    batches = (_frame_batches(video.flatten(0, 1), at_once) for video in (predicted, true))
    return torch.cat([measure(a, b) for a, b in zip(*batches, strict=True)]).unflatten(0, true.shape[:2])


def _frame_batches(frames: Tensor, at_once: int) -> Iterator[Tensor]:
    """Frames (M, C, H, W) in float32, about so many pixels at once."""
    return (batch.float() for batch in frames.split(max(1, at_once // frames[0, 0].numel())))


def _gray(frames: Tensor) -> Tensor:
    return torch.einsum("bchw,c->bhw", rgb(frames), frames.new_tensor(LUMA))[:, None]


def _digest(video: Tensor) -> str:
    """Name of a video's content: the same for the same values and shape."""
    content = hashlib.sha256(repr(tuple(video.shape)).encode())
    content.update(video.detach().cpu().float().contiguous().numpy().tobytes())
    return content.hexdigest()[:32]
