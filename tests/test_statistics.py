"""Intervals and tests say as much as they claim."""

from __future__ import annotations

import numpy as np
import pytest

from lgcvd.statistics import bootstrap_interval, paired_test


def test_interval_contains_the_mean_and_shrinks_with_more_values():
    values = np.random.default_rng(1).normal(5, 1, 400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_equal_predictions_differ_by_nothing():
    values = np.random.default_rng(0).normal(size=50)
    test = paired_test(values, values)
    assert (test.difference, test.low, test.high, test.p) == (0, 0, 0, 1)


def test_sign_flips_of_noise_are_significant_as_often_as_they_say():
    rng = np.random.default_rng(0)
    p = [paired_test(rng.normal(size=25), rng.normal(size=25), flips=500).p for _ in range(300)]
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.1


def test_three_clips_cannot_be_significant():
    assert paired_test(np.array([1.0, 1, 1]), np.zeros(3)).p > 0.2  # 2 of 8 sign patterns are as large
