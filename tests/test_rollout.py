from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lgcvd import LGCVD, UserError, predict, rollout
from lgcvd.rollout import MAX_FRAMES


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("num_frames", [1, 6, 7, 13])
@pytest.mark.parametrize("seen", [2, 5])
def test_any_length_and_given_frames_come_back_bit_for_bit(
    tiny_model: LGCVD, digits_clip: Tensor, num_frames: int, seen: int
):
    observed = digits_clip[:, :seen]
    video = predict(tiny_model, observed, num_frames, steps=1, generator=seeded())
    assert video.shape == (1, seen + num_frames, 1, 16, 16)
    assert torch.equal(video[:, :seen], observed)
    assert video.abs().max() <= 1


def test_a_shorter_rollout_is_the_beginning_of_a_longer_one(tiny_model: LGCVD, digits_clip: Tensor):
    short, long = (predict(tiny_model, digits_clip[:, :2], n, steps=2, generator=seeded()) for n in (8, 12))
    assert torch.equal(short, long[:, :10])


@pytest.mark.parametrize("sampler", ["ddpm", "dpm++2m"])
def test_same_seed_same_video(tiny_model: LGCVD, digits_clip: Tensor, sampler: str):
    first, same, other = (
        predict(tiny_model, digits_clip[:, :2], 8, sampler=sampler, steps=2, generator=seeded(seed))
        for seed in (7, 7, 8)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_every_step_can_be_watched(tiny_model: LGCVD, digits_clip: Tensor):
    observed, options = digits_clip[:, :2], {"num_frames": 13, "steps": 3}
    watched = list(rollout(tiny_model, observed, every_step=True, generator=seeded(), **options))
    assert [(w.index, w.step, w.done) for w in watched] == [(i, s, s == 3) for i in (1, 2, 3) for s in (1, 2, 3)]
    assert [w.fraction for w in watched] == pytest.approx([n / 9 for n in range(1, 10)])
    assert [w.video.shape[1] for w in watched] == [8] * 3 + [14] * 3 + [15] * 3
    assert all(torch.equal(w.video[:, :2], observed) for w in watched)

    windows = list(rollout(tiny_model, observed, generator=seeded(), **options))
    assert [(w.index, w.windows, w.done) for w in windows] == [(1, 3, True), (2, 3, True), (3, 3, True)]
    assert all(torch.equal(a.video, b.video) for a, b in zip(windows, watched[2::3], strict=True))


def test_stopping_computes_nothing_more(tiny_model: LGCVD, digits_clip: Tensor):
    calls = []
    tiny_model.unet.register_forward_hook(lambda *_: calls.append(1))
    steps = rollout(tiny_model, digits_clip[:, :2], num_frames=12, steps=5, every_step=True)
    next(steps)
    next(steps)
    steps.close()
    assert len(calls) == 2


def test_each_window_goes_on_from_the_last_frames_and_the_averaged_memory(tiny_model: LGCVD, digits_clip: Tensor):
    seen, encoded = [], []
    tiny_model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    tiny_model.encoder.register_forward_hook(lambda _, __, out: encoded.append(out))
    video = predict(tiny_model, digits_clip[:, :4], 18, steps=1, generator=seeded())
    for context, end in zip(seen, (4, 10, 16), strict=True):
        assert torch.equal(context.frames, video[:, end - 2 : end])
        assert context.positions.tolist() == [[0, 1]]
    grey, first, second = encoded[:3]
    for context, memory in zip(seen, (grey, (grey + first) / 2, ((grey + first) / 2 + second) / 2), strict=True):
        torch.testing.assert_close(context.memory, memory)


def test_other_sizes_than_the_models_own_work(tiny_model: LGCVD):
    video = predict(tiny_model, torch.zeros(2, 2, 1, 24, 32), 8, steps=1, generator=seeded())
    assert video.shape == (2, 10, 1, 24, 32)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((1, 1, 1, 16, 16), {}, "has 1 frames, but this model needs at least 2"),
        ((1, 2, 3, 16, 16), {}, "has 3 channels"),
        ((1, 2, 1, 15, 16), {}, "multiples of 2"),
        ((1, 2, 1, 16, 16), {"num_frames": 0}, f"between 1 and {MAX_FRAMES}"),
        ((1, 2, 1, 16, 16), {"num_frames": MAX_FRAMES + 1}, f"between 1 and {MAX_FRAMES}"),
        ((1, 2, 1, 16, 16), {"sampler": "magic"}, "no sampler 'magic'"),
        ((1, 2, 1, 16, 16), {"steps": 0}, "steps must be"),
    ],
)
def test_impossible_rollouts_are_refused(tiny_model: LGCVD, shape: tuple[int, ...], options: dict, words: str):
    with pytest.raises(UserError, match=words):
        next(rollout(tiny_model, torch.zeros(shape), **{"num_frames": 6} | options))
