"""The measures of predictions: what tables call them, with how many digits they are told, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """How a measure is told and judged; ``lgcvd.metrics`` computes it."""

    title: str
    """With its unit."""
    form: str
    """The format of its values."""
    higher_is_better: bool | None = None
    """None: by itself neither is."""

    def told(self, value: float, *interval: float, sign: str = "") -> str:
        """As in "17.26", or with the ends of an interval "17.26 [16.94, 17.60]"; ``sign``: "+" for a difference."""
        shown, *ends = (f"{number:{sign}{self.form}}" for number in (value, *interval))
        return f"{shown} [{', '.join(ends)}]" if ends else shown

    def best(self, values: Iterable[float]) -> float:
        """The best of some values."""
        return max(values) if self.higher_is_better else min(values)


MEASURES = {
    "psnr": Measure("PSNR, dB", ".2f", True),
    "ssim": Measure("SSIM", ".3f", True),
    "lpips": Measure("LPIPS", ".3f", False),
    "fvd": Measure("FVD", ".0f", False),
    "diversity": Measure("diversity", ".3f"),
    "ink": Measure("ink, predicted / true", ".2f"),
    "digits": Measure("digits recognised", ".0%", True),
    "in_place": Measure("digits recognised in place", ".0%", True),
}
"""By the names that they have in results files. For the last three, see ``lgcvd.digits_evaluation``."""

PAIRWISE = ("psnr", "ssim", "lpips")
"""Measures of a prediction against its own clip."""
METRICS = (*PAIRWISE, "fvd", "diversity")
"""All that ``lgcvd evaluate`` can measure: the names of ``--metrics``."""
