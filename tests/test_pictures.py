"""Pictures to look at: they tell what was given from what was made."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lgcvd import UserError, pictures
from lgcvd.pictures import OBSERVED, PREDICTED, sheet
from lgcvd.video import from_uint8, read_clip, to_uint8

quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def share(image: Tensor, colour: tuple[int, int, int]) -> float:
    """Share of the pixels of (3, H, W) that have this colour."""
    return float((to_uint8(image) == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0).float().mean())


@quick
@given(height=st.integers(1, 30), width=st.integers(1, 30), wanted=st.integers(1, 100))
def test_enlarging_repeats_pixels(height: int, width: int, wanted: int):
    frame = torch.rand(1, height, width)
    large = pictures.upscale(frame, wanted)
    factor = large.shape[-2] // height
    assert large.shape == (1, factor * height, factor * width)
    assert torch.equal(large[:, ::factor, ::factor], frame)
    assert abs(large.shape[-2] - wanted) <= max(height / 2, height - wanted)


def test_a_border_surrounds_the_frame_and_nothing_else():
    frames = torch.rand(2, 1, 8, 6) * 2 - 1
    framed = pictures.with_border(frames, pictures.OBSERVED, 2)
    assert framed.shape == (2, 3, 12, 10)
    assert torch.equal(framed[..., 2:-2, 2:-2], frames.expand(-1, 3, -1, -1))
    assert share(framed[0], pictures.OBSERVED) == pytest.approx(1 - 48 / 120)


@pytest.mark.parametrize(("channels", "size"), [(1, (64, 64)), (3, (17, 23)), (1, (16, 40))])
def test_side_by_side_tells_observed_from_predicted(channels: int, size: tuple[int, int]):
    truth, prediction = torch.zeros(5, channels, *size), torch.zeros(8, channels, *size)
    frames = pictures.side_by_side(truth, prediction, 2)
    assert frames.shape[:2] == (8, 3)
    assert frames.min() >= -1
    assert frames.max() <= 1
    middle = frames.shape[-1] // 2
    body = frames[:, :, :-64]  # without the foot, whose time line has the same colours
    for index, frame in enumerate(body):
        left, right = frame[..., :middle], frame[..., middle:]
        assert (share(left, pictures.OBSERVED) > 0.01) == (index < 2)
        assert (share(right, pictures.OBSERVED) > 0.01) == (index < 2)
        assert (share(left, pictures.NEUTRAL) > 0.01) == (2 <= index < 5)
        assert (share(right, pictures.PREDICTED) > 0.01) == (index >= 2)
        assert (share(left, pictures.DARK) > 0.3) == (index >= 5)


def test_without_truth_there_is_one_panel():
    clip = torch.zeros(3, 1, 16, 16)
    alone, beside = pictures.side_by_side(None, clip, 2), pictures.side_by_side(clip, clip, 2)
    assert alone.shape[-1] < 0.6 * beside.shape[-1]
    assert all(share(frame, pictures.DARK) < 0.1 for frame in alone)


@quick
@given(observed=st.lists(st.booleans(), min_size=1, max_size=40), columns=st.integers(1, 15))
def test_a_strip_shows_the_new_frames_among_given_ones(observed: list[bool], columns: int):
    shown = pictures._columns(observed, columns)
    assert shown == sorted(set(shown))
    assert len(shown) == min(columns, len(observed))
    if any(later and not before for before, later in pairwise(observed)):
        made = [i for i, given in enumerate(observed) if not given]
        assert len(set(shown) & set(made)) >= min(columns - columns // 3, len(made))


@quick
@given(length=st.integers(1, 40), context=st.integers(0, 12), columns=st.integers(1, 15), real=st.integers(0, 40))
def test_strips_of_any_length_can_be_drawn(length: int, context: int, columns: int, real: int):
    rows = {"truth": torch.zeros(real, 1, 8, 8), "prediction": torch.zeros(length, 1, 8, 8)}
    assert pictures.filmstrip(rows, context, columns).shape[0] == 3
    shown = pictures._columns([i < context for i in range(length)], columns)
    assert shown == sorted(set(shown))
    assert len(shown) == min(columns, length)
    assert shown[0] >= 0
    assert shown[-1] == length - 1 or columns == 1


def test_only_predicted_rows_of_a_strip_are_blue():
    frames = torch.zeros(6, 1, 16, 16)
    alone = pictures.filmstrip({"clip": frames}, 2)
    assert share(alone, pictures.PREDICTED) == 0
    assert share(alone, pictures.OBSERVED) > 0
    dreamt = pictures.filmstrip({"prediction": frames}, 0)
    assert share(dreamt, pictures.OBSERVED) == 0, "the legend does not tell what is not there"
    both = pictures.filmstrip({"truth": frames, "prediction": frames}, 2)
    top, *rest = both.chunk(3, dim=1)
    assert share(top, pictures.PREDICTED) == 0
    assert share(top, pictures.NEUTRAL) > 0.01
    assert share(rest[0], pictures.PREDICTED) > 0.01


def test_borders_tell_given_frames_from_made_ones():
    frame = torch.zeros(1, 16, 16)
    picture = to_uint8(sheet([("row", [(frame, OBSERVED), (frame, PREDICTED), (None, PREDICTED)])]))
    colours = {tuple(pixel) for pixel in picture.flatten(1).T.tolist()}
    assert OBSERVED in colours
    assert PREDICTED in colours
    made = (picture == torch.tensor(PREDICTED)[:, None, None]).all(0).nonzero()[:, 1]
    given = (picture == torch.tensor(OBSERVED)[:, None, None]).all(0).nonzero()[:, 1]
    assert given.max() < made.min()
    assert made.max() - made.min() == given.max() - given.min()  # the frame that is not there has no border


def test_png_comes_back_exactly(tmp_path: Path):
    image = from_uint8(torch.randint(256, (3, 9, 7), dtype=torch.uint8))
    pictures.write_image(tmp_path / "a.png", image)
    assert torch.equal(read_clip(tmp_path, (9, 7), 3).frames[0], image)


def test_pictures_are_written_as_png_alone(tmp_path: Path):
    with pytest.raises(UserError, match=r"end it in .png"):
        pictures.write_image(tmp_path / "a.jpg", torch.zeros(1, 8, 8))
