"""A small network that finds and names the digits in a frame, wherever they are: the judge of predicted moving digits.

``data_tools/train_digit_classifier.py`` trained it, on real digits of the train split only. In real frames of test
clips it finds 91 % of the digits: nearly all where the two lie apart, about seven in ten where one covers much of the
other. So a prediction's share is to be read beside the share of real frames.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lgcvd.digits import CANVAS, MAX_STEP
from lgcvd.files import ASSETS

WEIGHTS = ASSETS / "digit_classifier.safetensors"
CELL = 4
"""Side of a cell of the score map in pixels of the 64 x 64 canvas."""
THRESHOLD = 0.4
"""Scores below this are no digit; chosen on validation digits."""
IN_PLACE = float(MAX_STEP)
"""Pixels by which a digit may miss its true place (either axis) and still be in it: its largest move in one frame."""


class DigitClassifier(nn.Module):
    """Frames (M, 1, 64, 64) in [-1, 1] -> score logits (M, 10, 16, 16): how surely a digit is centred in each cell.

    Classes do not compete, so that digits which overlap can both be read.
    """

    def __init__(self, width: int = 96):
        super().__init__()

        def conv(narrow: int, wide: int, stride: int = 1, side: int = 3) -> nn.Sequential:
            layer = nn.Conv2d(narrow, wide, side, stride, padding=side // 2, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(wide), nn.ReLU())

        self.layers = nn.Sequential(
            conv(1, 16, 2, side=5),
            conv(16, 32, 2),
            conv(32, width, 2),
            conv(width, width),
            conv(width, width),
            nn.Conv2d(width, 40, 1),
            nn.PixelShuffle(2),
        )

    def forward(self, frames: Tensor) -> Tensor:
        return self.layers(frames)


@cache
def shipped_classifier() -> DigitClassifier:
    """The trained network, in eval mode."""
    classifier = DigitClassifier()
    classifier.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return classifier.eval()


@torch.no_grad()
def find_digits(frames: Tensor, count: int, classifier: DigitClassifier | None = None) -> tuple[Tensor, Tensor]:
    """The ``count`` surest digits of each frame: labels (M, count), -1 where no more are seen, and centres.

    frames: (M, 1, S, S) in [-1, 1]; sizes other than 64 are scaled to it.
    centres: (M, count, 2), y and x in pixels of the 64 x 64 canvas.
    """
    classifier = classifier or shipped_classifier()
    frames = F.interpolate(frames, (CANVAS, CANVAS), mode="bilinear") if frames.shape[-1] != CANVAS else frames
    scores = torch.cat([classifier(part).sigmoid() for part in frames.split(256)])
    grid = cell_centres()
    labels, centres = [], []
    for _ in range(count):
        best, where = scores.flatten(1).max(1)
        label, cell = where // len(grid), where % len(grid)
        # the bump around the best cell: its centre of mass is finer than a cell, and nothing else may be found there
        bump = ((grid[cell][:, None] - grid).square().sum(-1) <= (2 * CELL) ** 2).float()
        of_label = scores[torch.arange(len(scores)), label].flatten(1)
        weights = bump * of_label
        labels.append(torch.where(best > THRESHOLD, label, -1))
        centres.append(weights @ grid / weights.sum(1, keepdim=True).clamp(min=1e-9))
        scores = scores.clone()
        scores[torch.arange(len(scores)), label] = (of_label * (1 - bump)).unflatten(1, scores.shape[-2:])
    return torch.stack(labels, 1), torch.stack(centres, 1)


def recognised(
    frames: Tensor, labels: Tensor, centres: Tensor, classifier: DigitClassifier | None = None
) -> tuple[Tensor, Tensor]:
    """Share of each frame's true digits that the (shipped) classifier finds in it: anywhere, and in their place, (M,).

    As many digits are read as there truly are, so showing more cannot help; each answers for one true digit at most.
    In place means within ``IN_PLACE`` pixels of the true centre.

    labels, centres: of the digits that should be there, (M, D) and (M, D, 2) as ``find_digits`` gives them.
    """
    found, found_centres = find_digits(frames, labels.shape[1], classifier)
    named = found[:, :, None] == labels[:, None]
    near = (found_centres[:, :, None] - centres[:, None]).abs().amax(-1) <= IN_PLACE
    return _best_matching(named), _best_matching(named & near)


def _best_matching(match: Tensor) -> Tensor:
    """Largest share of columns that different rows can match: (M, D, D) -> (M,)."""
    rows = range(match.shape[1])
    pairings = [match[:, rows, order].float().mean(1) for order in permutations(rows)]
    return torch.stack(pairings).amax(0)


def cell_centres() -> Tensor:
    """Centres of all cells, (256, 2), y and x in pixels."""
    axis = torch.arange(CANVAS // CELL) * CELL + CELL / 2
    return torch.cartesian_prod(axis, axis)
