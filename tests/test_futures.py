from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lgcvd import LGCVD, Futures, UserError, futures, predict, seeded
from lgcvd.pictures import HEAT, heat_map
from lgcvd.video import to_uint8


def test_every_future_is_what_its_seed_gives_alone(tiny_model: LGCVD, digits_clip: Tensor):
    *_, window = futures(tiny_model, digits_clip[:, :2], 3, seed=5, num_frames=7, steps=2)
    alone = [predict(tiny_model, digits_clip[:, :2], 7, steps=2, generator=seeded(5 + i)) for i in range(3)]
    torch.testing.assert_close(window.video, torch.cat(alone), atol=1e-3, rtol=0)
    made = Futures(window.video, window.given)
    assert made.spread[:2].max() == 0
    assert made.spread[2:].mean() > 0.01
    torch.testing.assert_close(made.mean[:2], digits_clip[0, :2])


def test_best_and_worst_are_by_the_new_frames_that_have_a_truth():
    truth = torch.zeros(3, 1, 8, 8)
    videos = torch.stack([torch.full((4, 1, 8, 8), level) for level in (0.5, -0.1, 0.9)])
    made = Futures(videos, (True, False, False, False))
    assert made.ranked(truth) == [1, 0, 2]
    panels = made.panels(truth)
    assert list(panels) == ["best", "worst", "mean", "spread"]
    assert torch.equal(panels["best"], videos[1])
    assert torch.equal(panels["worst"], videos[2])
    assert list(made.panels(truth[:1])) == list(made.panels()) == ["future 1", "future 2", "mean", "spread"]
    with pytest.raises(UserError, match="none of the new frames"):
        made.ranked(truth[:1])


def test_dreams_can_be_many(tiny_model: LGCVD):
    *_, window = futures(tiny_model, None, 2, task="generate", num_frames=8, steps=1)
    assert window.video.shape == (2, 8, 1, 16, 16)


@pytest.mark.parametrize(("clips", "count", "words"), [(1, 0, "between 1 and 64"), (2, 2, "of one clip, not of 2")])
def test_impossible_numbers_are_refused(tiny_model: LGCVD, clips: int, count: int, words: str):
    with pytest.raises(UserError, match=words):
        next(futures(tiny_model, torch.zeros(clips, 2, 1, 16, 16), count, num_frames=1))


def test_heat_is_dark_to_bright():
    values = torch.tensor([-1, 0, 0.25, 0.5, 0.75, 1, 2]).reshape(-1, 1, 1, 1)
    expected = [HEAT[0], *HEAT, HEAT[-1]]
    assert [tuple(colour) for colour in to_uint8(heat_map(values)).flatten(1).tolist()] == expected
    brightness = heat_map(torch.linspace(0, 1, 50).reshape(-1, 1, 1, 1)).mean((1, 2, 3))
    assert (brightness.diff() > 0).all()
