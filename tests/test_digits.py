from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lgcvd import MovingDigits, UserError
from lgcvd.digits import CANVAS, DIGIT, MAX_STEP, mnist_digits

LOW, HIGH = DIGIT / 2, CANVAS - DIGIT / 2
"""Where a digit's centre can be."""


def test_clip_depends_on_split_seed_and_index_only():
    data = MovingDigits(frames=5)
    assert torch.equal(data[3], replace(data)[3])
    others = [data[4], replace(data, seed=1)[3], replace(data, split="test")[3]]
    assert all(not torch.equal(data[3], other) for other in others)
    assert torch.equal(data[3], replace(data, length=10, frames=8)[3][:5])


def test_splits_share_no_digit():
    splits = {split: {image.tobytes() for image in mnist_digits(split)[0]} for split in ("train", "validation", "test")}
    train, validation, test = splits.values()
    assert len(train | validation | test) == len(train) + len(validation) + len(test)
    for split, a_class in {"train": 400, "validation": 50, "test": 50}.items():
        assert np.bincount(mnist_digits(split)[1]).tolist() == [a_class] * 10


def test_clip_is_bright_digits_on_black_in_range():
    clip = MovingDigits()[0]
    assert (clip.shape, clip.dtype) == ((30, 1, 64, 64), torch.uint8)
    assert (clip.min(), clip.max()) == (0, 255)
    assert 0.5 < (clip == 0).float().mean() < 0.98


def test_places_are_where_the_digits_are():
    data = MovingDigits(digits=1, frames=3)
    for frame, (y, x) in zip(data[0], data.places(0)[0].int().tolist(), strict=True):
        ink = frame[0] > 0
        assert ink[y - 14 : y + 14, x - 14 : x + 14].sum() == ink.sum() > 0


def test_labels_name_the_moving_digits():
    images, labels = mnist_digits("test")
    data = MovingDigits(split="test", digits=1, frames=1)
    clip, (label,) = data.clip_and_labels(5)
    y, x = data.places(5)[0, 0].int().tolist()
    digit = clip[0, 0, y - 14 : y + 14, x - 14 : x + 14].numpy()
    assert label in labels[(images == digit).all((1, 2))]


@given(index=st.integers(0, 10_000))
def test_reflecting_digits_bounce_like_balls_so_their_future_is_determined(index: int):
    path = MovingDigits(frames=60).places(index).numpy()
    frame = np.arange(60)
    for axis in path.reshape(2, 60, 2).transpose(0, 2, 1).reshape(4, 60):
        unfolded = axis[0] - LOW + frame * np.arange(-MAX_STEP, MAX_STEP + 1)[:, None]
        balls = LOW + (HIGH - LOW) - abs(unfolded % (2 * (HIGH - LOW)) - (HIGH - LOW))
        assert (balls == axis).all(1).any()


@given(index=st.integers(0, 10_000))
def test_stochastic_digits_stay_inside_and_go_straight_between_walls(index: int):
    path = MovingDigits(frames=60, motion="stochastic").places(index).numpy()
    assert path.min() >= LOW
    assert path.max() <= HIGH
    assert abs(np.diff(path, axis=1)).max() <= MAX_STEP
    for digit in path:
        turned = (np.diff(digit, 2, axis=0) != 0).any(1)
        at_wall = ((digit == LOW) | (digit == HIGH)).any(1)
        assert (at_wall[1:-1] | at_wall[2:])[turned].all()


def test_stochastic_digits_leave_a_wall_in_many_directions():
    data, left = MovingDigits(frames=60, motion="stochastic"), set()
    for index in range(50):
        for digit in data.places(index).numpy():
            hits = np.flatnonzero((digit[1:-1, 0] == LOW) & (digit[:-2, 0] > LOW) & (digit[2:, 0] > LOW))
            left |= {tuple(digit[hit + 2] - digit[hit + 1]) for hit in hits}
    assert {step[0] for step in left} == {1, 2, 3, 4}
    assert len({step[1] for step in left}) >= 2 * MAX_STEP


def test_smaller_sizes_are_the_canvas_averaged():
    large, small = MovingDigits(frames=4)[7], MovingDigits(frames=4, image_size=32)[7]
    assert small.shape == (4, 1, 32, 32)
    averaged = torch.nn.functional.avg_pool2d(large.float(), 2)
    assert (small - averaged).abs().max() <= 0.5


@pytest.mark.parametrize("image_size", [0, 48, 128])
def test_sizes_that_do_not_divide_the_canvas_are_refused(image_size: int):
    with pytest.raises(UserError, match="must divide 64"):
        MovingDigits(image_size=image_size)


def test_a_finite_data_set_ends():
    assert sum(len(batch) for batch in DataLoader(MovingDigits(length=5, frames=2), batch_size=2)) == 5
    with pytest.raises(IndexError):
        MovingDigits(length=5)[5]
