"""The demo page: a clip goes in, its predicted future comes out. ``python demo_app.py`` serves it on this machine."""

from __future__ import annotations

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: otherwise the server calls home
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["NO_PROXY"] = f"{os.environ.get('NO_PROXY', '')},localhost,127.0.0.1"  # launch() asks the page of itself

import argparse
import html
import logging
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import gradio as gr
import pandas as pd
import torch

import lgcvd
from lgcvd import examples, metrics, pictures, video
from lgcvd.commands.common import find_device
from lgcvd.commands.tasks import VERBS, Material, least_frames
from lgcvd.errors import UserError
from lgcvd.files import ASSETS
from lgcvd.sampling import DEFAULT_SAMPLER, DEFAULT_SPACING, DEFAULT_STEPS, SPACINGS, THRESHOLDS

MAX_NEW_FRAMES, MAX_STEPS, MAX_CLIP_FRAMES, PREVIEW_FRAMES = 120, 100, 300, 60
MAX_FUTURES = 8
PANEL, SMALL_PANEL = 320, 224
"""Pixels that up to two panels of a film are high, and more of them."""
MAX_UPLOAD = "100mb"
DEFAULT_NEW_FRAMES, DEFAULT_SEED, DEFAULT_MISSING = 28, 7, "3, 6"
MAX_SEED = 2**31
QUEUE, KEEP_FILES = 16, 3600
PREVIEW_SHARE = 0.2
"""Share of the time that strips, and films, of an unfinished prediction may take."""

TASKS = {
    "predict": ("Predict what comes next", "New frames", "Predict"),
    "past": ("Tell what came before", "New frames", "Tell"),
    "interpolate": ("Bridge a gap in the clip", "New frames", "Bridge"),
    "infill": ("Fill in missing frames", "Frames of the clip", "Fill in"),
    "slowmo": ("Slow the clip down", "Frames of the clip", "Slow down"),
    "generate": ("Dream from nothing", "New frames", "Dream"),
    "animate": ("Let one frame move", "New frames", "Animate"),
    "reconstruct": ("Take the clip back to noise and restore it", "Frames of the clip", "Restore"),
}
"""Name -> what it is called on the page, what its number of frames counts, what its button says."""

OFFER = {
    1: "Or continue one of these: three bounce, three turn at random.",
    3: "Or continue one of these simulated pushes.",
}
"""Said above the examples for a gray model, and for one in colour."""
OFFER_HANDS = "Or continue one of these: two clips that robot-hands dreamed up{}, four simulated pushes."
"""The same for a model of hands, with what is added once two real clips are there."""
REAL_HANDS = ", two grasps of a real robot"
HANDS_MB = sum(clip.size for clip in examples.HANDS) / 1e6
FETCH_HANDS = f"Also two clips of real hands (downloads {HANDS_MB:.1f} MB from GitHub)"

BASIC = {"copy-last-frame": "copy", "mean-frame": "average", "blank-frame": "black", "optical-flow": "flow"}
"""Baseline -> what it is called in films and curves: never like a panel of several futures."""
ALWAYS = ("copy-last-frame", "blank-frame")
"""Those of them that are in every curve."""
BASIC_CHOICES = [(words, name) for name, words in BASIC.items()]
DEFAULT_BESIDE = ("copy-last-frame",)

SEEN = {"pushing": "simulated pushes", "digits": "moving digits", "robot_hands": "the hands of one robot"}
"""What a model was trained on, by what its ``About.data`` begins with."""

DEVICE = find_device("auto")
SAME = gr.skip()
DEFAULT_SAMPLING = {"sampler": DEFAULT_SAMPLER, "steps": DEFAULT_STEPS, "spacing": DEFAULT_SPACING}

TITLE = "See what happens next"
INTRO = """
The first frames of a video go in, and a diffusion model imagines those that follow, a few at a time, as many as you
like. The method is LGC-VD, from the paper “Video Diffusion Models with Local-Global Context Guidance” (Yang et al.,
IJCAI 2023, arXiv 2306.02562).
"""
HOW = """
The model starts from noise and cleans it up step by step, guided by the last frames of the clip (the *local context*)
and by a memory of everything that it has seen and made so far (the *global context*). Each window adds a few new
frames, and their last ones become the context of the next window, so the film can go on for as long as you like.
Which frames it is given makes the task: the first ones, the last ones, both ends, any, or none. Where the clip has the
frames that are made, the page compares: PSNR and SSIM say how close each of them comes to the true one, beside two
answers that take no model at all: *copy* repeats the nearest given frame, *black* shows a black one. What else stands
beside the prediction is yours to choose: *flow* lets everything keep its velocity, *average* shows all given frames at
once, and other models of the same kind of clip, such as those of MCVD, answer from the same frames. Several futures
of one clip show what the model is unsure of: where they differ, the heat map is bright.
"""
WELCOME = "Press the blue button: the film appears here."


class View(NamedTuple):
    """What the page shows; a field that is left out stays as it is."""

    status: Any = SAME
    strip: Any = SAME
    video: Any = SAME
    download: Any = SAME
    curves: Any = SAME
    legend: Any = SAME
    psnr: Any = SAME
    ssim: Any = SAME
    predict: Any = SAME
    stop: Any = SAME


@dataclass(frozen=True)
class Wish:
    """What a visitor chose; in the order of the page's inputs."""

    start: int
    frames: int
    sampler: str
    steps: int
    seed: int
    task: str = "predict"
    missing: str = DEFAULT_MISSING
    factor: int = 2
    level: float = 0.5
    spacing: str = DEFAULT_SPACING
    threshold: str = "clip"
    local_guidance: float = 1.0
    memory_guidance: float = 1.0
    memory: str = "decay"
    futures: int = 1
    beside: Sequence[str] = DEFAULT_BESIDE
    """Baselines and models whose answers are shown, too."""

    def sampling(self) -> dict:
        """Options of ``lgcvd.Sampling``."""
        names = ("sampler", "steps", "spacing", "threshold", "local_guidance", "memory_guidance")
        return {name: getattr(self, name) for name in names}

    def missing_frames(self) -> tuple[int, ...]:
        """Numbers of the frames, the first is 1."""
        parts = re.sub(r"\s*-\s*", "-", re.sub("[,;]", " ", self.missing)).split()
        if not parts or not all(re.fullmatch(r"\d{1,4}(-\d{1,4})?", part) for part in parts):
            raise UserError(f"{self.missing!r} names no frames: write their numbers, like {DEFAULT_MISSING} or 3-6.")
        ranges = [sorted(int(end) for end in part.split("-")) for part in parts]
        return tuple(number for ends in ranges for number in range(ends[0], ends[-1] + 1))


@dataclass(eq=False)
class Run:
    """One prediction of one visitor: what its Stop button and the handler that makes it know of each other."""

    begun: bool = False
    stopped: bool = False


def status(text: str, kind: str = "done", fraction: float | None = None) -> str:
    """The status panel. ``kind``: idle, busy, done or error; ``fraction`` in [0, 1] adds a progress bar."""
    bar = "" if fraction is None else f'<progress value="{fraction:.3f}" max="1" aria-label="progress"></progress>'
    role = {"error": ' role="alert"', "done": ' role="status"'}.get(kind, "")
    if text.partition(" ")[0].isalpha():  # no file's name
        text = text[:1].upper() + text[1:]
    return f'<div class="status {kind}"{role}><p>{html.escape(text)}</p>{bar}</div>'


def counted(number: int, noun: str = "frame") -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def ready(text: str, kind: str = "done") -> View:
    """The page waits for the next wish."""
    return View(
        status(text, kind), predict=gr.update(interactive=True), stop=gr.update(interactive=False, variant="secondary")
    )


def begin() -> tuple[Run, View]:
    """Predict was pressed: the prediction itself may have to wait its turn, the buttons change now."""
    waiting = status("Waiting for a free place …", "busy", 0)
    busy = {"predict": gr.update(interactive=False), "stop": gr.update(interactive=True, variant="stop")}
    return Run(), View(waiting, **busy)


def stop(run: Run | None) -> View:
    """Stop was pressed: the prediction ends after its present step; one that still waits for its turn ends now."""
    if run is None:
        return View()
    run.stopped = True
    return View() if run.begun else ready("Stopped before the prediction began.")


def refused() -> View:
    """Gradio itself turned the prediction down: its queue is full."""
    return ready("Too many are waiting: try again in a minute.", "error")


def kept(slider: gr.Slider, number: float | None) -> float:
    """A slider's number, in its range: gradio itself would refuse what is typed beyond it, in words of its own."""
    number = slider.minimum if number is None else min(max(number, slider.minimum), slider.maximum)
    return gr.Number.round_to_precision(number, slider.precision)


gr.Slider.preprocess = kept  # a class of one's own would have gradio write a .pyi file beside this one


@cache
def load(name: str) -> lgcvd.VideoDenoiser:
    """A model on this machine's best device, read once."""
    return lgcvd.load(name, DEVICE)


def read(path: str, model: lgcvd.VideoDenoiser, start: int, frames: int) -> video.Clip:
    """Up to ``frames`` frames of a clip as ``model`` takes them, at least as many as it needs to go on from."""
    config = model.config
    return video.read_clip(
        path, config.image_size, config.channels, start=start, max_frames=frames, min_frames=least_frames(model)
    )


def kind_of(model: lgcvd.VideoDenoiser) -> str:
    """The kind of clips, of those in ``SEEN``, that a model was trained on; empty where it is another or not known."""
    kind = model.about.data.partition(":")[0]
    return kind if kind in SEEN and "adapted from" not in model.about.data else ""


def look(path: str, model_name: str, start: int, own: bool) -> Iterator[tuple[dict, str, dict]]:
    """What the model will see of a clip in words and, if it is a visitor's ``own``, moving; how far one may skip in it.

    Yields once; the file that it names exists until the generator is asked again.
    """
    with tempfile.TemporaryDirectory() as folder:
        moving = gr.update(value=None, visible=False)
        try:
            model = load(model_name)
            clip = read(path, model, 0, MAX_CLIP_FRAMES)
            count, k = len(clip.frames), min(len(clip.frames), model.context_frames)
            start = min(start, count - k)
            if own:
                file = Path(folder) / "clip.gif"
                video.write_video(file, pictures.upscale(clip.frames[start : start + PREVIEW_FRAMES], 160), clip.fps)
                moving = gr.update(value=str(file), visible=True)
        except UserError as error:
            yield moving, status(str(error), "error"), SAME
            return
        height, width = model.config.image_size
        colours = "gray" if model.config.channels == 1 else "in colour"
        rate, them, given = (
            (f", {clip.fps:g} a second", "them", f"{k} of them") if count > 1 else ("", "it", "that one")
        )
        seen = f"The model sees {them} {colours}, {width} x {height} pixels, and is given {given}."
        said = [f"{counted(count)}{rate}.", seen]
        if clip.more:
            said.append(f"The clip goes on; its first {count} frames are used.")
        if own and (kind := kind_of(model)):
            said.append(f"{title_of(model_name)} has seen only {SEEN[kind]}: other clips turn into those.")
        text = " ".join([*said, clip.note]).strip()
        yield moving, status(text, "note"), gr.update(maximum=max(1, count - k), value=start, interactive=count > k)


def predict(run: Run, path: str, model_name: str, *settings: object, said: str = "", **more: object) -> Iterator[View]:
    """Views of a film while it is made, then of its result; of a sentence if it cannot be made.

    The settings are those of ``Wish``; ``said`` is what the page says of the clip, so that nothing is said twice. The
    files that a view names exist until the next one is asked for.
    """
    run.begun = True
    if run.stopped:
        yield View()
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield from _predict(run, Path(folder), path, model_name, Wish(*settings, **more))
    except UserError as error:
        told = status(str(error), "error") == said
        yield ready("Nothing was made: see what is said of the clip." if told else str(error), "error")
    except Exception:
        logging.exception("A prediction failed.")
        yield ready("This prediction failed, and it is the page's fault: try other settings or another clip.", "error")


def material_of(wish: Wish, path: str, model: lgcvd.VideoDenoiser) -> Material:
    """What the task takes from the clip: the same as on the command line."""
    options: dict[str, Any] = {"frames": wish.frames}
    if wish.task != "generate":
        options |= {"clip": Path(path), "start": wish.start}
    if wish.task == "infill":
        options["missing"] = wish.missing_frames()
    elif wish.task in ("slowmo", "reconstruct"):
        name = {"slowmo": "factor", "reconstruct": "level"}[wish.task]
        options[name] = getattr(wish, name)
    return VERBS[wish.task](**options).material(model)


def _predict(run: Run, folder: Path, path: str, model_name: str, wish: Wish) -> Iterator[View]:
    yield View(status("Reading the clip …", "busy", 0), *[gr.update(visible=False)] * 4)
    if not 1 <= wish.frames <= MAX_NEW_FRAMES:
        raise UserError(f"this page makes 1 to {MAX_NEW_FRAMES} frames, not {wish.frames}: ask for fewer.")
    if not 1 <= wish.futures <= MAX_FUTURES:
        raise UserError(f"this page makes 1 to {MAX_FUTURES} futures at once, not {wish.futures}: ask for fewer.")
    if wish.seed is None or not 0 <= wish.seed <= MAX_SEED:
        raise UserError(f"the seed is a whole number from 0 to {MAX_SEED:,}: write one, such as {DEFAULT_SEED}.")
    began = strip_due = film_due = time.monotonic()
    model = load(model_name)
    material = material_of(wish, path, model)
    rivals = {name: load(name) for name in wish.beside if name not in BASIC}
    able = {name: rival for name, rival in rivals.items() if wish.task in rival.abilities}
    windows = made_by(model, material, wish.futures, wish, wish.sampling())
    truth = "dreamed" if Path(path).name in {clip.name for clip in examples.DREAMED} else "truth"
    baselines = without_model([*wish.beside, *ALWAYS], material)
    beside = {} if material.truth is None else {truth: material.truth}
    beside |= {BASIC[name]: baselines[name] for name in wish.beside if name in baselines}

    def so_far(films: dict[str, torch.Tensor], window: lgcvd.Window) -> dict[str, torch.Tensor]:
        """``films`` as far as the prediction is made."""
        there = slice(window.first, window.first + window.video.shape[1])
        return {name: film[there] for name, film in films.items()}

    def panels(window: lgcvd.Window) -> dict[str, torch.Tensor]:
        """What is shown beside each other."""
        videos, others = window.video.cpu(), so_far(beside, window)
        real = {name: others.pop(name) for name in (truth,) if name in others}
        if wish.futures > 1:
            return real | lgcvd.Futures(videos, window.given).panels(real.get(truth)) | others
        return real | {"prediction": videos[0]} | others

    def strip(window: lgcvd.Window) -> dict:
        file = folder / f"{time.monotonic_ns()}.png"
        pictures.write_image(file, pictures.filmstrip(panels(window), window.given, columns=8))
        return gr.update(value=str(file), visible=True)

    def film(window: lgcvd.Window, name: str) -> str:
        shown = panels(window)
        frames = pictures.panel_frames(shown, window.given, height=PANEL if len(shown) <= 2 else SMALL_PANEL)
        video.write_video(folder / name, frames, material.fps)
        return str(folder / name)

    for window in windows:
        step = f"Window {window.index} of {window.windows}, step {window.step} of {window.steps}"
        view = View(status(step, "busy", window.fraction / (1 + len(able))))
        if (now := time.monotonic()) >= strip_due:
            view = view._replace(strip=strip(window))
            strip_due = now + (time.monotonic() - now) / PREVIEW_SHARE
        if window.done and (now := time.monotonic()) >= film_due:
            file = film(window, f"{window.index}.mp4")
            view = view._replace(video=gr.update(value=file, visible=True))
            film_due = now + (time.monotonic() - now) / PREVIEW_SHARE
        yield view
        if run.stopped:
            break

    seconds, finished = time.monotonic() - began, window.done and window.index == window.windows
    answered, taken = [], {*panels(window), title_of(model_name)}
    for index, (name, rival) in enumerate(able.items(), 1):
        if run.stopped:
            break
        called = short_name(name, model_name)
        called = name if called in taken else called  # one's own may share a name
        taken.add(called)
        for answer in made_by(rival, material, 1, wish, rival.about.sampling_for(wish.task)):
            step = f"{called}: window {answer.index} of {answer.windows}, step {answer.step} of {answer.steps}"
            yield View(status(step, "busy", (index + answer.fraction) / (1 + len(able))))
            if run.stopped:
                break
        else:
            beside[called] = answer.video[0].cpu()
            answered.append(name)

    maker = f"by {title_of(model_name)} ({wish.sampler}, {counted(wish.steps, 'step')}, seed {wish.seed})"
    source = "" if wish.task == "generate" else f" from {Path(path).name}"
    if finished:
        processor = "CPU" if DEVICE == "cpu" else "GPU"
        times = f" in each of {wish.futures} futures" if wish.futures > 1 else ""
        made = counted(window.given.count(False), "new frame")
        text = f"{made}{times} in {seconds:.1f} s on the {processor}{source} {maker}."
        if unable := [short_name(name, model_name) for name in rivals if name not in able]:
            text += f" Not trained for this, and left out: {', '.join(unable)}."
        if nowhere := [BASIC[name] for name in wish.beside if name in BASIC and name not in baselines]:
            text += f" Not possible here, and left out: {', '.join(nowhere)}."
        if late := [short_name(name, model_name) for name in able if name not in answered]:
            text += f" Stopped before this was finished: {', '.join(late)}."
    else:
        text = f"Stopped in window {window.index} of {window.windows}, after step {window.step} of {window.steps}"
        text += f":{source} {maker}."
        if not window.done:
            text += " The frames of this window are as far as they came."
    file = film(window, f"{'-'.join([wish.task, *[Path(path).stem[:60]] * bool(source)])}-seed-{wish.seed}.mp4")
    view = ready(f"{text} {material.note}".strip())._replace(
        strip=strip(window),
        video=gr.update(value=file, visible=True),
        download=gr.update(value=file, visible=True),
    )
    answers = panels(window) | {BASIC[name]: answer for name, answer in so_far(baselines, window).items()}
    answers.pop("spread", None)
    real, whole = answers.pop(truth, None), finished or wish.task in ("predict", "animate", "past")
    if real is not None and whole and (scores := frame_scores(real, answers, window.given)) is not None:
        plots = {name: gr.update(value=scores, x_lim=[1, len(window.given)]) for name in ("psnr", "ssim")}
        view = view._replace(curves=gr.update(visible=True), legend=legend_of(scores["answer"].unique()), **plots)
    yield view


def made_by(
    model: lgcvd.VideoDenoiser, material: Material, count: int, wish: Wish, sampling: dict
) -> Iterator[lgcvd.Window]:
    """``count`` films that ``model`` makes of the same frames, step by step."""
    return lgcvd.futures(
        model,
        None if material.observed is None else material.observed[None].to(DEVICE),
        count,
        seed=wish.seed,
        memory=wish.memory,
        every_step=True,
        **sampling,
        **material.options,
    )


def title_of(name: str) -> str:
    """What a model is called: a training leaves RUN/model."""
    path = Path(name)
    return (path.parent.name if path.name == "model" else "") or path.name


def short_name(name: str, beside: str) -> str:
    """What a model is called ``beside`` another: shipped rivals are named after the model that they challenge."""
    return title_of(name).removeprefix(f"{title_of(beside)}-")


def without_model(names: Sequence[str], material: Material) -> dict[str, torch.Tensor]:
    """Films (T, C, H, W) of the baselines among ``names`` that can do the task."""
    seen, options = material.observed, material.options
    task = options.get("task", "infill" if "known" in options else "predict")
    if seen is None:
        return {}
    new = options.get("num_frames", len(seen))
    given = options.get("known") or lgcvd.context.TASKS[task].known(len(seen), new)
    known = [index for index, there in enumerate(given) if there]
    films = {"blank-frame": torch.full((len(given), *seen.shape[1:]), -1.0)}
    if known:
        nearest = [min(range(len(known)), key=lambda k, i=index: abs(known[k] - i)) for index in range(len(given))]
        films |= {"copy-last-frame": seen[nearest], "mean-frame": seen.mean(0).repeat(len(given), 1, 1, 1)}
        for film in films.values():
            film[known] = seen
    if task in ("predict", "animate", "past") and "optical-flow" in names:
        turn = (0,) if task == "past" else ()
        films["optical-flow"] = lgcvd.BASELINES["optical-flow"](seen.flip(turn)[None], new)[0].flip(turn)
    return {name: films[name] for name in names if name in films}


def frame_scores(truth: torch.Tensor, answers: dict[str, torch.Tensor], given: Sequence[bool]) -> pd.DataFrame | None:
    """PSNR and SSIM of every frame that ``answers`` show, to the last new one that has a truth; given ones have none.

    None where fewer than two new frames have a truth.
    """
    new = [index for index, there in enumerate(given) if not there and index < len(truth)]
    if len(new) < 2:  # a point is no curve
        return None
    frames, places = [], []
    for index in range(new[0], new[-1] + 1):
        alone = index in new and {index - 1, index + 1}.isdisjoint(new)  # a dash: lines break where frames were given
        for frame in (index + 0.8, index + 1.2) if alone else (index + 1,):
            frames.append(frame)
            places.append(new.index(index) if index in new else -1)

    def curve(score: Callable, film: torch.Tensor) -> torch.Tensor:
        return torch.cat([score(truth[None, new], film[None, new])[0], torch.tensor([torch.nan])])[places]

    return pd.concat(
        pd.DataFrame(
            {"frame": frames, "PSNR": curve(metrics.psnr, film), "SSIM": curve(metrics.ssim, film), "answer": name}
        )
        for name, film in answers.items()
    )


def colour_of(answer: str) -> str:
    """The same for a name whenever it is shown."""
    return COLOURS.get(answer) or MORE_COLOURS[crc32(answer.encode()) % len(MORE_COLOURS)]


def legend_of(answers: Sequence[str]) -> str:
    """Names and colours of the curves: the plots' own legend is cut off where it is wider than they are."""
    keys = (f'<span><i style="background: {colour_of(name)}"></i>{html.escape(name)}</span>' for name in answers)
    return f'<div class="legend">{"".join(keys)}</div>'


def fetch_hands(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Status while the clips of real hands are fetched, and at last the clips in ``folder``; none if that fails."""
    before, total = 0, sum(clip.size for clip in examples.HANDS)
    try:
        for clip in examples.HANDS:
            for there in examples.fetch(clip):
                done = before + there
                yield status(f"Downloading: {done / 1e6:.1f} of {total / 1e6:.1f} MB", "busy", done / total), []
            before += clip.size
        clips = [str(examples.write_hands(clip, folder)) for clip in examples.HANDS]
    except UserError as error:
        yield status(str(error), "error"), []
        return
    yield "", clips


THEME = gr.themes.Default(
    primary_hue="sky",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
    radius_size="lg",
).set(button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700")
COLOURS = {
    **{"prediction": "#0ea5e9", "copy": "#f59e0b", "black": "#94a3b8", "flow": "#10b981", "average": "#a16207"},
    **{"best": "#0ea5e9", "worst": "#1e3a8a", "mean": "#0f766e"},
    **{"mcvd-concat": "#dc2626", "mcvd-spatin": "#8b5cf6"},
}
"""Of the answers."""
MORE_COLOURS = ("#db2777", "#4d7c0f", "#7c2d12")
"""Of models that have none among those."""
OLD = "() => { document.getElementById('result').classList.add('old') }"
"""Run when a setting is changed: the film beside it was made with another."""
FRESH = """() => {
  document.getElementById('result').classList.remove('old')
  if (innerWidth <= 640) document.getElementById('status').scrollIntoView({ behavior: 'smooth' })
}"""
"""Run when a film is asked for."""


def build_app(models: list[str], folder: Path | None = None) -> gr.Blocks:
    """The page. ``models``: names or folders for ``lgcvd.load``, the first is chosen; ``folder`` keeps the examples."""
    folder = folder or Path(tempfile.mkdtemp(prefix="lgcvd-examples-"))
    shipped, dreamed = examples.write_examples(folder), examples.write_dreams(folder)
    hands: list[str] = []  # once someone has asked for them

    answers = {*COLOURS, *(short_name(other, name) for name in models for other in models)}

    def of_hands(model: str) -> bool:
        return examples.is_of_hands(load(model).about.data) and load(model).config.channels == 3

    def clips_for(model: str) -> list[str]:
        """Examples of the kind that a model knows."""
        return [
            *([*map(str, dreamed), *hands] if of_hands(model) else []),
            *map(str, shipped[load(model).config.channels]),
        ]

    def captioned(clips: list[str]) -> list[tuple[str, str]]:
        return [(clip, Path(clip).stem.replace("-", " ")) for clip in clips]

    def offer_for(model: str) -> str:
        if of_hands(model):
            return OFFER_HANDS.format(REAL_HANDS if hands else "")
        return OFFER[load(model).config.channels]

    def offered(model: str, example: int) -> str:
        """One of them; the first where there are fewer than for the model before."""
        clips = clips_for(model)
        return clips[example if example < len(clips) else 0]

    def on_look(upload: str | None, example: int, model: str, start: int):
        yield from look(upload or offered(model, example), model, start, own=upload is not None)

    def on_clip(upload: str | None, example: int, model: str, task: str):
        """Another clip is used from where the task wants it; ``set_start`` remembers where that is."""
        for moving, note, start in on_look(upload, example, model, VERBS["past"].frames if task == "past" else 0):
            yield moving, note, start, SAME if start is SAME else start["value"]

    def on_start_of_task(upload: str | None, example: int, model: str, task: str, start: int, own: int):
        """So is the same clip for another task, unless someone has said from where."""
        if start == own:
            yield from on_clip(upload, example, model, task)

    def on_predict(run: Run, said: str, upload: str | None, example: int, model: str, *settings):
        yield from predict(run, upload or offered(model, example), model, *settings, said=said)

    def on_model(name: str):
        more = gr.update(visible=of_hands(name) and not hands)
        return gr.update(value=captioned(clips_for(name)), selected_index=0), 0, more, ""

    def on_fetch():
        for told, clips in fetch_hands(folder):
            if clips:
                hands[:] = clips
            yield gr.update(interactive=False), told
        yield gr.update(interactive=True), told

    def on_fetched(name: str):
        """The first of the clips of hands is chosen; nothing changes where they could not be fetched."""
        if not hands or not of_hands(name):
            return [SAME] * 6
        first = len(dreamed)
        gallery = gr.update(value=captioned(clips_for(name)), selected_index=first)
        return gallery, first, gr.update(visible=False), "", None, offer_for(name)

    def on_begin():
        new, view = begin()
        return new, *view

    def on_tasks(name: str, task: str):
        try:
            able = load(name).abilities
        except UserError:  # told where the clip is looked at
            able = ["predict"]
        return gr.update(choices=[(TASKS[n][0], n) for n in able], value=task if task in able else able[0])

    def on_beside(name: str, chosen: list[str]):
        """Baselines, and models of the same frames and kind of clips; what still can be stays chosen."""

        def takes(model: str) -> tuple:
            config = load(model).config
            return config.image_size, config.channels, config.context_frames

        def alike(other: str) -> bool:
            kinds = {kind_of(load(name)), kind_of(load(other))} - {""}
            return other != name and len(kinds) < 2 and takes(other) == takes(name)

        try:
            able = [other for other in models if alike(other)]
        except UserError:  # told where the clip is looked at
            able = []
        choices = BASIC_CHOICES + [(short_name(other, name), other) for other in able]
        there = {value for _, value in choices}
        return gr.update(choices=choices, value=[value for value in chosen if value in there])

    def on_memory(name: str):
        """What asks for a memory is for models that have one."""
        try:
            has = load(name).keeps_memory
        except UserError:
            has = True
        return gr.update(interactive=has), gr.update(interactive=has)

    def on_sampling(name: str, task: str):
        """How a model is sampled for a task unless someone knows better."""
        try:
            own = load(name).about.sampling_for(task)
        except UserError:
            own = {}
        return [own.get(option, value) for option, value in DEFAULT_SAMPLING.items()]

    def on_other_model(name: str, task: str):
        own = on_sampling(name, task)
        return own, *own

    def on_other_task(name: str, task: str, told: list, *now):
        """Sampling as the model wants it for this task, but what someone has set stays."""
        own = on_sampling(name, task)
        return own, *(own if list(now) == told else now)

    def on_task(task: str):
        own = [gr.update(visible=task == name) for name in ("infill", "slowmo", "reconstruct")]
        most = min(DEFAULT_NEW_FRAMES, VERBS[task].frames)  # as on the command line, but seconds, not a minute
        given = gr.update(visible=task != "generate")
        least = 2 if task in ("infill", "slowmo") else 1
        _, counts, button = TASKS[task]
        return button, given, given, gr.update(label=counts, value=most, minimum=least), *own

    def choose(event: gr.SelectData):
        return event.index, None

    def on_upload(upload: str | None, model: str):
        """The examples stand back behind a clip of one's own."""
        offer = offer_for(model) if upload is None else "Or go back to one of these."
        return offer, gr.update(elem_classes=[] if upload is None else ["aside"])

    with gr.Blocks(title="LGC-VD: video prediction", delete_cache=(KEEP_FILES // 6, KEEP_FILES)) as app:
        run, example, told, set_start = gr.State(None), gr.State(0), gr.State([]), gr.State(0)
        gr.Markdown(f"# {TITLE}\n{INTRO}", elem_id="intro")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                with gr.Column() as given:
                    upload = gr.File(
                        label="Your clip: a video, GIF or picture, up to 100 MB",
                        file_types=["video", "image"],
                        height=130,
                        elem_id="upload",
                    )
                    offer = gr.Markdown(offer_for(models[0]), elem_id="or")
                    gallery = gr.Gallery(
                        captioned(clips_for(models[0])),
                        show_label=False,
                        container=False,
                        columns=6,
                        object_fit="contain",
                        allow_preview=False,
                        selected_index=0,
                        interactive=False,
                        buttons=[],
                        elem_id="examples",
                    )
                    more = gr.Button(FETCH_HANDS, size="sm", visible=of_hands(models[0]), elem_id="hands")
                    fetching = gr.HTML(elem_id="fetching")
                    seen = gr.Image(
                        label="As the model sees it",
                        alt_text="Your clip as the model sees it",
                        type="filepath",
                        interactive=False,
                        buttons=[],
                        visible=False,
                        elem_id="seen",
                    )
                    note = gr.HTML(elem_id="note")
                task = gr.Dropdown([(TASKS["predict"][0], "predict")], value="predict", label="What to do")
                start = gr.Slider(
                    0, MAX_CLIP_FRAMES, 0, step=1, precision=0, label="Frames to skip at the start", buttons=[]
                )
                frames = gr.Slider(
                    1, MAX_NEW_FRAMES, DEFAULT_NEW_FRAMES, step=1, precision=0, label="New frames", buttons=[]
                )
                missing = gr.Textbox(DEFAULT_MISSING, label="Missing frames, from 1", visible=False)
                factor = gr.Radio([2, 4, 8], value=2, label="Times slower", visible=False)
                level = gr.Slider(0.05, 1, 0.5, step=0.05, label="How far back: 1 is nothing but noise", visible=False)
                beside = gr.Dropdown(
                    BASIC_CHOICES,
                    value=list(DEFAULT_BESIDE),
                    multiselect=True,
                    label="Beside it",
                    info="Answers that take no model, and other models.",
                    elem_id="beside",
                )
                with gr.Accordion("Model, sampler, steps and seed", open=False):
                    model = gr.Dropdown([(title_of(name), name) for name in models], value=models[0], label="Model")
                    sampler = gr.Dropdown(list(lgcvd.SAMPLERS), value=DEFAULT_SAMPLER, label="Sampler")
                    steps = gr.Slider(
                        1, MAX_STEPS, DEFAULT_STEPS, step=1, precision=0, label="Steps a window", buttons=[]
                    )
                    seed = gr.Number(DEFAULT_SEED, precision=0, label="Seed")
                with gr.Accordion("Advanced: futures, memory, guidance", open=False):
                    futures = gr.Slider(1, MAX_FUTURES, 1, step=1, precision=0, label="Futures, made at once")
                    memory = gr.Dropdown(
                        list(lgcvd.MEMORIES),
                        value="decay",
                        label="Memory of earlier windows",
                        info="It fades (decay), keeps all alike (mean), the last one alone, or none.",
                    )
                    local_guidance = gr.Slider(
                        0, 5, 1, step=0.1, label="Guidance: frames", info="1 is off; more exaggerates what they tell."
                    )
                    memory_guidance = gr.Slider(
                        0, 5, 1, step=0.1, label="Guidance: memory", info="1 is off; more exaggerates what it tells."
                    )
                    spacing = gr.Dropdown(
                        list(SPACINGS),
                        value=DEFAULT_SPACING,
                        label="Where steps lie",
                        info="Evenly between noise and clip (trailing, ends), or denser where little noise is left "
                        "(quadratic, karras).",
                    )
                    threshold = gr.Dropdown(
                        list(THRESHOLDS),
                        value="clip",
                        label="Range of guesses",
                        info="After every step, pixels outside black and white are cut off (clip), scaled into range "
                        "with the others (dynamic), or kept (none).",
                    )
            with gr.Column(scale=3, min_width=320):
                with gr.Row(elem_id="go"):
                    predict_button = gr.Button("Predict", variant="primary", scale=3, elem_id="predict")
                    stop_button = gr.Button("Stop", scale=1, min_width=80, interactive=False, elem_id="stop")
                panel = gr.HTML(status(WELCOME, "idle"), elem_id="status")
                with gr.Column(elem_id="result"):
                    film = gr.Video(
                        show_label=False,
                        autoplay=True,
                        loop=True,
                        interactive=False,
                        visible=False,
                        buttons=[],
                        elem_id="film",
                    )
                    strip = gr.Image(
                        show_label=False,
                        interactive=False,
                        type="filepath",
                        visible=False,
                        buttons=["fullscreen"],
                        elem_id="strip",
                        alt_text="Frames of the film, those of every panel in a row",
                    )
                    download = gr.DownloadButton("Download the video", size="md", visible=False, elem_id="download")
                    with gr.Column(visible=False, elem_id="curves") as curves:
                        legend = gr.HTML()
                        curve = {
                            "x": "frame",
                            "color": "answer",
                            "color_map": {answer: colour_of(answer) for answer in answers},
                            "colors_in_legend": [],
                            "x_axis_format": "d",
                            "height": 260,
                            "min_width": 280,
                        }
                        with gr.Row():
                            psnr = gr.LinePlot(y="PSNR", y_title="PSNR in dB, higher is closer", **curve)
                            ssim = gr.LinePlot(y="SSIM", y_title="SSIM, 1 is identical", **curve)
        with gr.Accordion("How it works", open=False):
            gr.Markdown(HOW)

        view = list(View(panel, strip, film, download, curves, legend, psnr, ssim, predict_button, stop_button))
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        of_clip, looked = [upload, example, model], [seen, note, start]
        looking = {"trigger_mode": "always_last", "concurrency_limit": 2, "concurrency_id": "look", **quiet}
        changes = [app.load, upload.change, example.change, model.change]
        gr.on(changes, on_clip, [*of_clip, task], [*looked, set_start], **looking)
        start.release(on_look, [*of_clip, start], looked, **looking)
        task.change(on_start_of_task, [*of_clip, task, start, set_start], [*looked, set_start], **looking)
        offers = [gallery, example, more, fetching]
        model.change(on_model, model, offers, **quiet)
        gr.on([upload.change, model.change], on_upload, [upload, model], [offer, gallery], queue=False, **quiet)
        more.click(on_fetch, None, [more, fetching], concurrency_limit=1, **quiet).then(
            on_fetched, model, [*offers, upload, offer], **quiet
        )
        gr.on([app.load, model.change], on_tasks, [model, task], task, **quiet)
        gr.on([app.load, model.change], on_beside, [model, beside], beside, **quiet)
        gr.on([app.load, model.change], on_memory, model, [memory, memory_guidance], **quiet)
        sampling = [sampler, steps, spacing]
        gr.on([app.load, model.change], on_other_model, [model, task], [told, *sampling], **quiet)
        task.change(on_other_task, [model, task, told, *sampling], [told, *sampling], **quiet)
        task.change(on_task, task, [predict_button, given, start, frames, missing, factor, level], **quiet)
        gallery.select(choose, None, [example, upload], **quiet)
        waiting = predict_button.click(on_begin, None, [run, *view], queue=False, **quiet)
        wishes = [
            *(start, frames, sampler, steps, seed, task, missing, factor, level),
            *(spacing, threshold, local_guidance, memory_guidance, memory, futures, beside),
        ]
        made = waiting.then(
            on_predict, [run, note, upload, example, model, *wishes], view, concurrency_limit=1, **quiet
        )
        made.failure(refused, None, view, queue=False, **quiet)
        stop_button.click(stop, run, view, queue=False, **quiet)
        here = {"queue": False, "api_visibility": "private"}
        predict_button.click(None, js=FRESH, **here)
        others = [upload.upload, upload.clear, gallery.select]
        gr.on([*(wish.input for wish in (model, *wishes)), *others], None, js=OLD, **here)
    return app.queue(max_size=QUEUE)


def main() -> None:
    """Serve the page until Ctrl+C; then no upload and no result is left behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument(
        "--share", choices=("no", "yes"), default="no", help="also open a public address, through gradio's servers"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="FOLDER",
        help="offer this checkpoint too, as the first; may be repeated",
    )
    options = parser.parse_args()
    if options.port is not None and not 1 <= options.port <= 65535:
        parser.error(f"--port must be between 1 and 65535, not {options.port}.")
    try:
        for name in options.model:
            load(name)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    screen = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder goes, too
    with tempfile.TemporaryDirectory(prefix="lgcvd-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads and results
        app = build_app([*options.model, *lgcvd.shipped_models()], Path(folder))
        try:
            _, url, public = app.launch(
                server_port=options.port,
                share=options.share == "yes",
                inbrowser=screen,
                quiet=True,
                prevent_thread_lock=True,
                show_error=True,
                max_file_size=MAX_UPLOAD,
                theme=THEME,
                css_paths=ASSETS / "page.css",
                footer_links=[],
                run_history=False,
                ssr_mode=False,
            )
        except OSError:
            parser.exit(2, f"port {options.port or '7860 to 7959'} is taken: give another one with --port.\n")
        print(f"The demo is at {public or url} (Ctrl+C ends it).", flush=True)
        app.block_thread()


if __name__ == "__main__":
    main()
