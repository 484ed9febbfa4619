"""How the command line, data_tools and benchmarks end: with an exit code and a sentence."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lgcvd.errors import UserError

STOPPED = "lgcvd: stopped"
"""What the command line says after Ctrl-C."""


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


@contextmanager
def ends_quietly() -> Iterator[None]:
    """Where Ctrl-C ends the command line while it still imports; any other program is left to end as it likes."""
    try:
        yield
    except KeyboardInterrupt:
        if not _is_command_line(*sys.argv[:1]):
            raise
        print(STOPPED, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _is_command_line(name: str = "") -> bool:
    """Whether ``name``, of ``sys.argv``, is that of ``lgcvd`` or of ``python -m lgcvd``, which is "-m" at first."""
    return name in ("-m", str(Path(__file__).with_name("__main__.py"))) or Path(name).stem == "lgcvd"


def run_as_program(run: Callable[[], int | None], stopped: str = "stopped") -> None:
    """Run a script and exit."""
    sys.exit(exit_code_of(run, Path(sys.argv[0]).name, stopped))
