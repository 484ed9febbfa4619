from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

import pytest

from lgcvd import UserError
from lgcvd.checks import check_value, fits

Film = TypedDict("Film", {"frames": int, "fps": NotRequired[float]})  # noqa: UP013 - as a class, both were required


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (3, int, True),
        (3.0, int, False),
        (True, int, False),
        (3, float, True),
        (False, float, False),
        (float("inf"), float, False),
        (float("nan"), float, False),
        (10**400, float, False),
        (1, bool, False),
        (None, int | None, True),
        ("x", int | None, False),
        ("b", Literal["a", "b"], True),
        (["b"], Literal["a", "b"], False),
        ((1, 2), tuple[int, int], True),
        ((1, 2, 3), tuple[int, int], False),
        ((), tuple[int, ...], True),
        ((1, "x"), tuple[int, ...], False),
        ([1, 2], list[int], True),
        ([1, None], list[int], False),
        ({"a": {"b": 1}}, dict[str, dict[str, float]], True),
        ({"a": {"b": "c"}}, dict[str, dict[str, float]], False),
        ({"frames": 3, "of": "a later version"}, Film, True),
        ({"frames": 3, "fps": "many"}, Film, False),
        ({"fps": 3.0}, Film, False),
        (None, Film, False),
    ],
    ids=str,
)
def test_values_fit_their_types(value: object, hint: object, right: bool):
    assert fits(value, hint) == right


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("x", Literal["a", "b"], "there is no size 'x': choose one of a, b."),
        (1.5, int, "size must be a whole number, not 1.5."),
        ((1,), tuple[int, int] | None, "size must be a list of 2, each a whole number or nothing, not (1,)."),
        (5, dict[str, float], "size must be values by name, each a finite number, not 5."),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(value: object, hint: object, words: str):
    with pytest.raises(UserError) as told:
        check_value("size", value, hint)
    assert str(told.value) == words
