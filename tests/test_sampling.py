from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lgcvd import LGCVD, PRESETS, SAMPLERS, UserError, sample
from lgcvd.context import Context, local_context
from lgcvd.models import VideoDenoiser
from lgcvd.schedule import Schedule


class Ideal(VideoDenoiser):
    """The best denoiser for a data set of a few clips: the mean of the clips, weighed by how likely each is."""

    def __init__(self, data: Tensor):
        super().__init__()
        self.config, self.schedule, self.data = PRESETS["tiny"].model, Schedule(1000), data

    @property
    def output_frames(self) -> int:
        return self.config.clip_frames

    def remember(self, clip, memory=None, size=None):
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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_turn_noise_into_gaussian_data(ideal: Ideal, sampler: str):
    mean, std, schedule = 0.1, 0.2, ideal.schedule

    def gaussian(x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        signal, sigma = schedule.signal_and_noise(t, x_t)
        x0 = mean + signal * std**2 / ((signal * std) ** 2 + sigma**2) * (x_t - signal * mean)
        return schedule.velocity_from_x0(x_t, x0, t)

    model, generator = Ideal(ideal.data), torch.Generator().manual_seed(3)
    model.forward = gaussian
    nothing = Context(noise()[:, :2], torch.full((2, 2), -1))
    *_, last = sample(model, noise(), nothing, sampler=sampler, steps=300, generator=generator)
    assert last.x_t.mean().item() == pytest.approx(mean, abs=0.02)
    assert last.x_t.std().item() == pytest.approx(std, abs=0.02)
    if sampler != "ddpm":  # the others follow one path, whose end is known
        torch.testing.assert_close(last.x_t, mean + std * noise(), atol=0.02, rtol=0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_take_as_many_steps_as_asked_from_pure_noise_down(ideal: Ideal, sampler: str):
    for steps in (*range(1, 61), 242, 466, 487, 914, 970, 998, 1000):
        timesteps = SAMPLERS[sampler](ideal.schedule, steps).timesteps
        assert len(timesteps) == steps
        assert timesteps[0] == 999
        assert timesteps[-1] >= 0
        assert (timesteps.diff() < 0).all()


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
        ({"sampler": "euler"}, "ddpm, ddim, dpm\\+\\+2m, unipc"),
        ({"steps": 0}, "between 1 and 1000"),
        ({"steps": 1001}, "between 1 and 1000"),
    ],
)
def test_impossible_wishes_are_refused(tiny_model: LGCVD, context: Context, options: dict, words: str):
    with pytest.raises(UserError, match=words):
        next(sample(tiny_model, noise(), context, **options))
