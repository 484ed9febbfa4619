from __future__ import annotations

from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lgcvd import UserError, shards
from lgcvd.shards import Recording, Shard, open_shards, shard_paths, write_shard

LAYOUTS = ("array", "frames")


def recordings(count: int = 3, frames: int = 9) -> list[Recording]:
    rng = np.random.default_rng(0)
    return [
        Recording(
            name=f"clip {i} ö",
            frames=rng.integers(0, 256, (frames + i, 6, 8, 3), np.uint8),
            fps=None if i == 1 else 10.5,
            actions=rng.random((frames + i, 2), np.float32) if i == 2 else None,
            note="it is cut short." if i == 1 else "",
        )
        for i in range(count)
    ]


def write(path, layout: str, **options) -> list[Recording]:
    made = recordings(**options)
    write_shard(path, iter(made), source="a set", split="test", layout=layout, skipped=[("bad.mp4", "it is empty.")])
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_read(layout: str, tmp_path):
    made = write(tmp_path / "shard_0001.hdf5", layout)
    shard = Shard(tmp_path / "shard_0001.hdf5")
    assert (shard.layout, shard.source, shard.split, len(shard)) == (layout, "a set", "test", 3)
    assert shard.skipped == [("bad.mp4", "it is empty.")]
    assert shard.names == [recording.name for recording in made]
    assert shard.fps == [10.5, None, 10.5]
    assert shard.lengths == [9, 10, 11]
    assert shard.notes == [("clip 1 ö", "it is cut short.")]
    for i, recording in enumerate(made):
        assert np.array_equal(shard.read(i, range(shard.lengths[i])), recording.frames)
        assert shard.shape(i) == (6, 8, 3)
        actions = shard.actions(i)
        assert actions is None if recording.actions is None else np.array_equal(actions, recording.actions)
    assert [path.name for path in tmp_path.iterdir()] == ["shard_0001.hdf5"]


@pytest.mark.parametrize("layout", LAYOUTS)
@given(start=st.integers(0, 8), stride=st.integers(1, 4), length=st.integers(1, 9))
def test_windows_are_slices(layout: str, written, start: int, stride: int, length: int):
    made, opened = written
    window = range(start, start + (length - 1) * stride + 1, stride)
    if window[-1] < 9:
        assert np.array_equal(opened[layout].read(0, window), made[0].frames[start : window[-1] + 1 : stride])
    else:
        with pytest.raises(IndexError):
            opened[layout].read(0, window)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for layout in LAYOUTS:
        made = write(folder / f"{layout}.hdf5", layout)
    return made, {layout: Shard(folder / f"{layout}.hdf5") for layout in LAYOUTS}


def test_the_fields_own_layout_is_as_published(tmp_path):
    """Group ``len`` and a group a video with a data set a frame, as MCVD's readers index it."""
    made = write(tmp_path / "a.hdf5", "frames")
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert sorted(file["len"]) == ["0", "1", "2"]
        for i, recording in enumerate(made):
            assert file["len"][str(i)][()] == len(recording.frames)
            for t, frame in enumerate(recording.frames):
                stored = file[str(i)][str(t)]
                assert (stored.dtype, stored.compression) == (np.uint8, "lzf")
                assert np.array_equal(stored[()], frame)


def test_a_published_file_without_our_attributes_is_read(tmp_path):
    frames = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    with h5py.File(tmp_path / "shard_0001.hdf5", "w") as file:
        file.create_group("len").create_dataset("0", data=3)
        for t, frame in enumerate(frames):
            file.create_dataset(f"0/{t}", data=frame, dtype="uint8", compression="lzf")
    shard = Shard(tmp_path / "shard_0001.hdf5")
    assert (shard.names, shard.fps, shard.split) == (["shard_0001/0"], [None], "")
    assert np.array_equal(shard.read(0, range(3)), frames)


def test_published_gray_frames_have_two_axes(tmp_path):
    frames = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["len/0"] = 3
        for t, frame in enumerate(frames):
            file.create_dataset(f"0/{t}", data=frame, dtype="uint8", compression="lzf")
    shard = Shard(tmp_path / "a.hdf5")
    assert shard.shape(0) == (4, 4, 1)
    assert np.array_equal(shard.read(0, range(3)), frames[..., None])


def test_the_same_recordings_give_the_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name, "array")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_shards_come_in_order_without_drafts(tmp_path):
    for name in ("shard_0002.hdf5", ".shard_0003-1f.hdf5", "shard_0001.h5", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in shard_paths(tmp_path)] == ["shard_0001.h5", "shard_0002.hdf5"]


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "must be uint8, not float32"),
        (np.zeros((0, 4, 4, 3), np.uint8), "T of at least 1"),
        (np.zeros((4, 4, 3), np.uint8), r"must be \(T, H, W"),
        (np.zeros((2, 4, 4, 4), np.uint8), "1 or 3"),
    ],
)
def test_frames_of_other_kinds_are_refused(frames: np.ndarray, sentence: str):
    with pytest.raises(UserError, match=sentence):
        Recording("a clip", frames)


def test_actions_belong_to_frames():
    with pytest.raises(UserError, match="give one a frame"):
        Recording("a clip", np.zeros((2, 4, 4, 3), np.uint8), actions=np.zeros((3, 1), np.float32))


def test_broken_off_writing_leaves_nothing(tmp_path):
    def killed():
        yield recordings()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "a.hdf5", killed(), source="", split="")
    assert not list(tmp_path.iterdir())


def test_full_disk_is_told(tmp_path, monkeypatch: pytest.MonkeyPatch):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # stands for a disk with 1,000 bytes left
    try:
        with pytest.raises(UserError, match=r"cannot be written .*too large.*another place"):
            write(tmp_path / "a.hdf5", "array")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def read_everything(path) -> None:
    (shard,) = open_shards([path])
    for i, length in enumerate(shard.lengths):
        shard.shape(i)
        shard.actions(i)
        shard.read(i, range(min(length, 1000)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_files_are_told(layout: str, tmp_path):
    write(tmp_path / "a.hdf5", layout)
    whole = (tmp_path / "a.hdf5").read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        (tmp_path / "b.hdf5").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"b\.hdf5 is no whole file of videos"):
            read_everything(tmp_path / "b.hdf5")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_flipped_bit_is_told(layout: str, tmp_path, small_files):
    whole = small_files[layout]
    for bit in np.random.default_rng(0).choice(8 * len(whole), 600, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "b.hdf5").write_bytes(damaged)
        with pytest.raises(UserError, match=r"b\.hdf5"):
            read_everything(tmp_path / "b.hdf5")


@pytest.fixture(scope="module")
def small_files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("fuzz")
    files = {}
    for layout in LAYOUTS:
        write(folder / layout, layout, count=2, frames=2)
        files[layout] = (folder / layout).read_bytes()
    return files


def without_checksums(path, frames: int = 2) -> None:
    """A file such as the field publishes."""
    with h5py.File(path, "w") as file:
        for i, recording in enumerate(recordings(2, frames)):
            file[f"len/{i}"] = len(recording.frames)
            for t, frame in enumerate(recording.frames):
                file.create_dataset(f"{i}/{t}", data=frame, compression="lzf")


def test_flipped_bits_where_nothing_has_checksums_never_give_another_error(tmp_path):
    without_checksums(tmp_path / "a.hdf5")
    whole, rng = (tmp_path / "a.hdf5").read_bytes(), np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(whole)
        for bit in rng.integers(8 * len(whole), size=rng.integers(1, 60)):
            damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "b.hdf5").write_bytes(damaged)
        with suppress(UserError):
            read_everything(tmp_path / "b.hdf5")


@pytest.mark.parametrize(
    ("program", "reason"),
    [("while True: pass", "HDF5 comes to no end with it"), ("import os; os.kill(os.getpid(), 11)", "HDF5 crashed")],
)
def test_what_hdf5_does_not_come_back_from_is_told(program, reason, tmp_path, monkeypatch: pytest.MonkeyPatch):
    without_checksums(tmp_path / "a.hdf5")
    monkeypatch.setattr(shards, "WALK", program)
    monkeypatch.setattr(shards, "WALK_SECONDS", 0.5)
    write(tmp_path / "b.hdf5", "array")
    open_shards([tmp_path / "b.hdf5"])  # its structure has checksums
    with pytest.raises(UserError, match=rf"a\.hdf5 is no whole .*{reason}"):
        open_shards([tmp_path / "b.hdf5", tmp_path / "a.hdf5"])


def test_the_damaged_one_of_several_is_named(tmp_path):
    for name in "abc":
        without_checksums(tmp_path / name)
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"/b is no whole file of videos \(OSError.*truncated"):
        open_shards([tmp_path / name for name in "abc"])


@given(
    frames=arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3, st.sampled_from([1, 3]))),
    layout=st.sampled_from(LAYOUTS),
)
@settings(max_examples=50)
def test_every_size_survives(frames: np.ndarray, layout: str, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any-size.hdf5"
    write_shard(path, [Recording("x", frames)], source="", split="", layout=layout)
    assert np.array_equal(Shard(path).read(0, range(len(frames))), frames)
