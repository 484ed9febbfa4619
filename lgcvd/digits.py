"""Moving digits (moving MNIST), made on the fly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lgcvd.errors import UserError
from lgcvd.files import ASSETS

Split = Literal["train", "validation", "test"]
Motion = Literal["reflect", "stochastic"]

CANVAS, DIGIT, MAX_STEP = 64, 28, 4


@cache
def mnist_digits(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) uint8 and labels (N,) of MNIST (LeCun et al. 1998), no digit in two splits.

    5,000 digits, 500 a class, ship with the package: 400 a class to train, 50 to validate, 50 to test.
    """
    with np.load(ASSETS / "mnist_digits.npz") as shipped:
        images, labels = shipped["images"], shipped["labels"]
    place = {"train": slice(0, 400), "validation": slice(400, 450), "test": slice(450, 500)}[split]
    shuffled = np.random.default_rng(0).permutation(len(labels))
    chosen = np.concatenate([shuffled[labels[shuffled] == digit][place] for digit in range(10)])
    return images[chosen], labels[chosen]


@dataclass(frozen=True)
class MovingDigits(Dataset):
    """Moving MNIST: digits that move in straight lines on a black 64 x 64 canvas, made on the fly.

    motion="reflect": digits bounce off the walls like balls (Srivastava et al. 2015).
    motion="stochastic": at a wall they leave in a random new direction (Denton and Fergus 2018).
    Both move by whole pixels, up to 4 a frame and axis, as Denton and Fergus's generator does, so that two frames
    determine a reflecting future; Srivastava's own positions are rounded from real ones, which two frames do not.

    Item ``i`` depends on (split, seed, i) and nothing else. Sizes other than 64 are the canvas averaged down.
    """

    split: Split = "train"
    length: int = 1_000_000
    frames: int = 30
    image_size: int = CANVAS
    digits: int = 2
    motion: Motion = "reflect"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.image_size < 1 or CANVAS % self.image_size:
            raise UserError(f"image_size must divide {CANVAS}, not {self.image_size}.")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        """Clip (frames, 1, image_size, image_size) uint8."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.clip_and_labels(index)[0]

    def clip_and_labels(self, index: int) -> tuple[Tensor, tuple[int, ...]]:
        """The clip and which digits move in it."""
        chosen, paths = self._scene(index)
        images, labels = mnist_digits(self.split)
        canvas = np.zeros((self.frames, CANVAS, CANVAS), np.uint8)
        for image, path in zip(images[chosen], paths, strict=True):
            for frame, (y, x) in zip(canvas, path, strict=True):
                place = frame[y : y + DIGIT, x : x + DIGIT]
                np.maximum(place, image, out=place)
        p = CANVAS // self.image_size
        canvas = (
            canvas.reshape(self.frames, self.image_size, p, self.image_size, p).mean((2, 4)).round().astype(np.uint8)
        )
        return torch.from_numpy(canvas)[:, None], tuple(int(label) for label in labels[chosen])

    def places(self, index: int) -> Tensor:
        """Centres of the digits on the 64 x 64 canvas: (digits, frames, 2), y and x in pixels."""
        return torch.from_numpy(self._scene(index)[1]).float() + DIGIT / 2

    def _scene(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Which images move, (digits,), and their top left corners, (digits, frames, 2)."""
        rng = np.random.default_rng([{"train": 0, "validation": 1, "test": 2}[self.split], self.seed, index])
        chosen = rng.integers(len(mnist_digits(self.split)[0]), size=self.digits)
        return chosen, np.stack([self._path(rng) for _ in chosen])

    def _path(self, rng: np.random.Generator) -> np.ndarray:
        """Top left corners (frames, 2)."""
        wall = CANVAS - DIGIT
        position = rng.integers(wall + 1, size=2)
        step = rng.integers(-MAX_STEP, MAX_STEP + 1, size=2)
        path = np.empty((self.frames, 2), int)
        for i in range(self.frames):
            path[i] = position
            position = position + step
            for axis in range(2):
                if 0 <= position[axis] <= wall:
                    continue
                low = position[axis] < 0
                if self.motion == "reflect":
                    position[axis] = -position[axis] if low else 2 * wall - position[axis]
                    step[axis] = -step[axis]
                else:
                    position[axis] = 0 if low else wall
                    step = rng.integers(-MAX_STEP, MAX_STEP + 1, size=2)
                    step[axis] = rng.integers(1, MAX_STEP + 1) * (1 if low else -1)
        return path
