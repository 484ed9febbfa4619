"""How measures are told, and which values are better."""

from __future__ import annotations

from lgcvd.measures import MEASURES


def test_values_are_told_with_their_digits_intervals_and_signs():
    assert MEASURES["psnr"].told(17.256) == "17.26"
    assert MEASURES["lpips"].told(0.0161, 0.0, 0.02, sign="+") == "+0.016 [+0.000, +0.020]"
    assert MEASURES["digits"].told(0.5, 0.25, 1) == "50% [25%, 100%]"


def test_the_best_is_the_highest_of_what_should_be_high():
    assert {name: MEASURES[name].best([1, 2]) for name in ("psnr", "ssim", "lpips", "fvd")} == {
        "psnr": 2,
        "ssim": 2,
        "lpips": 1,
        "fvd": 1,
    }
