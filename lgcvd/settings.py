"""What a run was begun with, and what it is to go on with: settings as dictionaries of JSON values."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from torch import Tensor

from lgcvd.errors import UserError


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


def check_same(
    before: dict, now: dict, begun: str, may_change: tuple[str, ...] = (), remedy: str = "use another folder"
) -> None:
    """Raise ``UserError`` if the settings ``now`` are others than those ``before``, but for what ``may_change``.

    begun: the sentence's words up to "other settings".
    may_change: dotted names.
    """
    free = tuple(f"{name}:" for name in may_change)
    changed = [line for line in differences(before, now) if not line.startswith(free)]
    if changed:
        raise UserError(f"{begun} other settings ({'; '.join(changed)}): {remedy}.")


def checksum(tensors: Iterable[Tensor]) -> str:
    """What tells tensors from others."""
    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(tensor.cpu().contiguous().numpy().tobytes(), crc)
    return f"crc32 {crc:08x}"
