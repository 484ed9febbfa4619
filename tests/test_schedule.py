from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lgcvd.schedule import BETAS, CLEAN, Schedule, cosine_betas, linear_betas, respaced_timesteps

SCHEDULE = Schedule(1000)


@given(t=st.integers(0, 999), seed=st.integers(0, 99))
def test_conversions_invert_each_other(t: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand((2, 3, 1, 4, 4), generator=generator) * 2 - 1
    noise = torch.randn(x0.shape, generator=generator)
    times = torch.tensor([t, 999 - t])
    x_t, velocity = SCHEDULE.add_noise(x0, noise, times), SCHEDULE.velocity(x0, noise, times)
    torch.testing.assert_close(SCHEDULE.x0(x_t, velocity, times), x0, atol=1e-5, rtol=0)
    torch.testing.assert_close(SCHEDULE.velocity_from_x0(x_t, x0, times), velocity, atol=1e-3, rtol=0)


@given(t=st.integers(0, 999), mean=st.floats(-1, 1), std=st.floats(0.1, 1.0))
def test_standardised_noisy_clips_have_mean_0_and_variance_1(t: int, mean: float, std: float):
    generator = torch.Generator().manual_seed(0)
    x0 = mean + std * torch.randn((1, 50_000), generator=generator)
    times = torch.tensor([t])
    x_t = SCHEDULE.add_noise(x0, torch.randn(x0.shape, generator=generator), times)
    standard = SCHEDULE.standardise(x_t, times, mean, std)
    assert standard.mean().item() == pytest.approx(0, abs=0.02)
    assert standard.std().item() == pytest.approx(1, abs=0.02)


def test_without_statistics_the_network_sees_the_noisy_clip():
    x_t = torch.randn(2, 8)
    torch.testing.assert_close(SCHEDULE.standardise(x_t, torch.tensor([0, 999]), 0.0, 1.0), x_t)


def test_linear_betas_are_those_of_ddpm_at_any_number_of_steps():
    betas = linear_betas()
    assert betas.tolist() == pytest.approx([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)])
    for steps in (100, 4000):  # as much noise at the end, and half way, whatever the number of steps
        alpha_bar = torch.cumprod(1 - linear_betas(steps), 0)
        for share in (0.5, 1):
            expected = torch.cumprod(1 - betas, 0)[round(share * 1000) - 1].log()
            assert alpha_bar[round(share * steps) - 1].log().item() == pytest.approx(expected.item(), rel=0.1)


@pytest.mark.parametrize("betas", BETAS.values())
@given(t=st.integers(0, 999))
def test_the_noise_of_a_noisy_clip_tells_the_clean_one(betas, t: int):
    schedule, generator = Schedule(1000, betas), torch.Generator().manual_seed(t)
    x0, noise = torch.rand((1, 8), generator=generator), torch.randn((1, 8), generator=generator)
    times = torch.tensor([t])
    found = schedule.x0_from_noise(schedule.add_noise(x0, noise, times), noise, times)
    signal = schedule.alpha_bar[t].sqrt().item()
    torch.testing.assert_close(found, x0, atol=1e-6 / signal, rtol=0)


def test_signal_falls_from_almost_all_to_almost_none():
    alpha_bar = SCHEDULE.alpha_bar[:-1]
    assert (alpha_bar.diff() < 0).all()
    assert alpha_bar[0] > 0.9999
    assert 0 < alpha_bar[-1] < 1e-6


def test_cosine_schedule_has_the_papers_shape():
    alpha_bar = torch.cumprod(1 - cosine_betas(1000), 0)
    half = torch.cos(torch.tensor((0.5 + 0.008) / 1.008) * torch.pi / 2) ** 2
    start = torch.cos(torch.tensor(0.008 / 1.008) * torch.pi / 2) ** 2
    assert alpha_bar[499].item() == pytest.approx((half / start).item(), rel=1e-6)
    assert cosine_betas(1000).max() == 0.9999


def test_behind_the_last_step_nothing_is_noise():
    x0, noise = torch.rand((2, 8)), torch.randn((2, 8))
    assert torch.equal(SCHEDULE.add_noise(x0, noise, torch.tensor([CLEAN, CLEAN])), x0)
    mixed = SCHEDULE.add_noise(x0, noise, torch.tensor([CLEAN, 999]))
    assert torch.equal(mixed[1], SCHEDULE.add_noise(x0, noise, 999)[1])
    assert torch.equal(mixed[0], x0[0])


def test_schedule_adds_nothing_to_a_checkpoint():
    assert not SCHEDULE.state_dict()
    assert not list(SCHEDULE.parameters())


def test_respaced_steps_are_as_many_as_asked_and_start_at_pure_noise():
    for steps in range(1, 1001):
        timesteps = respaced_timesteps(steps, 1000)
        assert len(timesteps) == steps
        assert timesteps[0] == 999
        assert timesteps == sorted(timesteps, reverse=True)
        assert steps == 1 or timesteps[-1] == 0


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(steps: int):
    with pytest.raises(ValueError, match="between 1 and 1000"):
        respaced_timesteps(steps, 1000)
