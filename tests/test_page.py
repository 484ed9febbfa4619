"""What the demo page makes, without its widgets."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lgcvd.material import Material
from lgcvd.page.answers import without_model
from lgcvd.page.wish import Wish


def test_what_the_page_makes_needs_none_of_its_packages():
    code = "import sys, lgcvd.page.prediction; print({'gradio', 'pandas'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_copy_of_the_past_repeats_its_first_given_frame(digits_clip):
    observed = digits_clip[0, 3:5]
    material = Material(observed, {"task": "past", "num_frames": 3}, None, 10)
    film = without_model(["copy-last-frame"], material)["copy-last-frame"]
    assert torch.equal(film, torch.cat([observed[:1]] * 4 + [observed[1:]]))


def test_baselines_of_a_gap_are_made_of_the_frames_around_it(digits_clip):
    observed = digits_clip[0, :4]
    material = Material(observed, {"known": [True, True, False, False, True, False, True]}, None, 10)
    films = without_model(["copy-last-frame", "mean-frame", "blank-frame", "optical-flow"], material)
    assert torch.equal(films["copy-last-frame"], observed[[0, 1, 1, 2, 2, 2, 3]])
    assert torch.equal(films["mean-frame"][[0, 1, 4, 6]], observed)
    assert torch.equal(films["mean-frame"][3], observed.mean(0))
    assert set(films["blank-frame"][5].unique().tolist()) == {-1}
    assert "optical-flow" not in films


@pytest.mark.parametrize(
    ("written", "numbers"), [("3, 6", (3, 6)), ("3-6", (3, 4, 5, 6)), ("2; 8 - 7", (2, 7, 8)), ("5 6", (5, 6))]
)
def test_missing_frames_are_numbers_and_ranges(written, numbers):
    assert Wish(0, 7, "ddim", 2, 3, missing=written).missing_frames() == numbers
