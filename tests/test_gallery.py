from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from lgcvd import UserError, save
from lgcvd.__main__ import main
from lgcvd.evaluation import of_model, open_clips, worst_of
from lgcvd.gallery import TRUTH, Gallery
from lgcvd.metrics import psnr
from lgcvd.models import build
from lgcvd.results import read_results
from lgcvd.seeds import generator_for
from lgcvd.video import from_uint8

SAMPLING = {"sampler": "ddpm", "steps": 2}


@pytest.fixture
def clips():
    return open_clips("digits", frames=18, clips=2, seed=0, shape=(16, 16, 1))


@pytest.fixture
def gallery(tiny_model, clips) -> Gallery:
    return Gallery(clips, [of_model(tiny_model, **SAMPLING)], {"model": tiny_model}, sampling=SAMPLING)


def test_prediction_is_the_first_trajectory_of_an_evaluation(gallery):
    rows = gallery.predictions()
    assert list(rows) == [TRUTH, "model"]
    assert torch.equal(rows[TRUTH][0], from_uint8(gallery.clips.data[gallery.clips.indices[0]]))
    noise = [generator_for(0, gallery.clips.indices[1], 0)]
    alone = gallery.predictors[0].predict(rows[TRUTH][1:, :2], 16, noise)
    torch.testing.assert_close(rows["model"][1:], alone, atol=1e-4, rtol=0)


def test_every_picture_is_written(gallery, tmp_path):
    said = list(gallery.save(tmp_path, all_frames=True))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "prediction.gif",
        "prediction-1.png",
        "prediction-2.png",
        "generation-model.gif",
        "interpolation.png",
        "infilling.png",
    }
    assert len(said) == len(names)
    for name in ("prediction.gif", "generation-model.gif"):
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == 18


def test_what_a_model_was_not_trained_for_is_left_out(gallery, tmp_path):
    model = gallery.models["model"]
    only = build(model.config, replace(model.about, tasks=("prediction",)))
    gallery = replace(gallery, models={"model": only})
    said = list(gallery.save(tmp_path))
    assert [line.split(":")[0] for line in said[1:]] == [
        "model is left out of the generation",
        "model is left out of the interpolation",
        "model is left out of the infilling",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["prediction.gif"]


def test_models_of_two_sizes_are_refused(gallery):
    with pytest.raises(UserError, match="a gallery needs one size"):
        replace(gallery, predictors=[replace(gallery.predictors[0], shape=(32, 32, 1))])


def test_command_makes_a_gallery(tiny_model, tmp_path, capsys):
    save(tiny_model, tmp_path / "model")
    options = ["--data", "digits", "--clips", "1", "--frames", "7", "--sampler", "ddpm", "--steps", "1"]
    models = ["--models", "copy-last-frame", str(tmp_path / "model")]
    assert main(["gallery", *models, *options, "--out", str(tmp_path / "out")]) == 0
    assert "prediction.gif: 1 clips, 9 frames" in capsys.readouterr().out
    for bad, reason in ((["--clips", "0"], "clips must be"), (["--models", "nothing"], "there is no model")):
        assert main(["gallery", *models, *options, "--out", str(tmp_path / "bad"), *bad]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


def test_a_gallery_of_failures_shows_the_clips_that_were_predicted_worst(tmp_path, capsys):
    of = ["--data", "digits", "--frames", "7", "--image-size", "16", "16"]
    results = tmp_path / "copied.json"
    evaluation = ["evaluate", "--model", "copy-last-frame", *of, "--clips", "6", "--metrics", "psnr"]
    assert main([*evaluation, "--out", str(results)]) == 0
    clips = open_clips("digits", frames=9, clips=6, seed=0, shape=(16, 16, 1))
    worst = worst_of(read_results(results), clips, 2)
    true = from_uint8(torch.stack([clips.data[index] for index in clips.indices]))
    scores = psnr(true[:, 1:2].expand_as(true)[:, 2:], true[:, 2:]).mean(1)
    assert list(worst.indices) == [clips.indices[i] for i in scores.argsort()[:2]]
    gallery = ["gallery", "--models", "copy-last-frame", *of, "--clips", "2", "--worst-of", str(results)]
    assert main([*gallery, "--out", str(tmp_path / "out")]) == 0
    assert "2 clips, 9 frames" in capsys.readouterr().out
    by_likeness = read_results(results)
    by_likeness["summary"], by_likeness["clips"] = (
        {"ssim": by_likeness["summary"]["psnr"]},
        [row | {"ssim": row.pop("psnr")} for row in by_likeness["clips"]],
    )
    assert worst_of(by_likeness, clips, 2) == worst
    with pytest.raises(UserError, match="no measure of single clips"):
        worst_of(by_likeness | {"summary": {}}, clips, 2)
    assert main([*gallery, "--out", str(tmp_path / "bad"), "--fps", "0"]) == 2
    assert "fps must be between 0.1 and 240" in capsys.readouterr().err
    assert main([*gallery, "--out", str(tmp_path / "bad"), "--seed", "1"]) == 2
    assert "the results are of other clips" in capsys.readouterr().err
