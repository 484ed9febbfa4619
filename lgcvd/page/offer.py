"""The models and the examples that the page offers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import lgcvd
from lgcvd import examples
from lgcvd.commands.common import find_device

SEEN = {"pushing": "simulated pushes", "digits": "moving digits", "robot_hands": "the hands of one robot"}
"""What a model was trained on, by what its ``About.data`` begins with."""

OFFER = {
    1: "Or continue one of these: three bounce, three turn at random.",
    3: "Or continue one of these simulated pushes.",
}
"""Said above the examples for a gray model, and for one in colour."""
OFFER_HANDS = "Or continue one of these: two clips that robot-hands dreamed up{}, four simulated pushes."
"""The same for a model of hands, with what is added once two real clips are there."""
REAL_HANDS = ", two grasps of a real robot"

DEVICE = find_device("auto")


@cache
def load(name: str) -> lgcvd.VideoDenoiser:
    """A model on this machine's best device, read once."""
    return lgcvd.load(name, DEVICE)


def kind_of(model: lgcvd.VideoDenoiser) -> str:
    """The kind of clips, of those in ``SEEN``, that a model was trained on; empty where it is another or not known."""
    kind = model.about.data.partition(":")[0]
    return kind if kind in SEEN and "adapted from" not in model.about.data else ""


def are_alike(name: str, other: str) -> bool:
    """Whether two models go on from the same frames, and know the same kind of clips as far as that is known."""

    def takes(model: lgcvd.VideoDenoiser) -> tuple:
        return model.config.image_size, model.config.channels, model.config.context_frames

    one, two = load(name), load(other)
    return takes(one) == takes(two) and len({kind_of(one), kind_of(two)} - {""}) < 2


def title_of(name: str) -> str:
    """What a model is called: a training leaves RUN/model."""
    path = Path(name)
    return (path.parent.name if path.name == "model" else "") or path.name


def short_name(name: str, beside: str) -> str:
    """What a model is called ``beside`` another: shipped rivals are named after the model that they challenge."""
    return title_of(name).removeprefix(f"{title_of(beside)}-")


def knows_hands(model: str) -> bool:
    return examples.is_of_hands(load(model).about.data) and load(model).config.channels == 3


class Shelf:
    """Clips in ``folder``; two of real hands are among them once someone has asked for those."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shipped = examples.write_examples(folder)
        self.dreamed = examples.write_dreams(folder)
        self.hands: list[Path] = []

    def clips(self, model: str) -> list[str]:
        """Examples of the kind that a model knows."""
        hands = [*self.dreamed, *self.hands] if knows_hands(model) else []
        return [str(clip) for clip in [*hands, *self.shipped[load(model).config.channels]]]

    def clip(self, model: str, number: int) -> str:
        """One of them, counted from 0; the first where there are fewer than for the model before."""
        clips = self.clips(model)
        return clips[number if number < len(clips) else 0]

    def captioned(self, model: str) -> list[tuple[str, str]]:
        """All of them, and what each is called."""
        return [(clip, Path(clip).stem.replace("-", " ")) for clip in self.clips(model)]

    def offer(self, model: str) -> str:
        """What is said above them."""
        if knows_hands(model):
            return OFFER_HANDS.format(REAL_HANDS if self.hands else "")
        return OFFER[load(model).config.channels]

    def fetch_hands(self) -> Iterator[int]:
        """Fetch the clips of real hands; yields how many of their bytes are there."""
        before = 0
        for clip in examples.HANDS:
            for there in examples.fetch(clip):
                yield before + there
            before += clip.size
        self.hands = [examples.write_hands(clip, self.folder) for clip in examples.HANDS]
