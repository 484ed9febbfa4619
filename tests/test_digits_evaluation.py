from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lgcvd import LGCVD, MovingDigits, UserError, save
from lgcvd.__main__ import main
from lgcvd.config import ModelConfig
from lgcvd.digit_classifier import IN_PLACE, WEIGHTS, find_digits, recognised
from lgcvd.digits_evaluation import BLANK, COPY, DIGIT_MEASURES, MODEL, REAL, evaluate_digits, sampler_table
from lgcvd.video import from_uint8

CLIPS = 100


@pytest.fixture(scope="module")
def real() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The first frames (CLIPS, 1, 64, 64) of test clips, what is in them, and where."""
    data = MovingDigits("test", frames=1)
    scenes = [data.clip_and_labels(i) for i in range(CLIPS)]
    centres = torch.stack([data.places(i)[:, 0] for i in range(CLIPS)])
    return from_uint8(torch.cat([clip for clip, _ in scenes])), torch.tensor([labels for _, labels in scenes]), centres


def test_real_digits_are_recognised_where_they_are(real):
    anywhere, in_place = recognised(*real)
    assert anywhere.mean() > 0.87  # the rest is hidden by the other digit
    assert in_place.mean() > 0.86


def test_small_frames_are_read_too(real):
    frames, labels, centres = real
    anywhere, _ = recognised(torch.nn.functional.avg_pool2d(frames, 2), labels, centres)
    assert anywhere.mean() > 0.86


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frames: torch.full_like(frames, -1),
        lambda frames: torch.zeros_like(frames),
        lambda frames: frames.mean(0, keepdim=True).expand_as(frames),
        lambda frames: torch.nn.functional.avg_pool2d(frames, 17, 1, 8),
        lambda frames: torch.rand(frames.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1,
    ],
    ids=["blank", "grey", "mean of all frames", "blurred", "noise"],
)
def test_what_shows_no_digit_wins_nothing(real, spoil):
    frames, labels, centres = real
    anywhere, _ = recognised(spoil(frames), labels, centres)
    assert anywhere.mean() < 0.05


def test_other_digits_are_not_the_right_ones(real):
    frames, labels, centres = real
    anywhere, in_place = recognised(frames, (labels + 1) % 10, centres)
    assert anywhere.mean() < 0.25  # the frame's other digit is the wanted one now and then
    assert in_place.mean() < 0.05


def test_a_shifted_digit_is_recognised_but_not_in_place():
    data = MovingDigits("test", frames=1, digits=1)
    left = [i for i in range(80) if data.places(i)[0, 0, 1] < 30]  # these stay whole when moved by 20 pixels
    frames, centres = from_uint8(torch.cat([data[i] for i in left])), torch.cat([data.places(i) for i in left])
    labels = torch.tensor([data.clip_and_labels(i)[1] for i in left])
    for shift, share_in_place in ((3, 1), (20, 0)):
        anywhere, in_place = recognised(torch.roll(frames, shift, dims=-1), labels, centres)
        assert anywhere.mean() > 0.93
        assert abs(in_place.mean() - share_in_place) < 0.15
    assert 3 < IN_PLACE < 20


def test_one_digit_answers_for_one_only():
    data = MovingDigits("test", frames=1, digits=1)
    clip, (label,) = data.clip_and_labels(0)
    clip = from_uint8(clip)
    assert find_digits(clip, 2)[0].tolist() == [[label, -1]]
    anywhere, in_place = recognised(
        clip, torch.tensor([[label, label]]), data.places(0).expand(2, 1, 2).transpose(0, 1)
    )
    assert (anywhere.item(), in_place.item()) == (0.5, 0.5)


def test_classifier_is_small():
    assert WEIGHTS.stat().st_size < 1_000_000


@pytest.fixture(scope="module")
def report():
    """A report on an untrained network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ModelConfig(
            channels=1, image_size=(16, 16), dim=8, multipliers=(1, 2), attention=(8,), head_channels=8
        )
        model = LGCVD(config).eval()
    return model, evaluate_digits(model, clips=3, frames=9, steps=2, progress=False)


def test_every_row_has_every_measure_of_every_new_frame(report):
    _, report = report
    assert list(report.scores) == [MODEL, COPY, BLANK, REAL]
    for scores in report.scores.values():
        assert list(scores) == list(DIGIT_MEASURES)
        assert all(values.shape == (3, 9) and np.isfinite(values).all() for values in scores.values())


def test_rows_that_are_known_have_the_known_values(report):
    _, report = report
    assert report.value(REAL, "ink") == (1, 1, 1)
    assert report.value(REAL, "ssim")[0] == pytest.approx(1)
    assert report.value(BLANK, "ink")[0] == 0
    assert report.value(BLANK, "digits")[0] == 0
    assert report.value(COPY, "psnr", 3)[0] > report.value(COPY, "psnr", 11)[0]  # it is left behind


def test_same_seed_makes_the_same_table_and_another_seed_another(report):
    model, first = report
    options = {"clips": 3, "frames": 9, "steps": 2, "progress": False}
    again, other = evaluate_digits(model, **options), evaluate_digits(model, seed=1, **options)

    def table(report):
        return [line for line in report.markdown().splitlines() if line.startswith("|")]

    assert table(first) == table(again) != table(other)


def test_saved_files_hold_the_report(report, tmp_path):
    _, report = report
    report.save(tmp_path / "results")
    saved = json.loads((tmp_path / "results" / "results.json").read_text())
    assert saved["settings"]["config"]["image_size"] == [16, 16]
    assert saved["rows"][MODEL]["psnr"]["mean"]["value"] == report.value(MODEL, "psnr")[0]
    assert len(saved["rows"][COPY]["ink"]["per_frame"]) == 9
    assert (tmp_path / "results" / "table.md").read_text() == report.markdown()
    for picture in ("curves.png", "samples.png"):
        assert (tmp_path / "results" / picture).read_bytes().startswith(b"\x89PNG")


def test_sampler_table_has_a_row_a_report(report):
    _, report = report
    assert len(sampler_table([report, report]).splitlines()) == 4


@pytest.mark.parametrize(
    "changes", [{"channels": 3, "dim": 24}, {"image_size": (48, 48)}, {"image_size": (32, 16)}], ids=str
)
def test_models_of_something_else_are_refused(changes):
    config = ModelConfig(**{"channels": 1, "dim": 8, "multipliers": (1, 2), "head_channels": 8} | changes)
    with pytest.raises(UserError, match="moving digits need a gray model"):
        evaluate_digits(LGCVD(config), clips=1, progress=False)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [({"clips": 0}, "at least 1"), ({"frames": -3}, "between 1 and 1000"), ({"frames": 1001}, "between 1 and 1000")],
)
def test_impossible_numbers_of_clips_and_frames_are_refused_before_any_is_made(tiny_model, monkeypatch, numbers, words):
    monkeypatch.setattr("lgcvd.digits_evaluation.MovingDigits", None)
    with pytest.raises(UserError, match=words):
        evaluate_digits(tiny_model, progress=False, **numbers)


def test_the_command_under_the_table_names_the_model_as_it_was_given(tiny_model, tmp_path, capsys):
    save(tiny_model, tmp_path / "model")
    run = ["evaluate-digits", "--model", str(tmp_path / "model"), "--clips", "1", "--frames", "2", "--steps", "1"]
    assert main(run) == 0
    assert f"--model {tmp_path / 'model'} --clips 1" in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert main([*run, "--out", str(tmp_path / "file")]) == 2
    assert "is a file: give a folder" in capsys.readouterr().err
