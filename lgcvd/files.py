"""Where the package's own files are; files that appear whole or not at all; places checked before long work."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

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
    with _blamed_on(path), tempfile.TemporaryFile(dir=place_of(path)):
        pass


def check_new_folder(folder: Path) -> None:
    """Raise ``UserError`` unless ``folder`` is new or empty and can be written: to be called before long work."""
    check_place(folder / "config.json")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and what is there is kept: choose another folder.")


@contextmanager
def _blamed_on(path: Path, remedy: str = "choose another place", part: Path | None = None) -> Iterator[None]:
    """An ``OSError`` is told as one of ``path``; but one that names other files than ``part`` is theirs and passes."""
    try:
        yield
    except OSError as error:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        if part and names and not any(part.name in name for name in names):
            raise
        raise UserError(f"{path} cannot be written ({error.strerror or error}): {remedy}.") from error


@contextmanager
def draft(path: Path, remedy: str = "choose another place") -> Iterator[Path]:
    """A file beside ``path`` that takes its place when all went well, and goes when not.

    Raises ``UserError`` where it cannot be written, which tells ``remedy``. What is read meanwhile fails with its own
    error, if that names its file.
    """
    part = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    with _blamed_on(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _blamed_on(path, remedy, part):
            yield part
            os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` whose files go there, in the place of old ones, when all went well.

    Raises ``UserError`` where it cannot be written; errors of what is read meanwhile are as in ``draft``.
    """
    with _blamed_on(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-")
    with made as name:
        part = Path(name)
        with _blamed_on(folder, part=part):
            yield part
        with _blamed_on(folder):
            folder.mkdir(exist_ok=True)
            for file in part.iterdir():
                os.replace(file, folder / file.name)


def clear_drafts(folder: Path) -> None:
    """Delete what a kill has left in ``folder`` of drafts: to be called where nobody else is writing there."""
    for left in folder.glob(".*"):
        if re.fullmatch(r"\..+-[0-9a-z_]{8}(\.\w+)?", left.name):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Raise ``UserError`` where another program is doing this with ``folder``; a kill ends it, too."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    try:
        held = FileLock(lock).acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another run is writing {folder}: wait for its end, or take another folder.") from error
    with held:
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()
                folder.rmdir()  # where nothing came of it


def write_json(path: Path, content: object) -> None:
    """``content`` as a JSON file, whole or not at all."""
    with draft(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def natural_order(name: str) -> list[int | str]:
    """A key to sort names by: 2 before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
