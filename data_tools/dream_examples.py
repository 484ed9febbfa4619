"""Write the clips that robot-hands dreamed up, for lgcvd/assets/dreams: the first seeds, not chosen.

python data_tools/dream_examples.py --out lgcvd/assets/dreams
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lgcvd import load, predict, seeded
from lgcvd.examples import DREAMED
from lgcvd.program import run_as_program
from lgcvd.video import PICTURE_FPS, write_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the clips")
    out, model = parser.parse_args().out, load("robot-hands")
    for seed, file in enumerate(DREAMED):
        film = predict(model, None, 30, task="generate", steps=10, generator=seeded(seed))
        write_video(out / file.name, film[0], PICTURE_FPS)


if __name__ == "__main__":
    run_as_program(main)
