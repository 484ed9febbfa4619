"""BAIR: TFRecords are read without TensorFlow, checked, and come out as they went in."""

from __future__ import annotations

import struct
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from data_tools.bair_convert import crc32c, find, masked_crc32c, read_example, run
from lgcvd import UserError
from lgcvd import data as datasets
from lgcvd.shards import Shard, shard_paths

# A small writer of TFRecords of tf.train.Example


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def example(features: dict[str, bytes | np.ndarray]) -> bytes:
    entries = b""
    for name, value in features.items():
        kind, value = (1, value) if isinstance(value, bytes) else (2, value.astype("<f4").tobytes())
        entries += field(1, field(1, name.encode()) + field(2, field(kind, field(1, value))))
    return field(1, entries)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


# A small data set


def video(split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (30, 64, 64, 3) and actions (30, 4)."""
    rng = np.random.default_rng([*split.encode(), index])
    colours = rng.integers(0, 256, (30, 8, 8, 3), np.uint8)
    return colours.repeat(8, 1).repeat(8, 2), rng.normal(size=(30, 4)).astype(np.float32)


def features(split: str, index: int) -> dict[str, bytes | np.ndarray]:
    frames, actions = video(split, index)
    made: dict[str, bytes | np.ndarray] = {}
    for i in range(30):
        made[f"{i}/action"] = actions[i]
        made[f"{i}/endeffector_pos"] = np.zeros(3)
        made[f"{i}/image_aux1/encoded"] = frames[i].tobytes()
    made["0/image_main/encoded"] = bytes(64 * 64 * 3)
    return made


@cache
def records(name: str) -> bytes:
    """A file of ``FILES``."""
    return b"".join(record(example(features(name.split("/")[0], i))) for i in FILES[name])


FILES = {"train/traj_0_to_4": range(5), "train/traj_5_to_9": range(5, 10), "train/traj_10_to_23": range(10, 24)}
FILES |= {"test/traj_0_to_2": range(3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds softmotion30_44k."""
    root = tmp_path / "bair"
    for name in FILES:
        path = root / "softmotion30_44k" / f"{name}.tfrecords"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(records(name))
    return root


def converted(source: Path, out: Path, *more: str) -> int:
    return run(["--bair_dir", str(source), "--out_dir", str(out), "--workers", "1", *more])


def shards(out: Path, split: str) -> list[Shard]:
    return [Shard(path) for path in shard_paths(out / split)]


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_checksums_are_those_of_rfc_3720():
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


def test_checksums_of_any_length():
    data = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
    for length in [*range(4, 40), 1000, 4096, 5000]:
        crc = 0xFFFFFFFF
        for byte in data[:length]:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        assert crc32c(data[:length]) == crc ^ 0xFFFFFFFF


def test_an_example_that_tensorflow_wrote():
    data = (  # of TensorFlow's tutorial on TFRecord
        b"\nR\n\x11\n\x08feature0\x12\x05\x1a\x03\n\x01\x00\n\x11\n\x08feature1\x12\x05\x1a\x03\n\x01\x04"
        b"\n\x14\n\x08feature2\x12\x08\n\x06\n\x04goat\n\x14\n\x08feature3\x12\x08\x12\x06\n\x04[\xd3|?"
    )
    found = read_example(data)
    assert found.keys() == {"feature2", "feature3"}
    assert found["feature2"] == b"goat"
    assert found["feature3"] == pytest.approx([0.9876])
    for end in range(3, len(data)):
        with pytest.raises(UserError, match=r"no tf\.train\.Example"):
            read_example(data[:end])


def test_floats_may_be_written_one_by_one():
    single = b"".join(varint(1 << 3 | 5) + struct.pack("<f", x) for x in (1.5, -2.0))
    found = read_example(field(1, field(1, field(1, b"a") + field(2, field(2, single)))))
    assert found["a"].tolist() == [1.5, -2.0]


def test_every_video_comes_out_as_it_went_in(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert converted(folder, out) == 0
    names = {i: f"{name}/{k:03d}" for name, part in FILES.items() if name[:2] == "tr" for k, i in enumerate(part)}
    expected = {
        "train": {names[i]: video("train", i) for i in range(24) if i != 19},
        "validation": {names[19]: video("train", 19)},
        "test": {f"test/traj_0_to_2/{i:03d}": video("test", i) for i in range(3)},
    }
    for split, wanted in expected.items():
        (shard,) = shards(out, split)
        assert shard.names == list(wanted)
        assert set(shard.fps) == {10}
        for i, (frames, actions) in enumerate(wanted.values()):
            assert np.array_equal(shard.read(i, range(30)), frames)
            assert np.array_equal(shard.actions(i), actions)
            assert shard.actions(i).dtype == np.float32
    clips = datasets.open(out, frames=20, shape=(64, 64, 3), draws=4, flip=True)
    assert clips[3].shape == (20, 3, 64, 64)


def test_a_tar_file_gives_the_same_bytes(folder: Path, tmp_path: Path):
    whole = tmp_path / "download" / "bair_robot_pushing_dataset_v0.tar"
    whole.parent.mkdir()
    with tarfile.open(whole, "w") as tar:
        tar.add(folder / "softmotion30_44k", "./softmotion30_44k")
    assert find(whole.parent) == find(whole)
    assert find(folder / "softmotion30_44k") == find(folder)
    for i, source in enumerate((folder, whole)):
        assert converted(source, tmp_path / f"out{i}") == 0
    assert contents(tmp_path / "out1") == contents(tmp_path / "out0")


def test_other_sizes_are_scaled(folder: Path, tmp_path: Path):
    for path in (folder / "softmotion30_44k" / "train").iterdir():
        path.unlink()
    assert converted(folder, tmp_path / "out", "--image_size", "32") == 0
    (shard,) = shards(tmp_path / "out", "test")
    small = shard.read(0, range(30)).reshape(30, 8, 4, 8, 4, 3)[:, :, 1:3, :, 1:3].mean((2, 4))
    assert abs(small - video("test", 0)[0][:, 4::8, 4::8]).mean() < 12


def test_broken_records_are_left_out_and_listed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    size = len(record(example(features("train", 0))))
    flipped, lost, cut = (folder / "softmotion30_44k" / f"{name}.tfrecords" for name in list(FILES)[:3])
    for path, place in ((flipped, size + size // 2), (lost, 2 * size)):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[: 3 * size + 100])
    bare = features("test", 0)
    del bare["7/image_aux1/encoded"]
    dumb = {name: value for name, value in features("test", 1).items() if "action" not in name}
    test = folder / "softmotion30_44k" / "test" / "traj_0_to_2.tfrecords"
    test.write_bytes(record(example(bare)) + record(example(dumb)) + record(b"\x0a\x05nonsense"))
    assert converted(folder, tmp_path / "out") == 3
    told = capsys.readouterr().err
    for line in (
        "train/traj_0_to_4/001: its checksum is wrong",
        "train/traj_5_to_9/002: the file is damaged or cut short here",
        "train/traj_10_to_23/003: the file is damaged or cut short here",
        "test/traj_0_to_2/000: it has no picture 7/image_aux1/encoded",
        "test/traj_0_to_2/002: it is no tf.train.Example",
    ):
        assert f"skipped {line}" in told
    (train,), (test,) = shards(tmp_path / "out", "train"), shards(tmp_path / "out", "test")
    assert len(train) == 4 + 2 + 3
    assert np.array_equal(train.read(8, range(30)), video("train", 12)[0])
    assert test.names == ["test/traj_0_to_2/001"]
    assert test.actions(0) is None


def test_a_wrong_place_is_told(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"there is no .*nowhere: check the name"):
        converted(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no files .*: give the folder softmotion30_44k"):
        converted(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "a.tar").write_text("no tar file" * 100)
    with pytest.raises(UserError, match="is no whole tar file"):
        converted(tmp_path / "a.tar", tmp_path / "out")
    with tarfile.open(tmp_path / "cut.tar", "w") as tar:
        tar.add(folder)
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:-2_000_000])
    with pytest.raises(UserError, match="is no whole tar file"):
        converted(tmp_path / "cut.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_raised_digits_in_a_name_are_no_numbers(tmp_path: Path):
    for name in ("traj_²", "traj_10", "traj_9"):
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / "train" / f"{name}.tfrecords").touch()
    assert [records.name for records in find(tmp_path)] == ["train/traj_9", "train/traj_10", "train/traj_²"]
