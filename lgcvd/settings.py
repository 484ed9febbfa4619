"""What a run was begun with, and what it is to go on with: settings as dictionaries of JSON values."""

from __future__ import annotations


def filled(settings: dict, defaults: dict) -> dict:
    """``settings`` with the ``defaults`` of what they lack, at every depth."""
    both = {key: filled(settings[key], value) for key, value in defaults.items() if isinstance(value, dict)}
    return defaults | settings | both


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """What the settings ``new`` have other than ``old``, a line each."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} there, {b} here")
    return found
