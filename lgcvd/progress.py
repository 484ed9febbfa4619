"""Progress of long work."""

from __future__ import annotations

import sys


def progress_bar(**options: object):
    """A tqdm bar that is drawn often on a terminal, and once a minute where a log file would keep every line."""
    from tqdm import tqdm

    return tqdm(mininterval=0.2 if sys.stderr.isatty() else 60, **options)


def move_to(bar, done: float) -> None:
    """Show that ``done`` is done. What the first call tells may be of an earlier attempt: it is not taken for speed."""
    if bar.n:
        bar.update(done - bar.n)
        bar.n = done  # sums of fractions are not round
    else:
        bar.initial = bar.n = bar.last_print_n = done
