from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lgcvd import LGCVD, MEMORIES, About, Inverted, Noised, UserError, predict, rollout, seeded
from lgcvd.rollout import MAX_FRAMES
from lgcvd.sampling import Known

ALL_TASKS = About(tasks=("prediction", "generation", "interpolation", "random", "past", "start"))


@pytest.fixture
def able_model(tiny_model: LGCVD) -> LGCVD:
    """The tiny model, said to be trained for everything."""
    tiny_model.about = ALL_TASKS
    return tiny_model


@pytest.mark.parametrize("num_frames", [1, 6, 7, 13])
@pytest.mark.parametrize("seen", [2, 5])
def test_any_length_and_given_frames_come_back_bit_for_bit(
    tiny_model: LGCVD, digits_clip: Tensor, num_frames: int, seen: int
):
    observed = digits_clip[:, :seen]
    video = predict(tiny_model, observed, num_frames, steps=1, generator=seeded(7))
    assert video.shape == (1, seen + num_frames, 1, 16, 16)
    assert torch.equal(video[:, :seen], observed)
    assert video.abs().max() <= 1


def test_a_shorter_rollout_is_the_beginning_of_a_longer_one(tiny_model: LGCVD, digits_clip: Tensor):
    short, long = (predict(tiny_model, digits_clip[:, :2], n, steps=2, generator=seeded(7)) for n in (8, 12))
    assert torch.equal(short, long[:, :10])


@pytest.mark.parametrize("sampler", ["ddpm", "dpm++2m"])
def test_same_seed_same_video(tiny_model: LGCVD, digits_clip: Tensor, sampler: str):
    first, same, other = (
        predict(tiny_model, digits_clip[:, :2], 8, sampler=sampler, steps=2, generator=seeded(seed))
        for seed in (7, 7, 8)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_task_can_have_a_sampling_of_its_own(able_model: LGCVD, digits_clip: Tensor):
    own = {"sampling": {"steps": 1}, "sampling_by_task": {"generate": {"steps": 3}}}
    able_model.about = replace(ALL_TASKS, **own)
    assert [w.steps for w in rollout(able_model, digits_clip[:, :2], num_frames=4)] == [1]
    assert [w.steps for w in rollout(able_model, num_frames=6, task="generate")] == [3]
    assert [w.steps for w in rollout(able_model, num_frames=6, task="generate", steps=2)] == [2]


def test_every_step_can_be_watched(tiny_model: LGCVD, digits_clip: Tensor):
    observed, options = digits_clip[:, :2], {"num_frames": 13, "steps": 3}
    watched = list(rollout(tiny_model, observed, every_step=True, generator=seeded(7), **options))
    assert [(w.index, w.step, w.done) for w in watched] == [(i, s, s == 3) for i in (1, 2, 3) for s in (1, 2, 3)]
    assert [w.fraction for w in watched] == pytest.approx([n / 9 for n in range(1, 10)])
    assert [w.video.shape[1] for w in watched] == [8] * 3 + [14] * 3 + [15] * 3
    assert all(torch.equal(w.video[:, :2], observed) for w in watched)

    windows = list(rollout(tiny_model, observed, generator=seeded(7), **options))
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
    video = predict(tiny_model, digits_clip[:, :4], 18, steps=1, generator=seeded(7))
    for context, end in zip(seen, (4, 10, 16), strict=True):
        assert torch.equal(context.frames, video[:, end - 2 : end])
        assert context.positions.tolist() == [[0, 1]]
    grey, first, second = encoded[:3]
    for context, memory in zip(seen, (grey, (grey + first) / 2, ((grey + first) / 2 + second) / 2), strict=True):
        torch.testing.assert_close(context.memory, memory)


def test_other_sizes_than_the_models_own_work(tiny_model: LGCVD):
    video = predict(tiny_model, torch.zeros(2, 2, 1, 24, 32), 8, steps=1, generator=seeded(7, 8))
    assert video.shape == (2, 10, 1, 24, 32)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((1, 1, 1, 16, 16), {}, "has 1 frame, but this model needs at least 2"),
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


# tasks

BLINKING = [True, False, True, True, False, False, True, True, False]


@pytest.mark.parametrize(
    ("task", "given", "options", "places"),
    [
        ("past", 3, {"num_frames": 7}, [7, 8, 9]),
        ("interpolate", 2, {"num_frames": 3}, [0, 4]),
        ("interpolate", 5, {"num_frames": 20}, [0, 1, 2, 23, 24]),
        ("slowmo", 4, {"num_frames": 9}, [0, 4, 8, 12]),
        ("infill", 5, {"known": BLINKING}, [0, 2, 3, 6, 7]),
        ("animate", 1, {"num_frames": 9}, [0]),
        ("generate", 0, {"num_frames": 11}, []),
        ("predict", 1, {"num_frames": 2}, [0]),
    ],
)
def test_given_frames_lie_where_the_task_puts_them_untouched(
    able_model: LGCVD, digits_clip: Tensor, task: str, given: int, options: dict, places: list[int]
):
    observed = digits_clip[:, :given]
    run = {"task": task, "steps": 1, "resample": 1, **options}
    *_, last = rollout(able_model, observed, generator=seeded(7), **run)
    assert last.video.shape == (1, len(last.given), 1, 16, 16)
    assert [i for i, known in enumerate(last.given) if known] == places
    assert torch.equal(last.video[:, places], observed)
    assert last.video.abs().max() <= 1
    assert torch.equal(last.video, predict(able_model, observed, generator=seeded(7), **run))
    new = [i for i, known in enumerate(last.given) if not known]
    assert last.video[:, new].amin((2, 3, 4)).max() > -1, "no new frame was left black"
    assert not torch.equal(last.video, predict(able_model, observed, generator=seeded(8), **run))


def test_frames_that_are_missing_yet_are_black_and_what_is_there_grows_both_ways(
    able_model: LGCVD, digits_clip: Tensor
):
    windows = list(rollout(able_model, digits_clip[:, :2], task="past", num_frames=9, steps=1))
    assert [w.video.shape[1] for w in windows] == [2 + 6, 2 + 9]
    assert torch.equal(windows[0].video, windows[1].video[:, 3:])
    assert [w.first for w in windows] == [3, 0]
    assert torch.equal(windows[1].clip[:, -windows[1].place.start :][:, :3], windows[1].video[:, :3])
    windows = list(rollout(able_model, digits_clip[:, :2], task="interpolate", num_frames=12, steps=1))
    assert [w.video.shape[1] for w in windows] == [14, 14]
    assert (windows[0].video[:, 7:13] == -1).all()
    assert torch.equal(windows[0].video[:, :7], windows[1].video[:, :7])


def test_a_film_of_nothing_has_the_models_own_size_and_a_batch_any(able_model: LGCVD):
    assert predict(able_model, None, 9, task="generate", steps=1).shape == (1, 9, 1, 16, 16)
    assert predict(able_model, torch.empty(3, 0, 1, 8, 8), 9, task="generate", steps=1).shape == (3, 9, 1, 8, 8)


def test_the_model_sees_the_nearest_frames_and_the_others_are_imposed(
    able_model: LGCVD, digits_clip: Tensor, monkeypatch: pytest.MonkeyPatch
):
    seen, imposed = [], []
    able_model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    impose = Known.impose
    monkeypatch.setattr(Known, "impose", lambda self, *rest: imposed.append(self) or impose(self, *rest))
    known = torch.tensor([1, 1, 1, 0, 1, 1, 0, 1], dtype=torch.bool)
    predict(able_model, digits_clip[:, :8][:, known], known=known, steps=2, resample=3)
    assert [context.positions.tolist() for context in seen] == [[[2, 4]]] * 6
    assert torch.equal(seen[0].frames, digits_clip[:, [2, 4]])
    assert all(torch.equal(one.mask, known) for one in imposed)
    assert torch.equal(imposed[0].frames[:, known], digits_clip[:, :8][:, known])


def test_where_frames_are_no_more_than_slots_nothing_is_imposed(able_model: LGCVD, digits_clip: Tensor):
    calls = []
    able_model.unet.register_forward_hook(lambda *_: calls.append(1))
    for task, given, frames in (("predict", 9, 6), ("past", 9, 6), ("interpolate", 2, 6), ("animate", 1, 7)):
        calls.clear()
        predict(able_model, digits_clip[:, :given], frames, task=task, steps=2)
        assert len(calls) == 2, task


@pytest.mark.parametrize("start", [Noised(0.3), Noised(1), Inverted(0.4, steps=5)])
def test_a_reconstruction_has_every_frame_anew(able_model: LGCVD, digits_clip: Tensor, start):
    windows = list(rollout(able_model, digits_clip[:, :13], task="reconstruct", start=start, steps=2))
    assert [w.place.start for w in windows] == [0, 5]
    assert windows[-1].video.shape == digits_clip[:, :13].shape
    assert not any(windows[-1].given)
    assert torch.equal(windows[0].video, windows[1].video[:, :8])


def test_an_inversion_can_be_watched_and_stopped_step_by_step(able_model: LGCVD, digits_clip: Tensor):
    calls, clip = [], digits_clip[:, :13]
    able_model.unet.register_forward_hook(lambda *_: calls.append(1))
    options = {"task": "reconstruct", "start": Inverted(0.4, steps=3), "steps": 2}
    watched = []
    for n, window in enumerate(rollout(able_model, clip, every_step=True, **options), 1):
        assert len(calls) == n
        watched.append(window)
    assert [(w.index, w.step, w.steps) for w in watched] == [(i, s, 5) for i in (1, 2) for s in range(1, 6)]
    assert [w.done for w in watched] == ([False] * 4 + [True]) * 2
    assert [w.fraction for w in watched] == pytest.approx([n / 10 for n in range(1, 11)])
    assert [w.video.shape[1] for w in watched] == [8] * 5 + [13] * 5
    windows = list(rollout(able_model, clip, **options))
    assert all(torch.equal(a.video, b.video) for a, b in zip(windows, watched[4::5], strict=True))


def test_more_steps_than_there_are_up_to_the_level_are_refused_before_the_way_back(
    able_model: LGCVD, digits_clip: Tensor
):
    able_model.unet.register_forward_hook(lambda *_: pytest.fail("the model was asked"))
    with pytest.raises(UserError, match="between 1 and 10"):
        next(rollout(able_model, digits_clip[:, :8], task="reconstruct", start=Inverted(0.01), steps=11))


def test_the_less_noise_the_closer_the_reconstruction(able_model: LGCVD, digits_clip: Tensor):
    clip = digits_clip[:, :8]
    errors = []
    for level in (0.005, 0.2, 1):
        made = predict(able_model, clip, task="reconstruct", start=Noised(level), steps=2, generator=seeded(7))
        errors.append((made - clip).abs().mean().item())
    assert errors[0] < 0.5 * errors[1] < 0.5 * errors[2]


def test_a_clip_of_a_batch_with_its_own_seed_is_what_it_is_alone(able_model: LGCVD, digits_clip: Tensor):
    clips = torch.cat([digits_clip[:, :3], digits_clip[:, 5:8]])
    for task, sampler in (("predict", "ddpm"), ("past", "dpm++sde"), ("slowmo", "dpm++2m")):
        options = {"task": task, "num_frames": 8, "steps": 2, "sampler": sampler}
        both = predict(able_model, clips, generator=seeded(7, 8), **options)
        alone = [predict(able_model, clips[i : i + 1], generator=seeded(7 + i), **options) for i in range(2)]
        torch.testing.assert_close(both, torch.cat(alone), atol=1e-3, rtol=0)


def test_memories(able_model: LGCVD, digits_clip: Tensor):
    def seen_by_third_window(memory: str) -> tuple[Tensor, list[Tensor]]:
        seen, encoded = [], []
        hooks = [
            able_model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2].memory)),
            able_model.encoder.register_forward_hook(lambda _, __, out: encoded.append(out)),
        ]
        predict(able_model, digits_clip[:, :2], 18, steps=1, memory=memory, generator=seeded(7))
        for hook in hooks:
            hook.remove()
        return seen[2], encoded

    for memory, expected in {
        "decay": lambda grey, a, b: grey / 4 + a / 4 + b / 2,
        "mean": lambda grey, a, b: (a + b) / 2,
        "last": lambda grey, a, b: b,
        "none": lambda grey: grey,
    }.items():
        seen, encoded = seen_by_third_window(memory)
        torch.testing.assert_close(seen, expected(*encoded))  # of the last window nothing is remembered
    assert len(MEMORIES) == 4


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (1, {"num_frames": 3}, "has 1 frame, but this model needs at least 2"),
        (2, {"task": "past", "num_frames": 3}, "trained for prediction, .*: past would show it frames .*\\(past\\)"),
        (1, {"task": "animate", "num_frames": 3}, "needs at least 2"),
        (2, {"task": "fly", "num_frames": 3}, "no task 'fly': choose one of predict, past"),
        (2, {"task": "animate", "num_frames": 3}, "has 2 frames, but animate needs no more than 1"),
        (2, {"task": "generate", "num_frames": 3}, "has 2 frames, but generate needs none"),
        (0, {"task": "predict", "num_frames": 3}, "has 0 frames, but predict needs at least 1"),
        (1, {"task": "interpolate", "num_frames": 3}, "has 1 frame, but interpolate needs at least 2"),
        (3, {"task": "slowmo", "num_frames": 3}, "3 new frames .* ask for a multiple of 2"),
        (7, {"task": "reconstruct"}, "has 7 frames, but this model makes 8 at once"),
        (8, {"task": "reconstruct", "start": Noised(0.001), "steps": 2}, "steps must be between 1 and 1"),
        (2, {}, "number of new frames must be"),
        (2, {"task": "infill"}, "give both or neither"),
        (2, {"task": "past", "known": [True, True, False]}, "give both or neither"),
        (2, {"known": [True, False]}, "true for 1 frames, but the clip has 2"),
        (2, {"known": [True, True]}, "every frame is known"),
        (2, {"known": [True, False, True], "num_frames": 2}, "false for 1 frames, but 2"),
        (2, {"num_frames": 3, "memory": "elephant"}, "no memory 'elephant': choose one of decay"),
        (2, {"num_frames": 3, "local_guidance": -1}, "local_guidance must be 0 or more"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    tiny_model: LGCVD, digits_clip: Tensor, given: int, options: dict, words: str
):
    with pytest.raises(UserError, match=words):
        next(rollout(tiny_model, digits_clip[:, :given], **options))


@pytest.mark.parametrize("level", [0, -1, 1.5, float("nan")])
@pytest.mark.parametrize("start", [Noised, Inverted])
def test_a_level_is_a_share(start, level: float):
    with pytest.raises(UserError, match="level of noise must be above 0"):
        start(level)


def test_what_is_no_video_and_no_option_is_told(tiny_model: LGCVD):
    with pytest.raises(UserError, match=r"must be floating-point in \[-1, 1\], not torch\.uint8: give frames / 127\.5"):
        predict(tiny_model, torch.zeros(1, 2, 1, 16, 16, dtype=torch.uint8), 5)
    with pytest.raises(TypeError, match="predict have no option step: see"):
        predict(tiny_model, torch.zeros(1, 2, 1, 16, 16), 5, step=1)
