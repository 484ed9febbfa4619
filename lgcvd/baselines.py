"""Predictions that take no model. (B, K, C, H, W) observed frames in [-1, 1] -> (B, K + frames, C, H, W).

Observed frames come back untouched. ``fill`` does the same where new frames do not only come behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Baseline = Callable[[Tensor, int], Tensor]
"""(observed, number of new frames) -> observed and new frames."""


def copy_last_frame(observed: Tensor, frames: int) -> Tensor:
    """Nothing moves any more."""
    return _held(observed, observed[:, -1:], frames)


def mean_frame(observed: Tensor, frames: int) -> Tensor:
    """What was observed, all at once: the best guess of who knows nothing of motion and is judged by squares."""
    return _held(observed, observed.mean(1, keepdim=True).clamp(-1, 1), frames)


def blank_frame(observed: Tensor, frames: int) -> Tensor:
    """Black: for small bright things on black, hard to beat on PSNR."""
    return _held(observed, torch.full_like(observed[:, -1:], -1), frames)


def flow_extrapolation(observed: Tensor, frames: int) -> Tensor:
    """Everything keeps the velocity that it had between the last two frames; one frame alone is copied.

    The flow carries the frame, and itself (semi-Lagrangian advection, as in weather nowcasting: Germann and Zawadzki
    2002). Every new frame is read from the last observed one, so that nothing blurs more and more. What comes in from
    outside repeats the border.
    """
    if observed.shape[1] < 2:
        return copy_last_frame(observed, frames)
    last, flow = observed[:, -1], optical_flow(observed[:, -2], observed[:, -1])
    sources, video = _grid(last), [observed]
    for _ in range(frames):
        sources, flow = _moved(sources, flow), _moved(flow, flow)
        video.append(_read(last, sources).clamp(-1, 1)[:, None])
    return torch.cat(video, dim=1)


BASELINES: dict[str, Baseline] = {
    "copy-last-frame": copy_last_frame,
    "mean-frame": mean_frame,
    "blank-frame": blank_frame,
    "optical-flow": flow_extrapolation,
}
"""Baselines by the names that tables and the command line give them."""


def fill(name: str, observed: Tensor, known: Sequence[bool]) -> Tensor | None:
    """What a baseline makes of a film whose observed frames lie anywhere; None where it has no answer.

    observed: (B, K, C, H, W) in [-1, 1]. known: for every frame of the film whether it is one of these, in their order;
        true K times, or never if they are taken back to noise.

    Returns (B, len(known), C, H, W). Copied is the nearest known frame, of two the one before. Flow goes on behind all
    known frames, or back before them, and has no answer elsewhere; where nothing is known, only the blank film is one.
    """
    places = [place for place, there in enumerate(known) if there]
    count, new = len(places), len(known) - len(places)
    if places == [*range(count)] and count:
        return BASELINES[name](observed, new)
    if places == [*range(new, len(known))] and count:
        return BASELINES[name](observed.flip(1), new).flip(1)
    if name == "blank-frame":
        film = torch.full_like(observed[:, :1], -1).repeat(1, len(known), 1, 1, 1)
    elif name == "mean-frame" and places:
        film = mean_frame(observed, len(known))[:, count:]
    elif name == "copy-last-frame" and places:
        nearest = [min(range(count), key=lambda k, at=at: abs(places[k] - at)) for at in range(len(known))]
        film = observed[:, nearest]
    else:
        return None
    film[:, places] = observed[:, :count]
    return film


def optical_flow(before: Tensor, after: Tensor, window: int = 7, rounds: int = 3) -> Tensor:
    """Dense flow (B, 2, H, W), x and y in pixels: ``after(p)`` looks like ``before(p - flow(p))``.

    Pyramidal Lucas-Kanade (Lucas and Kanade 1981; Bouguet 2001) at every pixel, all channels together. Where nothing
    shows how things move, the flow of the coarser level stays: a thing on plain ground takes its surroundings with it.
    """
    pyramid = [(before, after)]
    while min(pyramid[-1][0].shape[-2:]) >= 2 * window:
        pyramid.append(tuple(F.avg_pool2d(frame, 2, ceil_mode=True) for frame in pyramid[-1]))
    flow = torch.zeros_like(pyramid[-1][0][:, :1]).repeat(1, 2, 1, 1)
    for here, there in reversed(pyramid):
        if flow.shape[-2:] != here.shape[-2:]:
            flow = 2 * F.interpolate(flow, here.shape[-2:], mode="bilinear", align_corners=False)
        for _ in range(rounds):
            moved = _moved(here, flow)
            dx, dy = _slopes((moved + there) / 2)
            change = moved - there
            # least squares over the window: (sum of g g^T) d = sum of g change, g the slopes
            products = [dx * dx, dx * dy, dy * dy, dx * change, dy * change]
            xx, xy, yy, xc, yc = (_smooth(p.mean(1, keepdim=True), window) for p in products)
            xx, yy = xx + STIFFNESS, yy + STIFFNESS
            step = torch.cat([yy * xc - xy * yc, xx * yc - xy * xc], dim=1) / (xx * yy - xy * xy)
            flow = _smooth(flow + step.clamp(-1, 1), 3)
    return flow


STIFFNESS = 1e-4
"""Squared slope, of brightness in [-1, 1] a pixel, below which a window says little of motion."""


def _held(observed: Tensor, frame: Tensor, frames: int) -> Tensor:
    """``observed``, then ``frame`` (B, 1, C, H, W) for so many frames."""
    return torch.cat([observed, frame.expand(-1, frames, -1, -1, -1)], dim=1)


def _grid(like: Tensor) -> Tensor:
    """Every pixel's own place, x and y: (B, 2, H, W)."""
    batch, _, height, width = like.shape
    y, x = torch.meshgrid(torch.arange(height).to(like), torch.arange(width).to(like), indexing="ij")
    return torch.stack([x, y]).expand(batch, -1, -1, -1)


def _moved(maps: Tensor, flow: Tensor) -> Tensor:
    """``maps`` (B, C, H, W) carried along by ``flow`` for one frame."""
    return _read(maps, _grid(maps) - flow)


def _read(maps: Tensor, places: Tensor) -> Tensor:
    """``maps`` at ``places`` (B, 2, H, W), bilinear, the border repeated."""
    height, width = maps.shape[-2:]
    scale = torch.tensor([max(1, width - 1), max(1, height - 1)]).to(places)
    places = 2 * places.movedim(1, -1) / scale - 1
    return F.grid_sample(maps, places, padding_mode="border", align_corners=True)


def _slopes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return x, y


def _smooth(maps: Tensor, window: int) -> Tensor:
    """Means over ``window`` x ``window`` pixels, twice, which is nearly Gaussian."""
    for _ in range(2):
        maps = F.avg_pool2d(maps, window, stride=1, padding=window // 2, count_include_pad=False)
    return maps
