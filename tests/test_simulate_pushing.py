"""Simulated pushing: clips that can be made again, and in which something happens."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from data_tools.simulate_pushing import FPS, FRAMES, WIDE, Clip, run, simulate, videos
from lgcvd.errors import UserError
from lgcvd.shards import Shard
from lgcvd.video import read_pixels

EXAMPLES = Path(__file__).parents[1] / "lgcvd" / "assets" / "examples"


@cache
def clip(split: str = "train", seed: int = 0, index: int = 0, image_size: int = 16) -> Clip:
    return simulate(split, seed, index, image_size)


def same(a: Clip, b: Clip) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("frames", "actions", "places"))


def test_a_clip_is_what_it_says() -> None:
    made = clip()
    things = made.places.shape[1]
    assert made.frames.shape == (FRAMES, 16, 16, 3)
    assert made.actions.shape == (FRAMES, 8)
    assert made.places.shape == (FRAMES, things, 3)
    assert made.visible.shape == (FRAMES, things)
    assert made.frames.dtype == np.uint8
    assert made.actions.dtype == made.places.dtype == made.visible.dtype == np.float32
    assert 3 <= things <= 6


def test_the_same_clip_comes_again_whatever_came_between() -> None:
    first = clip()
    clip(index=1)
    assert same(first, simulate("train", 0, 0, 16))


def test_the_shipped_examples_are_of_this_simulation() -> None:
    shipped = read_pixels(EXAMPLES / "pushing-1.gif", (64, 64), 3, max_frames=1).frames[0]
    made = simulate("test", 0, 0, 64).frames[0].transpose(2, 0, 1)
    assert np.abs(shipped.astype(int) - made).mean() < 2  # 256 colours a frame


@pytest.mark.parametrize("other", [{"index": 1}, {"seed": 1}, {"split": "validation"}, {"split": "test"}])
def test_other_clips_differ(other: dict) -> None:
    assert not same(clip(), clip(**other))


def test_the_size_changes_only_the_picture() -> None:
    small, large = clip(), simulate("train", 0, 0, 32)
    np.testing.assert_array_equal(small.actions, large.actions)
    np.testing.assert_array_equal(small.places, large.places)
    halved = large.frames.reshape(FRAMES, 16, 2, 16, 2, 3).mean((2, 4))
    assert abs(halved - small.frames).mean() < 8


@pytest.mark.parametrize("index", range(2))
def test_things_move_and_stay_in_the_tray(index: int) -> None:
    made = clip(index=index)
    assert made.moved().max() > 0.05
    assert abs(made.places[..., 0]).max() < WIDE / 2
    assert made.places[..., 2].min() > 0


@pytest.mark.parametrize("index", range(2))
def test_the_gripper_follows_its_commands(index: int) -> None:
    actions = clip(index=index).actions
    went = np.diff(actions[:, 4:7], axis=0)
    told = actions[:-1, :3]
    assert np.abs(told).max() > 0.03
    assert np.median(np.linalg.norm(went - told, axis=1)) < 0.015


@pytest.mark.parametrize("index", range(2))
def test_frames_show_something_that_changes(index: int) -> None:
    frames = clip(index=index).frames.astype(float)
    assert 60 < frames.mean() < 220
    assert frames.std((1, 2)).min() > 15
    assert np.abs(np.diff(frames, axis=0)).mean((1, 2, 3)).max() > 2


def test_came_back_means_seen_hidden_and_seen() -> None:
    visible = np.array([[40, 40, 0], [0, 0, 0], [40, 0, 40]], np.float32)
    made = Clip(np.zeros((3, 1, 1, 3), np.uint8), np.zeros((3, 8)), np.zeros((3, 3, 3)), visible)
    assert made.came_back().tolist() == [True, False, False]


def test_without_pybullet_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(UserError, match=r"pip install .*simulate"):
        simulate("train", 0, 0)


def test_a_twentieth_to_validate_and_to_test() -> None:
    for clips, fewer in ((1, 1), (19, 1), (100, 5)):
        made = videos(clips, 0, 64)
        counts = [sum(video.split == split for video in made) for split in ("train", "validation", "test")]
        assert counts == [clips, fewer, fewer]


def test_the_program_writes_every_split(tmp_path: Path) -> None:
    folder = tmp_path / "pushing"
    assert run(["--clips", "1", "--image_size", "16", "--out_dir", str(folder), "--workers", "1"]) == 0
    for split in ("train", "validation", "test"):
        shard = Shard(folder / split / "shard_0001.hdf5")
        assert (shard.lengths, shard.fps) == ([FRAMES], [FPS])
        np.testing.assert_array_equal(shard.read(0, range(FRAMES)), clip(split).frames)
        np.testing.assert_array_equal(shard.actions(0), clip(split).actions)


@pytest.mark.parametrize("option", [("--clips", "0"), ("--image_size", "4"), ("--seed", "-1")])
def test_the_program_refuses_nonsense(option: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=option[0]):
        run(["--clips", "1", "--out_dir", str(tmp_path / "out"), *option])
