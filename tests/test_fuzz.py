"""Damaged input of every kind: what comes out is a sentence, or a video that the converter lists as skipped."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
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
    ucf101_convert,
)
from lgcvd import UserError, convert
from tests import test_convert_bair as bair
from tests import test_convert_cityscapes as cityscapes
from tests import test_convert_kth as kth
from tests import test_convert_lerobot as lerobot
from tests.media import flat, noise, write_clip, write_gif

TIMES = int(os.environ.get("LGCVD_FUZZ", "1"))
"""So many times the usual number of cases."""

Listing = Callable[[], Sequence[convert.Video]]
"""What a converter finds in the folder that it was made for."""


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, or some bits or a stretch changed; half of the time near an end, where headers and indices are."""
    edge = min(len(data), 400)
    place = int(rng.choice([rng.integers(len(data)), rng.integers(edge), len(data) - 1 - rng.integers(edge)]))
    kind, changed = rng.choice(["cut", "stretch", "bits"], p=[0.2, 0.2, 0.6]), bytearray(data)
    if kind == "cut":
        del changed[place:]
    elif kind == "stretch":
        changed[place : place + 20] = rng.bytes(len(changed[place : place + 20]))
    else:
        for at in [place, *rng.integers(len(data), size=rng.integers(8))]:
            changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def tfrecords(folder: Path) -> Listing:
    for split in ("train", "test"):
        (folder / split).mkdir()
        record = bair.record(bair.example(bair.features(split, 0)))
        (folder / split / "traj_0_to_1.tfrecords").write_bytes(record)
    return lambda: bair_convert.list_videos(bair_convert.find(folder), 64)


def tar(folder: Path) -> Listing:
    record = bair.record(bair.example(bair.features("test", 0)))
    (folder / "a.tfrecords").write_bytes(record)
    with tarfile.open(folder / "bair.tar", "w") as file:
        file.add(folder / "a.tfrecords", "softmotion30_44k/test/a.tfrecords")
    (folder / "a.tfrecords").unlink()
    return lambda: bair_convert.list_videos(bair_convert.find(folder), 64)


def zip_of_pictures(folder: Path) -> Listing:
    with zipfile.ZipFile(folder / "leftImg8bit_sequence.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for frame in range(30):
            Image.fromarray(cityscapes.picture("aachen", 0, frame)).save(picture := folder / "a.png")
            file.write(picture, cityscapes.frame_path("train", "aachen", 0, frame))
    picture.unlink()

    def listing() -> Sequence[convert.Video]:
        cityscapes_convert._opened.cache_clear()  # each case is another process's
        return cityscapes_convert.list_videos(cityscapes_convert.find(folder), 8)

    return listing


def zip_of_videos(folder: Path) -> Listing:
    video = kth.write(folder, "person01_boxing_d1", kth.scene(0, 4)[:, :32, :32])
    with zipfile.ZipFile(folder / "boxing.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(video, video.name)
    video.unlink()
    (folder / "00sequences.txt").write_text(kth.LISTS)
    return lambda: kth_convert.list_videos(folder, 16)


def lists(folder: Path) -> Listing:
    name = "Archery/v_Archery_g08_c01.avi"
    (folder / "Archery").mkdir()
    write_clip(folder / name, noise(4, 16), codec="mpeg4", rate=25, options={})
    for kind in ("train", "test"):
        (folder / f"{kind}list01.txt").write_text(f"{name} 1\n" if kind == "train" else f"{name.replace('08', '09')}\n")
    return lambda: ucf101_convert.list_videos(folder, folder, 1, 16)


def npy(folder: Path) -> Listing:
    np.save(folder / "a.npy", np.zeros((20, 2, 64, 64), np.uint8))
    return lambda: moving_mnist_convert.list_published(folder / "a.npy", 64)


def robot(version: str) -> Callable[[Path], Listing]:
    def write(folder: Path) -> Listing:
        lerobot.WRITERS[version](folder)

        def listing() -> Sequence[convert.Video]:
            info = lerobot_convert._read_info(folder)
            camera = lerobot_convert.find_camera(info, "top")
            return lerobot_convert.list_videos(folder, info, camera, range(2), 1, 16)

        return listing

    return write


def films(folder: Path) -> Listing:
    write_clip(folder / "a.mp4", noise(6, 32))
    write_clip(folder / "b.webm", noise(6, 32), codec="libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"})
    write_gif(folder / "c.gif", [flat(8 * i, 16, 16) for i in range(5)], [100] * 5)
    (folder / "d").mkdir()
    Image.fromarray(flat(1)).save(folder / "d" / "1.png")
    Image.fromarray(flat(2)).save(folder / "d" / "2.jpg")
    return lambda: folder_convert.list_videos(folder, folder_convert.Cut(16, 3), 0, 0)


SOURCES = {
    "tfrecords": (tfrecords, 60),
    "tar": (tar, 60),
    "zip of pictures": (zip_of_pictures, 120),
    "zip of videos": (zip_of_videos, 60),
    "lists": (lists, 60),
    "npy": (npy, 120),
    "LeRobot 2.1": (robot("v2.1"), 100),
    "LeRobot 3.0": (robot("v3.0"), 100),
    "films": (films, 160),
}


@pytest.mark.parametrize("name", SOURCES)
def test_damaged_input_gives_sentences(name: str, tmp_path: Path):
    write, cases = SOURCES[name]
    listing = write(tmp_path)
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    whole = {path: path.read_bytes() for path in files}
    assert not any(isinstance(convert._load(video), str) for video in listing() if "g09" not in video.name)
    told = 0
    for case in range(cases * TIMES):
        rng = np.random.default_rng(case)
        path = files[rng.integers(len(files))]
        path.write_bytes(damaged(whole[path], rng))
        try:
            told += any(isinstance(convert._load(video), str) for video in listing())
        except UserError:
            told += 1
        path.write_bytes(whole[path])
    assert told > cases / 10


def test_damaged_examples_are_read_or_told():
    """The part of a TFRecord that its checksum protects, without it."""
    whole = bair.example({"a": np.arange(4), "b": b"bytes", "0/image_aux1/encoded": bytes(12)})
    for case in range(500 * TIMES):
        with suppress(UserError):
            bair_convert.read_example(damaged(whole, np.random.default_rng(case)))
