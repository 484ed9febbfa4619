"""Adapting a model to one's own clips."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from media import grays, write_gif
from PIL import Image

import lgcvd
from lgcvd import LGCVD, PRESETS, About, Adaptation, MovingDigits, UserError, load, save
from lgcvd.__main__ import main
from lgcvd.adapt import RECIPE, read_clips, split_in_time
from lgcvd.models import build

SHAPE = (16, 16, 1)
QUICK = replace(RECIPE, iterations=6, rate=1e-2, warmup=0)
"""Enough for random weights to become better than they were."""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """40 frames of 16 x 16 pixels of moving digits."""
    pixels = MovingDigits(length=1, frames=40, image_size=16)[0].permute(0, 2, 3, 1).numpy()
    return write_gif(tmp_path / "clip.gif", pixels, [100] * 40)


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    """40 frames whose gray is five times their number."""
    frames = [np.full((16, 16, 1), 5 * index, np.uint8) for index in range(40)]
    return write_gif(tmp_path / "counting.gif", frames, [100] * 40)


@pytest.fixture
def model(tiny_model: LGCVD, tmp_path: Path) -> Path:
    save(tiny_model, tmp_path / "model", About("tiny", "noise", "free", step=7))
    return tmp_path / "model"


def adaptation(model: Path, clip: Path, **options: object) -> Adaptation:
    return Adaptation(load(model), read_clips([clip], SHAPE), replace(QUICK, **options))


def numbers(clips: torch.Tensor) -> set[int]:
    """Which frames of ``counting`` these are."""
    return {int(frame.flatten()[0]) // 5 for frame in clips.flatten(0, 1)}


# what is trained on and what is held out


@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=5), least=st.integers(2, 20), share=st.floats(0.01, 0.99)
)
def test_what_is_held_out_follows_what_is_trained_on(lengths: list[int], least: int, share: float):
    class Counted:
        names = fps = notes = skipped = ()
        split, shape = "", SHAPE

    Counted.lengths = lengths
    if max(lengths) < 2 * least:
        with pytest.raises(UserError, match=f"longest has {max(lengths)} frames, and {2 * least} are needed"):
            split_in_time(Counted(), share, least)
        return
    parts = split_in_time(Counted(), share, least)
    for n, first, last in zip(lengths, *(part.stretches for part in parts), strict=True):
        assert [*first, *last] == [*range(n if n >= least else 0)]
        assert (len(last) >= least and len(first) >= least) if n >= 2 * least else not last


def test_no_held_out_frame_is_trained_on(model: Path, counting: Path, monkeypatch: pytest.MonkeyPatch):
    """Of 40 frames the last 14, a training clip's length, are held out: a quarter would be too few to judge by."""
    videos = read_clips([counting], SHAPE)
    adapted = Adaptation(load(model), videos, QUICK)
    assert numbers(adapted.validation.clips) == numbers(adapted.scored) == {*range(26, 40)}
    read, whole = [], videos.read
    monkeypatch.setattr(videos, "read", lambda video, window: read.extend(window) or whole(video, window))
    for _ in adapted.steps(math.inf):
        pass
    assert len(read) >= 6 * 4 * 14
    assert max(read) < 26
    assert numbers(torch.stack([adapted.data[index] for index in range(200)])) == {*range(26)}


def test_a_larger_share_is_held_out_where_that_is_asked_for(model: Path, counting: Path):
    videos = read_clips([counting], SHAPE)
    adapted = Adaptation(load(model), videos, QUICK, share=0.6)
    assert (adapted.trained.lengths, adapted.held_out.lengths) == ([16], [24])
    assert numbers(torch.stack([adapted.data[index] for index in range(50)])) == {*range(16)}
    assert min(numbers(adapted.validation.clips)) == min(numbers(adapted.scored)) == 16
    for share in (0, 1, math.nan):
        with pytest.raises(UserError, match="above 0 and below 1"):
            Adaptation(load(model), videos, QUICK, share=share)


def test_videos_folders_of_them_and_folders_of_pictures_are_clips(clip: Path, tmp_path: Path):
    deep = tmp_path / "videos" / "deep"
    deep.mkdir(parents=True)
    write_gif(tmp_path / "videos" / "a.gif", grays(3), [100] * 3)
    write_gif(deep / "b.gif", grays(4), [100] * 4)
    (tmp_path / "pictures").mkdir()
    for index, picture in enumerate(grays(5)):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{index}.png")
    videos = read_clips([clip, tmp_path / "videos", tmp_path / "pictures", clip], SHAPE)
    assert dict(zip([Path(name).name for name in videos.names], videos.lengths, strict=True)) == {
        "clip.gif": 40,
        "a.gif": 3,
        "b.gif": 4,
        "pictures": 5,
    }
    assert read_clips([clip], SHAPE, fps=5).lengths == [20]
    with pytest.raises(UserError, match=r"there is no file .*nowhere\.gif"):
        read_clips([clip, tmp_path / "nowhere.gif"], SHAPE)


# the library


def test_the_model_with_the_lowest_held_out_loss_is_kept_and_the_original_stays(model: Path, clip: Path):
    adapted = adaptation(model, clip)
    before = {name: weight.clone() for name, weight in adapted.original.state_dict().items()}
    *_, last = adapted.steps(math.inf)
    assert last.fraction == 1
    assert last.training.iteration == 6
    assert [*adapted.losses] == [0, 1, 2, 3, 4, 5, 6]
    assert adapted.improved
    assert adapted.losses[adapted.best_iteration] == min(adapted.losses.values()) == last.best < adapted.losses[0]
    assert adapted._held_out_loss(adapted.best) == min(adapted.losses.values())
    assert all(torch.equal(before[name], weight) for name, weight in adapted.original.state_dict().items())


def test_the_same_seed_gives_the_same_losses(model: Path, clip: Path):
    first, again, other = (adaptation(model, clip, iterations=1, seed=seed) for seed in (0, 0, 1))
    for adapted in (first, again, other):
        assert len([*adapted.steps(math.inf)]) == 1
    assert first.losses == again.losses != other.losses
    assert first.losses[0] == other.losses[0]  # of the original: always the same clips, noise and noise levels


def test_who_stops_iterating_has_what_there_is_judged(model: Path, clip: Path):
    adapted = adaptation(model, clip, iterations=1000)
    with closing(adapted.steps(math.inf)) as steps:
        assert [step.training.iteration for step in islice(steps, 3)] == [1, 2, 3]
    assert [*adapted.losses] == [0, 3]


def test_the_time_limit_ends_it(model: Path, clip: Path):
    adapted = adaptation(model, clip, iterations=10**9)
    *_, last = adapted.steps(minutes=1e-9)
    assert (last.training.iteration, last.fraction, [*adapted.losses]) == (1, 1, [0, 1])


def test_what_is_saved_is_what_was_judged_and_tells_how_it_came_about(model: Path, clip: Path, tmp_path: Path):
    adapted = adaptation(model, clip)
    for _ in adapted.steps(math.inf):
        pass
    scores = adapted.save(tmp_path / "to" / "mine")
    loaded = load(tmp_path / "to" / "mine")
    kept = adapted.best_iteration
    assert adapted._held_out_loss(loaded) == adapted.losses[kept] == scores["after"]["held-out loss"]
    assert loaded.about == About(
        "mine",
        "noise; then, adapted from tiny, the first part of clip.gif",
        "free; besides, what the licence of those clips allows",
        step=7 + kept,
    )
    record = json.loads((tmp_path / "to" / "mine" / "adaptation.json").read_text())
    assert record["from"]["name"] == "tiny"
    assert record["clips"] == [{"name": str(clip), "frames": 40, "trained on": 26, "held out": 14}]
    assert record["scores"] == scores
    assert scores.keys() == {"copy last frame", "before", "after"}
    assert scores["after"]["psnr"] != scores["before"]["psnr"]
    assert {path.name for path in (tmp_path / "to").rglob("*")} == {
        *("mine", "config.json", "model.safetensors", "adaptation.json", "held-out.png", "held-out.mp4")
    }


def test_the_film_is_the_longest_held_out_part(model: Path, clip: Path, tmp_path: Path):
    longer = write_gif(tmp_path / "longer.gif", grays(30, 16, 16)[:0:-1] + grays(29, 16, 16), [50] * 58)
    adapted = Adaptation(load(model), read_clips([clip, longer], SHAPE), QUICK, share=0.5)
    films, fps = adapted.films()
    assert films.keys() == {"truth", "before"}  # nothing has been adapted yet
    assert fps == pytest.approx(20)
    assert films["truth"].shape == films["before"].shape == (29, 1, 16, 16)
    assert [round(float(frame.mean() + 1) * 127.5 / 8) for frame in films["truth"]] == [*range(29)]
    assert torch.equal(films["before"][:2], films["truth"][:2])


@pytest.mark.parametrize("kind", ["mcvd-concat", "mcvd-spatin"])
def test_mcvd_is_adapted_with_its_own_objective(kind: str, clip: Path):
    torch.manual_seed(0)
    mcvd = build(PRESETS[f"tiny-{kind}"].model)
    adapted = Adaptation(mcvd, read_clips([clip], SHAPE), replace(QUICK, iterations=2))
    *_, last = adapted.steps(math.inf)
    assert last.training.losses.keys() == {"stage1"}
    assert adapted.held_out.lengths == [10]


def test_what_cannot_be_adapted_is_refused(tiny_model: LGCVD, clip: Path):
    videos = read_clips([clip], SHAPE)
    for about, words in (
        (About("few", steps=4), "few was distilled to 4 steps"),
        (About(tasks=("generation",)), "only models that predict"),
    ):
        tiny_model.about = about
        with pytest.raises(UserError, match=words):
            Adaptation(tiny_model, videos, QUICK)


# the verb


def adapt(model: Path, clip: Path, out: Path, *options: str) -> int:
    return main(["adapt", str(clip), "--model", str(model), "--out", str(out), "--minutes", "60", *options])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgcvd.commands.adapt.RECIPE", QUICK)


def test_an_adapted_model_is_one_of_ours(
    quick: None, model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    out, original = tmp_path / "mine", (model / "model.safetensors").read_bytes()
    assert adapt(model, clip, out, "--rate", "0.01") == 0
    told = capsys.readouterr().out
    assert "1 clip: 26 frames to train on, the 14 after them to judge by" in told
    for row in ("| copy last frame | - |", "| before |", "| after |"):
        assert row in told
    assert f"--model {out}" in told
    assert (model / "model.safetensors").read_bytes() == original
    options = ["--frames", "1", "--steps", "1", "--out", str(tmp_path / "film.mp4")]
    assert main(["predict", str(clip), "--model", str(out), *options]) == 0
    (tmp_path / "clips").mkdir()
    clip.rename(tmp_path / "clips" / "long.gif")
    write_gif(tmp_path / "clips" / "short.gif", grays(13), [100] * 13)
    (tmp_path / "clips" / "broken.gif").write_text("no picture")
    there = {file: file.read_bytes() for file in out.iterdir()}
    assert adapt(model, tmp_path / "clips", out, "--rate", "0.01", "--seed", "1") == 2
    assert f"{out} is not empty, and what is there is kept" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in out.iterdir()} == there
    other = tmp_path / "other"
    assert adapt(model, tmp_path / "clips", other, "--rate", "0.01", "--seed", "1") == 0
    assert (other / "model.safetensors").read_bytes() != there[out / "model.safetensors"]
    told = capsys.readouterr()
    assert "2 clips: 26 frames to train on, the 14 after them to judge by" in told.out
    assert "short.gif is shorter than a training clip: it is left out" in told.err
    assert "broken.gif: broken.gif cannot be read" in told.err


def test_what_does_not_get_better_is_not_written(
    quick: None, model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert adapt(model, clip, tmp_path / "deep" / "mine", "--rate", "1e-30") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    loss = f"{adaptation(model, clip)._held_out_loss(load(model)):.4g}"
    assert f"the original is kept and nothing is written: its held-out loss is {loss}, the best on the way" in told
    assert f"{loss}; try more --minutes, another --rate (now 1e-30)" in told
    assert not (tmp_path / "deep").exists()


def test_ctrl_c_stops_and_what_there_is_is_judged(
    quick: None, model: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*arguments: object) -> Iterator:
        for step in lgcvd.train(*arguments):
            if step.iteration == 3:
                signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr("lgcvd.adapt.train", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert adapt(model, clip, tmp_path / "mine", "--rate", "0.01") == 128 + signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    record = json.loads((tmp_path / "mine" / "adaptation.json").read_text())
    assert [*record["held-out loss by iteration"]] == ["0", "1", "2", "3"]
    assert load(tmp_path / "mine").about.step == 7 + record["kept"] > 7
    assert adapt(model, clip, tmp_path / "none", "--rate", "1e-30") == 128 + signal.SIGINT
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--minutes", "0"], "minutes must be above 0"),
        (["--minutes", "nan"], "minutes must be above 0"),
        (["--minutes", "inf"], "minutes must be above 0 and have an end"),
        (["--held-out", "1"], "above 0 and below 1"),
        (["--fps", "6"], "the longest has 24 frames, and 28 are needed, 14 to train on and 14 to judge by"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
        (["--rate", "1e30"], "lower rate"),
        (["--out", "model"], "model is not empty, and what is there is kept"),
        (["--out", "."], ". is not empty"),
        (["--out", "clip.gif/mine"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence_and_writes_nothing(
    options: list[str],
    words: str,
    model: Path,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    there = {*tmp_path.rglob("*")}
    assert main(["adapt", "clip.gif", "--model", "model", *options]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("lgcvd: ")
    assert words in told
    assert {*tmp_path.rglob("*")} == there
