from __future__ import annotations

from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lgcvd import (
    LGCVD,
    PRESETS,
    About,
    MovingDigits,
    TaskMix,
    TrainConfig,
    UserError,
    distill,
    load,
    predict,
    sample,
    seeded,
)
from lgcvd.__main__ import main
from lgcvd.context import local_context
from lgcvd.distill import HalfTheSteps, _clean_clip_of_one_step, _ddim, rounds
from lgcvd.models import build
from lgcvd.objective import capped_l2
from lgcvd.sampling import spaced
from lgcvd.schedule import CLEAN, Schedule
from lgcvd.video import from_uint8

TRAIN = TrainConfig(iterations=3, batch_size=2, rate=1e-3, save_every=2)
DATA = MovingDigits(frames=14, image_size=16)


def test_steps_are_halved():
    assert rounds(16, 2) == [16, 8, 4, 2]
    assert rounds(1, 1) == [1]
    for first, last in ((2, 4), (6, 3), (8, 3), (8, 0)):
        with pytest.raises(UserError, match="power of two"):
            rounds(first, last)


def test_the_target_is_where_one_step_ends_where_two_do():
    schedule, generator = Schedule(1000), torch.Generator().manual_seed(0)
    grid = spaced("trailing", 8, 1000)
    t, middle, s = (torch.tensor(row) for row in (grid[0:7:2], grid[1:8:2], [*grid[2:8:2], CLEAN]))
    x_t, first, second = torch.randn((3, 4, 8, 1, 4, 4), generator=generator)
    end = _ddim(schedule, _ddim(schedule, x_t, first, t, middle), second, middle, s)
    target = _clean_clip_of_one_step(schedule, x_t, end, t, s)
    torch.testing.assert_close(_ddim(schedule, x_t, target, t, s), end, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(target[-1], second[-1], atol=1e-5, rtol=1e-4)  # at the end only the last guess counts


def test_the_students_steps_are_those_of_the_sampler(tiny_model: LGCVD, digits_clip: Tensor):
    """What distillation walks with the teacher is DDIM as ``sample`` does it, so a perfect student samples the same."""
    clip = digits_clip[:, :8]
    context = local_context(clip, torch.tensor([[0, 1]]), tiny_model.remember(None))
    asked = []

    def distance(velocity: Tensor, wanted: Tensor, alpha_bar: Tensor) -> Tensor:
        asked.append(wanted)
        return velocity.sum()

    objective = HalfTheSteps(distance=distance, teacher=tiny_model, steps=1)
    x_T, told = [], tiny_model.register_forward_pre_hook(lambda _, inputs: x_T.append(inputs[0]))
    with torch.no_grad():
        objective._denoise(tiny_model, clip, context, torch.Generator().manual_seed(0))
    told.remove()
    *_, last = sample(tiny_model, x_T[0], context, sampler="ddim", spacing="trailing", steps=2)
    target = tiny_model.schedule.x0(x_T[0], asked[0], torch.tensor([999]))
    torch.testing.assert_close(target, last.x_t, atol=1e-3, rtol=0)


def test_a_student_learns_with_the_motion_skip_that_it_will_be_sampled_with():
    """Not with the less decided one of other training: then its films would be sharpened twice."""
    torch.manual_seed(0)
    teacher = LGCVD(replace(PRESETS["tiny"].model, output="x0", motion=1, motion_sharpness=4.0)).eval()
    student = deepcopy(teacher).train()
    clip, objective = from_uint8(DATA[0])[None], HalfTheSteps(TaskMix(1, 0, 0, 0), capped_l2, teacher=teacher, steps=1)

    def losses() -> list[float]:
        return [stage.loss.item() for stage in objective(student, clip, torch.Generator().manual_seed(0))]

    first = losses()
    student.eval()
    assert first == losses()


def test_a_student_sees_the_estimate_up_to_the_level_of_the_config(tiny_model: LGCVD, monkeypatch):
    levels = []
    monkeypatch.setattr(HalfTheSteps, "__call__", lambda self, *_: levels.append(self.estimate_level) or iter(()))
    next(distill(tiny_model, DATA, replace(TRAIN, estimate_level=0.25), first=2, last=2))
    assert levels == [0.25]


@pytest.mark.slow
def test_a_student_comes_to_do_in_one_step_what_its_teacher_does_in_two(tiny_model: LGCVD, digits_clip: Tensor):
    tasks = TaskMix(prediction=1, generation=0, interpolation=0, random=0)  # what is asked below
    config = replace(TRAIN, iterations=80, batch_size=4, rate=1e-2, loss="l2", ema=0.0, tasks=tasks)

    def made(model: LGCVD, steps: int) -> Tensor:
        options = {"sampler": "ddim", "spacing": "trailing", "steps": steps, "generator": seeded(0)}
        return predict(model, digits_clip[:, :2], 6, **options)

    wanted, before = made(tiny_model, 2), made(tiny_model, 1)
    *_, last = distill(tiny_model, DATA, config, first=1, last=1)
    assert last.finished.about.steps == 1
    after = predict(last.finished, digits_clip[:, :2], 6, generator=seeded(0))
    assert (after - wanted).abs().mean() < 0.7 * (before - wanted).abs().mean()


def test_a_broken_run_goes_on_as_if_it_had_not_been(tmp_path: Path):
    def teacher() -> LGCVD:
        torch.manual_seed(0)
        return LGCVD(PRESETS["tiny"].model)

    options = {"first": 4, "last": 2}
    whole = list(distill(teacher(), DATA, TRAIN, folder=tmp_path / "whole", **options))
    assert [(step.steps, step.training.iteration) for step in whole] == [(n, i) for n in (4, 2) for i in (1, 2, 3)]
    assert [bool(step.finished) for step in whole] == [False, False, True] * 2
    for stop in (2, 3):
        with closing(distill(teacher(), DATA, TRAIN, folder=tmp_path / "broken", **options)) as steps:
            for _ in zip(range(stop), steps, strict=False):
                pass
    rest = list(distill(teacher(), DATA, TRAIN, folder=tmp_path / "broken", **options))
    assert [step.steps for step in rest][-1] == 2
    for steps in ("4", "2"):
        a, b = (load(tmp_path / run / steps / "model") for run in ("whole", "broken"))
        assert a.about.steps == int(steps)
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_the_encoder_and_the_teacher_stay_as_they_are(tiny_model: LGCVD):
    before = {name: weight.clone() for name, weight in tiny_model.state_dict().items()}
    *_, last = distill(tiny_model, DATA, TRAIN, first=2, last=2)
    after = last.finished.state_dict()
    assert all(torch.equal(before[name], weight) for name, weight in tiny_model.state_dict().items())
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("encoder"))
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("unet"))


def test_a_student_knows_what_its_teacher_does(tiny_model: LGCVD):
    tiny_model.about = About(tasks=("prediction", "past"))
    mix = TaskMix(prediction=0.5, generation=0.4, past=0.1)
    *_, last = distill(tiny_model, DATA, replace(TRAIN, tasks=mix), first=2, last=2)
    assert last.finished.about.tasks == ("prediction", "past")
    with pytest.raises(UserError, match="none of generation is left to train: the model knows prediction, past"):
        next(distill(tiny_model, DATA, replace(TRAIN, tasks=TaskMix(0, 1, 0, 0)), first=2, last=2))


def test_what_cannot_be_distilled_is_refused(tiny_model: LGCVD):
    with pytest.raises(UserError, match="kind mcvd-concat cannot be distilled"):
        next(distill(build(PRESETS["tiny-mcvd-concat"].model), DATA, TRAIN))
    for setting in ({"objective": "single_stage"}, {"times": "high_noise"}):
        with pytest.raises(UserError, match="an objective, time steps and known frames of its own: leave"):
            next(distill(tiny_model, DATA, replace(TRAIN, **setting)))
    with pytest.raises(UserError, match="between 1 and 1000"):
        next(distill(tiny_model, DATA, TRAIN, first=512, last=512))


def test_distillation_has_its_verb(tiny_model: LGCVD, tmp_path: Path, capsys: pytest.CaptureFixture):
    from lgcvd import save

    save(tiny_model, tmp_path / "model")
    options = ["--train.iterations", "2", "--train.batch-size", "2", "--train.cooldown", "0", "--first", "4"]
    run = ["distill", str(tmp_path / "model"), "--folder", str(tmp_path / "run"), *options]
    assert main(run) == 0
    assert load(tmp_path / "run" / "2" / "model").about.steps == 2
    assert "2/model: takes 2 steps" in capsys.readouterr().out
    assert main([*run, "--train.save-every", "7"]) == 0
    assert "all rounds are done" in capsys.readouterr().out
    other = LGCVD(tiny_model.config)
    save(other, tmp_path / "other", tiny_model.about)
    (tmp_path / "file").touch()
    for options, words in (
        (["--train.rate", "0.5"], "begun with other settings (train.rate: 0.0001 there, 0.5 here)"),
        (["--first", "2"], "first: 4 there, 2 here"),
        (["--last", "3"], "power of two"),
        (["--folder", str(tmp_path / "file")], "cannot be written"),
        (["--train.times", "from_noise"], "leave times at uniform"),
        (["--train.context-noise", "0.1"], "leave context_noise at 0.0"),
    ):
        assert main([*run, *options]) == 2
        assert words in capsys.readouterr().err
    assert main(["distill", str(tmp_path / "other"), *run[2:]]) == 2
    assert "teacher: crc32" in capsys.readouterr().err
