"""UCF101: videos by the official lists."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.ucf101_convert import run
from lgcvd import UserError, data
from lgcvd.shards import Shard
from lgcvd.video import fit
from tests.media import write_clip

NAMES = {
    "train": ["Archery/v_Archery_g08_c01.avi", "YoYo/v_YoYo_g23_c02.avi"],
    "validation": ["Archery/v_Archery_g24_c01.avi", "YoYo/v_YoYo_g25_c07.avi"],
    "test": ["HandstandPushups/v_HandStandPushups_g01_c01.avi"],
}


def scene(name: str) -> np.ndarray:
    """Colour frames (T, 60, 80, 3) that depend on the name."""
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(0, 256, (8, 6, 8, 3), np.uint8).repeat(10, 1).repeat(10, 2)


def shrunk(frames: np.ndarray) -> np.ndarray:
    return np.stack([fit(Image.fromarray(frame), (16, 16), 3) for frame in frames]).transpose(0, 2, 3, 1)


def convert(folder: Path, out: Path, *more: str) -> int:
    places = ["--ucf_dir", str(folder / "UCF-101"), "--splits_dir", str(folder / "ucfTrainTestlist")]
    return run([*places, "--out_dir", str(out), "--image_size", "16", "--workers", "1", *more])


@pytest.fixture
def ucf(tmp_path: Path) -> Path:
    for name in chain(*NAMES.values()):
        path = tmp_path / "ucf" / "UCF-101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, scene(name), codec="ffv1", pix_fmt="bgr0", rate=25, options={})
    lists = tmp_path / "ucf" / "ucfTrainTestlist"
    lists.mkdir()
    train = [f"{name} {i}" for i, name in enumerate(NAMES["train"] + NAMES["validation"])]
    (lists / "trainlist01.txt").write_bytes("\r\n".join(train).encode() + b"\r\n")
    (lists / "testlist01.txt").write_text("\n".join(NAMES["test"]) + "\n")
    return tmp_path / "ucf"


def test_every_listed_video_is_written_in_its_split(ucf: Path, tmp_path: Path):
    assert convert(ucf, tmp_path / "out") == 0
    for split, names in NAMES.items():
        shard = Shard(tmp_path / "out" / split / "shard_0001.hdf5")
        assert (shard.names, shard.split, shard.source) == (names, split, "UCF101")
        assert shard.fps == [25.0] * len(names)
        for i, name in enumerate(names):
            np.testing.assert_array_equal(shard.read(i, range(8)), shrunk(scene(name)))


def test_the_result_is_trained_on(ucf: Path, tmp_path: Path):
    convert(ucf, tmp_path / "out")
    clips = data.open(tmp_path / "out", frames=6, shape=(16, 16, 3), split="train", draws=10, flip=True)
    assert clips[9].shape == (6, 3, 16, 16)


def test_what_is_missing_or_broken_is_skipped_and_named(ucf: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (ucf / "UCF-101" / NAMES["train"][0]).unlink()
    (ucf / "UCF-101" / NAMES["test"][0]).write_bytes(bytes(100))
    assert convert(ucf, tmp_path / "out") == 3
    skipped = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped")]
    assert [line.split(":")[0] for line in skipped] == [
        f"skipped {name}" for name in (NAMES["train"][0], NAMES["test"][0])
    ]
    assert Shard(tmp_path / "out" / "train" / "shard_0001.hdf5").names == NAMES["train"][1:]


def test_wrong_folders_and_lists_get_a_sentence(ucf: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"no .*trainlist02\.txt: check --splits_dir"):
        convert(ucf, tmp_path / "out", "--split", "2")
    (ucf / "UCF-101").rename(ucf / "videos")
    with pytest.raises(UserError, match=r"no listed video, such as Archery/.*--ucf_dir"):
        convert(ucf, tmp_path / "out")
    (ucf / "ucfTrainTestlist" / "testlist01.txt").write_text("1 ApplyEyeMakeup\n")
    with pytest.raises(UserError, match=r"testlist01\.txt is no list of UCF101"):
        convert(ucf, tmp_path / "out")
    assert not (tmp_path / "out").exists()
