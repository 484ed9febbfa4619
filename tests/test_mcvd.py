from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import perturbed
from torch import Tensor

from lgcvd import PRESETS, MovingDigits, TwoStage, UserError, load, predict, sample, save, train
from lgcvd.config import MASKED_BLOCKS, MCVD_DIMS, ModelConfig
from lgcvd.context import LAYOUTS, Context, TaskMix, local_context
from lgcvd.denoiser import VideoDenoiser
from lgcvd.matching import matched_dim, size_of
from lgcvd.models import MODELS, build
from lgcvd.objective import BlockMasking, noise_l2, objective_of
from lgcvd.trainer import TrainStep

KINDS = ("mcvd-concat", "mcvd-spatin")
PAST, FUTURE = (0, 1), (8, 9)
MOTION = {"motion": 1, "output": "x0"}


def tiny(kind: str, **changes: object) -> VideoDenoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return perturbed(build(replace(PRESETS[f"tiny-{kind}"].model, **changes)))


@pytest.fixture(params=product(KINDS, ({}, MOTION)), ids=lambda param: f"{param[0]}{'-motion' * bool(param[1])}")
def model(request: pytest.FixtureRequest) -> VideoDenoiser:
    kind, changes = request.param
    return tiny(kind, **changes)


def film(seed: int = 0, batch: int = 2) -> Tensor:
    """A window of 2 past, 6 new and 2 future frames."""
    return torch.rand((batch, 10, 1, 16, 16), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def velocity(model: VideoDenoiser, positions=(*PAST, *FUTURE), frames=None, x_t=None, t=(300, 700)) -> Tensor:
    context = Context(film(1)[:, [0, 1, 8, 9]] if frames is None else frames, torch.tensor([positions] * 2))
    with torch.no_grad():
        return model(film(2)[:, 2:8] if x_t is None else x_t, torch.tensor(t), context)


def test_only_the_new_frames_are_denoised_and_nothing_is_remembered(model: VideoDenoiser):
    assert (model.context_frames, model.new_frames, model.output_frames) == (2, 6, 6)
    assert velocity(model).shape == (2, 6, 1, 16, 16)
    assert model.remember(film()[:, :6]) is None
    assert not model.keeps_memory
    assert not any("encoder" in name or "cross" in name for name, _ in model.named_parameters())


def test_everything_that_the_model_is_told_changes_its_answer(model: VideoDenoiser):
    told = velocity(model)
    for slot in range(4):
        frames = film(1)[:, [0, 1, 8, 9]]
        frames[:, slot] = film(3)[:, slot]
        assert (velocity(model, frames=frames) - told).abs().max() > 1e-4
    for other in (
        velocity(model, positions=(0, 1, -1, -1)),
        velocity(model, positions=(-1, -1, 8, 9)),
        velocity(model, positions=(1, 0, 8, 9)),
        velocity(model, t=(400, 600)),
        velocity(model, x_t=film(3)[:, 2:8]),
    ):
        assert (other - told).abs().max() > 1e-4


def test_what_is_masked_does_not_matter(model: VideoDenoiser):
    frames = film(1)[:, [0, 1, 8, 9]]
    other = frames.clone()
    other[:, 2:] = float("nan")
    masked = (0, 1, -1, -1)
    assert torch.equal(velocity(model, masked, frames), velocity(model, masked, other))
    past_alone = Context(frames[:, :2], torch.tensor([PAST] * 2))  # slots that are left out are masked ones
    with torch.no_grad():
        assert torch.equal(velocity(model, masked), model(film(2)[:, 2:8], torch.tensor((300, 700)), past_alone))


def test_samples_of_a_batch_do_not_mix(model: VideoDenoiser):
    clip, positions = film(1), torch.tensor([[0, 1, 8, 9], [0, 1, -1, -1]])
    x_t, t = film(2)[:, 2:8], torch.tensor([10, 900])
    with torch.no_grad():
        both = model(x_t, t, local_context(clip, positions))
        alone = model(x_t[1:], t[1:], local_context(clip[1:], positions[1:]))
    torch.testing.assert_close(both[1:], alone, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("position", [2, 7, 10])
def test_frames_that_are_to_be_made_cannot_be_shown(position: int):
    with pytest.raises(UserError, match="makes the frames 2 to 7"):
        velocity(tiny("mcvd-concat"), positions=(0, 1, 8, position))


def test_one_time_step_for_a_whole_batch_is_refused(model: VideoDenoiser):
    with pytest.raises(ValueError, match="time steps"):
        velocity(model, t=(300,))


def test_concat_sees_the_noisy_frames_then_past_and_future():
    model, seen = tiny("mcvd-concat"), []
    model.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    velocity(model, positions=(-1, -1, 8, 9))
    noisy, past, future = seen[0].split([6, 2, 2], dim=1)
    assert torch.equal(noisy, film(2)[:, 2:8, 0])
    assert not past.any()
    assert torch.equal(future, film(1)[:, 8:, 0])


def test_spatin_norm_is_the_written_out_formula():
    """Group norm without weights, (1 + gamma) and beta from the frames, then scale and shift by the time."""
    norm = tiny("mcvd-spatin").unet.path.levels[1]["res1"].norm1
    generator = torch.Generator().manual_seed(0)
    x, time, frames = (torch.randn(shape, generator=generator) for shape in ((2, 6, 8, 8), (2, 24), (2, 4, 16, 16)))
    spatial = norm.norm
    near = torch.nn.functional.interpolate(frames, (8, 8))
    gamma, beta = spatial.maps(torch.nn.functional.silu(spatial.shared(near))).chunk(2, 1)
    normalised = torch.nn.functional.group_norm(x, spatial.norm.num_groups, eps=1e-6)
    scale, shift = norm.time(torch.nn.functional.silu(time)).chunk(2, 1)
    expected = (normalised * (1 + gamma) + beta) * (1 + scale[..., None, None]) + shift[..., None, None]
    torch.testing.assert_close(norm(x, time, frames), expected)
    assert spatial.norm.weight is None


@pytest.mark.parametrize("betas", ["cosine", "linear"])
def test_painted_noise_gives_the_velocity_that_it_implies_even_where_no_signal_is_left(betas: str):
    schedule = tiny("mcvd-concat", betas=betas).schedule
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn((1000, 1, 1, 4, 4), generator=generator) for _ in range(2))
    t = torch.arange(1000)
    x_t = schedule.add_noise(x0, noise, t)
    model = tiny("mcvd-concat", betas=betas, output="noise")
    implied = schedule.velocity_from_x0(x_t, model._clean(x_t, noise, t), t)
    torch.testing.assert_close(implied, schedule.velocity(x0, noise, t), atol=2e-2, rtol=1e-2)
    guess = schedule.velocity_from_x0(x_t, model._clean(x_t, torch.zeros_like(noise), t), t)
    assert guess.isfinite().all()
    squared = (noise**2).mean()
    every = torch.stack([noise_l2(guess[i : i + 1], implied[i : i + 1], schedule.alpha_bar[i : i + 1]) for i in t])
    assert every.mean().item() == pytest.approx(squared.item(), rel=1e-2)


def test_samplers_go_by_the_models_own_betas():
    """An ideal model of one clip finds it again under linear betas; under others, its answers would mislead."""
    clip = film()[:, 2:8]

    class Ideal(type(tiny("mcvd-concat"))):
        def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
            return self.schedule.velocity_from_x0(x_t, clip, t)

    model = Ideal(replace(PRESETS["tiny-mcvd-concat"].model, betas="linear"))
    torch.testing.assert_close(model.schedule.betas[[0, -1]], torch.tensor([1e-4, 0.02], dtype=torch.float64))
    context = local_context(film(), torch.tensor([PAST] * 2))
    x_T = torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    for sampler in ("ddpm", "ddim", "dpm++2m"):
        *_, last = sample(model, x_T, context, sampler=sampler, steps=20)
        torch.testing.assert_close(last.x_t, clip, atol=2e-2, rtol=0)


def test_rollouts_keep_what_is_given_and_go_on_from_the_last_frames(model: VideoDenoiser):
    seen, observed = [], film()[:, :3]
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    video = predict(model, observed, 13, steps=1, generator=torch.Generator().manual_seed(7))
    assert video.shape == (2, 16, 1, 16, 16)
    assert torch.equal(video[:, :3], observed)
    assert video.abs().max() <= 1
    for context, end in zip(seen, (3, 9, 15), strict=True):
        assert torch.equal(context.frames, video[:, end - 2 : end])
        assert context.positions.tolist() == [[0, 1]] * 2


def test_it_is_asked_for_what_comes_after_what_it_is_given_and_for_nothing_else(model: VideoDenoiser):
    model.about = replace(model.about, tasks=tuple(LAYOUTS))
    assert model.abilities == ["predict", "generate"]


def test_what_is_saved_comes_back(model: VideoDenoiser, tmp_path: Path):
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert (type(again), again.config) == (type(model), model.config)
    assert torch.equal(velocity(again), velocity(model))


def test_checkpoints_from_before_there_were_kinds_are_lgcvd_and_unknown_kinds_are_refused(tiny_model, tmp_path: Path):
    save(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    written = json.loads(file.read_text())
    assert written["model"].pop("kind") == "lgcvd"
    file.write_text(json.dumps(written))
    assert type(load(tmp_path / "model")) is MODELS["lgcvd"]
    written["model"]["kind"] = "gpt2"
    file.write_text(json.dumps(written))
    with pytest.raises(UserError, match="no kind 'gpt2'"):
        load(tmp_path / "model")


class Spy(torch.nn.Module):
    """Keeps what a model is told, and answers with nothing."""

    def __init__(self, model: VideoDenoiser):
        super().__init__()
        self.calls = []
        for name in ("config", "schedule", "context_frames", "new_frames", "output_frames"):
            setattr(self, name, getattr(model, name))

    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        self.calls.append((x_t, t, context))
        return 0 * x_t

    def prepare(self, context: Context, truth: Tensor) -> Context:
        return context


def test_past_and_future_are_masked_independently_half_of_the_time():
    spy, clip = Spy(tiny("mcvd-concat")), film(batch=2000)
    list(BlockMasking(MASKED_BLOCKS)(spy, clip, torch.Generator().manual_seed(0)))
    ((_, _, context),) = spy.calls
    rows = context.positions.tolist()
    for past, future in product(([0, 1], [-1, -1]), ([8, 9], [-1, -1])):
        assert rows.count([*past, *future]) / 2000 == pytest.approx(1 / 4, abs=0.04)
    shown = context.positions >= 0
    assert torch.equal(context.frames[shown], local_context(clip, context.positions).frames[shown])


@pytest.mark.parametrize(
    ("task", "positions"),
    [
        ("prediction", [0, 1, -1, -1]),
        ("generation", [-1] * 4),
        ("interpolation", [0, 1, 8, 9]),
        ("past", [-1, -1, 8, 9]),
    ],
)
def test_a_task_says_what_is_masked(task: str, positions: list[int]):
    spy = Spy(tiny("mcvd-concat"))
    nothing = dict.fromkeys(("prediction", "generation", "interpolation", "random"), 0)
    list(BlockMasking(TaskMix(**nothing | {task: 1}))(spy, film(), torch.Generator()))
    assert spy.calls[0][2].positions.tolist() == [positions] * 2


def test_loss_is_that_of_the_new_frames():
    spy, clip = Spy(tiny("mcvd-concat")), film()
    (loss,) = BlockMasking(MASKED_BLOCKS)(spy, clip, torch.Generator().manual_seed(0))
    ((x_t, t, _),) = spy.calls
    signal, sigma = spy.schedule.signal_and_noise(t, x_t)
    noise = (x_t - signal * clip[:, 2:8]) / sigma
    assert (loss.stage, len(loss.tasks)) == ("stage1", len(clip))
    torch.testing.assert_close(loss.loss, spy.schedule.velocity(clip[:, 2:8], noise, t).abs().mean())


def test_objectives_that_do_not_fit_a_model_are_refused(tiny_model):
    mcvd = tiny("mcvd-concat")
    with pytest.raises(UserError, match="with past and future, not 14"):
        next(BlockMasking()(mcvd, torch.zeros(2, 14, 1, 16, 16), torch.Generator()))
    with pytest.raises(UserError, match="MCVD is trained with block_masking"):
        next(TwoStage()(mcvd, torch.zeros(2, 14, 1, 16, 16), torch.Generator()))
    with pytest.raises(UserError, match="MCVD is trained with block_masking"):
        next(BlockMasking()(tiny_model, torch.zeros(2, 8, 1, 16, 16), torch.Generator()))


def training(kind: str, iterations: int, folder: Path | None = None, **changes: object) -> Iterator[TrainStep]:
    preset = PRESETS[f"tiny-{kind}"]
    config = replace(preset.train, iterations=iterations, batch_size=8, rate=3e-3, save_every=1000)
    torch.manual_seed(0)
    model = build(replace(preset.model, **changes))
    return train(model, MovingDigits(length=100_000, frames=10, image_size=16), config, folder=folder)


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss(kind: str):
    losses = torch.tensor([step.loss for step in training(kind, 60)])
    assert losses[-15:].mean() < 0.9 * losses[:15].mean()


def test_interrupted_run_with_dropout_equals_uninterrupted(tmp_path: Path):
    whole = [step.loss for step in training("mcvd-concat", 6, dropout=0.3)]
    begun = training("mcvd-concat", 6, tmp_path, dropout=0.3)
    broken = [next(begun).loss for _ in range(3)]
    begun.close()
    torch.rand(7)  # whatever else draws random numbers meanwhile
    *_, last = rest = list(training("mcvd-concat", 6, tmp_path, dropout=0.3))
    assert broken + [step.loss for step in rest] == whole
    assert not last.model.training  # the averaged model drops nothing


@pytest.mark.parametrize("name", ["tiny", "robot-64", pytest.param("digits", marks=pytest.mark.slow)])
def test_presets_to_compare_are_of_the_same_size(name: str):
    ours = size_of(PRESETS[name].model)
    for kind in KINDS:
        assert size_of(PRESETS[f"{name}-{kind}"].model).over(ours) == pytest.approx((1, 1), abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bair-64", "cityscapes-128"])
def test_paper_presets_to_compare_are_of_the_same_size(name: str):
    test_presets_to_compare_are_of_the_same_size(name)


@pytest.mark.parametrize("kind", KINDS)
def test_matched_width_is_the_presets(kind: str):
    config = PRESETS[f"tiny-{kind}"].model
    assert matched_dim(replace(config, dim=100), PRESETS["tiny"].model) == config.dim


def test_operations_are_counted_as_on_paper():
    """One more 3 x 3 convolution's worth of input channels costs its products and sums, and no more."""
    config = ModelConfig(kind="mcvd-concat", channels=1, image_size=(16, 16), dim=8, multipliers=(1,), attention=())
    more = size_of(replace(config, future_frames=3)).over(size_of(config))
    base = size_of(config)
    assert round((more[0] - 1) * base.parameters) == 3 * 8 * 9
    assert round((more[1] - 1) * base.flops) == 2 * 3 * 8 * 9 * 16 * 16


@pytest.mark.parametrize("name", MCVD_DIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_presets_to_compare_differ_in_conditioning_alone(name: str, kind: str):
    ours, theirs = PRESETS[name], PRESETS[f"{name}-{kind}"]
    same = {"kind": "lgcvd", "dim": ours.model.dim, "future_frames": 0, "spatin_width": ours.model.spatin_width}
    assert replace(theirs.model, **same) == replace(ours.model, motion_things=0)  # which is for LGC-VD
    budget = {"objective", "tasks", "iterations", "warmup", "cooldown", "single_stage"}
    settings = {field: value for field, value in vars(theirs.train).items() if field not in budget}
    assert settings == {field: value for field, value in vars(ours.train).items() if field not in budget}
    steps = ours.train.iterations + max(0, ours.train.iterations - ours.train.single_stage)
    assert (theirs.train.iterations, theirs.train.single_stage) == (steps, 0)
    shared = objective_of(ours.train)
    assert objective_of(theirs.train) == BlockMasking(MASKED_BLOCKS, shared.distance, shared.times)


@pytest.mark.parametrize(("kind", "dim"), [("mcvd-concat", 192), ("mcvd-spatin", 96)])
def test_published_settings_are_mcvds(kind: str, dim: int):
    preset = PRESETS[f"bair-64-{kind}-published"]
    model, config = preset.model, preset.train
    assert (model.context_frames, model.new_frames, model.future_frames, model.image_size) == (2, 5, 2, (64, 64))
    assert (model.dim, model.multipliers, model.attention, model.spatin_width) == (dim, (1, 2, 3, 4), (8, 16, 32), 128)
    assert (model.output, model.betas, model.timesteps, model.dropout) == ("noise", "linear", 1000, 0.1)
    assert (model.time, model.motion) == ("scale-shift", 0)
    assert (config.loss, config.rate, config.warmup, config.ema) == ("noise_l2", 1e-4, 5000, 0.999)
    assert (config.clip_grad, config.batch_size, config.objective) == (1.0, 64, "block_masking")


@pytest.mark.parametrize("kind", KINDS)
def test_a_published_network_in_small_works(kind: str):
    published = PRESETS[f"bair-64-{kind}-published"].model
    model = perturbed(build(replace(published, image_size=(16, 16), dim=8, multipliers=(1, 2), spatin_width=8)))
    x, t = torch.rand(2, 5, 3, 16, 16), torch.tensor([0, 999])
    context = Context(torch.rand(2, 2, 3, 16, 16), torch.tensor([PAST] * 2))
    with torch.no_grad():
        told, other = model(x, t, context), model(x, torch.tensor([500, 999]), context)
        dropped = model.train()(x, t, context)
    assert told.isfinite().all()
    assert not torch.equal(told[0], other[0])
    assert not torch.equal(told, dropped)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "gpt2"}, "no kind 'gpt2': choose one of lgcvd, mcvd-concat, mcvd-spatin"),
        ({"future_frames": 2}, "0 for lgcvd"),
        ({"kind": "mcvd-concat", "future_frames": -1}, "future_frames must be at least 0"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"kind": "mcvd-spatin", "spatin_width": 0}, "spatin_width must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(change: dict, words: str):
    with pytest.raises(UserError, match=words):
        ModelConfig(**change)


def test_width_is_checked_for_the_frames_that_are_denoised():
    config = ModelConfig(kind="mcvd-concat", output="noise", dim=18)
    config.check_width()  # 6 frames x 3 channels
    with pytest.raises(UserError, match="noise carries the noise of 6 frames"):
        replace(config, dim=16).check_width()
