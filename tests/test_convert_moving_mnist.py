"""Moving MNIST: the published array and clips made here."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.moving_mnist_convert import list_generated, list_published, run
from lgcvd import MovingDigits, UserError, data
from lgcvd.shards import Shard
from lgcvd.video import fit


def convert(out: Path, *more: str, size: int = 64) -> int:
    return run(["--out_dir", str(out), "--image_size", str(size), "--workers", "1", *more])


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A file as published, of fewer videos."""
    videos = np.random.default_rng(0).integers(0, 256, (20, 5, 64, 64), np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", videos)
    return tmp_path / "mnist_test_seq.npy", videos


def test_the_published_array_becomes_the_test_split(published: tuple[Path, np.ndarray], tmp_path: Path):
    path, videos = published
    assert convert(tmp_path / "out", "--npy", str(path)) == 0
    assert [p.name for p in (tmp_path / "out").iterdir() if p.is_dir()] == ["test"]
    shard = Shard(tmp_path / "out" / "test" / "shard_0001.hdf5")
    assert shard.names == [f"test/{i:05d}" for i in range(5)]
    for i in range(5):
        np.testing.assert_array_equal(shard.read(i, range(20)), videos[:, i, :, :, None])
    clips = data.open(tmp_path / "out", frames=20, shape=(64, 64, 1), split="test")
    np.testing.assert_array_equal(clips[3].numpy(), videos[:, 3, None])


def test_the_published_array_at_another_size(published: tuple[Path, np.ndarray], tmp_path: Path):
    path, videos = published
    assert convert(tmp_path / "out", "--npy", str(path), size=32) == 0
    shard = Shard(tmp_path / "out" / "test" / "shard_0001.hdf5")
    expected = np.stack([fit(Image.fromarray(frame), (32, 32), 1)[0] for frame in videos[:, 2]])
    np.testing.assert_array_equal(shard.read(2, range(20))[..., 0], expected)


@pytest.mark.parametrize("size", [64, 32])
def test_generated_clips_are_those_of_moving_digits(tmp_path: Path, size: int):
    options = ("--frames", "12", "--motion", "stochastic", "--digits", "3", "--seed", "4")
    assert convert(tmp_path / "out", "--generate", "test=2", "train=5", *options, size=size) == 0
    for split, count in {"train": 5, "test": 2}.items():
        made = MovingDigits(split=split, frames=12, image_size=size, digits=3, motion="stochastic", seed=4)
        shard = Shard(tmp_path / "out" / split / "shard_0001.hdf5")
        assert (len(shard), shard.fps) == (count, [10.0] * count)
        for i in range(count):
            np.testing.assert_array_equal(shard.read(i, range(12)), made[i].numpy().transpose(0, 2, 3, 1))
    assert not (tmp_path / "out" / "validation").exists()


def test_generated_clips_are_trained_on_and_have_the_usual_defaults(tmp_path: Path):
    assert convert(tmp_path / "out", "--generate", "train=3") == 0
    clips = data.open(tmp_path / "out", frames=30, shape=(64, 64, 1))
    assert len(clips) == 3
    np.testing.assert_array_equal(clips[1].numpy(), MovingDigits()[1].numpy())


def test_videos_load_in_another_process(published: tuple[Path, np.ndarray]):
    made = list_generated({"train": 2}, 64, {"frames": 3})
    for video in [*made, *list_published(published[0], 64)]:
        again = pickle.loads(pickle.dumps(video)).load()
        assert (again.name, len(again.frames)) == (video.name, video.frames)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--npy", "missing.npy"), "there is no file missing.npy: check --npy"),
        (("--generate", "training=5"), "--generate takes numbers by split"),
        (("--generate", "train=many"), "not train=many"),
        (("--generate", "train=0"), "nothing to convert"),
        (("--generate", "train=2", "--frames", "0"), "--frames must be at least 1"),
        (("--generate", "train=2", "--seed", "-1"), "--seed must be at least 0"),
        (("--npy", "x.npy", "--motion", "reflect"), "--motion is for --generate only"),
    ],
)
def test_mistakes_get_a_sentence(tmp_path: Path, arguments: tuple[str, ...], words: str):
    with pytest.raises(UserError, match=words):
        convert(tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_size_that_does_not_divide_the_canvas_gets_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="image_size must divide 64"):
        convert(tmp_path / "out", "--generate", "train=2", size=48)


def test_other_arrays_get_a_sentence(published: tuple[Path, np.ndarray], tmp_path: Path):
    path, videos = published
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="no whole NumPy file"):
        convert(tmp_path / "out", "--npy", str(path))
    for other in (videos.astype(np.float32), videos[0]):
        np.save(path, other)
        with pytest.raises(UserError, match="does not hold uint8 videos"):
            convert(tmp_path / "out", "--npy", str(path))
