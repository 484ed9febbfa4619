"""KTH actions: files as they are published, shards of the same frames."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.kth_convert import run
from lgcvd import UserError, data
from lgcvd.shards import Shard, shard_paths
from lgcvd.video import fit
from tests.media import write_clip

LISTS = """\
Training:   person11, 12, 13, 14, 15, 16, 17, 18
Validation: person19, 20, 21, 23, 24, 25, 01, 04
Test:       person22, 02, 03, 05, 06, 07, 08, 09, 10

person01_boxing_d1\t\tframes\t1-3, 4-9
person03_handwaving_d4\t\tframes\t2-4,  6-8
person13_handclapping_d3\t*missing*
person17_running_d2\t\tframes\t5-10
"""


def scene(seed: int, count: int = 10) -> np.ndarray:
    """Gray frames (T, 120, 160, 3)."""
    gray = np.random.default_rng(seed).integers(0, 256, (count, 15, 20), np.uint8).repeat(8, 1).repeat(8, 2)
    return gray[..., None].repeat(3, -1)


def write(folder: Path, name: str, frames: np.ndarray) -> Path:
    """A lossless AVI with the size and rate of KTH."""
    path = folder / name.split("_")[1] / f"{name}_uncomp.avi"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path, frames, codec="ffv1", pix_fmt="bgr0", rate=25, options={})


def shrunk(frames: np.ndarray) -> np.ndarray:
    """What a shard should hold: (T, 32, 32, 1)."""
    return np.stack([fit(Image.fromarray(frame), (32, 32), 1) for frame in frames]).transpose(0, 2, 3, 1)


def convert(folder: Path, out: Path, *more: str) -> int:
    return run(
        ["--kth_dir", str(folder), "--out_dir", str(out), "--image_size", "32", "--workers", "1", *more],
    )


def written(out: Path) -> dict[str, dict[str, np.ndarray]]:
    """Frames by split and name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted(out.glob("*/*.hdf5")):
        shard = Shard(path)
        frames = {name: shard.read(i, range(shard.lengths[i])) for i, name in enumerate(shard.names)}
        found.setdefault(shard.split, {}).update(frames)
    return found


@pytest.fixture
def kth(tmp_path: Path) -> Path:
    folder = tmp_path / "kth"
    names = ("person01_boxing_d1", "person15_walking_d1", "person16_walking_d1", "person17_running_d2")
    for seed, name in enumerate(names):
        write(folder, name, scene(seed))
    return folder


def test_whole_videos_go_to_the_split_of_their_person(kth: Path, tmp_path: Path):
    assert convert(kth, tmp_path / "out") == 0
    found = written(tmp_path / "out")
    assert {split: list(videos) for split, videos in found.items()} == {
        "train": ["boxing/person01_boxing_d1"],
        "validation": ["walking/person15_walking_d1", "walking/person16_walking_d1"],
        "test": ["running/person17_running_d2"],
    }
    for seed, frames in enumerate([*found["train"].values(), *found["validation"].values(), *found["test"].values()]):
        np.testing.assert_array_equal(frames, shrunk(scene(seed)))
    assert Shard(shard_paths(tmp_path / "out" / "test")[0]).fps == [25.0]


def test_the_list_cuts_videos_into_sequences(kth: Path, tmp_path: Path):
    (kth / "00sequences.txt").write_text(LISTS)
    assert convert(kth, tmp_path / "out") == 0
    found = written(tmp_path / "out")
    assert list(found["train"]) == ["boxing/person01_boxing_d1/1", "boxing/person01_boxing_d1/2"]
    np.testing.assert_array_equal(found["train"]["boxing/person01_boxing_d1/1"], shrunk(scene(0)[:3]))
    np.testing.assert_array_equal(found["train"]["boxing/person01_boxing_d1/2"], shrunk(scene(0)[3:9]))
    np.testing.assert_array_equal(found["test"]["running/person17_running_d2/1"], shrunk(scene(3)[4:]))
    np.testing.assert_array_equal(found["validation"]["walking/person15_walking_d1"], shrunk(scene(1)))


def test_archives_are_read_as_they_are(kth: Path, tmp_path: Path):
    (kth / "00sequences.txt").write_text(LISTS)
    path = write(tmp_path / "elsewhere", "person03_handwaving_d4", scene(7))
    with zipfile.ZipFile(kth / "handwaving.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    assert convert(kth, tmp_path / "out") == 0
    train = written(tmp_path / "out")["train"]
    np.testing.assert_array_equal(train["handwaving/person03_handwaving_d4/1"], shrunk(scene(7)[1:4]))
    np.testing.assert_array_equal(train["handwaving/person03_handwaving_d4/2"], shrunk(scene(7)[5:8]))


def test_the_codec_of_the_published_files(tmp_path: Path):
    folder = tmp_path / "kth"
    (folder / "boxing").mkdir(parents=True)
    smooth = [np.full((120, 160, 3), 20 * i, np.uint8) for i in range(1, 11)]
    write_clip(
        folder / "boxing" / "person02_boxing_d3_uncomp.avi", smooth, codec="mpeg4", rate=25, options={"qscale": "2"}
    )
    assert convert(folder, tmp_path / "out") == 0
    frames = written(tmp_path / "out")["train"]["boxing/person02_boxing_d3"]
    assert np.abs(frames.mean((1, 2, 3)) - 20 * np.arange(1, 11)).max() < 3


def test_what_is_broken_is_skipped_and_named(kth: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (kth / "00sequences.txt").write_text(LISTS.replace("5-10", "5-10, 11-20, 9-3"))
    (kth / "walking" / "person15_walking_d1_uncomp.avi").write_bytes(b"no video")
    assert convert(kth, tmp_path / "out") == 3
    skipped = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped")]
    assert [line.split(":")[0] for line in skipped] == [
        "skipped walking/person15_walking_d1",
        "skipped running/person17_running_d2/2",
        "skipped running/person17_running_d2/3",
    ]
    assert list(written(tmp_path / "out")["test"]) == ["running/person17_running_d2/1"]
    for line, frames in zip(skipped[1:], ("11 to 20", "9 to 3"), strict=True):
        assert "start earlier" not in line
        assert line.endswith(f"get it again, or mend 00sequences.txt, which lists its frames {frames}.")


def test_the_result_is_trained_on(kth: Path, tmp_path: Path):
    convert(kth, tmp_path / "out")
    clips = data.open(tmp_path / "out", frames=5, shape=(32, 32, 1), split="train")
    assert len(clips) == 6
    np.testing.assert_array_equal(clips[2].numpy().transpose(0, 2, 3, 1), shrunk(scene(0)[2:7]))


def test_another_list_is_another_conversion(kth: Path, tmp_path: Path):
    (kth / "00sequences.txt").write_text(LISTS)
    convert(kth, tmp_path / "out")
    (kth / "00sequences.txt").write_text(LISTS.replace("1-3", "1-2"))
    with pytest.raises(UserError, match="sequences"):
        convert(kth, tmp_path / "out")


def test_wrong_folders_and_lists_get_a_sentence(kth: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"there is no folder .*--kth_dir"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"no file such as boxing/person01.*--kth_dir"):
        convert(tmp_path / "other", tmp_path / "out")
    (tmp_path / "other" / "boxing.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"boxing\.zip is no whole zip"):
        convert(tmp_path / "other", tmp_path / "out")
    (kth / "00sequences.txt").write_text("<html>not found</html>")
    with pytest.raises(UserError, match="lists no sequences"):
        convert(kth, tmp_path / "out")
    assert not (tmp_path / "out").exists()
