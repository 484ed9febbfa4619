"""Programs end with a code and a sentence."""

from __future__ import annotations

import sys

import pytest

from lgcvd import UserError
from lgcvd.program import run_as_program


def raises(error: BaseException):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "code", "told"),
    [
        (lambda: None, None, ""),
        (lambda: 3, 3, ""),
        (
            raises(UserError("there is no such file.")),
            2,
            "a.py: there is no such file.\n",
        ),
        (raises(KeyboardInterrupt()), 130, "stopped\n"),
    ],
)
def test_a_program_ends_with_a_code_and_a_sentence(run, code, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/somewhere/a.py"])
    with pytest.raises(SystemExit) as done:
        run_as_program(run)
    assert done.value.code == code
    assert capsys.readouterr().err == told
