"""What a mean over clips is worth: intervals and paired tests, always with the same random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def bootstrap_interval(values: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean of ``values`` (n,): quantiles of the means of resamples, always the same ones."""
    drawn = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return float(low), float(high)


def mean_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean of ``values`` (n,), and the two ends of its interval."""
    return float(values.mean()), *bootstrap_interval(values)


@dataclass(frozen=True)
class PairedTest:
    """A mean difference over clips."""

    difference: float
    low: float
    high: float
    """95 % bootstrap interval."""
    p: float
    """How often random signs of the differences give as large a mean."""


def paired_test(a: np.ndarray, b: np.ndarray, flips: int = 10_000) -> PairedTest:
    """``a - b`` for the same clips (n,): the mean, its interval, and a sign-flip permutation test; always the same."""
    difference = a - b
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(flips, len(difference)))
    as_large = np.abs(signs @ difference) >= abs(difference.sum()) * (1 - 1e-9)
    return PairedTest(*mean_with_interval(difference), (1 + as_large.sum()) / (1 + flips))
