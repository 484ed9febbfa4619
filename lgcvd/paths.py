"""How the things of a model with ``motion_things`` learn to go on: from tracks, before anything else is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lgcvd.context import local_context
from lgcvd.progress import progress_bar
from lgcvd.video import from_uint8

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from lgcvd.config import TrainConfig
    from lgcvd.models import VideoDenoiser

CLIPS = 16_000
"""Clips that things are tracked through, or as many as the training sees."""

TRACKED = 32
"""Clips that are tracked together."""

BATCH, RATE = 256, 2e-3
"""Of Adam: windows a step, and the learning rate, which falls to 0 over the second half."""

EPOCHS = 96
"""How often every window is seen: tracking it takes far longer."""


def learn_paths(model: VideoDenoiser, data: Dataset, config: TrainConfig, progress: bool = True) -> None:
    """Let the things of ``model`` learn how they go on, from ``CLIPS`` of ``data``; all else stays as it is.

    Things are tracked through both ends of every clip, from known frames where the tasks of ``config`` place them.
    Pixels could not teach it: one that is carried to a wrong place does not tell where the right one was. Gives the
    same from the same seed. Items of ``data`` are clips (T or more, C, H, W) uint8, as for training.
    """
    device, generator = model.device, torch.Generator().manual_seed(config.seed)
    tracks = _tracks(model, data, config, generator, progress)
    model.motion.paths.requires_grad_(True)
    steps = max(1, EPOCHS * len(tracks[0]) // BATCH)
    optimizer = torch.optim.Adam(model.motion.paths.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 2 * (1 - step / steps)))
    for _ in progress_bar(iterable=range(steps), desc="learning paths", unit="step", disable=not progress):
        chosen = torch.randint(len(tracks[0]), (BATCH,), generator=generator).to(device)
        optimizer.zero_grad()
        model.motion.path_loss(*(part[chosen] for part in tracks)).backward()
        optimizer.step()
        schedule.step()
    model.motion.paths.requires_grad_(False)


@torch.no_grad()
def _tracks(
    model: VideoDenoiser, data: Dataset, config: TrainConfig, generator: torch.Generator, progress: bool
) -> tuple[Tensor, ...]:
    """Things, references and ways of windows: see ``splatting.Carried``."""
    frames, device, found = model.config.clip_frames, model.device, []
    clips = min(CLIPS, config.iterations * config.batch_size, len(data))
    with progress_bar(total=clips, desc="tracking things", unit="clip", disable=not progress) as bar:
        for first in range(0, clips, TRACKED):
            films = from_uint8(torch.stack([data[i] for i in range(first, min(first + TRACKED, clips))])).to(device)
            for window in (films[:, :frames], films[:, -frames:]):
                positions = config.tasks.draw(len(window), model.context_frames, frames, generator).to(device)
                evidence = model.prepare(local_context(window, positions), truth=window).evidence
                found.append((evidence.things, evidence.reference, evidence.ways))
            bar.update(len(films))
    return tuple(map(torch.cat, zip(*found, strict=True)))
