"""What a task takes of a clip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from media import grays, write_gif

from lgcvd import LGCVD, TASKS, About, TaskMix, UserError, rollout
from lgcvd.commands.tasks import VERBS
from lgcvd.material import MATERIALS, least_frames

OPTIONS = {"infill": {"missing": (2, 3, 9)}, "slowmo": {"factor": 2}, "reconstruct": {"level": 0.5}}
TAKEN = {"slowmo": 3, "infill": 12, "reconstruct": 12}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """24 frames whose gray tells their number: see ``numbers``."""
    return write_gif(tmp_path / "clip.gif", grays(24, 16, 16), [100] * 24)


@pytest.fixture
def model(tiny_model: LGCVD) -> LGCVD:
    tiny_model.about = About(tasks=TaskMix(past=1, start=1).trained)
    return tiny_model


def numbers(frames: torch.Tensor) -> list[int]:
    return [round(float((frame.mean() + 1) * 127.5) / 8) for frame in frames]


def options_of(task: str, clip: Path, **more: object) -> dict:
    of_clip = {} if task == "generate" else {"clip": clip}
    return of_clip | {"frames": TAKEN.get(task, 4)} | OPTIONS.get(task, {}) | more


def test_there_is_a_material_for_every_task_and_a_verb_for_every_material():
    assert list(MATERIALS) == list(VERBS)
    assert set(MATERIALS) == set(TASKS)


@pytest.mark.parametrize("task", MATERIALS)
def test_a_rollout_takes_it_and_the_film_is_as_foretold(task: str, model: LGCVD, clip: Path):
    material = MATERIALS[task](model, **options_of(task, clip))
    observed = None if material.observed is None else material.observed[None]
    *_, last = rollout(model, observed, steps=1, **material.options)
    assert list(last.given) == material.known
    assert last.video.shape[1] == len(material.known)


@pytest.mark.parametrize(
    ("task", "start", "seen", "truth"),
    [
        ("predict", 3, [3, 4], range(3, 9)),
        ("past", 5, [5, 6], range(1, 7)),
        ("past", 3, [3, 4], None),
        ("interpolate", 3, [3, 8], range(3, 9)),
        ("infill", 3, [3, 6, 7, 8, 9, 10, 12, 13, 14], range(3, 15)),
        ("slowmo", 3, [3, 4, 5], None),
        ("animate", 3, [3], range(3, 8)),
        ("reconstruct", 3, range(3, 15), range(3, 15)),
    ],
)
def test_frames_are_taken_from_where_they_should(task: str, start: int, seen, truth, model: LGCVD, clip: Path):
    material = MATERIALS[task](model, **options_of(task, clip, start=start))
    assert numbers(material.observed) == list(seen)
    assert (material.truth if truth is None else numbers(material.truth)) == (truth and list(truth))
    assert material.rest == (task in TAKEN)


def test_a_gap_between_two_clips_has_no_truth(model: LGCVD, clip: Path, tmp_path: Path):
    second = write_gif(tmp_path / "second.gif", grays(9, 16, 16)[5:], [100] * 4)
    material = MATERIALS["interpolate"](model, clip=clip, frames=3, second=second)
    assert numbers(material.observed) == [23, 5]
    assert material.truth is None


@pytest.mark.parametrize(
    ("task", "more", "words"),
    [
        ("interpolate", {"frames": 0}, "between 1 and 997, not 0"),
        ("infill", {"missing": (13,)}, "frame 13 is not among the 12 frames"),
        ("infill", {"missing": range(1, 13)}, "every frame of the clip is missing"),
        ("slowmo", {"frames": 1}, "must be at least 2, not 1"),
        ("reconstruct", {"level": 0}, "level of noise"),
        ("predict", {"start": 23}, "start earlier"),
    ],
)
def test_what_cannot_be_is_told(task: str, more: dict, words: str, model: LGCVD, clip: Path):
    model.about = About()
    with pytest.raises(UserError, match=words):
        MATERIALS[task](model, **options_of(task, clip, **more))


def test_models_that_know_starts_need_one_frame(model: LGCVD):
    assert least_frames(model) == 1
    model.about = About()
    assert least_frames(model) == model.context_frames == 2
