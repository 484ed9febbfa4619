from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lgcvd import LGCVD, PRESETS, SAMPLERS, UserError, sample
from lgcvd.context import ABSENT, Context, local_context
from lgcvd.models import VideoDenoiser
from lgcvd.sampling import SPACINGS, Known, dynamic_threshold, invert, randn, spaced
from lgcvd.schedule import Schedule
from lgcvd.seeds import seeded


class Ideal(VideoDenoiser):
    """The best denoiser for a data set of a few clips: the mean of the clips, weighed by how likely each is."""

    def __init__(self, data: Tensor):
        super().__init__()
        self.config, self.schedule, self.data = PRESETS["tiny"].model, Schedule(1000), data

    def remember(self, clip, size=None):
        return None

    def forward(self, x_t, t, context):
        signal, sigma = self.schedule.signal_and_noise(t, x_t)
        distance = (x_t.unsqueeze(1) - signal.unsqueeze(1) * self.data).flatten(2).square().sum(2)
        likely = (-distance / (2 * sigma.flatten(1) ** 2)).softmax(1)
        x0 = torch.einsum("bn,ntchw->btchw", likely, self.data)
        return self.schedule.velocity_from_x0(x_t, x0, t)


def noise(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randn((batch, 8, 1, 16, 16), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def ideal() -> Ideal:
    return Ideal(torch.rand((5, 8, 1, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1)


@pytest.fixture
def context(tiny_model: LGCVD) -> Context:
    frames = noise(9).clamp(-1, 1)
    return local_context(frames, torch.tensor([[0, 1]] * 2), tiny_model.remember(None))


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ideal_denoiser_lands_on_a_training_clip(ideal: Ideal, sampler: str, steps: int):
    generator = torch.Generator().manual_seed(3)
    x_T = noise(batch=8)
    nowhere = Context(x_T[:, :2], torch.full((8, 2), -1))
    *_, last = sample(ideal, x_T, nowhere, sampler=sampler, steps=steps, generator=generator)
    distance = (last.x_t.unsqueeze(1) - ideal.data).flatten(2).abs().amax(2).amin(1)
    assert distance.max() < 0.01
    torch.testing.assert_close(last.x0, last.x_t, atol=0.01, rtol=0)


class Gaussian(Ideal):
    """The best denoiser of Gaussian data."""

    mean, std = 0.1, 0.2

    def forward(self, x_t, t, context):
        signal, sigma = self.schedule.signal_and_noise(t, x_t)
        mean, std = self.mean, self.std
        x0 = mean + signal * std**2 / ((signal * std) ** 2 + sigma**2) * (x_t - signal * mean)
        return self.schedule.velocity_from_x0(x_t, x0, t)


NOWHERE = Context(noise()[:, :2], torch.full((2, 2), ABSENT))
DETERMINISTIC = [name for name in SAMPLERS if name not in ("ddpm", "dpm++sde")]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_turn_noise_into_gaussian_data(ideal: Ideal, sampler: str, spacing: str):
    model, generator = Gaussian(ideal.data), torch.Generator().manual_seed(3)
    *_, last = sample(model, noise(), NOWHERE, sampler=sampler, spacing=spacing, steps=300, generator=generator)
    assert last.x_t.mean().item() == pytest.approx(model.mean, abs=0.02)
    assert last.x_t.std().item() == pytest.approx(model.std, abs=0.02)
    if sampler in DETERMINISTIC:  # they follow one path, whose end is known
        torch.testing.assert_close(last.x_t, model.mean + model.std * noise(), atol=0.02, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 16, 61, 242, 999, 1000])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_more_steps_bring_no_sampler_off_gaussian_data(ideal: Ideal, sampler: str, steps: int):
    model, generator = Gaussian(ideal.data), torch.Generator().manual_seed(3)
    *_, last = sample(model, noise(), NOWHERE, sampler=sampler, steps=steps, spacing="quadratic", generator=generator)
    assert last.x_t.mean().item() == pytest.approx(model.mean, abs=0.02)
    assert last.x_t.std().item() < 1.15 * model.std
    assert last.x_t.std().item() > (0.93 * model.std if steps > 60 else 0.5 * model.std if steps > 3 else -1)


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpm++2m", "unipc"])
def test_solvers_have_the_order_that_they_are_said_to_have(ideal: Ideal, sampler: str):
    model, errors = Gaussian(ideal.data), []
    for steps in (20, 40):
        *_, last = sample(model, noise(), NOWHERE, sampler=sampler, steps=steps, spacing="quadratic", threshold="none")
        *_, end = sample(model, noise(), NOWHERE, sampler="heun", steps=1000, spacing="quadratic", threshold="none")
        errors.append((last.x_t - end.x_t).abs().mean().item())
    assert errors[0] / errors[1] > (1.7 if sampler == "ddim" else 2.7)


@pytest.mark.parametrize("total", [1, 7, 500, 1000])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_as_many_steps_as_asked_from_the_first_down(spacing: str, total: int):
    for steps in {n for n in (*range(1, 61), 242, 466, 487, 499, 500, 914, 970, 998, 1000) if n <= total}:
        timesteps = torch.tensor(spaced(spacing, steps, total))
        assert len(timesteps) == steps
        assert timesteps[0] == total - 1
        assert timesteps[-1] >= 0
        assert (timesteps.diff() < 0).all()


def test_halved_steps_are_every_second_one():
    """What distillation from 2 n steps to n goes by."""
    for steps in (16, 8, 4, 2):
        assert spaced("trailing", steps, 1000)[::2] == spaced("trailing", steps // 2, 1000)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("options", [{}, {"known": True}])
def test_samples_of_a_batch_with_their_own_seeds_do_not_depend_on_each_other(
    tiny_model: LGCVD, context: Context, sampler: str, options: dict
):
    def run(samples: slice) -> Tensor:
        part = Context(context.frames[samples], context.positions[samples], context.memory)
        known = Known(noise(5)[samples].clamp(-1, 1), torch.arange(8) > 4) if options else None
        generator = seeded(*[7, 8][samples])
        x_T = randn(noise()[samples], generator)
        *_, last = sample(tiny_model, x_T, part, sampler=sampler, steps=3, known=known, generator=generator)
        return last.x_t

    both = run(slice(0, 2))
    torch.testing.assert_close(both, torch.cat([run(slice(0, 1)), run(slice(1, 2))]), atol=1e-4, rtol=0)
    assert not torch.allclose(both[0], both[1], atol=0.1)


def test_each_clip_needs_its_generator():
    with pytest.raises(UserError, match="1 generators for 2 clips"):
        randn(noise(), seeded(7))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_known_frames_are_kept_and_the_rest_fits_them(ideal: Ideal, sampler: str):
    """Of a data set of five clips, half of a clip is known: the other half can only be that clip's."""
    mask, generator = torch.arange(8) % 2 == 0, torch.Generator().manual_seed(0)
    known = Known(ideal.data[[3, 1]], mask)
    *_, last = sample(ideal, noise(), NOWHERE, sampler=sampler, steps=10, known=known, generator=generator)
    assert torch.equal(last.x_t[:, mask], known.frames[:, mask])
    torch.testing.assert_close(last.x_t, ideal.data[[3, 1]], atol=0.02, rtol=0)


def test_resampling_takes_every_step_several_times(tiny_model: LGCVD, context: Context):
    calls = []
    tiny_model.unet.register_forward_hook(lambda *_: calls.append(1))
    known = Known(noise().clamp(-1, 1), torch.arange(8) < 1)
    list(sample(tiny_model, noise(), context, steps=3, known=known, resample=4))
    assert len(calls) == 3 * 4


def test_guidance_of_1_asks_the_network_once_and_others_push_away_from_the_weaker_context(
    tiny_model: LGCVD, context: Context
):
    context = context.with_memory(tiny_model.remember(noise(4).clamp(-1, 1)))
    asked = []
    tiny_model.register_forward_hook(lambda _, inputs, out: asked.append((inputs[2], out)))
    options = {"steps": 1, "threshold": "none", "spacing": "trailing"}

    def x0(**guidance) -> Tensor:
        asked.clear()
        *_, last = sample(tiny_model, noise(), context, **options, **guidance)
        return last.x0

    plain = x0()
    assert len(asked) == 1
    without_local = x0(local_guidance=0)
    assert len(asked) == 2
    assert (asked[1][0].positions == ABSENT).all()
    without_memory = x0(memory_guidance=0)
    assert torch.equal(asked[1][0].memory, tiny_model.remember(None))
    both = x0(local_guidance=3, memory_guidance=1.5)
    assert len(asked) == 3
    pushed = plain + 2 * (plain - without_local) + 0.5 * (plain - without_memory)
    torch.testing.assert_close(both, pushed, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, without_local, atol=1e-3)
    assert not torch.allclose(plain, without_memory, atol=1e-3)


def test_guidance_is_the_same_for_a_context_that_was_prepared():
    """What motion the known frames show must not stay when they are left out."""
    torch.manual_seed(0)
    model = LGCVD(replace(PRESETS["tiny"].model, output="x0", motion=1)).eval()
    with torch.no_grad():
        for weight in model.parameters():  # else what it answers does not depend on what it sees
            weight.add_(torch.randn_like(weight), alpha=0.05)
    frames = noise().clamp(-1, 1)
    context = local_context(frames, torch.tensor([[0, 1]] * 2), model.remember(None))
    made = [
        list(sample(model, noise(), c, steps=2, local_guidance=3))[-1].x0 for c in (context, model.prepare(context))
    ]
    assert torch.equal(*made)


def test_a_local_context_of_nothing_cannot_guide(tiny_model: LGCVD):
    calls = []
    tiny_model.unet.register_forward_hook(lambda *_: calls.append(1))
    nothing = Context(noise()[:, :2], torch.full((2, 2), ABSENT), tiny_model.remember(None))
    list(sample(tiny_model, noise(), nothing, steps=1, local_guidance=3))
    assert len(calls) == 1


def test_eta_is_how_much_noise_is_renewed(tiny_model: LGCVD, context: Context):
    def run(sampler: str, eta: float | None, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        *_, last = sample(tiny_model, noise(), context, sampler=sampler, steps=4, eta=eta, generator=generator)
        return last.x_t

    assert torch.equal(run("ddim", None), run("ddim", 0, seed=1))
    assert torch.equal(run("ddim", 1), run("ddpm", None))
    assert torch.equal(run("euler", 0.5), run("ddim", 0.5))
    assert not torch.allclose(run("ddim", 0.5), run("ddim", 0.5, seed=1))


def test_dynamic_thresholding_scales_what_clipping_cuts():
    x0 = torch.tensor([[0.5, -2.0], [0.5, -0.9]])
    x0 = x0.repeat_interleave(1000, 1)
    assert dynamic_threshold(x0)[:, [0, -1]].tolist() == [[0.25, -1], [0.5, pytest.approx(-0.9)]]


def test_inversion_finds_the_noise_of_a_clip(ideal: Ideal):
    model = Gaussian(ideal.data)
    *_, made = sample(model, noise(), NOWHERE, sampler="ddim", steps=500)
    *_, back = invert(model, made.x_t, NOWHERE, spaced("trailing", 500, 1000))
    assert (back.index, back.steps) == (500, 500)
    torch.testing.assert_close(back.x_t, noise(), atol=0.1, rtol=0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_is_yielded_with_a_guess_in_range(tiny_model: LGCVD, context: Context, sampler: str):
    steps = list(sample(tiny_model, noise(), context, sampler=sampler, steps=3, generator=torch.Generator()))
    assert [(step.index, step.steps) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    for step in steps:
        assert step.x0.abs().max() <= 1
        assert step.x_t.isfinite().all()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_same_seed_same_clip(tiny_model: LGCVD, context: Context, sampler: str, steps: int):
    runs = []
    for seed in (7, 7):
        generator = torch.Generator().manual_seed(seed)
        *_, last = sample(tiny_model, noise(), context, sampler=sampler, steps=steps, generator=generator)
        runs.append(last.x_t)
    assert torch.equal(*runs)


def test_ancestral_noise_comes_from_the_generator(tiny_model: LGCVD, context: Context):
    runs = []
    for seed in (7, 8):
        generator = torch.Generator().manual_seed(seed)
        *_, last = sample(tiny_model, noise(), context, sampler="ddpm", steps=3, generator=generator)
        runs.append(last.x_t)
    assert not torch.allclose(*runs, atol=0.1)


def test_nothing_is_computed_ahead(tiny_model: LGCVD, context: Context):
    calls = []
    tiny_model.unet.register_forward_hook(lambda *_: calls.append(1))
    steps = sample(tiny_model, noise(), context, steps=5)
    assert not calls
    next(steps)
    next(steps)
    steps.close()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "magic"}, "no sampler 'magic': choose one of ddpm, ddim, dpm\\+\\+2m"),
        ({"spacing": "magic"}, "no spacing 'magic': choose one of trailing"),
        ({"threshold": "magic"}, "no threshold 'magic': choose one of clip"),
        ({"local_guidance": -0.1}, "local_guidance must be 0 or more"),
        ({"memory_guidance": float("nan")}, "memory_guidance must be 0 or more"),
        ({"sampler": "dpm++2m", "eta": 0.5}, "no eta, only ddpm, ddim and euler have one"),
        ({"sampler": "ddim", "eta": 1.5}, "eta must be between 0 and 1"),
        ({"resample": 0}, "resample must be at least 1"),
        ({"steps": 0}, "between 1 and 1000"),
        ({"steps": 1001}, "between 1 and 1000"),
    ],
)
def test_impossible_wishes_are_refused(tiny_model: LGCVD, context: Context, options: dict, words: str):
    with pytest.raises(UserError, match=words):
        next(sample(tiny_model, noise(), context, **options))
