"""``lgcvd examples``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lgcvd.examples import HANDS, fetch, write_dreams, write_examples, write_hands
from lgcvd.progress import progress_bar


@dataclass(frozen=True)
class Examples:
    """Write clips to try the other verbs on: moving digits for gray models, simulated pushing and
    dreamed hands for those in colour."""

    out: Path = Path("examples")
    """Folder for them, one GIF each."""
    download: bool = False
    """Two clips of a real robot's hands, too: 7.4 MB from github.com/YifanTian07/G1-policy-train, fetched once and kept
    in ~/.cache/lgcvd."""

    def run(self) -> int:
        for paths in write_examples(self.out).values():
            print(*paths, sep="\n")
        print(*write_dreams(self.out), sep="\n")
        for clip in HANDS if self.download else ():
            with progress_bar(desc=clip.name, total=clip.size, unit="B", unit_scale=True, disable=None) as bar:
                for done in fetch(clip):
                    bar.update(done - bar.n)
            print(write_hands(clip, self.out))
        return 0
