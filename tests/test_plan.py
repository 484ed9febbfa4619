from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgcvd.context import ABSENT, TASKS
from lgcvd.plan import Place, plan, reconstruction

FILMS = st.lists(st.booleans(), min_size=1, max_size=40).filter(lambda film: not all(film))


@given(film=FILMS, k=st.integers(1, 4), n=st.integers(1, 6))
def test_every_missing_frame_is_made_once_from_frames_that_are_known_by_then(film: list[bool], k: int, n: int):
    t, known = k + n, list(film)
    for place in plan(film, k, t):
        assert len(place.slots) == k
        assert place.new, "a window that makes nothing would never end"
        shown = [position for position in place.slots if position != ABSENT]
        assert shown == sorted(set(shown))
        assert set(shown) <= set(place.known)
        assert len(shown) == min(k, len(place.known)), "no slot is empty while a frame is known"
        inside = {i - place.start: i for i in range(len(film)) if place.start <= i < place.start + t}
        assert {p for p, i in inside.items() if known[i]} == set(place.known)
        assert {p for p, i in inside.items() if not known[i]} >= set(place.new)
        for position in place.new:
            known[place.start + position] = True
    assert all(known)


@given(given=st.integers(2, 9), new=st.integers(1, 40), k=st.integers(1, 2))
def test_predictions_go_on_from_the_last_frames_and_pasts_are_their_mirror(given: int, new: int, k: int):
    t = k + 6
    onward = list(plan(TASKS["predict"].known(given, new), k, t))
    assert [place.start for place in onward] == [given - k + 6 * i for i in range(-(-new // 6))]
    assert all(place.slots == place.known == tuple(range(k)) for place in onward)
    back = list(plan(TASKS["past"].known(given, new), k, t))
    assert [place.start for place in back] == [given + new - t - place.start for place in onward]
    assert all(place.slots == tuple(t - 1 - p for p in reversed(range(k))) for place in back)
    assert [place.new for place in back] == [tuple(sorted(t - 1 - p for p in place.new)) for place in onward]


@given(given=st.integers(2, 9), gap=st.integers(1, 40))
def test_a_gap_is_closed_by_a_window_that_sees_both_ends(given: int, gap: int):
    places = list(plan(TASKS["interpolate"].known(given, gap), 2, 8))
    for place in places[:-1]:
        assert place.slots == (0, 1) or (given <= 3 and place.slots == (0, ABSENT))
    before, after = places[-1].slots
    assert after - before - 1 == len(places[-1].new) == min(gap, 6), "it bridges as much as it can"


@pytest.mark.parametrize("missing", [(i, j) for i in range(1, 7) for j in range(i, 7)])
def test_one_or_two_missing_of_eight_are_made_at_once_with_all_others_seen(missing: tuple[int, int]):
    (place,) = plan([i not in missing for i in range(8)], 2, 8)
    assert place.start == 0
    assert place.new == tuple(sorted(set(missing)))
    assert len(place.known) == 8 - len(place.new)
    assert place.slots == (missing[0] - 1, min(i for i in range(missing[0], 8) if i not in missing))


def test_all_gaps_of_a_slowed_clip_whose_ends_are_in_sight_are_made_at_once():
    places = list(plan(TASKS["slowmo"].known(5, 4), 2, 8))
    assert [(place.start, place.new) for place in places] == [(0, (1, 3, 5)), (1, (6,))]


def test_a_model_that_makes_the_last_frames_only_generates_with_those():
    assert list(plan([False] * 4, 2, 8, first_made=2)) == [Place(-2, (ABSENT, ABSENT), (), (2, 3, 4, 5))]


@given(frames=st.integers(8, 60), k=st.integers(1, 3))
def test_a_reconstruction_covers_the_clip_and_never_reaches_over_its_end(frames: int, k: int):
    made = []
    for place in reconstruction(frames, k, 8):
        assert place.start >= 0
        assert place.start + 8 <= frames
        assert all(place.start + position < len(made) for position in place.slots)
        made += [place.start + position for position in place.new]
    assert made == list(range(frames))
