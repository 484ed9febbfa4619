from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgcvd import TaskMix, UserError
from lgcvd.context import ABSENT, LAYOUTS, PAPER_TASKS, TASKS, local_context, offered, trained_by


@pytest.mark.parametrize(
    ("task", "context_frames", "clip_frames", "positions"),
    [
        ("prediction", 2, 8, [0, 1]),
        ("generation", 2, 8, [-1, -1]),
        ("interpolation", 2, 8, [0, 7]),
        ("interpolation", 3, 8, [0, 1, 7]),
        ("interpolation", 4, 5, [0, 1, 3, 4]),
        ("past", 2, 8, [6, 7]),
    ],
)
def test_task_is_a_choice_of_positions(task: str, context_frames: int, clip_frames: int, positions: list[int]):
    assert LAYOUTS[task](context_frames, clip_frames) == positions
    assert task in trained_by(positions, clip_frames)


def test_tasks_are_drawn_in_the_papers_shares():
    positions = TaskMix().draw(3_000, 2, 8, torch.Generator().manual_seed(0)).tolist()
    share = {tuple(task): positions.count(task) / len(positions) for task in positions}
    assert share[0, 1] == pytest.approx(0.45 + 0.1 / 28, abs=0.03)  # two random positions are one of 28 pairs
    assert share[-1, -1] == pytest.approx(0.40, abs=0.03)
    assert share[0, 7] == pytest.approx(0.05 + 0.1 / 28, abs=0.015)
    others = {task: s for task, s in share.items() if task not in {(0, 1), (-1, -1), (0, 7)}}
    assert len(others) == 26
    assert sum(others.values()) == pytest.approx(0.1 * 26 / 28, abs=0.02)


def test_random_positions_are_distinct_and_in_order():
    positions = TaskMix(0, 0, 0, 1).draw(100, 3, 5, torch.Generator().manual_seed(0))
    assert (positions.diff(dim=1) > 0).all()
    assert set(positions.unique().tolist()) == set(range(5))


def test_a_start_is_fewer_first_frames_than_the_context_holds():
    positions = TaskMix(0, 0, 0, 0, start=1).draw(100, 3, 8, torch.Generator().manual_seed(0)).tolist()
    assert {tuple(row) for row in positions} == {(0, ABSENT, ABSENT), (0, 1, ABSENT)}


@pytest.mark.parametrize("share", [float("nan"), float("inf"), "much", None, True])
def test_shares_are_finite_numbers(share: object):
    with pytest.raises(UserError, match=r"random must be a finite number"):
        TaskMix(random=share)


def test_a_mix_names_what_it_trains():
    assert TaskMix().trained == PAPER_TASKS
    assert TaskMix(1, 0, 0, 0, past=0.5).trained == ("prediction", "past")


@settings(max_examples=40)
@given(shares=st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6).filter(any), k=st.integers(1, 4))
def test_whatever_a_mix_draws_is_told_to_be_trained_by_it(shares: list[float], k: int):
    mix = TaskMix(*shares)
    for row in mix.draw(20, k, 7, torch.Generator().manual_seed(0)).tolist():
        names = trained_by(row, 7)
        assert names
        assert names & set(mix.trained) or mix.random or (k == 1 and mix.start)  # in one slot, a start is a prediction


@pytest.mark.parametrize(
    ("task", "given", "new", "film"),
    [
        ("predict", 2, 3, "##..."),
        ("past", 2, 3, "...##"),
        ("interpolate", 2, 3, "#...#"),
        ("interpolate", 5, 2, "###..##"),
        ("slowmo", 3, 6, "#...#...#"),
        ("generate", 0, 3, "..."),
        ("animate", 1, 2, "#.."),
        ("reconstruct", 3, 3, "..."),
    ],
)
def test_a_task_says_where_the_given_frames_lie(task: str, given: int, new: int, film: str):
    assert "".join("#" if known else "." for known in TASKS[task].known(given, new)) == film


def test_tasks_are_offered_that_were_trained():
    assert offered(PAPER_TASKS) == ["predict", "interpolate", "infill", "slowmo", "generate", "reconstruct"]
    assert offered(("prediction",)) == ["predict"]
    assert offered((*PAPER_TASKS, "past", "start")) == list(TASKS)


@pytest.mark.parametrize("shares", [(0, 0, 0, 0), (1, -0.5, 0, 0)])
def test_impossible_shares_are_refused(shares: tuple[float, ...]):
    with pytest.raises(UserError, match="shares"):
        TaskMix(*shares)


def test_local_context_shows_the_frames_at_its_positions():
    clip = torch.arange(10.0).reshape(2, 5, 1, 1, 1)
    context = local_context(clip, torch.tensor([[0, 4], [2, -1]]))
    assert context.frames[0].flatten().tolist() == [0, 4]
    assert context.frames[1, 0].item() == 7
