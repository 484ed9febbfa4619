"""The demo page: a clip goes in, its predicted future comes out. ``python demo_app.py`` serves it on this machine."""

from __future__ import annotations

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: otherwise the server calls home
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["NO_PROXY"] = f"{os.environ.get('NO_PROXY', '')},localhost,127.0.0.1"  # launch() asks the page of itself

import argparse
import html
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import gradio as gr
import pandas as pd
import torch

import lgcvd
from lgcvd import examples, metrics, video
from lgcvd.commands.common import find_device
from lgcvd.commands.tasks import VERBS, Material, least_frames
from lgcvd.errors import UserError
from lgcvd.sampling import DEFAULT_SAMPLER, DEFAULT_SPACING, DEFAULT_STEPS, SPACINGS, THRESHOLDS

MAX_NEW_FRAMES, MAX_STEPS, MAX_CLIP_FRAMES, PREVIEW_FRAMES = 120, 100, 300, 60
MAX_FUTURES = 8
PANEL_HEIGHTS = {2: 320, 4: 224}
"""Number of a film's panels, up to which they are so many pixels high; more are ``SMALL_PANEL``."""
SMALL_PANEL = 160
MAX_UPLOAD = "100mb"
DEFAULT_NEW_FRAMES, DEFAULT_SEED, DEFAULT_MISSING = 28, 7, "3, 6"
MAX_SEED = 2**31
QUEUE, KEEP_FILES = 16, 3600
PREVIEW_SHARE = 0.2
"""Share of the time that strips, and films, of an unfinished prediction may take."""

TASKS = {
    "predict": ("Predict what comes next", "New frames"),
    "past": ("Tell what came before", "New frames"),
    "interpolate": ("Bridge a gap in the clip", "New frames"),
    "infill": ("Fill in missing frames", "Frames of the clip"),
    "slowmo": ("Slow the clip down", "Frames of the clip"),
    "generate": ("Dream from nothing", "New frames"),
    "animate": ("Let one frame move", "New frames"),
    "reconstruct": ("Take the clip back to noise and restore it", "Frames of the clip"),
}
"""Name -> what it is called on the page, and what its number of frames counts."""

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

BASIC = {"copy-last-frame": "copy", "mean-frame": "mean", "blank-frame": "black", "optical-flow": "flow"}
"""Baseline -> what it is called in films and curves."""
ALWAYS = ("copy", "black")
"""Those of them that are in every curve."""
BASIC_CHOICES = [(words, name) for name, words in BASIC.items()]
DEFAULT_BESIDE = ("copy-last-frame",)

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
beside the prediction is yours to choose: *flow* lets everything keep its velocity, *mean* shows all given frames at
once, and other models of the same kind of clip, such as those of MCVD, answer from the same frames. Several futures
of one clip show what the model is unsure of: where they differ, the heat map is bright.
"""
WELCOME = "Press Predict: the film of what happens next appears here."


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
        numbers = self.missing.replace(",", " ").split()
        if not numbers or not all(number.isdecimal() for number in numbers):
            raise UserError(f"{self.missing!r} names no frames: write their numbers, like {DEFAULT_MISSING}.")
        return tuple(map(int, numbers))


@dataclass(eq=False)
class Run:
    """One prediction of one visitor: what its Stop button and the handler that makes it know of each other."""

    begun: bool = False
    stopped: bool = False


def status(text: str, kind: str = "done", fraction: float | None = None) -> str:
    """The status panel. ``kind``: idle, busy, done or error; ``fraction`` in [0, 1] adds a progress bar."""
    bar = "" if fraction is None else f'<progress value="{fraction:.3f}" max="1" aria-label="progress"></progress>'
    role = {"error": ' role="alert"', "done": ' role="status"'}.get(kind, "")
    return f'<div class="status {kind}"{role}><p>{html.escape(text)}</p>{bar}</div>'


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
    """Gradio itself turned the prediction down: its queue is full, or a number is out of its range."""
    return ready(
        f"The page could not take this request: a number is out of its range (the seed: 0 to {MAX_SEED:,}), or too "
        "many are waiting: try again in a minute.",
        "error",
    )


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


def look(path: str, model_name: str, start: int, picture: bool) -> Iterator[tuple[dict, str, dict]]:
    """What the model will see of a clip: moving (if ``picture``) and in words, and how far the start frame may go.

    Yields once; the file that it names exists until the generator is asked again.
    """
    with tempfile.TemporaryDirectory() as folder:
        moving = gr.update(value=None, visible=False)
        try:
            model = load(model_name)
            clip = read(path, model, 0, MAX_CLIP_FRAMES)
            count, k = len(clip.frames), min(len(clip.frames), model.context_frames)
            start = min(start, count - k)
            if picture:
                file = Path(folder) / "clip.gif"
                video.write_video(file, video.upscale(clip.frames[start : start + PREVIEW_FRAMES], 160), clip.fps)
                moving = gr.update(value=str(file), visible=True)
        except UserError as error:
            yield moving, status(str(error), "error"), SAME
            return
        height, width = model.config.image_size
        colours = "gray" if model.config.channels == 1 else "in colour"
        read_all = "" if not clip.more else f"The clip goes on; its first {count} frames are used. "
        text = (
            f"{count} frames, {clip.fps:g} a second. The model sees them {colours}, {width} x {height} pixels, and is "
            f"given {k} of them. {read_all}{clip.note}"
        )
        yield moving, status(text, "note"), gr.update(maximum=max(1, count - k), value=start)


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
    if not 1 <= wish.frames <= MAX_NEW_FRAMES:
        raise UserError(f"this page makes 1 to {MAX_NEW_FRAMES} frames, not {wish.frames}: ask for fewer.")
    if not 1 <= wish.futures <= MAX_FUTURES:
        raise UserError(f"this page makes 1 to {MAX_FUTURES} futures at once, not {wish.futures}: ask for fewer.")
    if wish.seed is None:
        raise UserError(f"the seed is missing: write a whole number, such as {DEFAULT_SEED}.")
    began = strip_due = film_due = time.monotonic()
    yield View(status("Reading the clip …", "busy", 0), *[gr.update(visible=False)] * 4)
    model = load(model_name)
    material = material_of(wish, path, model)
    rivals = {name: load(name) for name in wish.beside if name not in BASIC}
    able = {name: rival for name, rival in rivals.items() if wish.task in rival.abilities}
    windows = made_by(model, material, wish.futures, wish, wish.sampling())
    beside = {} if material.truth is None else {"truth": material.truth}
    beside |= without_model(wish.beside, material)

    def so_far(window: lgcvd.Window) -> dict[str, torch.Tensor]:
        """What stands beside the prediction, as far as that is made."""
        there = slice(window.first, window.first + window.video.shape[1])
        return {name: film[there] for name, film in beside.items()}

    def panels(window: lgcvd.Window) -> dict[str, torch.Tensor]:
        """What is shown beside each other."""
        videos, others = window.video.cpu(), so_far(window)
        real = {name: others.pop(name) for name in ("truth",) if name in others}
        if wish.futures > 1:
            return real | lgcvd.Futures(videos, window.given).panels(real.get("truth")) | others
        return real | {"prediction": videos[0]} | others

    def strip(window: lgcvd.Window) -> dict:
        file = folder / f"{time.monotonic_ns()}.png"
        video.write_image(file, video.filmstrip(panels(window), window.given, columns=8))
        return gr.update(value=str(file), visible=True)

    def film(window: lgcvd.Window, name: str) -> str:
        shown = panels(window)
        height = next((high for most, high in PANEL_HEIGHTS.items() if len(shown) <= most), SMALL_PANEL)
        frames = video.panel_frames(shown, window.given, height=height)
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

    seconds = time.monotonic() - began
    for index, (name, rival) in enumerate(able.items(), 1):
        if run.stopped:
            break
        called = short_name(name, model_name)
        for answer in made_by(rival, material, 1, wish, rival.about.sampling_for(wish.task)):
            step = f"{called}: window {answer.index} of {answer.windows}, step {answer.step} of {answer.steps}"
            yield View(status(step, "busy", (index + answer.fraction) / (1 + len(able))))
            if run.stopped:
                break
        else:
            beside[called] = answer.video[0].cpu()

    if run.stopped:
        text = f"Stopped in window {window.index} of {window.windows}, after step {window.step} of {window.steps}."
        if not window.done:
            text += " The frames of this window are as far as they came."
    else:
        processor = "CPU" if DEVICE == "cpu" else "GPU"
        times = f" in each of {wish.futures} futures" if wish.futures > 1 else ""
        text = (
            f"{window.given.count(False)} new frames{times} in {seconds:.1f} s on the {processor} by "
            f"{Path(model_name).name} ({wish.sampler}, {wish.steps} step{'s' * (wish.steps != 1)}, seed {wish.seed})."
        )
        if unable := [short_name(name, model_name) for name in rivals if name not in able]:
            text += f" Not trained for this, and left out: {', '.join(unable)}."
        if nowhere := [BASIC[name] for name in wish.beside if name in BASIC and BASIC[name] not in (*beside, *ALWAYS)]:
            text += f" Only films that go on from one end have {' and '.join(nowhere)} beside them."
    file = film(window, "prediction.mp4")
    view = ready(f"{text} {material.note}")._replace(
        strip=strip(window),
        video=gr.update(value=file, visible=True),
        download=gr.update(value=file, visible=True),
    )
    others, whole = so_far(window), not run.stopped or wish.task in ("predict", "animate", "past")
    truth = others.pop("truth", None)
    if truth is not None and whole and (scores := frame_scores(truth, window, others)) is not None:
        view = view._replace(
            curves=gr.update(visible=True), legend=legend_of(scores["answer"].unique()), psnr=scores, ssim=scores
        )
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


def short_name(name: str, beside: str) -> str:
    """What a model is called ``beside`` another: shipped rivals are named after the model that they challenge."""
    return Path(name).name.removeprefix(f"{Path(beside).name}-")


def without_model(names: Sequence[str], material: Material) -> dict[str, torch.Tensor]:
    """Films (T, C, H, W) of the baselines among ``names``; none where the given frames lie at neither end of a film."""
    task = material.options.get("task", "infill" if "known" in material.options else "predict")
    if task not in ("predict", "animate", "past"):
        return {}

    def in_time(frames: torch.Tensor) -> torch.Tensor:
        return frames.flip(0) if task == "past" else frames

    given, new = in_time(material.observed)[None], material.options["num_frames"]
    return {BASIC[name]: in_time(lgcvd.BASELINES[name](given, new)[0]) for name in names if name in BASIC}


def frame_scores(truth: torch.Tensor, window: lgcvd.Window, beside: dict[str, torch.Tensor]) -> pd.DataFrame | None:
    """PSNR and SSIM of every new frame that has a truth, of the films ``beside`` it, of a copy and of a black frame.

    None where fewer than two new frames have a truth.
    """
    new = [index for index, given in enumerate(window.given) if not given and index < len(truth)]
    known = [index for index, given in enumerate(window.given) if given]
    if len(new) < 2:  # a point is no curve
        return None
    wanted = truth[None, new]
    films = window.video.cpu()
    answers = {"prediction" if len(films) == 1 else "first future": films[:1, new]}
    answers |= {name: film[None, new] for name, film in beside.items()}
    if known:
        answers["copy"] = truth[None, [min(known, key=lambda k, i=index: abs(k - i)) for index in new]]
    answers["black"] = torch.full_like(wanted, -1)
    return pd.concat(
        pd.DataFrame(
            {
                "frame": [index + 1 for index in new],
                "PSNR": metrics.psnr(wanted, answer)[0],
                "SSIM": metrics.ssim(wanted, answer)[0],
                "answer": name,
            }
        )
        for name, answer in answers.items()
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
    **{"prediction": "#0ea5e9", "first future": "#0ea5e9", "copy": "#f59e0b", "black": "#94a3b8", "flow": "#10b981"},
    **{"mean": "#a16207", "mcvd-concat": "#dc2626", "mcvd-spatin": "#8b5cf6"},
}
"""Of the answers."""
MORE_COLOURS = ("#db2777", "#4d7c0f", "#0f766e", "#7c2d12", "#1e3a8a")
"""Of models that have none among those."""
CSS = """
.gradio-container { width: 100%; max-width: 1280px !important; margin: 0 auto !important; }
#intro h1 { font-size: 2rem; letter-spacing: -.02em; margin: .5rem 0 .3rem; }
#intro p { max-width: 62em; }
#or { margin-bottom: -.6rem; }
#or p { font-size: .85rem; }
#examples .grid-wrap { min-height: 0; height: auto; overflow: visible; padding: 0; }
#examples .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr)); grid-template-rows: auto; padding: 0; }
#examples.aside { opacity: .45; }
#examples.aside button.selected::after { border-color: transparent; }
#examples img { image-rendering: pixelated; }
#examples button.thumbnail-item { aspect-ratio: 1; height: auto; }
#examples button.selected { border-color: #0ea5e9; box-shadow: inset 0 0 0 2px #0ea5e9; }
#examples button.selected::after { content: ""; position: absolute; inset: 0; border: 3px solid #0ea5e9;
  border-radius: inherit; }
#seen img { image-rendering: pixelated; max-height: 9rem; object-fit: contain; }
#film video { max-height: 26rem; }
#status .html-container, #note .html-container, #fetching .html-container { padding: 0; }
#fetching:not(:has(.status)) { display: none; }
.status { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); padding: .8rem 1rem;
  background: var(--background-fill-secondary); }
.status p { margin: 0; }
.status progress { appearance: none; display: block; width: 100%; height: .5rem; margin-top: .7rem; border: 0;
  border-radius: 1rem; overflow: hidden; background: var(--border-color-primary); }
.status progress::-webkit-progress-bar { background: var(--border-color-primary); }
.status progress::-webkit-progress-value { background: #0ea5e9; }
.status progress::-moz-progress-bar { background: #0ea5e9; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .85rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; margin-right: .4rem; }
.status.idle { min-height: 22rem; display: flex; align-items: center; justify-content: center; text-align: center;
  border-style: dashed; padding: 2rem; }
.status.note { border: 0; background: none; padding: 0; }
.status.note p { font-size: .85rem; }
.status.error { border-color: #dc2626; border-left-width: .3rem; }
"""


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

    def offer_for(model: str) -> str:
        if of_hands(model):
            return OFFER_HANDS.format(REAL_HANDS if hands else "")
        return OFFER[load(model).config.channels]

    def offered(model: str, example: int) -> str:
        """One of them; the first where there are fewer than for the model before."""
        clips = clips_for(model)
        return clips[example if example < len(clips) else 0]

    def on_look(upload: str | None, example: int, model: str, start: int):
        yield from look(upload or offered(model, example), model, start, picture=upload is not None)

    def on_predict(run: Run, said: str, upload: str | None, example: int, model: str, *settings):
        yield from predict(run, upload or offered(model, example), model, *settings, said=said)

    def on_model(name: str):
        more = gr.update(visible=of_hands(name) and not hands)
        return offer_for(name), gr.update(value=clips_for(name), selected_index=0), 0, more, ""

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
        gallery = gr.update(value=clips_for(name), selected_index=first, elem_classes=[])
        return offer_for(name), gallery, first, gr.update(visible=False), "", None

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
        """Baselines, and models that see and make the same frames; what still can be stays chosen."""

        def takes(model: str) -> tuple:
            config = load(model).config
            return config.image_size, config.channels, config.context_frames

        try:
            able = [other for other in models if other != name and takes(other) == takes(name)]
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
        return given, given, gr.update(label=TASKS[task][1], value=most, minimum=least), *own

    def choose(event: gr.SelectData):
        return event.index, None, gr.update(elem_classes=[])

    with gr.Blocks(title="LGC-VD: video prediction", delete_cache=(KEEP_FILES // 6, KEEP_FILES)) as app:
        run, example, told = gr.State(None), gr.State(0), gr.State([])
        gr.Markdown(f"# {TITLE}\n{INTRO}", elem_id="intro")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                with gr.Column() as given:
                    upload = gr.File(label="Your clip", file_types=["video", "image"], height=130)
                    offer = gr.Markdown(offer_for(models[0]), elem_id="or")
                    gallery = gr.Gallery(
                        clips_for(models[0]),
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
                        type="filepath",
                        interactive=False,
                        buttons=[],
                        visible=False,
                        elem_id="seen",
                    )
                    note = gr.HTML(elem_id="note")
                task = gr.Dropdown([(TASKS["predict"][0], "predict")], value="predict", label="What to do")
                start = gr.Slider(0, MAX_CLIP_FRAMES, 0, step=1, precision=0, label="Start frame")
                frames = gr.Slider(1, MAX_NEW_FRAMES, DEFAULT_NEW_FRAMES, step=1, precision=0, label="New frames")
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
                    model = gr.Dropdown([(Path(name).name, name) for name in models], value=models[0], label="Model")
                    sampler = gr.Dropdown(list(lgcvd.SAMPLERS), value=DEFAULT_SAMPLER, label="Sampler")
                    steps = gr.Slider(1, MAX_STEPS, DEFAULT_STEPS, step=1, precision=0, label="Steps a window")
                    seed = gr.Number(DEFAULT_SEED, minimum=0, maximum=MAX_SEED, precision=0, label="Seed")
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
                with gr.Row():
                    predict_button = gr.Button("Predict", variant="primary", scale=3, elem_id="predict")
                    stop_button = gr.Button("Stop", scale=1, min_width=80, interactive=False, elem_id="stop")
                panel = gr.HTML(status(WELCOME, "idle"), elem_id="status")
                strip = gr.Image(
                    show_label=False,
                    interactive=False,
                    type="filepath",
                    visible=False,
                    buttons=["fullscreen"],
                    elem_id="strip",
                )
                film = gr.Video(
                    show_label=False,
                    autoplay=True,
                    loop=True,
                    interactive=False,
                    visible=False,
                    buttons=[],
                    elem_id="film",
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
        looking = {"fn": on_look, "inputs": [upload, example, model, start], "outputs": [seen, note, start], **quiet}
        gr.on(
            [app.load, upload.change, example.change, model.change, start.release],
            trigger_mode="always_last",
            concurrency_limit=2,
            **looking,
        )
        offers = [offer, gallery, example, more, fetching]
        model.change(on_model, model, offers, **quiet)
        more.click(on_fetch, None, [more, fetching], concurrency_limit=1, **quiet).then(
            on_fetched, model, [*offers, upload], **quiet
        )
        gr.on([app.load, model.change], on_tasks, [model, task], task, **quiet)
        gr.on([app.load, model.change], on_beside, [model, beside], beside, **quiet)
        gr.on([app.load, model.change], on_memory, model, [memory, memory_guidance], **quiet)
        sampling = [sampler, steps, spacing]
        gr.on([app.load, model.change], on_other_model, [model, task], [told, *sampling], **quiet)
        task.change(on_other_task, [model, task, told, *sampling], [told, *sampling], **quiet)
        task.change(on_task, task, [given, start, frames, missing, factor, level], **quiet)
        gallery.select(choose, None, [example, upload, gallery], **quiet)
        upload.upload(lambda: gr.update(elem_classes=["aside"]), None, gallery, **quiet)
        upload.clear(lambda: gr.update(elem_classes=[]), None, gallery, **quiet)
        waiting = predict_button.click(on_begin, None, [run, *view], queue=False, **quiet)
        made = waiting.then(
            on_predict,
            [
                *(run, note, upload, example, model),
                *(start, frames, sampler, steps, seed, task, missing, factor, level),
                *(spacing, threshold, local_guidance, memory_guidance, memory, futures, beside),
            ],
            view,
            concurrency_limit=1,
            **quiet,
        )
        made.failure(refused, None, view, queue=False, **quiet)
        stop_button.click(stop, run, view, queue=False, **quiet)
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
                css=CSS,
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
