"""How data_tools and benchmarks end: with an exit code and a sentence, as the command line does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

from lgcvd.errors import UserError


def run_as_program(run: Callable[[], int | None], stopped: str = "stopped") -> None:
    """Exit with the code of ``run``; with 2 and a sentence for what the user can mend, and 130 for Ctrl-C."""
    try:
        sys.exit(run())
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
