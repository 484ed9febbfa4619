"""``lgcvd compare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from lgcvd.comparison import compare


@dataclass(frozen=True)
class Compare:
    """Put results of `lgcvd evaluate` side by side: tables, figures, and tests over the clips."""

    results: Positional[tuple[Path, ...]]
    """Results files; the others are tested against the first."""
    out: Path
    """Folder for table.md, table.csv, frames.png and seconds.png."""

    def run(self) -> int:
        comparison = compare(self.results)
        folder = comparison.save(self.out)
        print(comparison.markdown())
        print(f"{folder}: table.md, table.csv, frames.png, seconds.png")
        return 0
