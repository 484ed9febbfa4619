from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lgcvd import MovingDigits
from lgcvd.baselines import BASELINES, blank_frame, copy_last_frame, fill, flow_extrapolation, mean_frame, optical_flow
from lgcvd.metrics import psnr
from lgcvd.video import from_uint8


def blob(start: tuple[float, float], step: tuple[float, float], frames: int) -> Tensor:
    """A soft blob (1, frames, 1, 32, 32) that moves uniformly, x and y in pixels a frame, on black."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    clip = []
    for t in range(frames):
        squared = (x - start[0] - t * step[0]) ** 2 + (y - start[1] - t * step[1]) ** 2
        clip.append(2 * torch.exp(-squared / 18) - 1)
    return torch.stack(clip)[None, :, None]


@given(
    k=st.integers(1, 3),
    frames=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    name=st.sampled_from(list(BASELINES)),
)
def test_any_clip_goes_on_and_observed_frames_stay(k, frames, channels, height, width, name):
    generator = torch.Generator().manual_seed(height * width)
    observed = torch.rand((2, k, channels, height, width), generator=generator) * 2 - 1
    video = BASELINES[name](observed, frames)
    assert video.shape == (2, k + frames, channels, height, width)
    assert torch.equal(video[:, :k], observed)
    assert video.abs().max() <= 1


def test_new_frames_are_the_last_one_their_mean_or_black():
    observed = torch.rand(2, 3, 1, 4, 4) * 2 - 1
    for baseline, frame in (
        (copy_last_frame, observed[:, 2]),
        (mean_frame, observed.mean(1)),
        (blank_frame, -torch.ones(2, 1, 4, 4)),
    ):
        video = baseline(observed, 5)
        assert all(torch.equal(video[:, t], frame) for t in range(3, 8))


FILMS = st.lists(st.booleans(), min_size=1, max_size=9).filter(any)


@given(known=FILMS, name=st.sampled_from(list(BASELINES)))
def test_frames_that_are_known_stay_wherever_they_lie(known: list[bool], name: str):
    observed = torch.rand((2, sum(known), 1, 9, 8), generator=torch.Generator().manual_seed(len(known))) * 2 - 1
    film = fill(name, observed, known)
    if film is None:
        assert name == "optical-flow"
        assert known not in (sorted(known), sorted(known, reverse=True))
        return
    assert film.shape == (2, len(known), 1, 9, 8)
    assert torch.equal(film[:, torch.tensor(known)], observed)
    assert film.abs().max() <= 1


def test_a_gap_is_filled_with_the_nearest_frame_the_mean_or_black_and_not_by_flow():
    observed = torch.rand(2, 4, 1, 4, 4) * 2 - 1
    known = [True, True, False, False, False, True, False, True]
    assert torch.equal(fill("copy-last-frame", observed, known), observed[:, [0, 1, 1, 1, 2, 2, 2, 3]])
    for name, frame in (("mean-frame", observed.mean(1)), ("blank-frame", -torch.ones(2, 1, 4, 4))):
        film = fill(name, observed, known)
        assert all(torch.equal(film[:, t], frame) for t in (2, 3, 4, 6))
    assert fill("optical-flow", observed, known) is None


@pytest.mark.parametrize("name", BASELINES)
def test_what_comes_behind_is_as_ever_and_what_comes_before_its_mirror(name: str):
    clip = blob((8, 16), (2, 0), 2)
    onward = BASELINES[name](clip, 3)
    assert torch.equal(fill(name, clip, [True] * 2 + [False] * 3), onward)
    assert torch.equal(fill(name, clip.flip(1), [False] * 3 + [True] * 2), onward.flip(1))


def test_where_nothing_is_known_there_is_black_alone():
    films = {name: fill(name, torch.rand(1, 5, 1, 4, 4), [False] * 5) for name in BASELINES}
    assert torch.equal(films.pop("blank-frame"), -torch.ones(1, 5, 1, 4, 4))
    assert set(films.values()) == {None}


@pytest.mark.parametrize("step", [(1.0, 0.5), (2.0, -1.0), (0.0, 1.5), (-2.0, -2.0)])
def test_flow_is_found_and_a_uniformly_moving_blob_goes_on(step: tuple[float, float]):
    clip = blob((16 - 4 * step[0], 16 - 4 * step[1]), step, 8)
    flow = optical_flow(clip[:, 0], clip[:, 1])
    at_the_blob = flow[0, :, round(16 - 3 * step[1]), round(16 - 3 * step[0])]
    torch.testing.assert_close(at_the_blob, torch.tensor(step), atol=0.1, rtol=0)
    video = flow_extrapolation(clip[:, :2], 6)
    assert (video - clip).abs().max() < 0.25
    assert (copy_last_frame(clip[:, :2], 6) - clip)[:, -1].abs().max() > 1.5


def test_what_stands_still_stays():
    observed = torch.rand((1, 1, 3, 24, 20), generator=torch.Generator().manual_seed(0)).repeat(1, 2, 1, 1, 1)
    torch.testing.assert_close(flow_extrapolation(observed, 4), copy_last_frame(observed, 4), atol=1e-4, rtol=0)


def test_samples_of_a_batch_do_not_mix():
    clips = torch.cat([blob((8, 16), (2, 0), 2), blob((20, 20), (-1, -1), 2)])
    torch.testing.assert_close(flow_extrapolation(clips, 3)[1:], flow_extrapolation(clips[1:], 3))


def test_flow_beats_copying_while_digits_go_straight_on():
    data = MovingDigits(split="test", length=16, frames=4, image_size=64)
    clips = from_uint8(torch.stack([data[i] for i in range(16)]))
    flow, copied = (psnr(baseline(clips[:, :2], 2), clips).mean() for baseline in (flow_extrapolation, copy_last_frame))
    assert flow > copied + 3
