from __future__ import annotations

import pytest
import torch

from lgcvd import TaskMix, UserError
from lgcvd.context import TASKS, local_context


@pytest.mark.parametrize(
    ("task", "context_frames", "clip_frames", "positions"),
    [
        ("prediction", 2, 8, [0, 1]),
        ("generation", 2, 8, [-1, -1]),
        ("interpolation", 2, 8, [0, 7]),
        ("interpolation", 3, 8, [0, 1, 7]),
        ("interpolation", 4, 5, [0, 1, 3, 4]),
    ],
)
def test_task_is_a_choice_of_positions(task: str, context_frames: int, clip_frames: int, positions: list[int]):
    assert TASKS[task](context_frames, clip_frames) == positions


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


@pytest.mark.parametrize("shares", [(0, 0, 0, 0), (1, -0.5, 0, 0)])
def test_impossible_shares_are_refused(shares: tuple[float, ...]):
    with pytest.raises(UserError, match="shares"):
        TaskMix(*shares)


def test_local_context_shows_the_frames_at_its_positions():
    clip = torch.arange(10.0).reshape(2, 5, 1, 1, 1)
    context = local_context(clip, torch.tensor([[0, 4], [2, -1]]))
    assert context.frames[0].flatten().tolist() == [0, 4]
    assert context.frames[1, 0].item() == 7
