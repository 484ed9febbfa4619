"""``lgcvd models`` and ``lgcvd import-released``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from lgcvd.checkpoints import load, save, shipped_models
from lgcvd.commands.common import in_words
from lgcvd.files import check_new_folder
from lgcvd.released import load_released


@dataclass(frozen=True)
class Models:
    """List the models that come with lgcvd."""

    def run(self) -> int:
        for name in shipped_models():
            model = load(name)
            print(f"{name}: {in_words(model.config)}")
            print(f"    trained on {model.about.data}, {model.about.step:,} iterations")
            print(f"    licence: {model.about.licence}")
        return 0


@dataclass(frozen=True)
class ImportReleased:
    """Turn a checkpoint file of the LGC-VD authors into a model folder."""

    file: Positional[Path]
    """What their trainer saved: a torch file with model, ema and step."""
    out: Path
    """Folder to write, new or empty."""
    preset: Literal["bair-64", "cityscapes-128"] = "bair-64"
    """What the checkpoint was trained as."""

    def run(self) -> int:
        check_new_folder(self.out)
        save(load_released(self.file, self.preset), self.out)
        print(f"{self.out}: ready for lgcvd predict --model {self.out}")
        return 0
