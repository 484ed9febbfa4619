"""What a training leaves behind."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lgcvd
from lgcvd import LGCVD, PRESETS, MovingDigits, TaskMix, TrainConfig, TwoStage, UserError, Validation, train, watch
from lgcvd.machine import git_revision
from lgcvd.run_folder import LEVELS, _Record, curves
from lgcvd.trainer import TrainStep, _State

CONFIG = TrainConfig(iterations=20, batch_size=2, rate=1e-3, save_every=8)
DATA = MovingDigits(length=7, frames=14, image_size=16)


def fresh_model() -> LGCVD:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LGCVD(PRESETS["tiny"].model)


@pytest.fixture(scope="module")
def validation() -> Validation:
    held_out = MovingDigits(split="validation", length=9, frames=14, image_size=16)
    return Validation.of(held_out, TwoStage(), clips=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, validation: Validation) -> Path:
    """A run that was stopped after 13 iterations and then went on."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    for stop in (13, 20):
        steps = train(fresh_model(), DATA, CONFIG, folder=folder)
        steps = watch(steps, folder, CONFIG, validation=validation, every=5, data=DATA)
        for step in steps:
            if step.iteration == stop:
                break
        steps.close()
    return folder


def test_a_training_without_prediction_shows_no_predictions(tmp_path: Path, validation: Validation):
    config = replace(CONFIG, iterations=2, tasks=TaskMix(prediction=0, generation=1, interpolation=0, random=0))
    objective = replace(validation, objective=TwoStage(config.tasks))
    steps = train(fresh_model(), DATA, config, folder=tmp_path)
    assert len(list(watch(steps, tmp_path, config, validation=objective, every=1))) == 2
    assert {row["task"] for row in rows(tmp_path / "validation.csv")} == {"generation"}
    assert not (tmp_path / "samples").exists()


def rows(path: Path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_iteration_has_one_row(run: Path):
    table = rows(run / "losses.csv")
    assert [int(row["iteration"]) for row in table] == list(range(1, 21))
    assert all(float(row[name]) > 0 for row in table for name in ("stage1", "stage2", "stage1_norm", "stage2_norm"))
    for row in table:
        for stage in ("stage1", "stage2"):
            by_task = [float(row[f"{stage} {task}"] or math.nan) for task in asdict(TaskMix())]
            assert np.nanmin(by_task) <= float(row[stage]) * 1.00001
            assert np.nanmax(by_task) >= float(row[stage]) * 0.99999


def test_watching_changes_nothing(run: Path, tmp_path: Path):
    alone = list(train(fresh_model(), DATA, CONFIG))
    assert [float(row["stage2"]) for row in rows(run / "losses.csv")] == pytest.approx(
        [step.losses["stage2"] for step in alone], rel=1e-5
    )
    exported = lgcvd.load(run / "model")
    assert exported.about.step == 20
    for name, weight in alone[-1].model.state_dict().items():
        torch.testing.assert_close(exported.state_dict()[name], weight.half().float(), msg=name)


def test_validation_losses_are_told_for_every_task_stage_and_noise_level(run: Path):
    table = rows(run / "validation.csv")
    assert sorted({int(row["iteration"]) for row in table}) == [5, 10, 15, 20]
    assert len(table) == 4 * 3 * 2 * len(LEVELS)
    assert {row["t"] for row in table} == {"999", "749", "500", "250"}
    assert {row["task"] for row in table} == {"prediction", "generation", "interpolation"}


def test_validation_losses_repeat_and_tell_models_apart(validation: Validation, tiny_model: LGCVD):
    losses = validation.losses(tiny_model)
    assert losses == validation.losses(tiny_model)
    assert losses != validation.losses(fresh_model())
    clips = lgcvd.video.from_uint8(validation.clips)
    only = replace(validation.objective, times=lambda batch, *_: torch.full((batch,), 999))
    only = replace(only, tasks=lgcvd.TaskMix(0, 1, 0, 0))
    *_, second = only(tiny_model, clips, lgcvd.seeds.generator_for(0))
    assert losses["generation", "stage2", 999] == second.loss.item()


def test_samples_and_curves_are_pictures(run: Path):
    names = {f"{iteration:08}.{kind}" for iteration in (5, 10, 15, 20) for kind in ("png", "gif")}
    assert {path.name for path in (run / "samples").iterdir()} == names
    with Image.open(run / "samples" / "00000020.gif") as gif:
        assert gif.n_frames == 14
    with Image.open(run / "curves.png") as picture:
        assert picture.width > 500


def test_a_run_can_be_repeated_from_its_folder(run: Path):
    settings = json.loads((run / "config.json").read_text())
    assert lgcvd.ModelConfig(**settings["model"]) == PRESETS["tiny"].model
    assert settings["train"] == json.loads(json.dumps(asdict(CONFIG)))
    assert settings["data"] == lgcvd.data.described(DATA)
    commands = (run / "commands.txt").read_text().splitlines()
    assert len(commands) == 2
    for line in commands:
        assert sys.argv[0] in line
        assert f"revision {git_revision()}" in line
    log = (run / "log.txt").read_text()
    assert "begun" in log
    assert "going on after iteration 13" in log


def test_there_are_no_curves_of_a_stage_that_is_not_trained(run: Path, tmp_path: Path):
    def titles(folder: Path) -> list[str]:
        return [axes.get_title() for axes in curves(folder).axes if "by task" in axes.get_title()]

    assert titles(run) == ["training loss by task, stage1", "training loss by task, stage2"]
    with (run / "losses.csv").open() as losses, (tmp_path / "losses.csv").open("w") as of_one_stage:
        rows = list(csv.DictReader(losses))
        writer = csv.DictWriter(of_one_stage, [name for name in rows[0] if "stage2" not in name], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert titles(tmp_path) == ["training loss by task, stage1"]


def test_tensorboard_has_curves_and_moving_pictures(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"loss/stage1", "loss/stage2", "gradient norm/stage1", "rate", "clips a second"} <= set(tags["scalars"])
    assert "validation prediction/stage2, t = 999" in tags["scalars"]
    assert "loss by task/stage2 prediction" in tags["scalars"]
    assert [point.step for point in events.Scalars("loss/stage1")] == [10, 20]
    assert events.Images("prediction")[-1].encoded_image_string.startswith(b"GIF")
    assert events.Images("samples")[-1].encoded_image_string.startswith(b"\x89PNG")


def test_a_run_without_tensorboard_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = replace(CONFIG, iterations=2)
    assert len(list(watch(train(fresh_model(), DATA, config, folder=tmp_path), tmp_path, config))) == 2
    assert "no tensorboard" in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("stop", [8, 20])  # a checkpoint on the way, and the last one
def test_a_run_that_is_killed_while_it_exports_loses_no_export(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    export, save, killed = _Record._export, _State.save, []

    def export_or_die(record: _Record) -> None:
        if record.last.iteration == stop:
            killed.append(stop)
            raise KeyboardInterrupt
        export(record)

    def run() -> list[TrainStep]:
        return list(watch(train(fresh_model(), DATA, CONFIG, folder=tmp_path), tmp_path, CONFIG))

    with monkeypatch.context() as patch:
        patch.setattr(_Record, "_export", export_or_die)
        patch.setattr(_Record, "close", lambda record: None)  # what is killed ends nothing properly
        patch.setattr(_State, "save", lambda *args: None if killed else save(*args))
        with pytest.raises(KeyboardInterrupt):
            run()
    assert run()[-1].iteration == 20
    assert lgcvd.load(tmp_path / "model").about.step == 20


def test_why_a_run_stopped_is_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = watch(train(fresh_model(), DATA, CONFIG, folder=tmp_path), tmp_path, CONFIG)
    next(steps)
    monkeypatch.setattr("lgcvd.trainer.EXPLODED", 0.0)
    with pytest.raises(UserError, match="lower rate"):
        next(steps)
    assert "stopped: the loss of stage1 became" in (tmp_path / "log.txt").read_text()


def test_a_run_that_is_refused_or_breaks_at_once_leaves_nothing(tmp_path: Path):
    for config in (replace(CONFIG, batch_size=8), replace(CONFIG, rate=1e30)):
        with pytest.raises(UserError, match=r"fewer than one batch|lower rate"):
            list(watch(train(fresh_model(), DATA, config, folder=tmp_path / "run"), tmp_path / "run", config))
        assert not (tmp_path / "run").exists()
