from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from lgcvd import PRESETS, ModelConfig, TrainConfig, UserError


@pytest.mark.parametrize(("preset", "size"), [("bair-64", 64), ("cityscapes-128", 128)])
def test_paper_presets_are_the_papers(preset: str, size: int):
    model, train = PRESETS[preset].model, PRESETS[preset].train
    assert (model.context_frames, model.new_frames, model.channels, model.image_size) == (2, 6, 3, (size, size))
    assert (model.dim, model.multipliers, model.head_channels, model.timesteps) == (128, (1, 2, 3, 4), 128, 1000)
    assert (model.patch_size, model.output, model.data_mean, model.data_std) == (1, "velocity", 0, 1)
    assert (train.rate, train.loss, train.times) == (1e-4, "l1", "uniform")


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_json(preset: str):
    config = PRESETS[preset].model
    assert ModelConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_whole_numbers_may_stand_for_floats_and_lists_for_tuples():
    config = ModelConfig(data_std=1, data_mean=0, image_size=[64, 64], attention_up=[8])
    assert (config.image_size, config.attention_up) == ((64, 64), (8,))
    TrainConfig(clip_grad=1, rate=1)


def test_clip_is_context_and_new_frames():
    assert ModelConfig(context_frames=3, new_frames=4).clip_frames == 7


@pytest.mark.parametrize(
    ("channels", "patch_size", "least"),
    [(1, 1, 8), (1, 2, 32), (3, 1, 24), (3, 2, 96)],
)
def test_widths_too_narrow_for_velocity_are_refused(channels: int, patch_size: int, least: int):
    config = ModelConfig(channels=channels, patch_size=patch_size, dim=least)
    config.check_width()
    with pytest.raises(UserError, match=f"too narrow.*dim >= {least}"):
        replace(config, dim=least - 2).check_width()
    replace(config, dim=least - 2, output="x0").check_width()  # a clean clip fits in fewer


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": 2}, "channels must be 1"),
        ({"betas": "sigmoid"}, "no betas 'sigmoid': choose one of cosine, linear"),
        ({"output": "v"}, "no output 'v'"),
        ({"context_frames": 0}, "context_frames must be at least 1"),
        ({"new_frames": 0}, "new_frames must be at least 1"),
        ({"patch_size": 0}, "patch_size must be at least 1"),
        ({"head_channels": 0}, "head_channels must be at least 1"),
        ({"timesteps": 0}, "timesteps must be at least 1"),
        ({"dim": 129}, "dim must be an even number"),
        ({"dim": 2}, "dim must be an even number"),
        ({"data_std": 0.0}, "data_std must be positive"),
        ({"multipliers": ()}, "multipliers must be"),
        ({"multipliers": (1, 0)}, "multipliers must be"),
        ({"image_size": (64, 60)}, "multiples of 8"),
        ({"image_size": (0, 0)}, "multiples of 8"),
        ({"dropout": 0.1}, "0 for lgcvd"),
        ({"time": "scale-shift"}, "time must be shift for lgcvd, not scale-shift"),
        ({"spatin_width": 64}, "spatin_width must be 128 for lgcvd, not 64"),
        ({"motion": 64}, "motion must be below the 64 pixels of the image's longer side, not 64"),
        ({"motion": 4, "motion_stride": 2, "motion_things": 1000}, "at most 25, a thing for every displacement"),
        ({"image_size": (24, 24), "patch_size": 2}, "multiples of 16"),
        ({"dim": True}, "dim must be a whole number, not True"),
        ({"attention": (8, 16.0)}, "attention must be a list, each a whole number"),
        ({"motion_sharpness": float("nan")}, "motion_sharpness must be a finite number"),
        ({"data_std": float("inf")}, "data_std must be a finite number"),
        ({"data_mean": float("nan")}, "data_mean must be a finite number"),
        ({"memory_decay": 10**400}, "memory_decay must be a finite number"),
    ],
)
def test_impossible_settings_are_refused(change: dict, words: str):
    with pytest.raises(UserError, match=words):
        ModelConfig(**change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"schedule": "cosin"}, "no schedule 'cosin': choose one of constant, cosine"),
        ({"objective": "three_stage"}, "no objective 'three_stage'"),
        ({"precision": "bf16"}, "no precision 'bf16': choose one of float32, bfloat16, float16"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"cooldown": -1}, "cooldown must not be negative"),
        ({"rate": -1.0}, "rate must be above 0"),
        ({"rate": float("nan")}, "rate must be a finite number, not nan"),
        ({"clip_grad": float("inf")}, "clip_grad must be a finite number or nothing, not inf"),
        ({"batch_size": 2.0}, "batch_size must be a whole number, not 2.0"),
        ({"compile": 1}, "compile must be true or false, not 1"),
        ({"tasks": None}, "tasks must be a TaskMix, not None"),
        ({"clip_grad": 0.0}, "clip_grad must be above 0"),
        ({"beta2": 1.0}, "beta2 must be at least 0 and below 1"),
        ({"ema": 1.5}, "ema must be at least 0 and below 1"),
        ({"estimate_level": 1.5}, "estimate_level must be between 0 and 1"),
        ({"context_noise": -0.1}, "context_noise must not be negative"),
    ],
)
def test_training_that_could_not_run_is_refused(change: dict, words: str):
    with pytest.raises(UserError, match=words):
        TrainConfig(**change)
