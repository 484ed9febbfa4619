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
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

import lgcvd
from lgcvd import examples, pictures, video
from lgcvd.commands.tasks import VERBS
from lgcvd.errors import UserError
from lgcvd.files import ASSETS
from lgcvd.material import least_frames
from lgcvd.page.answers import BASIC, COLOURS, colour_of, legend_of
from lgcvd.page.offer import SEEN, Shelf, are_alike, kind_of, knows_hands, load, short_name, title_of
from lgcvd.page.prediction import Prediction, Run, Stage, counted
from lgcvd.page.wish import DEFAULT_BESIDE, DEFAULT_MISSING, DEFAULT_SEED, MAX_FUTURES, MAX_NEW_FRAMES, Wish
from lgcvd.sampling import DEFAULT_SAMPLER, DEFAULT_SPACING, DEFAULT_STEPS, SPACINGS, THRESHOLDS

MAX_STEPS, MAX_CLIP_FRAMES, PREVIEW_FRAMES = 100, 300, 60
MAX_UPLOAD = "100mb"
DEFAULT_NEW_FRAMES = 28
QUEUE, KEEP_FILES = 16, 3600

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

HANDS_MB = sum(clip.size for clip in examples.HANDS) / 1e6
FETCH_HANDS = f"Also two clips of real hands (downloads {HANDS_MB:.1f} MB from GitHub)"
BASIC_CHOICES = [(words, name) for name, words in BASIC.items()]
DEFAULT_SAMPLING = {"sampler": DEFAULT_SAMPLER, "steps": DEFAULT_STEPS, "spacing": DEFAULT_SPACING}
SAME = gr.skip()

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

THEME = gr.themes.Default(
    primary_hue="sky",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
    radius_size="lg",
).set(button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700")
OLD = "() => { document.getElementById('result').classList.add('old') }"
"""Run when a setting is changed: the film beside it was made with another."""
FRESH = """() => {
  document.getElementById('result').classList.remove('old')
  if (innerWidth <= 640) document.getElementById('status').scrollIntoView({ behavior: 'smooth' })
}"""
"""Run when a film is asked for."""


def kept(slider: gr.Slider, number: float | None) -> float:
    """A slider's number, in its range: gradio itself would refuse what is typed beyond it, in words of its own."""
    number = slider.minimum if number is None else min(max(number, slider.minimum), slider.maximum)
    return gr.Number.round_to_precision(number, slider.precision)


gr.Slider.preprocess = kept  # a class of one's own would have gradio write a .pyi file beside this one


# ----------------------------------------------------------------------------------------------------- what it shows


class View(NamedTuple):
    """What the page shows of a prediction; a field that is left out stays as it is."""

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


def status(text: str, kind: str = "done", fraction: float | None = None) -> str:
    """The status panel. ``kind``: idle, busy, done or error; ``fraction`` in [0, 1] adds a progress bar."""
    bar = "" if fraction is None else f'<progress value="{fraction:.3f}" max="1" aria-label="progress"></progress>'
    role = {"error": ' role="alert"', "done": ' role="status"'}.get(kind, "")
    if text.partition(" ")[0].isalpha():  # no file's name
        text = text[:1].upper() + text[1:]
    return f'<div class="status {kind}"{role}><p>{html.escape(text)}</p>{bar}</div>'


def ready(text: str, kind: str = "done") -> View:
    """The page waits for the next wish."""
    return View(
        status(text, kind), predict=gr.update(interactive=True), stop=gr.update(interactive=False, variant="secondary")
    )


def view_of(stage: Stage) -> View:
    """A prediction as far as it has come."""

    def shown(file: Path | None) -> dict:  # a new one for each widget: gradio takes what it needs out of it
        return gr.update(value=str(file), visible=True) if file else SAME

    if not stage.last:
        return View(status(stage.text, "busy", stage.fraction), shown(stage.strip), shown(stage.film))
    view = ready(stage.text)._replace(strip=shown(stage.strip), video=shown(stage.film), download=shown(stage.film))
    if stage.scores is None:
        return view
    scores = pd.DataFrame(stage.scores)
    plots = {name: gr.update(value=scores, x_lim=[1, stage.frames]) for name in ("psnr", "ssim")}
    return view._replace(curves=gr.update(visible=True), legend=legend_of(scores["answer"].unique()), **plots)


def read(path: str, model: lgcvd.VideoDenoiser) -> video.Clip:
    """As much of a clip as the page looks at, as ``model`` takes it."""
    config = model.config
    return video.read_clip(
        path, config.image_size, config.channels, max_frames=MAX_CLIP_FRAMES, min_frames=least_frames(model)
    )


def said_of(clip: video.Clip, model_name: str, given: int, own: bool) -> str:
    """What the page says of a clip of which the model is ``given`` so many frames."""
    model, count = load(model_name), len(clip.frames)
    height, width = model.config.image_size
    colours = "gray" if model.config.channels == 1 else "in colour"
    rate, them, those = (
        (f", {clip.fps:g} a second", "them", f"{given} of them") if count > 1 else ("", "it", "that one")
    )
    said = [
        f"{counted(count)}{rate}.",
        f"The model sees {them} {colours}, {width} x {height} pixels, and is given {those}.",
    ]
    if clip.more:
        said.append(f"The clip goes on; its first {count} frames are used.")
    if own and (kind := kind_of(model)):
        said.append(f"{title_of(model_name)} was trained on {SEEN[kind]}: other clips turn into those.")
    return " ".join([*said, clip.note]).strip()


def look(path: str, model_name: str, start: int, own: bool) -> Iterator[tuple[dict, str, dict]]:
    """What the model will see of a clip in words and, if it is a visitor's ``own``, moving; how far one may skip in it.

    Yields once; the file that it names exists until the generator is asked again.
    """
    with tempfile.TemporaryDirectory() as folder:
        moving = gr.update(value=None, visible=False)
        try:
            model = load(model_name)
            clip = read(path, model)
            given = min(len(clip.frames), model.context_frames)
            most = len(clip.frames) - given
            start = min(start, most)
            if own:
                file = Path(folder) / "clip.gif"
                video.write_video(file, pictures.upscale(clip.frames[start : start + PREVIEW_FRAMES], 160), clip.fps)
                moving = gr.update(value=str(file), visible=True)
        except UserError as error:
            yield moving, status(str(error), "error"), SAME
            return
        said = status(said_of(clip, model_name, given, own), "note")
        yield moving, said, gr.update(maximum=max(1, most), value=start, interactive=most > 0)


def predict(run: Run, path: str, model_name: str, *settings: object, said: str = "", **more: object) -> Iterator[View]:
    """Views of a film while it is made, then of its result; of a sentence if it cannot be made.

    The settings are those of ``Wish``; ``said`` is what the page says of the clip, so that nothing is said twice. The
    files that a view names exist until the next one is asked for.
    """
    run.begun = True
    if run.stopped:
        yield View()
        return
    yield View(status("Reading the clip …", "busy", 0), *[gr.update(visible=False)] * 4)
    try:
        with tempfile.TemporaryDirectory() as folder:
            wish = Wish(*settings, **more)
            yield from map(view_of, Prediction(run, wish, Path(path), model_name, Path(folder)).stages())
    except UserError as error:
        told = status(str(error), "error") == said
        yield ready("Nothing was made: see what is said of the clip." if told else str(error), "error")
    except Exception:
        logging.exception("A prediction failed.")
        yield ready("This prediction failed, and it is the page's fault: try other settings or another clip.", "error")


# ------------------------------------------------------------------------------------------------------ what it does


def begin() -> tuple:
    """Predict was pressed: the prediction itself may have to wait its turn, the buttons change now."""
    waiting = status("Waiting for a free place …", "busy", 0)
    busy = {"predict": gr.update(interactive=False), "stop": gr.update(interactive=True, variant="stop")}
    return Run(), *View(waiting, **busy)


def stop(run: Run | None) -> View:
    """Stop was pressed: the prediction ends after its present step; one that still waits for its turn ends now."""
    if run is None:
        return View()
    run.stopped = True
    return View() if run.begun else ready("Stopped before the prediction began.")


def refused() -> View:
    """Gradio itself turned the prediction down: its queue is full."""
    return ready("Too many are waiting: try again in a minute.", "error")


def choose(event: gr.SelectData):
    """An example was chosen: it takes the place of an upload."""
    return event.index, None


def on_tasks(name: str, task: str):
    """The tasks that a model was trained for."""
    try:
        able = load(name).abilities
    except UserError:  # told where the clip is looked at
        able = ["predict"]
    return gr.update(choices=[(TASKS[n][0], n) for n in able], value=task if task in able else able[0])


def on_memory(name: str):
    """What asks for a memory is for models that have one."""
    try:
        has = load(name).keeps_memory
    except UserError:
        has = True
    return gr.update(interactive=has), gr.update(interactive=has)


def sampling_for(name: str, task: str) -> list:
    """How a model is sampled for a task unless someone knows better: the values of ``DEFAULT_SAMPLING``."""
    try:
        own = load(name).about.sampling_for(task)
    except UserError:
        own = {}
    return [own.get(option, value) for option, value in DEFAULT_SAMPLING.items()]


def on_other_model(name: str, task: str):
    """Sampling as the model wants it, and the same once more, to be remembered."""
    own = sampling_for(name, task)
    return own, *own


def on_other_task(name: str, task: str, told: list, *now):
    """Sampling as the model wants it for this task, but what someone has set stays."""
    own = sampling_for(name, task)
    return own, *(own if list(now) == told else now)


def on_task(task: str):
    """Only the settings of this task are shown."""
    own = [gr.update(visible=task == name) for name in ("infill", "slowmo", "reconstruct")]
    most = min(DEFAULT_NEW_FRAMES, VERBS[task].frames)  # as on the command line, but seconds, not a minute
    given = gr.update(visible=task != "generate")
    least = 2 if task in ("infill", "slowmo") else 1
    _, counts, button = TASKS[task]
    return button, given, given, gr.update(label=counts, value=most, minimum=least), *own


class Page:
    """What the page does with the models that it offers and its examples, which all visitors share."""

    def __init__(self, models: Sequence[str], shelf: Shelf) -> None:
        self.models, self.shelf = models, shelf

    def on_look(self, upload: str | None, example: int, model: str, start: int):
        yield from look(upload or self.shelf.clip(model, example), model, start, own=upload is not None)

    def on_clip(self, upload: str | None, example: int, model: str, task: str):
        """Another clip is used from where the task wants it; ``set_start`` remembers where that is."""
        wanted = VERBS["past"].frames if task == "past" else 0
        for moving, note, start in self.on_look(upload, example, model, wanted):
            yield moving, note, start, SAME if start is SAME else start["value"]

    def on_start_of_task(self, upload: str | None, example: int, model: str, task: str, start: int, own: int):
        """So is the same clip for another task, unless someone has said from where."""
        if start == own:
            yield from self.on_clip(upload, example, model, task)

    def on_predict(self, run: Run, said: str, upload: str | None, example: int, model: str, *settings):
        yield from predict(run, upload or self.shelf.clip(model, example), model, *settings, said=said)

    def on_model(self, name: str):
        """The examples are those for the model."""
        gallery = gr.update(value=self.shelf.captioned(name), selected_index=0)
        return gallery, 0, gr.update(visible=knows_hands(name) and not self.shelf.hands), ""

    def on_upload(self, upload: str | None, model: str):
        """The examples stand back behind a clip of one's own."""
        offer = self.shelf.offer(model) if upload is None else "Or go back to one of these."
        return offer, gr.update(elem_classes=[] if upload is None else ["aside"])

    def on_fetch(self):
        """Fetch the clips of real hands, and say how far that is."""
        told, total = "", sum(clip.size for clip in examples.HANDS)
        try:
            for done in self.shelf.fetch_hands():
                said = f"Downloading: {done / 1e6:.1f} of {total / 1e6:.1f} MB"
                yield gr.update(interactive=False), status(said, "busy", done / total)
        except UserError as error:
            told = status(str(error), "error")
        yield gr.update(interactive=True), told

    def on_fetched(self, name: str):
        """The first of the clips of hands is chosen; nothing changes where they could not be fetched."""
        if not self.shelf.hands or not knows_hands(name):
            return [SAME] * 6
        first = len(self.shelf.dreamed)
        gallery = gr.update(value=self.shelf.captioned(name), selected_index=first)
        return gallery, first, gr.update(visible=False), "", None, self.shelf.offer(name)

    def on_beside(self, name: str, chosen: list[str]):
        """Baselines, and models of the same frames and kind of clips; what still can be stays chosen."""
        try:
            able = [other for other in self.models if other != name and are_alike(name, other)]
        except UserError:  # told where the clip is looked at
            able = []
        choices = BASIC_CHOICES + [(short_name(other, name), other) for other in able]
        there = {value for _, value in choices}
        return gr.update(choices=choices, value=[value for value in chosen if value in there])


# ----------------------------------------------------------------------------------------------------- how it looks


class Source:
    """Where the clip comes from."""

    def __init__(self, shelf: Shelf, model: str) -> None:
        self.example, self.set_start = gr.State(0), gr.State(0)
        with gr.Column() as self.given:
            label = "Your clip: a video, GIF or picture, up to 100 MB"
            self.upload = gr.File(label=label, file_types=["video", "image"], height=130, elem_id="upload")
            self.offer = gr.Markdown(shelf.offer(model), elem_id="or")
            self.gallery = gr.Gallery(
                shelf.captioned(model),
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
            self.more = gr.Button(FETCH_HANDS, size="sm", visible=knows_hands(model), elem_id="hands")
            self.fetching = gr.HTML(elem_id="fetching")
            self.seen = gr.Image(
                label="As the model sees it",
                alt_text="Your clip as the model sees it",
                type="filepath",
                interactive=False,
                buttons=[],
                visible=False,
                elem_id="seen",
            )
            self.note = gr.HTML(elem_id="note")


WHOLE = {"step": 1, "precision": 0, "buttons": []}
"""Of sliders for whole numbers."""


class Settings:
    """The inputs of a ``Wish``, each by its name there, and the model."""

    def __init__(self, models: Sequence[str]) -> None:
        self.told = gr.State([])
        self.task = gr.Dropdown([(TASKS["predict"][0], "predict")], value="predict", label="What to do")
        self.start = gr.Slider(0, MAX_CLIP_FRAMES, 0, label="Frames to skip at the start", **WHOLE)
        self.frames = gr.Slider(1, MAX_NEW_FRAMES, DEFAULT_NEW_FRAMES, label="New frames", **WHOLE)
        self.missing = gr.Textbox(DEFAULT_MISSING, label="Missing frames, from 1", visible=False)
        self.factor = gr.Radio([2, 4, 8], value=2, label="Times slower", visible=False)
        self.level = gr.Slider(0.05, 1, 0.5, step=0.05, label="How far back: 1 is nothing but noise", visible=False)
        self.beside = gr.Dropdown(
            BASIC_CHOICES,
            value=list(DEFAULT_BESIDE),
            multiselect=True,
            label="Beside it",
            info="Answers that take no model, and other models.",
            elem_id="beside",
        )
        with gr.Accordion("Model, sampler, steps and seed", open=False):
            self.model = gr.Dropdown([(title_of(name), name) for name in models], value=models[0], label="Model")
            self.sampler = gr.Dropdown(list(lgcvd.SAMPLERS), value=DEFAULT_SAMPLER, label="Sampler")
            self.steps = gr.Slider(1, MAX_STEPS, DEFAULT_STEPS, label="Steps a window", **WHOLE)
            self.seed = gr.Number(DEFAULT_SEED, precision=0, label="Seed")
        with gr.Accordion("Advanced: futures, memory, guidance", open=False):
            self.futures = gr.Slider(1, MAX_FUTURES, 1, step=1, precision=0, label="Futures, made at once")
            self.memory = gr.Dropdown(
                list(lgcvd.MEMORIES),
                value="decay",
                label="Memory of earlier windows",
                info="It fades (decay), keeps all alike (mean), the last one alone, or none.",
            )
            self.local_guidance = gr.Slider(
                0, 5, 1, step=0.1, label="Guidance: frames", info="1 is off; more exaggerates what they tell."
            )
            self.memory_guidance = gr.Slider(
                0, 5, 1, step=0.1, label="Guidance: memory", info="1 is off; more exaggerates what it tells."
            )
            self.spacing = gr.Dropdown(
                list(SPACINGS),
                value=DEFAULT_SPACING,
                label="Where steps lie",
                info="Evenly between noise and clip (trailing, ends), or denser where little noise is left "
                "(quadratic, karras).",
            )
            self.threshold = gr.Dropdown(
                list(THRESHOLDS),
                value="clip",
                label="Range of guesses",
                info="After every step, pixels outside black and white are cut off (clip), scaled into range "
                "with the others (dynamic), or kept (none).",
            )
        self.wish = [getattr(self, field.name) for field in fields(Wish)]
        self.sampling = [getattr(self, name) for name in DEFAULT_SAMPLING]


def result(models: Sequence[str]) -> View:
    """What shows a prediction, and the buttons above it: a widget for each field of a view."""
    with gr.Row(elem_id="go"):
        predict_button = gr.Button("Predict", variant="primary", scale=3, elem_id="predict")
        stop_button = gr.Button("Stop", scale=1, min_width=80, interactive=False, elem_id="stop")
    panel = gr.HTML(status(WELCOME, "idle"), elem_id="status")
    with gr.Column(elem_id="result"):
        later = {"show_label": False, "interactive": False, "visible": False}
        film = gr.Video(autoplay=True, loop=True, buttons=[], elem_id="film", **later)
        words = "Frames of the film, those of every panel in a row"
        strip = gr.Image(type="filepath", buttons=["fullscreen"], elem_id="strip", alt_text=words, **later)
        download = gr.DownloadButton("Download the video", size="md", visible=False, elem_id="download")
        with gr.Column(visible=False, elem_id="curves") as curves:
            legend = gr.HTML()
            answers = {*COLOURS, *(short_name(other, name) for name in models for other in models)}
            colours = {answer: colour_of(answer) for answer in answers}
            curve = {"x": "frame", "color": "answer", "color_map": colours, "colors_in_legend": []}
            curve |= {"x_axis_format": "d", "height": 260, "min_width": 280}
            with gr.Row():
                psnr = gr.LinePlot(y="PSNR", y_title="PSNR in dB, higher is closer", **curve)
                ssim = gr.LinePlot(y="SSIM", y_title="SSIM, 1 is identical", **curve)
    return View(panel, strip, film, download, curves, legend, psnr, ssim, predict_button, stop_button)


# ------------------------------------------------------------------------------------------------ what leads to what

QUIET = {"show_progress": "hidden", "api_visibility": "private"}
IN_THE_BROWSER = {"queue": False, "api_visibility": "private"}


def wire_clip(app: gr.Blocks, page: Page, source: Source, settings: Settings) -> None:
    """Clips are looked at as soon as they are chosen; examples go with the model."""
    task, start, model = settings.task, settings.start, settings.model
    upload, example, gallery = source.upload, source.example, source.gallery
    of_clip, looked = [upload, example, model], [source.seen, source.note, start]
    looking = {"trigger_mode": "always_last", "concurrency_limit": 2, "concurrency_id": "look", **QUIET}
    changes = [app.load, upload.change, example.change, model.change]
    gr.on(changes, page.on_clip, [*of_clip, task], [*looked, source.set_start], **looking)
    start.release(page.on_look, [*of_clip, start], looked, **looking)
    of_task = [*of_clip, task, start, source.set_start]
    task.change(page.on_start_of_task, of_task, [*looked, source.set_start], **looking)
    offers = [gallery, example, source.more, source.fetching]
    model.change(page.on_model, model, offers, **QUIET)
    uploads = [upload.change, model.change]
    gr.on(uploads, page.on_upload, [upload, model], [source.offer, gallery], queue=False, **QUIET)
    fetched = source.more.click(page.on_fetch, None, [source.more, source.fetching], concurrency_limit=1, **QUIET)
    fetched.then(page.on_fetched, model, [*offers, upload, source.offer], **QUIET)
    gallery.select(choose, None, [example, upload], **QUIET)


def wire_settings(app: gr.Blocks, page: Page, source: Source, settings: Settings, predict_button: gr.Button) -> None:
    """Settings go with the model and the task."""
    task, model, sampling = settings.task, settings.model, [settings.told, *settings.sampling]
    models = [app.load, model.change]
    gr.on(models, on_tasks, [model, task], task, **QUIET)
    gr.on(models, page.on_beside, [model, settings.beside], settings.beside, **QUIET)
    gr.on(models, on_memory, model, [settings.memory, settings.memory_guidance], **QUIET)
    gr.on(models, on_other_model, [model, task], sampling, **QUIET)
    task.change(on_other_task, [model, task, *sampling], sampling, **QUIET)
    of_tasks = [settings.start, settings.frames, settings.missing, settings.factor, settings.level]
    task.change(on_task, task, [predict_button, source.given, *of_tasks], **QUIET)


def wire_prediction(page: Page, source: Source, settings: Settings, shown: View) -> None:
    """The buttons; and a film grows old as soon as something is set anew."""
    run, view, upload, gallery = gr.State(None), list(shown), source.upload, source.gallery
    waiting = shown.predict.click(begin, None, [run, *view], queue=False, **QUIET)
    wish = [source.note, upload, source.example, settings.model, *settings.wish]
    made = waiting.then(page.on_predict, [run, *wish], view, concurrency_limit=1, **QUIET)
    made.failure(refused, None, view, queue=False, **QUIET)
    shown.stop.click(stop, run, view, queue=False, **QUIET)
    shown.predict.click(None, js=FRESH, **IN_THE_BROWSER)
    inputs = [setting.input for setting in (settings.model, *settings.wish)]
    gr.on([*inputs, upload.upload, upload.clear, gallery.select], None, js=OLD, **IN_THE_BROWSER)


def build_app(models: list[str], folder: Path | None = None) -> gr.Blocks:
    """The page. ``models``: names or folders for ``lgcvd.load``, the first is chosen; ``folder`` keeps the examples."""
    page = Page(models, Shelf(folder or Path(tempfile.mkdtemp(prefix="lgcvd-examples-"))))
    with gr.Blocks(title="LGC-VD: video prediction", delete_cache=(KEEP_FILES // 6, KEEP_FILES)) as app:
        gr.Markdown(f"# {TITLE}\n{INTRO}", elem_id="intro")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                source = Source(page.shelf, models[0])
                settings = Settings(models)
            with gr.Column(scale=3, min_width=320):
                shown = result(models)
        with gr.Accordion("How it works", open=False):
            gr.Markdown(HOW)
        wire_clip(app, page, source, settings)
        wire_settings(app, page, source, settings, shown.predict)
        wire_prediction(page, source, settings, shown)
    return app.queue(max_size=QUEUE)


def options_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What the command line says, once it is checked; models that are named are read."""
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
    return options


def main() -> None:
    """Serve the page until Ctrl+C; then no upload and no result is left behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    options = options_of(parser)
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
