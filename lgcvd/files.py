"""Where the package's own files are; files that appear whole or not at all; places checked before long work."""

from __future__ import annotations

import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lgcvd.errors import UserError

ASSETS = Path(__file__).parent / "assets"
"""What comes with the package: weights, digits, clips."""


def check_output(path: str | Path, kinds: Sequence[str]) -> Path:
    """The path, if its suffix is one of ``kinds`` and its place can be written: to be called before long work."""
    path = Path(path)
    if path.suffix.lower() not in kinds:
        raise UserError(f"{str(path)!r} names no kind of file that can be written: end it in {' or '.join(kinds)}.")
    check_place(path)
    return path


def place_of(path: Path) -> Path:
    """The nearest folder above ``path`` that exists."""
    return next(folder for folder in path.absolute().parents if folder.exists())


def check_place(path: Path) -> None:
    """Raise ``UserError`` unless a file can be written at ``path``: to be called before long work."""
    try:
        with tempfile.TemporaryFile(dir=place_of(path)):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): choose another place.") from error


@contextmanager
def draft(path: Path, remedy: str = "choose another place") -> Iterator[Path]:
    """A file beside ``path`` that takes its place when all went well, and goes when not.

    ``remedy``: what the ``UserError`` tells to do where it cannot be written.
    """
    part = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): {remedy}.") from error
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` whose files go there, in the place of old ones, when all went well."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as part:
            yield Path(part)
            folder.mkdir(exist_ok=True)
            for file in Path(part).iterdir():
                os.replace(file, folder / file.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}): choose another place.") from error


def write_json(path: Path, content: object) -> None:
    """``content`` as a JSON file, whole or not at all."""
    with draft(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def natural_order(name: str) -> list[int | str]:
    """A key to sort names by: 2 before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
