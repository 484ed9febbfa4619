"""The authors' released code and ours give the same numbers (recorded in fixtures/released_tiny.npz)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lgcvd import LGCVD, PRESETS, ModelConfig, UserError, load, sample, save
from lgcvd.context import local_context
from lgcvd.objective import l1
from lgcvd.released import SCHEDULE_BUFFERS, load_released, released_config
from lgcvd.sampling import SAMPLERS
from lgcvd.schedule import Schedule, respaced_timesteps

with np.load(Path(__file__).parent / "fixtures" / "released_tiny.npz") as recorded:
    RECORDED = {name: torch.from_numpy(recorded[name]) for name in recorded.files}
WEIGHTS = {name.removeprefix("weights/"): w for name, w in RECORDED.items() if name.startswith("weights/")}
TINY = ModelConfig(
    image_size=(16, 16),
    dim=8,
    multipliers=(1, 2, 2, 4),
    attention=(4,),
    head_channels=8,
)
TASKS = ("prediction", "generation", "interpolation", "random")
CLIP, LAST_CLIP = 2 * RECORDED["in/clip"] - 1, 2 * RECORDED["in/last_clip"] - 1


def checkpoint(weights: dict[str, Tensor] = WEIGHTS) -> dict:
    """What the released code saves."""
    weights = weights | {name: torch.zeros(3) for name in SCHEDULE_BUFFERS}
    return {"step": 7, "model": weights, "ema": weights, "scaler": {"scale": 65536.0}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(checkpoint(), tmp_path / "model-7.pt")
    return tmp_path / "model-7.pt"


@pytest.fixture
def released_model(file: Path) -> LGCVD:
    return load_released(file, TINY).requires_grad_(False)


def task_context(model: LGCVD, task: str):
    positions = RECORDED[f"{task}/positions"].expand(len(CLIP), -1)
    return local_context(CLIP, positions, model.remember(LAST_CLIP))


def test_encoder_agrees(released_model: LGCVD):
    torch.testing.assert_close(
        released_model.remember(None).expand(2, -1, -1, -1), RECORDED["encoder/gray"], atol=1e-4, rtol=0
    )
    torch.testing.assert_close(released_model.remember(LAST_CLIP), RECORDED["encoder/last_clip"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("task", TASKS)
def test_local_context_planes_agree(released_model: LGCVD, task: str):
    seen = []
    released_model.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    released_model(RECORDED[f"{task}/x_t"], RECORDED["in/t"], task_context(released_model, task))
    torch.testing.assert_close(seen[0][:, :8], 2 * RECORDED[f"{task}/local_context_01"] - 1, atol=1e-6, rtol=0)


@pytest.mark.parametrize("task", TASKS)
def test_velocity_loss_and_one_step_estimate_agree(released_model: LGCVD, task: str):
    schedule, t, noise = released_model.schedule, RECORDED["in/t"], RECORDED["in/noise"]
    x_t = schedule.add_noise(CLIP, noise, t)
    torch.testing.assert_close(x_t, RECORDED[f"{task}/x_t"], atol=1e-5, rtol=0)

    velocity = released_model(x_t, t, task_context(released_model, task))
    torch.testing.assert_close(velocity, RECORDED[f"{task}/v"], atol=1e-4, rtol=0)
    loss = l1(velocity, schedule.velocity(CLIP, noise, t), schedule.alpha_bar[t]).mean()
    torch.testing.assert_close(loss, RECORDED[f"{task}/loss_l1"], atol=1e-4, rtol=0)
    x0 = schedule.x0(x_t, velocity, t)
    torch.testing.assert_close((x0 + 1) / 2, RECORDED[f"{task}/x0_01"], atol=1e-4, rtol=0)


def test_schedule_agrees():
    schedule = Schedule(1000)
    torch.testing.assert_close(schedule.betas.float(), RECORDED["schedule/betas"], atol=1e-6, rtol=0)
    torch.testing.assert_close(schedule.alpha_bar[:-1], RECORDED["schedule/alphas_cumprod"], atol=1e-6, rtol=0)


def test_respaced_schedule_agrees():
    schedule = Schedule(1000)
    timesteps = respaced_timesteps(8, 1000)
    assert timesteps[::-1] == RECORDED["respaced/timestep_map"].tolist()

    alpha_bar = torch.cumprod(1 - schedule.betas, 0)[timesteps[::-1]]
    betas = 1 - alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]])
    torch.testing.assert_close(betas.float(), RECORDED["respaced/betas"], atol=1e-6, rtol=1e-4)

    solver, nothing = SAMPLERS["ddpm"](schedule, timesteps), torch.zeros(())
    added = [solver.towards(nothing, nothing, t, s, noise=torch.ones(()), eta=1) for t, s in pairwise(timesteps)]
    log_variance = torch.stack(added[::-1]).square().log()  # of the last step it is 0; the released code puts a number
    recorded = RECORDED["respaced/posterior_log_variance_clipped"][1:]
    torch.testing.assert_close(log_variance, recorded.float(), atol=1e-4, rtol=1e-3)


def test_whole_ancestral_run_agrees(released_model: LGCVD, monkeypatch: pytest.MonkeyPatch):
    noises = iter(RECORDED["ancestral/noises"])
    monkeypatch.setattr("lgcvd.sampling.randn", lambda *_: next(noises))
    context = task_context(released_model, "prediction")
    *_, last = sample(released_model, RECORDED["ancestral/x_T"], context, sampler="ddpm", steps=8, spacing="ends")
    torch.testing.assert_close(last.x_t, RECORDED["ancestral/x_0"], atol=1e-3, rtol=0)


@pytest.mark.parametrize(("preset", "size"), [("bair-64", 64), ("cityscapes-128", 128)])
def test_presets_have_the_size_of_the_released_networks(preset: str, size: int):
    config = released_config(preset)
    assert (config.attention, config.attention_up) == ((size // 4,), (size // 2,))
    with torch.device("meta"):
        model = LGCVD(config)
    millions = [sum(w.numel() for w in part.parameters()) / 1e6 for part in (model.unet, model.encoder)]
    assert millions == pytest.approx([63.40, 33.10], abs=0.005)


def test_imported_model_survives_our_own_format(released_model: LGCVD, file: Path, tmp_path: Path):
    model = load_released(file, TINY)
    assert model.about.step == 7
    assert file.name in model.about.data
    save(model, tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert (again.config, again.about) == (model.config, model.about)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_denoiser_is_always_the_averaged_one_and_the_encoder_a_choice(tmp_path: Path):
    saved = checkpoint()
    saved["model"] = {name: w + 1 for name, w in saved["model"].items()}
    torch.save(saved, tmp_path / "two.pt")
    averaged, raw = (load_released(tmp_path / "two.pt", TINY, encoder) for encoder in ("ema", "model"))
    stem = "encoder_fn.init_conv.weight"
    assert torch.equal(averaged.encoder.path.stem.weight, WEIGHTS[stem])
    assert torch.equal(raw.encoder.path.stem.weight, WEIGHTS[stem] + 1)
    assert torch.equal(averaged.unet.path.stem.weight, raw.unet.path.stem.weight)


def without(name: str) -> dict[str, Tensor]:
    return {key: w for key, w in WEIGHTS.items() if key != name}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (without("denoise_fn.midblock4.NIN_2.W"), r"lacks denoise_fn\.midblock4\.NIN_2\.W;"),
        (WEIGHTS | {"denoise_fn.extra": torch.zeros(1)}, r"unknown denoise_fn\.extra;"),
        (WEIGHTS | {"denoise_fn.midblock4.NIN_2.b": torch.zeros(5)}, r"NIN_2\.b \(5,\) for \(32,\);"),
        (WEIGHTS | {"encoder_fn.midblock2.NIN_0.W": torch.zeros(5)}, r"NIN_0\.W \(5,\) for \(32, 32\);"),
        ({}, r"lacks denoise_fn\.downs\.\S+, denoise_fn\.\S+, denoise_fn\.\S+ and \d+ more;"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, weights: dict[str, Tensor], words: str):
    torch.save(checkpoint(weights), tmp_path / "bad.pt")
    with pytest.raises(UserError, match=words):
        load_released(tmp_path / "bad.pt", TINY)


def test_attention_at_other_places_is_refused(file: Path):
    with pytest.raises(UserError, match="does not fit"):
        load_released(file, replace(TINY, attention=(4, 8)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": {}}, "no ema"),
        ([1, 2], "no model and no ema"),
        ({"model": 1, "ema": "weights"}, "no weights"),
        (b"", "torch can read"),
        (b"no checkpoint at all", "torch can read"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: object, words: str):
    path = tmp_path / "foreign.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=words):
        load_released(path, TINY)


def test_truncated_and_absent_files_are_refused(file: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no file"):
        load_released(tmp_path / "nothing.pt", TINY)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged"):
        load_released(file, TINY)


def test_unknown_preset_is_refused(file: Path):
    assert "bear-64" not in PRESETS
    with pytest.raises(UserError, match="bair-64"):
        load_released(file, "bear-64")
