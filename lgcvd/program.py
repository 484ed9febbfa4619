"""How the command line, data_tools and benchmarks end: with an exit code and a sentence."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from lgcvd.errors import UserError


def exit_code_of(run: Callable[[], int | None], name: str, stopped: str) -> int | None:
    """The code of ``run``; 2 and a sentence for what the user of the program ``name`` can mend, 130 for Ctrl-C, and 141
    without a word where nobody reads on, as after ``| head``."""
    try:
        try:
            return run()
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(stopped, file=sys.stderr)
            return 128 + signal.SIGINT
        finally:
            print(end="", flush=True)  # here, not when Python ends: then nobody could catch what fails
    except BrokenPipeError:
        if not _drop_unread():
            raise
        return 128 + 13  # as a program that SIGPIPE ends


def run_as_program(run: Callable[[], int | None], stopped: str = "stopped") -> None:
    """Run a script and exit."""
    sys.exit(exit_code_of(run, Path(sys.argv[0]).name, stopped))


def _drop_unread() -> bool:
    """Whether a reader of what is printed has gone: a line break tells. What is still to be written goes nowhere."""
    gone = False
    for stream in (sys.stdout, sys.stderr):
        try:
            print(end="" if gone else "\n", file=stream, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            gone = True
    return gone
