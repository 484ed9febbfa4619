"""Any folder of videos: what is in it, where it goes, how it is cut, and what is skipped."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from media import FAST, bad_clip, flat, grays, noise, write_clip, write_gif
from PIL import Image

from data_tools import folder_convert
from data_tools.folder_convert import Cut, list_videos, run
from lgcvd import UserError
from lgcvd import data as datasets
from lgcvd.shards import Shard, shard_paths


def write_pictures(folder: Path, frames: list[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i}.png")


def converted(source: Path, out: Path, *more: str) -> int:
    return run(["--videos_dir", str(source), "--out_dir", str(out), "--image_size", "16", "--workers", "1", *more])


def videos(out: Path) -> dict[str, tuple[str, np.ndarray, float | None]]:
    """Name -> split, frames and rate."""
    shards = [Shard(path) for folder in out.iterdir() if folder.is_dir() for path in shard_paths(folder)]
    return {
        name: (shard.split, shard.read(i, range(shard.lengths[i])), shard.fps[i])
        for shard in shards
        for i, name in enumerate(shard.names)
    }


def which(frames: np.ndarray) -> list[int]:
    """Which of ``media.grays`` each frame is."""
    return [round(float(frame.mean()) / 8) for frame in frames]


def test_all_kinds_come_out_as_they_went_in(tmp_path: Path):
    source = tmp_path / "my videos"
    pictures = list(np.random.default_rng(0).integers(0, 256, (12, 16, 24, 3), np.uint8))
    write_pictures(source / "Übung 1" / "frames é", pictures)
    (source / "Übung 1" / "frames é" / "notes.txt").write_text("not a picture")
    (source / "deep" / "er").mkdir(parents=True)
    write_gif(source / "deep" / "er" / "a b.gif", grays(5, 16, 16), [100] * 5)
    write_clip(source / "видео.mp4", grays(8), rate=25)
    Image.fromarray(flat(0)).save(source / "cover.png")
    write_gif(source / ".hidden.gif", grays(5), [100] * 5)
    (source / "readme.txt").write_text("not a video")
    out = tmp_path / "out"
    assert converted(source, out, "--validation", "0", "--test", "0") == 0
    found = videos(out)
    assert list(found) == ["deep/er/a b.gif", "Übung 1/frames é", "видео.mp4"]
    assert {split for split, _, _ in found.values()} == {"train"}
    assert np.array_equal(found["Übung 1/frames é"][1], np.stack(pictures)[:, :, 4:20])
    assert np.array_equal(found["deep/er/a b.gif"][1], np.stack(grays(5, 16, 16)))
    assert which(found["видео.mp4"][1]) == list(range(8))
    assert [rate for _, _, rate in found.values()] == [pytest.approx(10), None, pytest.approx(25)]
    clips = datasets.open(out, frames=5, shape=(16, 16, 3), draws=4, flip=True)
    assert clips[3].shape == (5, 3, 16, 16)


def test_a_folder_of_frames_alone_is_one_video(tmp_path: Path):
    write_pictures(tmp_path / "walk", grays(4, 16, 16))
    assert converted(tmp_path / "walk", tmp_path / "out", "--channels", "1", "--test", "1", "--validation", "0") == 0
    ((name, (split, frames, _)),) = videos(tmp_path / "out").items()
    assert (name, split, frames.shape) == ("walk", "test", (4, 16, 16, 1))
    assert which(frames) == [0, 1, 2, 3]


def test_folders_name_the_split_and_a_hash_the_rest(tmp_path: Path):
    source = tmp_path / "source"
    for name in ("train/a", "Val/b", "validation/c", "x/test/d"):
        write_pictures(source / name, grays(2))
    for i in range(60):
        (source / "other").mkdir(exist_ok=True)
        (source / "other" / f"{i}.gif").touch()
    splits = {video.name: video.split for video in list_videos(source, Cut(16, 3), 0.2, 0.3)}
    named = {"train/a": "train", "Val/b": "validation", "validation/c": "validation", "x/test/d": "test"}
    assert {name: splits.pop(name) for name in named} == named
    counts = {split: list(splits.values()).count(split) for split in ("train", "validation", "test")}
    assert 5 <= counts["validation"] <= 20
    assert 10 <= counts["test"] <= 26
    (source / "other" / "0.gif").unlink()
    fewer = {video.name: video.split for video in list_videos(source, Cut(16, 3), 0.2, 0.3)}
    assert fewer.items() <= (splits | named).items()
    assert [splits["other/0.gif"], splits["other/1.gif"]] == ["train", "validation"]  # as ever


def test_what_is_listed_knows_about_how_long_it_is_and_can_be_sent(tmp_path: Path):
    write_clip(tmp_path / "a.mp4", grays(20), rate=10)
    write_clip(tmp_path / "b.mkv", grays(20), codec="ffv1", rate=10)
    write_pictures(tmp_path / "c", grays(7))
    listed = list_videos(tmp_path, Cut(16, 3, fps=5, stride=2), 0, 0)
    assert [video.frames for video in listed] == [5, 5, 4]
    for video in listed:
        (recording,) = pickle.loads(pickle.dumps(video)).load()
        assert len(recording.frames) == video.frames
        assert recording.fps == 2.5


def test_stride_rate_and_lengths(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    write_gif(source / "long.gif", grays(23, 16, 16), [100] * 23)
    write_gif(source / "short.gif", grays(5, 16, 16), [100] * 5)
    more = ["--validation", "0", "--test", "0", "--max_frames", "5", "--min_frames", "3"]
    assert converted(source, tmp_path / "a", *more) == 0
    found = {name: which(frames) for name, (_, frames, _) in videos(tmp_path / "a").items()}
    assert found == {f"long.gif#{i}": list(range(23))[5 * i : 5 * i + 5] for i in range(5)} | {"short.gif": [*range(5)]}
    assert converted(source, tmp_path / "b", *more, "--stride", "2") == 0
    found = {name: (which(frames), rate) for name, (_, frames, rate) in videos(tmp_path / "b").items()}
    assert found == {
        "long.gif#0": ([0, 2, 4, 6, 8], 5),
        "long.gif#1": ([10, 12, 14, 16, 18], 5),  # 20, 22: too short
        "short.gif": ([0, 2, 4], 5),
    }
    assert converted(source, tmp_path / "c", *more, "--fps", "2.5") == 3
    assert which(videos(tmp_path / "c")["long.gif"][1]) == [0, 4, 8, 12, 16]  # 20 alone is too short


def test_scene_cuts(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    scenes = [[20, 24, 28, 32], [200, 204, 208], [90], [10, 12, 14, 16, 18]]
    gray = [value for scene in scenes for value in scene]
    write_gif(source / "a.gif", [flat(value, 16, 16) for value in gray], [100] * len(gray))
    more = ["--validation", "0", "--test", "0", "--channels", "1"]
    converted(source, tmp_path / "whole", *more)
    assert list(videos(tmp_path / "whole")) == ["a.gif"]
    assert converted(source, tmp_path / "cut", *more, "--scene_cuts") == 0
    found = [frames[:, 0, 0, 0].tolist() for _, frames, _ in videos(tmp_path / "cut").values()]
    assert found == [scene for scene in scenes if len(scene) > 1]
    converted(source, tmp_path / "coarse", *more, "--scene_cuts", "100")
    found = [frames[:, 0, 0, 0].tolist() for _, frames, _ in videos(tmp_path / "coarse").values()]
    assert found == [scenes[0], scenes[1], scenes[2] + scenes[3]]


def test_broken_files_are_left_out_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = tmp_path / "source"
    kinds = {
        "empty": "is empty",
        "text": "cannot be read as a video",
        "sound in mp4": "only sound",
        "one frame": "has only 1 frame, and 2 are needed",
        "no index": "cannot be read as a video",
        "folder with a damaged picture": "1.png cannot be read",
    }
    for kind in kinds:
        (source / kind).mkdir(parents=True)
        bad_clip(kind, source / kind)
    cut = write_clip(source / "cut short.mp4", noise(20), options={**FAST, "g": "1"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    assert converted(source, tmp_path / "out", "--validation", "0", "--test", "0") == 3
    lines = capsys.readouterr().err.splitlines()
    told = [line for line in lines if line.startswith("skipped ")]
    assert len(told) == len(kinds)
    for line, kind in zip(told, sorted(kinds), strict=True):
        assert line.startswith(f"skipped {kind}/")
        assert kinds[kind] in line
    ((name, (_, frames, _)),) = videos(tmp_path / "out").items()
    assert name == "cut short.mp4"
    assert 5 <= len(frames) <= 10
    (incomplete,) = [line for line in lines if line.startswith("incomplete ")]
    assert f"cut short.mp4: cut short.mp4 is cut short: {len(frames)} of its 20 frames" in incomplete


def test_what_is_written_does_not_tell_where_the_source_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for folder in ("here", "there/deep"):
        source = tmp_path / folder
        write_pictures(source / "walk", grays(3, 16, 16))
        (source / "walk" / "1.png").write_text("no picture")
        (source / "gone.mp4").symlink_to("nowhere.mp4")
        assert converted(source, tmp_path / f"{folder} out") == 3
    monkeypatch.chdir(tmp_path / "here")
    assert converted(Path("."), tmp_path / "third out") == 3
    first, *others = ((tmp_path / f"{name} out").rglob("*.hdf5") for name in ("here", "there/deep", "third"))
    whole = [path.read_bytes() for path in first]
    assert all([path.read_bytes() for path in paths] == whole for paths in others)
    (shard,) = (Shard(path) for path in (tmp_path / "here out").rglob("*.hdf5"))
    assert dict(shard.skipped) == {
        "gone.mp4": "there is no file gone.mp4: check the name.",
        "walk": "the picture walk/1.png cannot be read: remove it or export it again.",
    }


def test_links_are_followed_and_those_to_nothing_listed(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = tmp_path / "source"
    write_pictures(tmp_path / "elsewhere" / "walk", grays(4, 16, 16))
    source.mkdir()
    (source / "Test").symlink_to(tmp_path / "elsewhere")
    (source / "Test" / "round").symlink_to(source)
    (source / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert converted(source, tmp_path / "out") == 3
    assert "skipped gone.mp4: there is no file gone.mp4" in capsys.readouterr().err
    assert [(name, split) for name, (split, _, _) in videos(tmp_path / "out").items()] == [("Test/walk", "test")]


def test_what_is_cut_short_is_listed_every_time_and_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture):
    cut = write_clip(tmp_path / "a.mp4", noise(20), options={**FAST, "g": "1"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    for _ in range(2):
        assert converted(tmp_path, tmp_path / "out", "--max_frames", "4") == 0
        assert capsys.readouterr().err.count("incomplete a.mp4#") == 1


def test_long_videos_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = tmp_path / "source"
    write_pictures(source / "c", grays(25, 16, 16))
    write_clip(source / "a.mp4", grays(25), options={**FAST, "g": "5"})
    write_gif(source / "b.gif", [flat(8 * i, 16, 16) for i in range(19)], [100] * 19)
    more = ["--validation", "0", "--test", "0"]
    monkeypatch.setattr(folder_convert, "PART_BYTES", 10 * 16 * 16 * 3)
    assert converted(source, tmp_path / "whole", *more) == 0
    found = {name: which(frames) for name, (_, frames, _) in videos(tmp_path / "whole").items()}
    assert found == {
        "a.mp4#0": [*range(10)],
        "a.mp4#1": [*range(10, 25)],
        "b.gif": [*range(19)],
        "c#0": [*range(10)],
        "c#1": [*range(10, 25)],
    }
    assert converted(source, tmp_path / "pieces", *more, "--stride", "2", "--max_frames", "4", "--fps", "10") == 0
    found = [which(frames) for name, (_, frames, _) in videos(tmp_path / "pieces").items() if name[0] != "b"]
    assert found == 2 * [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20, 22]]  # 24 alone is too short


def test_a_wrong_place_and_senseless_options_are_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"there is no folder .*nowhere: check the name"):
        converted(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "notes.txt").touch()
    with pytest.raises(UserError, match="videos: there is nothing to convert"):
        converted(tmp_path / "source", tmp_path / "out")
    write_pictures(tmp_path / "source" / "a", grays(2))
    for option, value, words in (
        ("--stride", "0", "--stride must be at least 1"),
        ("--min_frames", "0", "--min_frames must be at least 1"),
        ("--max_frames", "1", r"--max_frames must be at least --min_frames \(2\), not 1"),
        ("--fps", "0", "--fps must be between"),
        ("--validation", "0.99", "are shares, at most 1 together"),
        ("--test", "-0.1", "are shares"),
        ("--image_size", "0", "--image_size must be at least 1"),
    ):
        with pytest.raises(UserError, match=words):
            converted(tmp_path / "source", tmp_path / "out", option, value)
    assert not (tmp_path / "out").exists()
