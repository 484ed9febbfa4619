"""Cityscapes: snippets are found by their names, in a folder or a zip file, and come out as they went in."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.cityscapes_convert import find, list_videos, run
from lgcvd import UserError
from lgcvd import data as datasets
from lgcvd.shards import Shard, shard_paths

SNIPPETS = {
    "train": [("aachen", 0, 0), ("aachen", 1, 0), ("hamburg", 0, 12), ("hamburg", 0, 42), ("hamburg", 0, 629)],
    "val": [("frankfurt", 1, 5)],
    "test": [("berlin", 0, 0)],
}
"""City, sequence and first frame; two of Hamburg follow each other without a gap."""


def frame_path(split: str, city: str, sequence: int, frame: int) -> str:
    return f"leftImg8bit_sequence/{split}/{city}/{city}_{sequence:06}_{frame:06}_leftImg8bit.png"


def picture(city: str, sequence: int, frame: int) -> np.ndarray:
    """(8, 16, 3): noise that depends on all of them."""
    return np.random.default_rng([*city.encode(), sequence, frame]).integers(0, 256, (8, 16, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data set, small: twice as wide as high."""
    root = tmp_path / "cityscapes"
    for split, snippets in SNIPPETS.items():
        for city, sequence, first in snippets:
            for frame in range(first, first + 30):
                path = root / frame_path(split, city, sequence, frame)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture(city, sequence, frame)).save(path)
    (root / "license.txt").write_text("not a picture")
    (root / "leftImg8bit_sequence" / "train" / "aachen" / "._aachen_000000_000000_leftImg8bit.png").touch()
    return root


def zipped(folder: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for i, member in enumerate(sorted(folder.rglob("*"), reverse=True)):
            kind = zipfile.ZIP_DEFLATED if i % 2 else zipfile.ZIP_STORED
            file.write(member, member.relative_to(folder), compress_type=kind)
    return path


def converted(source: Path, out: Path, *more: str) -> int:
    where = ["--leftImg8bit_sequence_dir", str(source), "--image_size", "8", "--out_dir", str(out)]
    return run([*where, "--workers", "1", *more])


def videos(out: Path, split: str) -> dict[str, np.ndarray]:
    """Name -> frames."""
    shards = [Shard(path) for path in shard_paths(out / split)]
    assert all(rate == 17 for shard in shards for rate in shard.fps)
    return {name: s.read(i, range(s.lengths[i])) for s in shards for i, name in enumerate(s.names)}


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_every_snippet_comes_out_as_it_went_in(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert converted(folder / "leftImg8bit_sequence", out) == 0
    for theirs, ours in {"train": "train", "val": "validation", "test": "test"}.items():
        found = videos(out, ours)
        assert list(found) == [f"{city}_{sequence:06}_{first:06}" for city, sequence, first in SNIPPETS[theirs]]
        for frames, (city, sequence, first) in zip(found.values(), SNIPPETS[theirs], strict=True):
            middle = [picture(city, sequence, first + i)[:, 4:12] for i in range(30)]
            assert np.array_equal(frames, np.stack(middle))
    clips = datasets.open(out, frames=20, shape=(8, 8, 3), draws=4, flip=True)
    assert clips[3].shape == (20, 3, 8, 8)


def test_a_zip_file_gives_the_same_bytes(folder: Path, tmp_path: Path):
    inside = zipped(folder, tmp_path / "download" / "leftImg8bit_sequence_trainvaltest.zip")
    assert find(inside.parent) == find(inside) == inside
    assert find(folder) == find(folder / "leftImg8bit_sequence")
    for i, source in enumerate((folder, inside)):
        assert converted(source, tmp_path / f"out{i}") == 0
    assert contents(tmp_path / "out1") == contents(tmp_path / "out0")


def test_a_worker_can_load_what_was_listed(folder: Path, tmp_path: Path):
    source = zipped(folder, tmp_path / "cityscapes.zip")
    for listed in list_videos(source, 8):
        sent = pickle.loads(pickle.dumps(listed))
        assert np.array_equal(sent.load().frames, listed.load().frames)


def test_broken_snippets_are_left_out_and_listed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (folder / frame_path("train", "aachen", 0, 12)).unlink()
    broken = folder / frame_path("train", "hamburg", 0, 50)
    broken.write_bytes(broken.read_bytes()[:-100])
    (folder / frame_path("val", "frankfurt", 1, 7)).write_text("no picture")
    assert converted(folder, tmp_path / "out") == 3
    told = capsys.readouterr().err
    assert "skipped aachen_000000_000000: only 12 frames follow each other from train/aachen/aachen_000000_0" in told
    assert "skipped aachen_000000_000013: only 17 frames" in told
    assert "skipped hamburg_000000_000042: train/hamburg/hamburg_000000_000050_leftImg8bit.png cannot be read" in told
    assert "skipped frankfurt_000001_000005" in told
    assert converted(folder, tmp_path / "again") == 3
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    assert list(videos(tmp_path / "out", "train")) == [
        "aachen_000001_000000",
        "hamburg_000000_000012",
        "hamburg_000000_000629",
    ]
    assert list(videos(tmp_path / "out", "validation")) == []


def test_a_damaged_member_of_a_zip_file_is_listed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    source = zipped(folder, tmp_path / "a.zip")
    with zipfile.ZipFile(source) as file:
        info = file.getinfo(frame_path("test", "berlin", 0, 3))
    data = bytearray(source.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 255
    source.write_bytes(data)
    assert converted(source, tmp_path / "out") == 3
    assert "skipped berlin_000000_000000" in capsys.readouterr().err
    assert len(videos(tmp_path / "out", "train")) == 5


def test_a_wrong_place_is_told(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"there is no .*nowhere: check the name"):
        converted(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="has no folder train, val or test"):
        converted(folder / "leftImg8bit_sequence" / "train" / "aachen", tmp_path / "out")
    whole = zipped(folder, tmp_path / "a.zip")
    whole.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(UserError, match="is no whole zip file: download it again"):
        converted(whole, tmp_path / "out")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="cityscapes: there is nothing to convert"):
        converted(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
