"""Write the clips that robot-hands dreamed up, for lgcvd/assets/dreams: the first seeds, not chosen.

python data_tools/dream_examples.py
"""

from __future__ import annotations

from lgcvd import load, predict, seeded
from lgcvd.examples import DREAMED
from lgcvd.video import PICTURE_FPS, write_video

if __name__ == "__main__":
    model = load("robot-hands")
    for seed, file in enumerate(DREAMED):
        film = predict(model, None, 30, task="generate", steps=10, generator=seeded(seed))
        write_video(file, film[0], PICTURE_FPS)
