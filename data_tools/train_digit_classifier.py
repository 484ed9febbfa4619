"""Train the digit classifier that ships with the package, and say how well it reads real frames.

    python data_tools/train_digit_classifier.py --out lgcvd/assets/digit_classifier.safetensors

It sees the train digits only; the validation and test digits are used for the two reports at the end. It takes
about five minutes on one free CPU core.
"""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import trange

from lgcvd.digit_classifier import CELL, DigitClassifier, cell_centres, recognised
from lgcvd.digits import CANVAS, DIGIT, MovingDigits, mnist_digits
from lgcvd.program import run_as_program
from lgcvd.video import from_uint8

SPREAD = 5.0
"""Standard deviation of the bump that a digit leaves in the target scores, in pixels."""


def draw_frames(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Frames (B, 1, 64, 64) of two train digits with their target scores (B, 10, 16, 16).

    Digits are turned, sheared and scaled a little, moved anywhere, and overlap as in the clips; a fifth is absent. The
    frames are then softened, dimmed, coarsened (32 x 32) and made noisy, as a good prediction may be. Digits that are
    blurred or faint beyond reading, or that are the mean of several, are shown as what is not to be recognised.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    images, labels = (torch.from_numpy(x) for x in mnist_digits("train"))
    canvas, scores = torch.zeros(batch, 1, CANVAS, CANVAS), torch.zeros(batch, 10, (CANVAS // CELL) ** 2)
    for _ in range(2):
        chosen = torch.randint(len(images), (4, batch), generator=generator)
        digit, label = images[chosen].float() / 255, labels[chosen[0]].long()
        kind = uniform(0, 1, batch)
        mean, blurred, faint, absent = (
            kind < 0.05,
            (kind > 0.05) & (kind < 0.1),
            (kind > 0.1) & (kind < 0.13),
            kind > 0.8,
        )
        digit = _affine(digit, uniform(-0.2, 0.2, batch), uniform(-0.15, 0.15, batch), uniform(0.88, 1.12, batch))
        digit[0, mean] = digit[:, mean].mean(0)
        digit[0, blurred] = _blur(digit[0, blurred], float(uniform(3, 5, 1)))
        digit[0, faint] *= float(uniform(0, 0.15, 1))
        digit[0, absent] = 0

        corner = torch.randint(CANVAS - DIGIT + 1, (batch, 2), generator=generator)
        for picture, place, (y, x) in zip(digit[0], canvas[:, 0], corner.tolist(), strict=True):
            here = place[y : y + DIGIT, x : x + DIGIT]
            torch.maximum(here, picture, out=here)
        distance = (cell_centres() - corner[:, None] - DIGIT / 2).square().sum(-1)
        bump = torch.exp(-distance / (2 * SPREAD**2))
        bump[kind < 0.13] = 0
        bump[absent] = 0
        rows = torch.arange(batch)
        scores[rows, label] = torch.maximum(scores[rows, label], bump)

    soft, coarse = uniform(0, 1, batch) < 0.4, uniform(0, 1, batch) < 0.25
    canvas[soft] = _blur(canvas[soft, 0], 0.8)[:, None]
    canvas[coarse] = F.interpolate(F.avg_pool2d(canvas[coarse], 2), scale_factor=2, mode="bilinear")
    canvas = canvas * uniform(0.6, 1.1, batch, 1, 1, 1)
    canvas = canvas + uniform(0, 0.1, batch, 1, 1, 1) * torch.randn(canvas.shape, generator=generator)
    return canvas.clamp(0, 1) * 2 - 1, scores.unflatten(2, (CANVAS // CELL, CANVAS // CELL))


def _affine(digits: Tensor, turn: Tensor, shear: Tensor, scale: Tensor) -> Tensor:
    """Digits (n, B, 28, 28), turned by ``turn`` (B,) radians, sheared and scaled about their centre."""
    linear = torch.stack([turn.cos(), turn.sin() + shear, -turn.sin(), turn.cos()], 1).unflatten(1, (2, 2))
    theta = F.pad(linear / scale[:, None, None], (0, 1))
    grid = F.affine_grid(theta, [digits.shape[1], 1, DIGIT, DIGIT], align_corners=False)
    return F.grid_sample(digits.transpose(0, 1), grid, align_corners=False).transpose(0, 1)


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Images (B, H, W) after a Gaussian of standard deviation ``sigma`` pixels."""
    reach = math.ceil(2.5 * sigma)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1, 1)
    return F.conv2d(F.conv2d(images[:, None], kernel, padding=(reach, 0)), kernel.mT, padding=(0, reach))[:, 0]


def fit(iterations: int, batch: int = 64, rate: float = 3e-3, seed: int = 0) -> DigitClassifier:
    """Train a classifier; the loss is binary cross-entropy of every cell's score."""

    torch.manual_seed(seed)  # initial weights
    classifier, generator = DigitClassifier().to(memory_format=torch.channels_last), torch.Generator().manual_seed(seed)
    nn.init.constant_(classifier.layers[-2].bias, -4)  # most cells are empty
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=rate, weight_decay=1e-2)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, iterations, pct_start=0.1)
    bar = trange(iterations, mininterval=5)
    for _ in bar:
        frames, scores = draw_frames(batch, generator)
        loss = F.binary_cross_entropy_with_logits(classifier(frames), scores) * 100
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return classifier.eval()


def report(classifier: DigitClassifier, split: str, image_size: int, clips: int = 500) -> str:
    """What share the classifier finds in frames 1, 11 and 21 of real clips, and in frames that nobody could read."""
    data = MovingDigits(split, length=clips, frames=21, image_size=image_size, seed=1)
    items = [data.clip_and_labels(i) for i in range(clips)]
    frames = from_uint8(torch.cat([clip[::10] for clip, _ in items]))
    labels = torch.tensor([labels for _, labels in items]).repeat_interleave(3, 0)
    centres = torch.cat([data.places(i)[:, ::10].transpose(0, 1) for i in range(clips)])
    kinds = {
        "real": frames,
        "blurred by 4 px": _blur((frames[:, 0] + 1) / 2, 4 * image_size / CANVAS)[:, None] * 2 - 1,
        "mean frame": frames.mean(0, keepdim=True).expand_as(frames),
        "noise": torch.rand(frames.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1,
        "blank": torch.full_like(frames, -1),
    }
    shares = []
    for kind, judged in kinds.items():
        anywhere, in_place = recognised(judged, labels, centres, classifier)
        shares.append(f"{kind} {anywhere.mean():.1%} ({in_place.mean():.1%} in place)")
    return f"{split}, {image_size} px: " + ", ".join(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="file to write, .safetensors")
    parser.add_argument("--iterations", type=int, default=2000)
    options = parser.parse_args()
    classifier = fit(options.iterations)
    weights = classifier.state_dict()
    save_file(
        {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}, options.out
    )
    for split in ("validation", "test"):
        for image_size in (64, 32):
            print(report(classifier, split, image_size))


if __name__ == "__main__":
    run_as_program(main)
