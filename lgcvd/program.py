"""How the command line, data_tools and benchmarks end: with an exit code and a sentence."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

from lgcvd.errors import UserError


def exit_code_of(run: Callable[[], int | None], name: str, stopped: str) -> int | None:
    """The code of ``run``; 2 and a sentence for what the user of the program ``name`` can mend, and 130 for Ctrl-C."""
    try:
        return run()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 128 + signal.SIGINT


def run_as_program(run: Callable[[], int | None], stopped: str = "stopped") -> None:
    """Run a script and exit."""
    sys.exit(exit_code_of(run, Path(sys.argv[0]).name, stopped))
