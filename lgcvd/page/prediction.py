"""A prediction in the making: strips, films and sentences."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lgcvd import examples, pictures, video
from lgcvd.futures import Futures
from lgcvd.models import VideoDenoiser
from lgcvd.page.answers import ALWAYS, BASIC, frame_scores, without_model
from lgcvd.page.offer import DEVICE, load, short_name, title_of
from lgcvd.page.wish import Wish
from lgcvd.rollout import Window

PANEL, SMALL_PANEL = 320, 224
"""Pixels that up to two panels of a film are high, and more of them."""
PREVIEW_SHARE = 0.2
"""Share of the time that strips, and films, of an unfinished prediction may take."""


@dataclass(eq=False)
class Run:
    """One prediction of one visitor: what its Stop button and the handler that makes it know of each other."""

    begun: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class Stage:
    """A prediction as far as it has come."""

    text: str
    fraction: float = 1
    """Share of the work that is done, in [0, 1]."""
    strip: Path | None = None
    film: Path | None = None
    scores: dict[str, list] | None = None
    """See ``frame_scores``."""
    frames: int = 0
    """Of the film."""
    last: bool = False


class Seldom:
    """Draws only as often as ``PREVIEW_SHARE`` allows."""

    due = 0.0

    def __call__(self, draw: Callable[..., Path], *arguments: object) -> Path | None:
        if (began := time.monotonic()) < self.due:
            return None
        file = draw(*arguments)
        self.due = began + (time.monotonic() - began) / PREVIEW_SHARE
        return file


def counted(number: int, noun: str = "frame") -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def place_of(window: Window) -> str:
    return f"window {window.index} of {window.windows}, step {window.step} of {window.steps}"


class Prediction:
    """What becomes of a wish. Its strips and films are written into ``folder``."""

    window: Window
    """As far as the model has come."""
    seconds: float
    """That it took."""

    def __init__(self, run: Run, wish: Wish, clip: Path, model_name: str, folder: Path) -> None:
        wish.check()
        self.began = time.monotonic()
        self.run, self.wish, self.clip, self.model_name, self.folder = run, wish, clip, model_name, folder
        self.model = load(model_name)
        self.material = wish.material(clip, self.model)
        rivals = {name: load(name) for name in wish.beside if name not in BASIC}
        self.rivals = {name: rival for name, rival in rivals.items() if wish.task in rival.abilities}
        self.unable = [short_name(name, model_name) for name in rivals if name not in self.rivals]
        self.late = [short_name(name, model_name) for name in self.rivals]  # until they have answered
        self.baselines = without_model([*wish.beside, *ALWAYS], self.material)
        self.truth = "dreamed" if clip.name in {dream.name for dream in examples.DREAMED} else "truth"
        self.beside = {} if self.material.truth is None else {self.truth: self.material.truth}
        self.beside |= {BASIC[name]: self.baselines[name] for name in wish.beside if name in self.baselines}

    def stages(self) -> Iterator[Stage]:
        """Step by step until it is finished or its run stopped; then the result."""
        yield from self._predict()
        self.seconds = time.monotonic() - self.began
        if not self.run.stopped:
            yield from self._ask_rivals()
        yield self._result()

    @property
    def finished(self) -> bool:
        return self.window.done and self.window.index == self.window.windows

    def _predict(self) -> Iterator[Stage]:
        strip, film = Seldom(), Seldom()
        for window in self._films(self.model, self.wish.futures, self.wish.sampling()):
            self.window = window
            yield Stage(
                place_of(window),
                window.fraction / (1 + len(self.rivals)),
                strip=strip(self._strip),
                film=film(self._film, f"{window.index}.mp4") if window.done else None,
            )
            if self.run.stopped:
                return

    def _ask_rivals(self) -> Iterator[Stage]:
        taken = {*self._panels(), title_of(self.model_name)}
        for index, (name, rival) in enumerate(self.rivals.items(), 1):
            called = short_name(name, self.model_name)
            called = name if called in taken else called  # one's own may share a name
            taken.add(called)
            for window in self._films(rival, 1, rival.about.sampling_for(self.wish.task)):
                yield Stage(f"{called}: {place_of(window)}", (index + window.fraction) / (1 + len(self.rivals)))
                if self.run.stopped:
                    return
            self.beside[called] = window.video[0].cpu()
            self.late.pop(0)

    def _films(self, model: VideoDenoiser, count: int, sampling: dict) -> Iterator[Window]:
        return self.material.films(model, count, seed=self.wish.seed, memory=self.wish.memory, **sampling)

    def _result(self) -> Stage:
        name = "-".join([self.wish.task, *[self.clip.stem[:60]] * (self.wish.task != "generate")])
        text = self._what_was_made() if self.finished else self._where_it_stopped()
        return Stage(
            f"{text} {self.material.note}".strip(),
            strip=self._strip(),
            film=self._film(f"{name}-seed-{self.wish.seed}.mp4"),
            scores=self._scores(),
            frames=len(self.window.given),
            last=True,
        )

    def _so_far(self, films: dict[str, Tensor]) -> dict[str, Tensor]:
        """``films`` (T, C, H, W) as far as the prediction is made."""
        there = slice(self.window.first, self.window.first + self.window.video.shape[1])
        return {name: film[there] for name, film in films.items()}

    def _panels(self) -> dict[str, Tensor]:
        """What is shown beside each other, (T, C, H, W) in [-1, 1]."""
        made, others = Futures(self.window.video.cpu(), self.window.given), self._so_far(self.beside)
        return made.beside(others.pop(self.truth, None), self.truth) | others

    def _strip(self) -> Path:
        file = self.folder / f"{time.monotonic_ns()}.png"
        pictures.write_image(file, pictures.filmstrip(self._panels(), self.window.given, columns=8))
        return file

    def _film(self, name: str) -> Path:
        panels, file = self._panels(), self.folder / name
        height = PANEL if len(panels) <= 2 else SMALL_PANEL
        video.write_video(file, pictures.panel_frames(panels, self.window.given, height=height), self.material.fps)
        return file

    def _scores(self) -> dict[str, list] | None:
        """None where no curves can be shown."""
        answers = self._panels() | {BASIC[name]: film for name, film in self._so_far(self.baselines).items()}
        answers.pop("spread", None)
        truth = answers.pop(self.truth, None)
        if truth is None or not (self.finished or self.wish.task in ("predict", "animate", "past")):
            return None
        return frame_scores(truth, answers, self.window.given)

    def _origin(self) -> str:
        """Of what and by whom the film is."""
        wish, source = self.wish, "" if self.wish.task == "generate" else f" from {self.clip.name}"
        steps = counted(wish.steps, "step")
        return f"{source} by {title_of(self.model_name)} ({wish.sampler}, {steps}, seed {wish.seed})"

    def _what_was_made(self) -> str:
        made, wish = counted(self.window.given.count(False), "new frame"), self.wish
        times = f" in each of {wish.futures} futures" if wish.futures > 1 else ""
        processor = "CPU" if DEVICE == "cpu" else "GPU"
        nowhere = [BASIC[name] for name in wish.beside if name in BASIC and name not in self.baselines]
        missing = {
            "Not trained for this, and left out": self.unable,
            "Not possible here, and left out": nowhere,
            "Stopped before this was finished": self.late,
        }
        text = f"{made}{times} in {self.seconds:.1f} s on the {processor}{self._origin()}."
        return text + "".join(f" {why}: {', '.join(names)}." for why, names in missing.items() if names)

    def _where_it_stopped(self) -> str:
        window = self.window
        text = f"Stopped in window {window.index} of {window.windows}, after step {window.step} of {window.steps}:"
        undone = "" if window.done else " The frames of this window are as far as they came."
        return f"{text}{self._origin()}.{undone}"
