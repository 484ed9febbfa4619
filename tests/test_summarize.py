"""What a data set holds, in a table and on a sheet."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.summarize import CELL, COLUMNS, draw_sheet, find_parts, run, table
from lgcvd import UserError
from lgcvd.pictures import BACKGROUND
from lgcvd.program import run_as_program
from lgcvd.shards import Recording, write_shard
from tests.media import grays, write_clip


def recording(name: str, count: int, step: int, fps: float | None = 10.0, shape: tuple = (16, 24, 3)) -> Recording:
    """Flat frames that get brighter by ``step`` a frame."""
    values = (np.arange(count) * step).astype(np.uint8)
    return Recording(name, np.broadcast_to(values[:, None, None, None], (count, *shape)).copy(), fps)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two files to train with and one to test with."""
    folder = tmp_path / "set"
    first = [recording("a", 10, 2), recording("b", 12, 3)]
    gone = [("c", "c is empty."), ("d", "d is no video.")]
    write_shard(folder / "train" / "shard_0001.hdf5", first, source="toy", split="train", skipped=gone)
    write_shard(folder / "train" / "shard_0002.hdf5", [recording("e", 50, 5, 25.0)], source="toy", split="train")
    test = [recording("f", 7, 0, None, (32, 32, 1))]
    write_shard(folder / "test" / "shard_0001.hdf5", test, source="toy", split="test")
    return folder


def cells(line: str) -> list[str]:
    return [text.strip() for text in line.split("  ") if text.strip()]


def test_the_table_of_shards(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run([str(shards), "--out", str(tmp_path / "sheet.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    hours = f"{(1.0 + 1.2 + 2.0) / 3600:.3g}"
    assert cells(lines[1]) == ["train", "3", "72", "10 / 12 / 50", "24x16 RGB", "10 to 25", hours, "3.00", "2"]
    assert cells(lines[2]) == ["test", "1", "7", "7 / 7 / 7", "32x32 gray", "unknown", "unknown", "0.00", "0"]
    assert lines[3:] == [
        "skipped in train: c: c is empty.",
        "skipped in train: d: d is no video.",
        f"wrote {tmp_path / 'sheet.png'}",
    ]


def test_a_single_file_and_a_folder_of_files(shards: Path):
    for path, videos in ((shards / "train", "3"), (shards / "train" / "shard_0002.hdf5", "1")):
        [part] = find_parts(str(path), 64)
        assert part.row()[:2] == ["train", videos]


def test_videos_of_a_folder(tmp_path: Path):
    for name, count in {"train/x/one.mp4": 9, "train/two.mp4": 12, "validation/three.mp4": 5}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(tmp_path / name, grays(count))
    train, validation = find_parts(str(tmp_path), 16)
    for part in (train, validation):
        part.look()
    assert train.row()[:6] == ["train", "2", "21", "9 / 10.5 / 12", "16x16 RGB", "10"]
    assert train.videos.names == ["two.mp4", "x/one.mp4"]
    assert validation.motion == [pytest.approx(8, abs=1)]


def test_several_sizes_and_incomplete_videos_are_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    made = [recording("a", 4, 1), replace(recording("b", 4, 1, shape=(8, 8, 3)), note="b is cut short.")]
    write_shard(tmp_path / "a.hdf5", made, source="", split="")
    assert run([str(tmp_path), "--out", str(tmp_path / "sheet.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[1])[4] == "2 sizes"
    assert lines[2] == "incomplete in all: b: b is cut short."


def test_digits(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("data_tools.summarize.SAMPLED", 3)
    assert run(["stochastic-digits", "--out", str(tmp_path / "digits.png"), "--image_size", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [cells(line)[0] for line in lines[1:4]] == ["train", "validation", "test"]
    assert cells(lines[1])[3:6] == ["30 / 30 / 30", "32x32 gray", "10"]


def test_the_sheet_shows_frames_in_order(shards: Path):
    parts = find_parts(str(shards), 64)
    for part in parts:
        part.look()
    sheet = np.asarray(draw_sheet("set", parts))
    assert (sheet[:, :20] == BACKGROUND).all()
    # of the video that gets brighter by 5 a frame, 8 of 50 frames in order
    shown = [value for t, value in enumerate(np.arange(50) * 5) if t in np.linspace(0, 49, COLUMNS).round()]
    row = next(y for y in range(len(sheet)) if (sheet[y] == shown[-1]).all(-1).sum() == 24 * 8)
    order = [value for value in dict.fromkeys(sheet[row + 60, :, 0].tolist()) if value in shown]
    assert order == shown


def test_small_large_and_odd_frames_fit_on_the_sheet(tmp_path: Path):
    for shape in ((8, 8, 1), (300, 900, 3), (200, 20, 3)):
        made = recording("v" * 300, 3, 9, shape=shape)
        write_shard(tmp_path / "odd.hdf5", [made], source="", split="")
        [part] = find_parts(str(tmp_path / "odd.hdf5"), 64)
        part.look()
        sheet = draw_sheet("odd", [part])
        assert sheet.width >= 720
        assert sheet.height > 2 * CELL


def test_a_split_without_videos_is_shown_as_such(tmp_path: Path):
    write_shard(tmp_path / "shard_0001.hdf5", [], source="toy", split="test", skipped=[("a", "a is empty.")])
    [part] = find_parts(str(tmp_path), 64)
    part.look()
    assert cells(table([part]).splitlines()[1]) == ["test", "0", "0", "-", "-", "unknown", "unknown", "-", "1"]
    draw_sheet("empty", [part])


def test_mistakes_get_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "half.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    for what, words in {
        "nowhere": "there is no data .*nowhere",
        "empty": "holds no HDF5 shards, no videos .* and no pictures",
        "notes.txt": "is no HDF5 file",
        "half.hdf5": "is no whole file of videos",
    }.items():
        with pytest.raises(UserError, match=words):
            run([str(tmp_path / what), "--out", str(tmp_path / "sheet.png")])
    with pytest.raises(UserError, match=r"end it in \.png"):
        run(["digits", "--out", str(tmp_path / "sheet.jpg")])
    with pytest.raises(UserError, match="--image_size must be at least 1"):
        run(["digits", "--image_size", "0"])
    assert not (tmp_path / "sheet.png").exists()


def test_as_a_program(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(sys, "argv", ["summarize.py", str(shards), "--out", str(tmp_path / "sheet.png")])
    with pytest.raises(SystemExit) as done:
        run_as_program(run)
    assert done.value.code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 700
    monkeypatch.setattr(sys, "argv", ["summarize.py", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as failed:
        run_as_program(run)
    assert failed.value.code == 2
    assert capsys.readouterr().err.startswith("summarize.py: there is no data")
