"""Values are of the types that they are declared with: settings made in Python, and what JSON files hold."""

from __future__ import annotations

import reprlib
import sys
from dataclasses import fields
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from lgcvd.errors import UserError

WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    dict: "values by name",
    NoneType: "nothing",
}


def check_fields(settings: object) -> None:
    """Raise ``UserError`` unless every field of a dataclass has a value of its type, see ``fits``.

    Lists become tuples: JSON has no others.
    """
    hints = get_type_hints(type(settings))
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(settings, field.name, value)  # it may be frozen
        check_value(field.name, value, hints[field.name])


def check_value(name: str, value: object, hint: object) -> None:
    """Raise ``UserError`` unless the value called ``name`` is of the type that ``hint`` tells, see ``fits``."""
    if fits(value, hint):
        return
    if get_origin(hint) is Literal:
        raise UserError(f"there is no {name} {reprlib.repr(value)}: choose one of {', '.join(get_args(hint))}.")
    raise UserError(f"{name} must be {_in_words(hint)}, not {reprlib.repr(value)}.")


def fits(value: object, hint: object) -> bool:
    """Whether ``value`` is of the type that ``hint`` tells, with all that it holds.

    Whole numbers may stand for floats, but true and false for no numbers; floats must be finite. A ``TypedDict`` may
    have more keys than it names.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        hints = get_type_hints(hint)
        return (
            isinstance(value, dict)
            and hint.__required_keys__ <= value.keys()
            and all(fits(value[key], hints[key]) for key in hints.keys() & value.keys())
        )
    if kind is Literal:
        return value in parts
    if kind in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if kind is dict:
        return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if kind is list or (kind is tuple and parts[-1] is ...):
        return isinstance(value, kind) and all(fits(each, parts[0]) for each in value)
    if kind is tuple:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(fits, value, parts))
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, hint)


def _in_words(hint: object) -> str:
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(map(_in_words, parts))
    if kind is dict:
        return f"values by name, each {_in_words(parts[1])}"
    if kind is tuple:
        count = "" if parts[-1] is ... else f" of {len(parts)}"
        return f"a list{count}, each {_in_words(parts[0])}"
    return WORDS.get(hint) or f"a {hint.__name__}"
