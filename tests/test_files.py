"""Files are whole or not there, and a place that cannot be written is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lgcvd import UserError
from lgcvd.files import (
    alone_in,
    check_new_folder,
    check_place,
    clear_drafts,
    draft,
    draft_folder,
    natural_order,
    write_json,
)


@pytest.mark.parametrize(
    "write",
    [
        check_place,
        lambda path: write_json(path, {}),
        lambda path: draft(path).__enter__(),
        lambda path: draft_folder(path).__enter__(),
    ],
    ids=["check_place", "write_json", "draft", "draft_folder"],
)
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, write):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written \(.+\): choose another place"):
        write(tmp_path / "file" / "a")


def test_what_breaks_off_leaves_the_old_file_and_no_half_one(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, object())
    assert path.read_text() == "[\n 1\n]\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("drafted", [draft, draft_folder])
def test_what_cannot_be_read_is_not_blamed_on_what_is_written(tmp_path: Path, drafted):
    (tmp_path / "there").mkdir()
    with pytest.raises(FileNotFoundError) as told, drafted(tmp_path / "there" / "out"):
        (tmp_path / "there" / "in").read_bytes()
    assert told.value.filename == str(tmp_path / "there" / "in")
    assert not [*(tmp_path / "there").iterdir()]


@pytest.mark.parametrize(
    "error",
    [
        lambda part: OSError(28, "No space left on device"),
        lambda part: OSError(28, "No space left on device", "in", None, str(part)),
        lambda part: PermissionError(13, "Permission denied", str(part)),
    ],
    ids=["write", "copy", "open"],
)
@pytest.mark.parametrize("drafted", [draft, draft_folder])
def test_what_cannot_be_written_in_the_middle_is_told(tmp_path: Path, drafted, error):
    told = r"out cannot be written \((No space left on device|Permission denied)\): choose another place"
    with pytest.raises(UserError, match=told), drafted(tmp_path / "out") as part:
        raise error(part)
    assert not [*tmp_path.iterdir()]


def test_names_are_in_the_order_that_a_person_expects():
    names = ["frame 10.png", "frame 2.png", "frame 1b.png", "frame 1.png"]
    assert sorted(names, key=natural_order) == ["frame 1.png", "frame 1b.png", "frame 2.png", "frame 10.png"]


def test_two_runs_do_not_write_one_folder(tmp_path: Path):
    with alone_in(tmp_path / "run"):
        with pytest.raises(UserError, match=r"another run is writing .*run: wait"), alone_in(tmp_path / "run"):
            pytest.fail("it should not have come this far")
        (tmp_path / "run" / "losses.csv").touch()
    with alone_in(tmp_path / "run"):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["losses.csv"]


def test_a_folder_that_nothing_was_written_to_is_gone_again(tmp_path: Path):
    with pytest.raises(UserError, match="refused"), alone_in(tmp_path / "run"):
        raise UserError("refused")
    assert not (tmp_path / "run").exists()


def test_drafts_are_cleared_and_nothing_else(tmp_path: Path):
    kept = {".pre-commit-config.yaml", ".gitignore", "losses.csv", "model", ".a-b", "samples-12345678.png"}
    for name in kept:
        (tmp_path / name).touch()
    with draft(tmp_path / "curves.png") as part, draft_folder(tmp_path / "models") as parts:
        for path in (part, parts / "config.json"):
            path.touch()
        shutil.copy(part, part.with_suffix(".gif"))  # which nobody will clear after a kill
        shutil.copytree(parts, parts.with_name(f".model-{parts.name[-8:]}"))
    clear_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "curves.png", "models"}


def test_a_folder_may_be_new_or_empty(tmp_path: Path):
    check_new_folder(tmp_path / "new" / "one")
    check_new_folder(tmp_path)
    (tmp_path / "adaptation.json").touch()
    with pytest.raises(UserError, match="is not empty"):
        check_new_folder(tmp_path)
