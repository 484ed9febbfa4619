from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from media import flat, write_clip, write_gif
from PIL import Image
from torch.utils.data import DataLoader

from lgcvd import MovingDigits, UserError, data
from lgcvd.data import Shards, Windows
from lgcvd.shards import Recording, write_shard

SHAPE = (8, 8, 3)


def counting(length: int, video: int) -> np.ndarray:
    """Frames (T, 8, 8, 3) whose pixels tell which video and frame they are of."""
    frames = np.zeros((length, *SHAPE), np.uint8)
    frames[..., 0], frames[..., 1] = video, np.arange(length)[:, None, None]
    frames[:, :, :4, 2] = 100  # left is not right
    return frames


def write(folder: Path, lengths: tuple[int, ...] = (7, 3, 12), per_shard: int = 2, **options) -> Path:
    recordings = [Recording(f"v{i}", counting(length, i), 10.0) for i, length in enumerate(lengths)]
    for i in range(0, len(recordings), per_shard):
        path = folder / f"shard_{i // per_shard + 1:04d}.hdf5"
        write_shard(path, recordings[i : i + per_shard], source="counting", split="train", **options)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Shards:
    return Shards(sorted(write(tmp_path_factory.mktemp("data")).iterdir()))


def places(clip: torch.Tensor) -> list[tuple[int, int]]:
    """(video, frame) of every frame of a clip (T, C, H, W)."""
    return [(int(frame[0, 0, 0]), int(frame[1, 0, 0])) for frame in clip]


@given(frames=st.integers(1, 12), stride=st.integers(1, 3), step=st.integers(1, 5))
def test_every_window_is_there_once_in_order_with_the_last_start(videos: Shards, frames: int, stride: int, step: int):
    reach = (frames - 1) * stride + 1
    expected = []
    for video, length in enumerate(videos.lengths):
        starts = list(range(0, length - reach + 1, step))
        if length >= reach and starts[-1] != length - reach:
            starts.append(length - reach)
        expected += [[(video, start + i * stride) for i in range(frames)] for start in starts]
    if not expected:
        with pytest.raises(UserError, match=f"the longest has 12 frames, and {reach} are needed"):
            Windows(videos, frames, stride, step)
        return
    windows = Windows(videos, frames, stride, step)
    assert [places(clip) for clip in (windows[i] for i in range(len(windows)))] == expected
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_random_windows_depend_on_seed_and_index_only(videos: Shards):
    drawn = Windows(videos, 3, draws=200, flip=True, jitter=0.2, shift=1, speeds=2, seed=4)
    assert len(drawn) == 200
    for i in (0, 57, 199):
        assert torch.equal(drawn[i], replace(drawn)[i])
    assert any(not torch.equal(drawn[i], replace(drawn, seed=5)[i]) for i in range(20))
    plain = Windows(videos, 3, draws=400)
    seen = {places(plain[i])[0] for i in range(400)}
    assert seen == {(0, t) for t in range(5)} | {(1, 0)} | {(2, t) for t in range(10)}  # all windows come up


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_clips(videos: Shards):
    drawn = Windows(videos, 4, draws=24, flip=True, jitter=0.1)
    batches = [list(DataLoader(drawn, batch_size=4, num_workers=workers)) for workers in (0, 1, 2)]
    for alone, one, two in zip(*batches, strict=True):
        assert torch.equal(alone, one)
        assert torch.equal(alone, two)


def test_clips_are_mirrored_half_of_the_time_and_whole(videos: Shards):
    drawn = Windows(videos, 3, draws=200, flip=True)
    mirrored = [bool(drawn[i][0, 2, 0, 0] == 0) for i in range(200)]
    assert 60 < sum(mirrored) < 140
    for i in range(20):
        straight = drawn[i].flip(-1) if mirrored[i] else drawn[i]
        assert (straight[:, 2, :, :4] == 100).all()


def test_jitter_changes_all_frames_of_a_clip_alike(videos: Shards):
    drawn = Windows(videos, 3, draws=50, jitter=0.3)
    plain = replace(drawn, jitter=0.0)
    assert sum(not torch.equal(drawn[i], plain[i]) for i in range(50)) > 40
    for i in range(50):
        assert drawn[i].dtype == torch.uint8
        blue = drawn[i][:, 2].int()
        assert (blue - blue[:1]).abs().max() <= 2  # it is the same in all frames, but for the others' share in gray
        assert (drawn[i].float() - plain[i].float()).abs().max() < 100


def test_shifted_clips_repeat_their_edges_and_move_as_one(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
    write_shard(tmp_path / "shard_0001.hdf5", [Recording("noise", frames, 10.0)], source="noise", split="train")
    drawn = Windows(Shards([tmp_path / "shard_0001.hdf5"]), 3, draws=300, shift=2)
    padded = F.pad(replace(drawn, shift=0)[0].float(), (2, 2, 2, 2), mode="replicate").byte()
    places = list(itertools.product(range(5), range(5)))
    possible = [padded[..., y : y + 8, x : x + 8] for y, x in places]
    seen = [
        [place for place, clip in zip(places, possible, strict=True) if torch.equal(clip, drawn[i])] for i in range(300)
    ]
    assert all(len(fits) == 1 for fits in seen)
    assert sorted({fits[0] for fits in seen}) == places


def test_clips_come_at_every_speed_that_their_video_is_long_enough_for(videos: Shards):
    drawn = Windows(videos, 3, stride=2, draws=300, speeds=2)
    of_videos = {}
    for i in range(300):
        (video, first), (_, second), (_, third) = places(drawn[i])
        assert third - second == second - first
        of_videos.setdefault(video, set()).add((first, second - first))
    for video, length in enumerate(videos.lengths):
        starts = range(length - 4)
        possible = {(start, stride) for start in starts for stride in (2, 4) if start + 2 * stride < length}
        assert of_videos.get(video, set()) == possible


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"frames": 0}, "frames must be at least 1"),
        ({"frames": 2, "draws": 5, "speeds": 0}, "speeds must be at least 1"),
        ({"frames": 2, "draws": 5, "shift": 99}, "below the size of the frames"),
        ({"frames": 2, "speeds": 2}, "random windows only: set draws"),
        ({"frames": 2, "stride": 0}, "stride must be at least 1"),
        ({"frames": 2, "step": 0}, "step must be at least 1"),
        ({"frames": 2, "flip": True}, "random windows only: set draws"),
        ({"frames": 2, "draws": 5, "jitter": 1.0}, "below 1"),
    ],
)
def test_windows_that_make_no_sense_are_refused(videos: Shards, options: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        Windows(videos, **options)


def test_data_are_described_by_what_is_not_their_default(videos: Shards):
    assert data.described(Windows(videos, 3)) == f"Windows(videos={videos!r}, frames=3)"
    assert data.described(MovingDigits(frames=9, motion="stochastic")) == "MovingDigits(frames=9, motion='stochastic')"
    assert data.described([]) == ""


def test_open_tells_kinds_apart(tmp_path: Path):
    write(tmp_path / "set" / "train")
    write(tmp_path / "set" / "validation", lengths=(5,))
    write(tmp_path / "published", layout="frames")
    clip = counting(7, 3)
    (tmp_path / "films" / "inside").mkdir(parents=True)
    write_clip(tmp_path / "films" / "inside" / "a b ü.mp4", list(np.repeat(np.repeat(clip, 8, 1), 8, 2)))

    def lengths(what: str, **options) -> list[int]:
        windows = data.open(tmp_path / what, frames=2, shape=SHAPE, **options)
        assert windows[0].shape == (2, 3, 8, 8)
        return list(windows.videos.lengths)

    assert lengths("set") == lengths("set/train") == lengths("published") == [7, 3, 12]
    assert lengths("set", split="validation") == [5]
    (tmp_path / "set" / "validation").rename(tmp_path / "set" / "val")  # as MCVD's sets have it
    assert lengths("set", split="validation") == [5]
    with pytest.raises(UserError, match="set has no folder test, only train, validation: make one, or give the other"):
        lengths("set", split="test")
    assert lengths("set/train/shard_0002.hdf5") == [12]
    films = data.open(tmp_path / "films", frames=7, shape=SHAPE)
    assert films.videos.names == ["inside/a b ü.mp4"]
    assert (films[0].int() - torch.from_numpy(clip).permute(0, 3, 1, 2).int()).abs().float().mean() < 8
    digits = data.open("stochastic-digits", frames=5, shape=(32, 32, 1), split="test", seed=3)
    assert digits == MovingDigits("test", frames=5, image_size=32, motion="stochastic", seed=3)


def test_the_shipped_clips_of_simulated_pushing_are_data():
    clips = data.open(Path(data.__file__).parent / "assets" / "examples", frames=14, shape=(64, 64, 3))
    assert clips.videos.lengths == [30] * 4
    assert len(clips) == 4 * 17
    moved = (clips[0][0].int() - clips[0][-1].int()).abs().float().mean()
    assert 2 < moved < 60


def test_open_says_what_is_wrong(tmp_path: Path):
    write(tmp_path / "set")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.hdf5").write_text("no shard")
    (tmp_path / "notes.txt").write_text("no shard")
    cases = {
        "nowhere": "there is no data .*nowhere: give a folder",
        "empty": "holds no HDF5 shards, no videos .* and no pictures",
        "text.hdf5": r"text\.hdf5 is no whole file of videos",
        "notes.txt": r"notes\.txt is no HDF5 file \(\.hdf5, \.h5\): give one, or the folder of the videos",
        "set": "has frames of 8x8 pixels with 3 channels, and 16x16 pixels with 1 channel are wanted",
    }
    for what, sentence in cases.items():
        with pytest.raises(UserError, match=sentence):
            data.open(tmp_path / what, frames=2, shape=(16, 16, 1))
    with pytest.raises(UserError, match="leave out flip, for videos only"):
        data.open("digits", frames=2, shape=(64, 64, 1), flip=True)
    with pytest.raises(UserError, match="gray squares"):
        data.open("digits", frames=2, shape=(64, 64, 3))


def test_videos_of_other_sizes_in_one_set_are_told(tmp_path: Path):
    write_shard(tmp_path / "a.hdf5", [Recording("small", counting(5, 0))], source="", split="")
    large = np.zeros((5, 16, 16, 3), np.uint8)
    write_shard(tmp_path / "b.hdf5", [Recording("large", large)], source="", split="")
    windows = data.open(tmp_path, frames=2, shape=SHAPE)
    with pytest.raises(UserError, match="large has frames of 16x16 pixels with 3 channels, the first video of"):
        list(windows)


def test_more_video_than_memory_should_hold_is_to_be_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_clip(tmp_path / "a.mp4", list(np.zeros((4, 16, 16, 3), np.uint8)))
    monkeypatch.setattr(data, "MOST_DECODED", 100)
    with pytest.raises(UserError, match=r"convert them with data_tools/folder_convert\.py first"):
        data.open(tmp_path, frames=2, shape=(16, 16, 3))


def test_what_cannot_be_read_among_videos_is_left_out_and_told(tmp_path: Path):
    write_gif(tmp_path / "a.gif", [flat(8 * i, 16, 16) for i in range(4)], [100] * 4)
    (tmp_path / "b.mp4").write_text("not a video")
    (tmp_path / "c.mp4").symlink_to(tmp_path / "gone.mp4")
    videos = data.open(tmp_path, frames=2, shape=SHAPE).videos
    assert (videos.names, videos.lengths) == (["a.gif"], [4])
    assert [name for name, _ in videos.skipped] == ["b.mp4", "c.mp4"]
    assert "cannot be read as a video" in videos.skipped[0][1]
    (tmp_path / "a.gif").unlink()
    with pytest.raises(UserError, match="there is no file"):
        data.open(tmp_path, frames=2, shape=SHAPE)


def test_folders_of_pictures_and_linked_folders_are_data(tmp_path: Path):
    for place in ("films/walk", "elsewhere/run"):
        (tmp_path / place).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(flat(8 * i, 16, 16)).save(tmp_path / place / f"{i}.png")
    (tmp_path / "films" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "films")  # and round
    (tmp_path / "films" / "again").symlink_to(tmp_path / "films" / "walk")
    videos = data.open(tmp_path / "films", frames=2, shape=SHAPE).videos
    assert (videos.names, videos.lengths, videos.fps) == (["more/run", "walk"], [3, 3], [None, None])
    assert data.open(tmp_path / "films" / "walk", frames=2, shape=SHAPE).videos.names == ["walk"]


def test_folders_of_splits_are_known_in_large_letters_too(tmp_path: Path):
    for folder, length in (("Train", 7), ("train", 5), ("VAL", 3), ("Test", 4)):
        write(tmp_path / folder, lengths=(length,))
    (tmp_path / "valid").touch()  # no folder
    found = data.split_folders(tmp_path)
    assert {split: folder.name for split, folder in found.items()} == {
        "train": "train",
        "validation": "VAL",
        "test": "Test",
    }
    assert data.open(tmp_path, frames=2, shape=SHAPE, split="test").videos.lengths == [4]
