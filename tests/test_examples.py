"""Example clips: what comes with the package, and what is fetched. The other side is a server of this machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from media import flat, serve, write_clip

from lgcvd import UserError, examples, video
from lgcvd.__main__ import main
from lgcvd.examples import HANDS, SOURCE_VARIABLE, RemoteClip, fetch, write_dreams, write_examples, write_hands

FRAMES = 31


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """As the episodes: AV1, 640 x 480, 30 frames a second. The centre's gray tells the frame, the sides are white."""
    pictures = [flat(255, 480, 640) for _ in range(FRAMES)]
    for index, picture in enumerate(pictures):
        picture[:, 80:560] = 8 * index
    coder = {"codec": "libsvtav1", "options": {"preset": "12", "crf": "20"}}
    path = tmp_path_factory.mktemp("episode") / "episode.mp4"
    return write_clip(path, pictures, rate=30, **coder if "libsvtav1" in av.codecs_available else {}).read_bytes()


@pytest.fixture
def clip(episode: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteClip:
    """A clip whose cache is the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return RemoteClip("hands-1", "videos/episode.mp4", len(episode), hashlib.sha256(episode).hexdigest())


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Starts the other side, which answers with these bytes, and gives the list of what it was asked for."""
    with serve() as (address, answers, asked):
        monkeypatch.setenv(SOURCE_VARIABLE, address)

        def start(answer: bytes, promised: int | None = None) -> list[str]:
            answers[:] = [(answer, promised)]
            return asked

        yield start


def cached(clip: RemoteClip) -> list[Path]:
    return list(clip.file.parent.iterdir()) if clip.file.parent.is_dir() else []


def test_a_clip_is_fetched_once_and_kept(clip, side, episode):
    asked = side(episode)
    counts = list(fetch(clip))
    assert counts == sorted(counts)
    assert counts[-1] == clip.size
    assert cached(clip) == [clip.file]
    assert clip.file.read_bytes() == episode
    assert list(fetch(clip)) == [clip.size]
    assert asked == ["/videos/episode.mp4"]


@pytest.mark.parametrize(
    ("answer", "promised", "words"),
    [
        (lambda whole: whole[:-100], None, "bytes instead of"),
        (lambda whole: whole + b"more", None, "bytes instead of"),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), None, "another checksum"),
        (lambda whole: b"", None, "0 bytes instead of"),
        (lambda whole: whole[: len(whole) // 2], 10**6, "bytes instead of|cannot be fetched"),
    ],
    ids=["cut short", "longer", "altered", "empty", "broken off"],
)
def test_another_file_is_refused_and_nothing_of_it_is_kept(clip, side, episode, answer, promised, words):
    side(answer(episode), promised)
    with pytest.raises(UserError, match=words) as told:
        list(fetch(clip))
    assert str(clip.file) in str(told.value)
    assert cached(clip) == []
    side(episode)
    assert list(fetch(clip))[-1] == clip.size


def test_a_damaged_copy_is_fetched_again(clip, side, episode):
    clip.file.parent.mkdir(parents=True)
    clip.file.write_bytes(episode[:-1] + b"!")
    side(episode)
    list(fetch(clip))
    assert clip.file.read_bytes() == episode


def test_a_file_put_there_by_hand_needs_no_network(clip, episode, monkeypatch):
    monkeypatch.setenv(SOURCE_VARIABLE, "http://127.0.0.1:1")
    clip.file.parent.mkdir(parents=True)
    clip.file.write_bytes(episode)
    assert list(fetch(clip)) == [clip.size]


@pytest.mark.parametrize("source", ["http://127.0.0.1:1", "no address"])
def test_without_a_network_the_sentence_names_another_way(clip, source, monkeypatch):
    monkeypatch.setenv(SOURCE_VARIABLE, source)
    with pytest.raises(UserError, match=r"cannot be fetched from .+ \(.+\): try again with a network, or put") as told:
        list(fetch(clip))
    assert str(clip.file) in str(told.value)
    assert cached(clip) == []


def test_a_missing_file_and_a_silent_server_are_told(clip, side, episode, monkeypatch):
    side(episode)
    with pytest.raises(UserError, match=r"cannot be fetched from 127.0.0.1 \(Not Found\)"):
        list(fetch(replace(clip, path="missing.mp4")))
    monkeypatch.setattr(examples, "TIMEOUT", 0.2)
    with pytest.raises(UserError, match=r"cannot be fetched from 127.0.0.1 \(timed out\)"):
        list(fetch(replace(clip, path="silent.mp4")))


def test_a_full_disk_is_told(clip, side, episode, monkeypatch):
    side(episode)
    clip.file.parent.parent.mkdir()
    clip.file.parent.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot be written \(.+\): make room, set XDG_CACHE_HOME"):
        list(fetch(clip))
    if Path("/dev/full").exists():
        clip.file.parent.unlink()
        monkeypatch.setattr(Path, "open", lambda _, mode: open("/dev/full", mode, buffering=0))  # noqa: SIM115
        with pytest.raises(UserError, match="No space left on device"):
            list(fetch(clip))


def test_one_who_leaves_half_way_leaves_nothing(clip, side, episode, monkeypatch):
    side(episode)
    monkeypatch.setattr(examples, "BLOCK", 100)
    counts = fetch(clip)
    assert next(counts) == 100
    counts.close()
    assert cached(clip) == []


def test_hands_are_every_third_frame_of_the_centre(clip, episode, tmp_path):
    clip.file.parent.mkdir(parents=True)
    clip.file.write_bytes(episode)
    path = write_hands(clip, tmp_path)
    for hands in (video.read_clip(path, (64, 64), 3), video.read_clip(clip.file, (64, 64), 3, fps=10)):
        assert hands.frames.shape == (11, 3, 64, 64)
        assert (hands.fps, hands.note) == (10, "")
        grays = video.to_uint8(hands.frames).float().numpy()
        np.testing.assert_allclose(grays.mean((1, 2, 3)), 8 * np.arange(0, FRAMES, 3), atol=3)
        assert grays[0].max() < 64, "the white sides are cut off"


def test_what_is_fetched_is_pinned():
    assert [clip.size for clip in HANDS] == [3523251, 3883077]
    assert [Path(clip.path).name for clip in HANDS] == ["episode_000005.mp4", "episode_000019.mp4"]
    assert all(re.fullmatch("[0-9a-f]{64}", clip.sha256) for clip in HANDS)
    assert re.fullmatch(r"https://raw.githubusercontent.com/[\w-]+/[\w-]+/[0-9a-f]{40}", examples.SOURCE)


def test_shipped_examples_are_clips_of_the_kind_that_a_model_knows(tmp_path):
    clips = write_examples(tmp_path)
    assert {channels: len(paths) for channels, paths in clips.items()} == {1: 6, 3: 4}
    clips[3] += write_dreams(tmp_path)
    for channels, paths in clips.items():
        for path in paths:
            frames = video.read_pixels(path, (64, 64), 3).frames
            assert len(frames) == 30
            assert (frames[:, 0] == frames[:, 2]).all() == (channels == 1)


def test_the_command_line_writes_them_and_asks_the_network_only_when_told(clip, side, episode, tmp_path, monkeypatch):
    monkeypatch.setattr("lgcvd.commands.examples.HANDS", (clip,))
    asked = side(episode)
    assert main(["examples", "--out", str(tmp_path / "clips")]) == 0
    assert len(os.listdir(tmp_path / "clips")) == 12
    assert not asked
    assert main(["examples", "--out", str(tmp_path / "clips"), "--download"]) == 0
    assert len(video.read_pixels(tmp_path / "clips" / "hands-1.gif", (64, 64), 3).frames) == 11
    assert len(asked) == 1


def test_the_command_line_tells_what_fails(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lgcvd.commands.examples.HANDS", (clip,))
    monkeypatch.setenv(SOURCE_VARIABLE, "http://127.0.0.1:1")
    assert main(["examples", "--out", str(tmp_path), "--download"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("lgcvd: hands-1 cannot be fetched from 127.0.0.1")
    (tmp_path / "file").touch()
    assert main(["examples", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err
