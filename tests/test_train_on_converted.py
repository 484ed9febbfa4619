"""From what is published to a trained model: every converter's output is trained on by the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools import (
    bair_convert,
    cityscapes_convert,
    folder_convert,
    kth_convert,
    lerobot_convert,
    moving_mnist_convert,
    simulate_pushing,
    ucf101_convert,
)
from lgcvd.__main__ import main
from tests import test_convert_bair as bair
from tests import test_convert_cityscapes as cityscapes
from tests import test_convert_kth as kth
from tests import test_convert_lerobot as lerobot
from tests.media import noise, write_clip

FRAMES = 14
"""What a training clip of the preset ``tiny`` has."""


def from_bair(folder: Path, options: list[str]) -> int:
    (folder / "train").mkdir()
    (folder / "train" / "a.tfrecords").write_bytes(bair.record(bair.example(bair.features("train", 0))))
    return bair_convert.run(["--bair_dir", str(folder), *options])


def from_cityscapes(folder: Path, options: list[str]) -> int:
    for frame in range(30):
        path = folder / cityscapes.frame_path("train", "ulm", 0, frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cityscapes.picture("ulm", 0, frame)).save(path)
    return cityscapes_convert.run(["--leftImg8bit_sequence_dir", str(folder), *options])


def from_folder(folder: Path, options: list[str]) -> int:
    (folder / "train").mkdir()
    write_clip(folder / "train" / "a.mp4", noise(FRAMES, 32))
    return folder_convert.run(["--videos_dir", str(folder), *options])


def from_kth(folder: Path, options: list[str]) -> int:
    kth.write(folder, "person01_boxing_d1", kth.scene(0, FRAMES))
    return kth_convert.run(["--kth_dir", str(folder), *options])


def from_lerobot(version: str) -> Callable[[Path, list[str]], int]:
    def convert(folder: Path, options: list[str]) -> int:
        lerobot.WRITERS[version](folder)
        return lerobot_convert.run(["--dataset_dir", str(folder), "--camera", "top", "--episodes", "2:", *options])

    return convert


def from_published_digits(folder: Path, options: list[str]) -> int:
    np.save(folder / "mnist_test_seq.npy", np.zeros((20, 2, 64, 64), np.uint8))
    done = moving_mnist_convert.run(["--npy", str(folder / "mnist_test_seq.npy"), *options])
    Path(options[1], "test").rename(Path(options[1], "train"))  # the published set is for testing only
    return done


def from_generated_digits(folder: Path, options: list[str]) -> int:
    return moving_mnist_convert.run(["--generate", "train=2", "--frames", str(FRAMES), *options])


def from_simulation(folder: Path, options: list[str]) -> int:
    return simulate_pushing.run(["--clips", "1", *options])


def from_ucf101(folder: Path, options: list[str]) -> int:
    name = "YoYo/v_YoYo_g01_c01.avi"
    (folder / "YoYo").mkdir()
    write_clip(folder / name, noise(FRAMES, 32), codec="mpeg4", rate=25, options={})
    for kind in ("train", "test"):
        (folder / f"{kind}list01.txt").write_text(f"{name.replace('g01', 'g01' if kind == 'train' else 'g02')} 1\n")
    return ucf101_convert.run(["--ucf_dir", str(folder), "--splits_dir", str(folder), *options])


SOURCES = {
    "BAIR": (from_bair, 3),
    "Cityscapes": (from_cityscapes, 3),
    "a folder": (from_folder, 3),
    "KTH": (from_kth, 1),
    "LeRobot 2.1": (from_lerobot("v2.1"), 3),
    "LeRobot 3.0": (from_lerobot("v3.0"), 3),
    "moving MNIST, published": (from_published_digits, 1),
    "moving MNIST, generated": (from_generated_digits, 1),
    "simulated pushing": (from_simulation, 3),
    "UCF101": (from_ucf101, 3),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_converter_writes_is_trained_on(name: str, tmp_path: Path):
    convert, channels = SOURCES[name]
    (source := tmp_path / "source").mkdir()
    out, run = tmp_path / "out", tmp_path / "run"
    code = convert(source, ["--out_dir", str(out), "--image_size", "16", "--workers", "1"])
    assert code == (3 if name == "UCF101" else 0)  # whose list for testing names what is not there
    options = ["--model.channels", str(channels), "--model.dim", "24", "--train.iterations", "2", "--train.warmup", "0"]
    options += ["--validation-clips", "1"]
    assert main(["train", "tiny", "--folder", str(run), "--data", str(out), "--device", "cpu", *options]) == 0
    with (run / "losses.csv").open() as table:
        losses = [float(row["stage1"]) for row in csv.DictReader(table)]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert (run / "model" / "model.safetensors").exists()
