from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgcvd.metrics import MAX_PSNR, psnr, ssim
from lgcvd.video import from_uint8


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    with np.load(Path(__file__).parent / "fixtures" / "metrics.npz") as file:
        clips = {name: from_uint8(torch.from_numpy(file[name]).movedim(-1, 2)) for name in ("clips", "other")}
        return clips | {name: torch.from_numpy(file[name]) for name in ("psnr", "ssim_uniform_rgb")}


@pytest.mark.parametrize(("metric", "name"), [(psnr, "psnr"), (ssim, "ssim_uniform_rgb")])
def test_recorded_values_are_met(recorded, metric, name):
    ours = metric(recorded["clips"], recorded["other"])
    assert ours.shape == recorded[name].shape
    assert (ours - recorded[name]).abs().max() < 1e-4


def test_identical_frames_reach_the_ceiling(recorded):
    assert (psnr(recorded["clips"], recorded["clips"]) == MAX_PSNR).all()
    torch.testing.assert_close(ssim(recorded["clips"], recorded["clips"]), torch.ones(4, 16), atol=1e-4, rtol=0)


@given(error=st.floats(0.01, 1.0), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_psnr_of_a_constant_error_is_its_formula(error, seed):
    a = torch.rand(1, 2, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) - 1
    expected = 20 * np.log10(2 / error)
    torch.testing.assert_close(psnr(a, a + error), torch.full((1, 2), expected, dtype=torch.float32), atol=0.01, rtol=0)


def test_frames_are_judged_one_by_one(recorded):
    a, b = recorded["clips"][:1], recorded["other"][:1].clone()
    before = ssim(a, b), psnr(a, b)
    b[:, 3] = a[:, 3]
    after = ssim(a, b), psnr(a, b)
    for old, new in zip(before, after, strict=True):
        changed = (old != new).nonzero().tolist()
        assert changed == [[0, 3]]


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_wrong_ranges_and_shapes_are_refused(metric):
    good = torch.zeros(1, 2, 1, 8, 8)
    for bad in (good + 1.5, good - 1.5, good + torch.nan):
        with pytest.raises(ValueError, match=r"\[-1, 1\]"):
            metric(good, bad)
    with pytest.raises(ValueError, match="must both be"):
        metric(good, good[:, :1])
    with pytest.raises(ValueError, match="at least 7 x 7"):
        ssim(good[..., :6], good[..., :6])
