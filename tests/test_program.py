"""Programs end with a code and a sentence."""

from __future__ import annotations

import os
import subprocess
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


@pytest.mark.parametrize(
    ("unbuffered", "does"),
    [
        ("", "print('word')"),  # waits in a buffer for the end
        ("1", "print('word')"),
        ("", "print('word'); sys.exit(3)"),
        ("", "[print('word', file=sys.stderr) for _ in range(9)]"),
    ],
)
def test_a_program_whose_reader_has_gone_ends_without_a_word(unbuffered, does):
    program = f"import sys\nfrom lgcvd.program import run_as_program\ndef run():\n    {does}\nrun_as_program(run)"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT if "stderr" in does else subprocess.PIPE}
    variables = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen([sys.executable, "-c", program], env=variables, **streams) as done:
        done.stdout.close()
        told = done.stderr.read() if done.stderr else b""
    assert (done.returncode, told) == (141, b"")


def test_another_broken_pipe_is_not_hushed_up(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/a.py"])
    with pytest.raises(BrokenPipeError):
        run_as_program(raises(BrokenPipeError()))
