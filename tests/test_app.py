"""The demo's handlers, without a browser."""

from __future__ import annotations

import re
import shutil
import socket
import sys
import wave
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import av
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import grays, serve, write_gif
from PIL import Image
from torch import Tensor

import demo_app
import lgcvd
from demo_app import View
from lgcvd import examples, video
from lgcvd.page.answers import BASIC
from lgcvd.page.offer import load
from lgcvd.page.prediction import Run
from lgcvd.page.wish import Wish
from lgcvd.sampling import DEFAULT_SAMPLER, DEFAULT_SPACING, DEFAULT_STEPS

SETTINGS = {"start": 0, "frames": 7, "sampler": "ddim", "steps": 2, "seed": 3}


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Gradio's copies of files, and the demo's own, go with the test."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(demo_app.signal, "signal", lambda *_: None)


@pytest.fixture
def model(tiny_model: lgcvd.LGCVD, tmp_path: Path) -> str:
    lgcvd.save(tiny_model, tmp_path / "mine")
    return str(tmp_path / "mine")


@pytest.fixture
def clip(digits_clip: Tensor, tmp_path: Path) -> str:
    """14 frames."""
    video.write_video(tmp_path / "clip.mp4", digits_clip[0], 10)
    return str(tmp_path / "clip.mp4")


def predict(clip: str, model: str, run: Run | None = None, **changes) -> Iterator[View]:
    return demo_app.predict(run or Run(), clip, model, **(SETTINGS | changes))


def last(views: Iterator[View]) -> View:
    *_, view = views
    return view


def sentence(view: View) -> str:
    """The message of an error view, whose buttons must be ready for the next try."""
    assert 'class="status error"' in view.status
    assert view.predict["interactive"]
    assert not view.stop["interactive"]
    assert view.video == demo_app.SAME
    return re.sub("<.*?>", "", view.status)


def decoded(path: str) -> int:
    """How many frames of an MP4 can be decoded; its format must be one that every browser plays."""
    with av.open(path) as file:
        stream = file.streams.video[0]
        assert (stream.codec.name, stream.format.name) == ("h264", "yuv420p")
        return sum(1 for _ in file.decode(stream))


def test_a_clip_becomes_a_film_a_strip_and_curves(clip, model):
    shares = []
    for view in predict(clip, model):
        shares += [float(share) for share in re.findall(r'<progress value="(.*?)"', view.status)]
        films = [view.video["value"]] if view.video.get("value") else []
        frames = [decoded(film) for film in films]
        if view.strip.get("value"):
            assert Path(view.strip["value"]).stat().st_size > 0
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert frames == [2 + 7]
    assert view.download["value"] == view.video["value"]
    assert "7 new frames" in view.status
    scores = view.psnr["value"]
    assert list(scores["frame"][:7]) == list(range(3, 10))
    assert view.psnr["x_lim"] == [1, 9]
    assert "from clip.mp4 by mine (ddim, 2 steps, seed 3)" in view.status
    assert Path(view.download["value"]).name == "predict-clip-seed-3.mp4"
    assert set(scores["answer"]) == {"prediction", "copy", "black"}
    assert [re.sub("<.*?>", "", name) for name in view.legend.split("</span>")[:3]] == ["prediction", "copy", "black"]
    assert view.predict["interactive"]
    assert not Path(view.video["value"]).exists(), "files of a finished prediction are removed; gradio has its copy"


def test_the_same_seed_gives_the_same_prediction(clip, model):
    first, again, other = (last(predict(clip, model, seed=seed)).psnr["value"] for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_clip_that_ends_with_its_observed_frames_has_no_curves(clip, model):
    view = last(predict(clip, model, start=12))
    assert view.curves == demo_app.SAME
    assert "7 new frames" in view.status


@pytest.mark.parametrize(
    ("task", "frames", "shown", "new", "scored"),
    [
        ("past", 3, 2 + 3, 3, True),
        ("interpolate", 4, 2 + 4, 4, True),
        ("infill", 8, 8, 2, True),
        ("slowmo", 3, 5, 2, False),
        ("generate", 9, 9, 9, False),
        ("animate", 9, 10, 9, True),
        ("reconstruct", 9, 9, 9, True),
    ],
)
def test_every_task_becomes_a_film(clip, tiny_model, tmp_path, task, frames, shown, new, scored):
    tiny_model.about = lgcvd.About(tasks=("prediction", "generation", "interpolation", "random", "past", "start"))
    lgcvd.save(tiny_model, tmp_path / "able")
    for view in predict(clip, str(tmp_path / "able"), task=task, frames=frames, start=4):
        films = [decoded(view.video["value"])] if view.video.get("value") else []
    assert films == [shown]
    assert f"{new} new frames" in view.status
    assert (view.curves != demo_app.SAME) == scored
    if scored:
        scores = view.psnr["value"].dropna()
        if task == "infill":  # two dashes, and no line through the frames between them
            assert sorted(set(scores["frame"])) == [2.8, 3.2, 5.8, 6.2]
            assert len(view.psnr["value"]) == 3 * (4 + 2)
        else:
            assert len(scores) == new * (2 if task == "reconstruct" else 3)
    assert ("left out: copy" in view.status) == (task in ("generate", "reconstruct"))


def heights(view: View) -> int:
    return Image.open(view.strip["value"]).size[1]


def test_baselines_and_other_models_stand_beside_the_prediction(clip, model, tiny_model, tmp_path):
    lgcvd.save(tiny_model, tmp_path / "mine-rival")
    beside = ("copy-last-frame", "optical-flow", str(tmp_path / "mine-rival"))
    alone = [heights(view) for view in predict(clip, model, beside=()) if view.strip.get("value")][-1]
    as_it_does = {"sampler": DEFAULT_SAMPLER, "steps": DEFAULT_STEPS, "spacing": DEFAULT_SPACING}
    for view in predict(clip, model, beside=beside, **as_it_does):
        height = heights(view) if view.strip.get("value") else 0
        frames = decoded(view.video["value"]) if view.video.get("value") else 0
    assert frames == 2 + 7
    assert height > 1.5 * alone  # five rows instead of two
    assert list(dict.fromkeys(view.psnr["value"]["answer"])) == ["prediction", "copy", "flow", "rival", "black"]
    scores = view.psnr["value"].set_index("answer")["PSNR"]
    assert list(scores["rival"]) == list(scores["prediction"])  # it is the same model, with the same noise


def test_models_that_share_a_name_are_told_apart(clip, model, tiny_model, tmp_path):
    others = [str(tmp_path / place / "mine") for place in ("a", "b")]
    for other in others:
        lgcvd.save(tiny_model, other)
    assert set(last(predict(clip, model, beside=others)).psnr["value"]["answer"]) == {
        "prediction",
        "copy",
        "black",
        *others,
    }


def test_a_model_that_was_not_trained_for_the_task_is_left_out(clip, tiny_model, tmp_path):
    for name, tasks in (("able", ("prediction", "past")), ("able-other", ("prediction",))):
        tiny_model.about = lgcvd.About(tasks=tasks)
        lgcvd.save(tiny_model, tmp_path / name)
    wish = {"task": "past", "start": 4, "frames": 3, "beside": (str(tmp_path / "able-other"),)}
    view = last(predict(clip, str(tmp_path / "able"), **wish))
    assert "left out: other." in view.status
    assert set(view.psnr["value"]["answer"]) == {"prediction", "copy", "black"}
    assert [re.sub("<.*?>", "", name) for name in view.legend.split("</span>")[:3]] == ["prediction", "copy", "black"]


def test_several_futures_are_shown_by_best_worst_mean_and_spread(clip, model):
    for view in predict(clip, model, futures=3, beside=("mean-frame",)):
        size = Image.open(view.strip["value"]).size if view.strip.get("value") else None
    assert set(view.psnr["value"]["answer"]) == {"best", "worst", "mean", "average", "copy", "black"}
    alone = [heights(view) for view in predict(clip, model, beside=()) if view.strip.get("value")][-1]
    assert "7 new frames in each of 3 futures" in view.status
    assert size[1] > 2 * alone


def test_each_bad_clip_gets_its_sentence_and_the_next_good_one_works(clip, model, tmp_path, digits_clip):
    def sound(path: Path) -> None:
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(16000))

    bad = {
        "empty.mp4": (lambda path: path.write_bytes(b""), "is empty"),
        "text.mp4": (lambda path: path.write_text("not a film"), "cannot be read as a video"),
        "half.mp4": (lambda path: path.write_bytes(Path(clip).read_bytes()[:300]), "half.mp4"),
        "sound.wav": (sound, "no pictures in it, only sound"),
        "one.gif": (lambda path: video.write_video(path, digits_clip[0, :1], 10), "has only 1 frame, and 2 are needed"),
    }
    for name, (make, words) in bad.items():
        make(tmp_path / name)
        assert words in sentence(last(predict(str(tmp_path / name), model)))
        [(picture, note, start)] = demo_app.look(str(tmp_path / name), model, 0, own=True)
        assert words in note
        assert (picture["visible"], start) == (False, demo_app.SAME)
        assert words not in sentence(last(predict(str(tmp_path / name), model, said=note))), "it stands there already"
    assert "7 new frames" in last(predict(clip, model)).status


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": 121}, "makes 1 to 120 frames, not 121: ask for fewer"),
        ({"start": 13}, "start earlier"),
        ({"sampler": "magic"}, "There is no sampler"),
        ({"futures": 9}, "1 to 8 futures at once, not 9"),
        ({"task": "infill", "missing": "x"}, "names no frames: write their numbers"),
        ({"task": "infill", "missing": "0"}, "Frame 0 is not among the 7 frames that are taken: take more"),
        ({"task": "past"}, "past would show it frames"),
        ({"steps": 0}, "Steps must be between"),
        ({"seed": None}, "The seed is a whole number from 0 to 2,147,483,648"),
        ({"seed": -1}, "The seed is a whole number from 0"),
    ],
)
def test_an_impossible_wish_gets_its_sentence(clip, model, changes, words):
    assert words in sentence(last(predict(clip, model, **changes)))


def test_a_missing_or_broken_model_gets_its_sentence_until_it_is_mended(clip, model):
    assert "There is no model" in sentence(last(predict(clip, "no-such-model")))
    weights, aside = Path(model, "model.safetensors"), Path(model, "aside")
    shutil.move(weights, aside)
    assert "model.safetensors is missing" in sentence(last(predict(clip, model)))
    weights.write_bytes(b"foreign")
    assert "does not fit" in sentence(last(predict(clip, model)))
    shutil.move(aside, weights)
    assert "7 new frames" in last(predict(clip, model)).status


def test_stop_ends_within_a_step_and_keeps_what_was_made(clip, model):
    run, steps_after = Run(), -1
    for view in predict(clip, model, run, steps=20):
        steps_after += run.stopped
        if "step 3 of 20" in view.status:
            assert demo_app.stop(run) == View()
        if view.video.get("value"):
            frames = decoded(view.video["value"])
    assert steps_after == 0
    assert (
        "Stopped in window 1 of 2, after step 3 of 20: from clip.mp4 by mine (ddim, 20 steps, seed 3)." in view.status
    )
    assert frames == 2 + 6
    assert view.predict["interactive"]


def test_stop_while_another_model_answers_keeps_the_prediction(clip, model, tiny_model, tmp_path):
    lgcvd.save(tiny_model, tmp_path / "mine-rival")
    run = Run()
    for view in predict(clip, model, run, beside=("copy-last-frame", str(tmp_path / "mine-rival"))):
        if "rival: window 1 of 2" in view.status:
            demo_app.stop(run)
    assert "7 new frames in" in view.status
    assert "Stopped before this was finished: rival." in view.status
    assert set(view.psnr["value"]["answer"]) == {"prediction", "copy", "black"}


def test_stop_before_its_turn_makes_no_prediction(clip, model):
    run, *_ = demo_app.begin()
    assert "before the prediction began" in demo_app.stop(run).status
    assert list(predict(clip, model, run)) == [View()]


def test_a_fault_of_the_page_leaves_it_usable(clip, model, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(Wish, "material", lambda *_: 1 / 0)
        assert "try other settings" in sentence(last(predict(clip, model)))
    assert "7 new frames" in last(predict(clip, model)).status


def test_names_of_uploads_are_shown_as_text(model, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    path.write_text("not a film")
    assert "<img" not in last(predict(str(path), model)).status


def test_looking_at_a_clip_says_what_the_model_gets(clip, model):
    looking = demo_app.look(clip, model, 20, own=True)
    moving, note, start = next(looking)
    assert "14 frames, 10 a second" in note
    assert "16 x 16 pixels" in note
    assert (start["maximum"], start["value"], start["interactive"]) == (12, 12, True)
    assert Path(moving["value"]).read_bytes().startswith(b"GIF")
    assert not list(looking)


def test_of_a_clip_of_one_s_own_the_page_says_what_the_model_knows_instead(clip, tiny_model, tmp_path):
    lgcvd.save(tiny_model, tmp_path / "knows")
    words = "was trained on simulated pushes: other clips turn into those"
    for data, own, told in (("pushing: 4,000 clips", True, True), ("pushing", False, False), ("mine", True, False)):
        lgcvd.save(tiny_model, tmp_path / "knows", lgcvd.About(data=data))
        load.cache_clear()
        [(_, note, _)] = demo_app.look(clip, str(tmp_path / "knows"), 0, own=own)
        assert (words in note) == told


def test_what_came_before_begins_where_the_truth_is_known(clip, model, tmp_path):
    app = demo_app.build_app([model], tmp_path)
    on = {function.name: function.fn for function in app.fns.values()}

    def begins(name: str, *more: object) -> list[int]:
        return [start["value"] for _, _, start, _ in on[name](clip, 0, model, *more)]

    assert begins("on_clip", "past") == [12]
    assert begins("on_clip", "predict") == [0]
    assert begins("on_start_of_task", "predict", 12, 12) == [0]
    assert begins("on_start_of_task", "past", 5, 0) == [], "someone has chosen it"


def test_numbers_are_kept_in_range():
    slider = demo_app.gr.Slider(1, 10, 5, step=1, precision=0)
    assert [slider.preprocess(number) for number in (None, 0, 7, 99)] == [1, 1, 7, 10]


def test_a_clip_that_a_model_made_is_not_called_the_truth(model, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        demo_app.pictures, "filmstrip", lambda rows, *_, **__: shown.append([*rows]) or torch.zeros(3, 8, 8)
    )
    last(predict(str(examples.write_dreams(tmp_path)[0]), model))
    assert shown[-1] == ["dreamed", "prediction", "copy"]


def test_models_of_other_clips_are_not_offered_beside(tiny_model, tmp_path):
    models = {data: str(tmp_path / data) for data in ("pushing", "robot_hands", "mine")}
    for data, name in models.items():
        lgcvd.save(tiny_model, name, lgcvd.About(data=f"{data}: clips"))
    app = demo_app.build_app([*models.values()], tmp_path)
    on_beside = next(function.fn for function in app.fns.values() if function.name == "on_beside")
    assert [name for name, _ in on_beside(models["pushing"], [])["choices"]] == [*BASIC.values(), "mine"]


def test_one_frame_is_enough_for_a_model_that_can_begin_with_one(model, tmp_path):
    file = str(write_gif(tmp_path / "one.gif", grays(1, 20, 20), [100]))
    able = lgcvd.load(model)
    lgcvd.save(able, tmp_path / "able", replace(able.about, tasks=(*able.about.tasks, "start")))
    [(picture, note, start)] = demo_app.look(file, str(tmp_path / "able"), 3, own=True)
    assert "1 frame. The model sees it gray, 16 x 16 pixels, and is given that one." in note
    assert (picture["visible"], start["value"], start["interactive"]) == (True, 0, False)
    assert "7 new frames" in last(predict(file, str(tmp_path / "able"))).status


def test_of_a_long_clip_the_page_says_that_it_takes_the_beginning(clip, model, monkeypatch):
    [(_, note, _)] = demo_app.look(clip, model, 0, own=False)
    assert "goes on" not in note
    monkeypatch.setattr(demo_app, "MAX_CLIP_FRAMES", 9)
    [(_, note, _)] = demo_app.look(clip, model, 0, own=False)
    assert "The clip goes on; its first 9 frames are used" in note
    assert "goes on" not in last(predict(clip, model)).status


def test_a_task_begins_with_a_number_of_frames_that_takes_seconds(model, tmp_path):
    app = demo_app.build_app([model], tmp_path)
    on_task = next(function.fn for function in app.fns.values() if function.name == "on_task")
    assert {task: on_task(task)[3]["value"] for task in ("predict", "slowmo", "reconstruct")} == {
        "predict": 28,
        "slowmo": 8,
        "reconstruct": 28,
    }


def test_what_comes_from_nothing_is_offered_no_clip(model, tmp_path):
    app = demo_app.build_app([model], tmp_path)
    on_task = next(function.fn for function in app.fns.values() if function.name == "on_task")
    assert [on_task(task)[1]["visible"] for task in ("predict", "generate")] == [True, False]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".mp4", ".gif", ".webm"]),
    junk=st.binary(max_size=2000),
    keep=st.integers(0, 4000),
    skip=st.integers(0, 40),
)
def test_no_bytes_break_the_page(clip, model, tmp_path, suffix, junk, keep, skip):
    good = Path(clip).read_bytes()
    path = tmp_path / f"fuzzed{suffix}"
    path.write_bytes(good[:keep] + junk + good[keep + skip :])
    [(_, note, _)] = demo_app.look(str(path), model, 0, own=False)
    assert 'class="status error"' in note or 'class="status note"' in note


def test_a_model_in_colour_is_offered_the_pushes(model, tmp_path):
    config = replace(lgcvd.PRESETS["tiny"].model, channels=3, dim=24)
    lgcvd.save(lgcvd.LGCVD(config), tmp_path / "colour")
    for names, said in (([model], "three bounce"), ([str(tmp_path / "colour"), model], "pushes")):
        app = demo_app.build_app(names, tmp_path)
        assert any(said in getattr(block, "value", "") for block in app.blocks.values() if block.elem_id == "or")
    change = next(function.fn for function in app.fns.values() if function.name == "on_model")
    gallery, example, more, _ = change(str(tmp_path / "colour"))
    assert not more["visible"], "it was not trained on hands"
    assert [Path(path).name for path, _ in gallery["value"]] == [f"pushing-{i}.gif" for i in (1, 2, 3, 4)]
    assert (gallery["selected_index"], example) == (0, 0)
    look = next(function.fn for function in app.fns.values() if function.name == "on_look")
    [(_, note, _)] = look(None, 5, str(tmp_path / "colour"), 0)  # the sixth of the examples before
    assert "30 frames, 10 a second. The model sees them in colour" in note


@pytest.fixture
def of_hands(tmp_path: Path) -> str:
    """A model in colour that says that it was trained on hands."""
    config = replace(lgcvd.PRESETS["tiny"].model, channels=3, dim=24)
    lgcvd.save(lgcvd.LGCVD(config), tmp_path / "hands", lgcvd.About(data="robot_hands"))
    return str(tmp_path / "hands")


def test_a_model_of_hands_is_offered_hands_once_they_are_asked_for(model, of_hands, tmp_path, monkeypatch, digits_clip):
    video.write_video(tmp_path / "episode.mp4", digits_clip[0], 10)
    episode = (tmp_path / "episode.mp4").read_bytes()
    clip = examples.RemoteClip("hands-1", "episode.mp4", len(episode), sha256(episode).hexdigest())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(examples, "HANDS", (clip, replace(clip, name="hands-2")))
    app = demo_app.build_app([of_hands, model], tmp_path)
    on = {function.name: function.fn for function in app.fns.values()}
    with serve() as (address, answers, asked):
        monkeypatch.setenv(examples.SOURCE_VARIABLE, address)
        answers.append((episode[:-1], None))
        *_, (button, told) = on["on_fetch"]()
        assert "is not that clip" in told
        assert button["interactive"], "one can try again"
        assert on["on_fetched"](of_hands) == [demo_app.SAME] * 6
        assert on["on_model"](of_hands)[2]["visible"]
        answers.append((episode, None))
        *busy, (_, told) = on["on_fetch"]()
        assert "Downloading" in busy[0][1]
        assert told == ""
        assert len(asked) == 2, "the second clip has the same file here"
    assert on["on_fetched"](model) == [demo_app.SAME] * 6, "the visitor has chosen another model meanwhile"
    gallery, example, button, _, upload, words = on["on_fetched"](of_hands)
    assert "real robot" in words
    assert [name for _, name in gallery["value"][:4]] == [
        "hands dreamed 1",
        "hands dreamed 2",
        "hands 1",
        "hands 2",
    ]
    assert (gallery["selected_index"], example, button["visible"], upload) == (2, 2, False, None)
    for _, note, _ in on["on_look"](None, example, of_hands, 0):
        assert "14 frames, 10 a second. The model sees them in colour" in note
    assert len(on["on_model"](model)[0]["value"]) == 6


def test_the_page_offers_the_models_it_is_given_and_bounds_its_queue(model, tiny_model, tmp_path):
    run = str(tmp_path / "run" / "model")
    lgcvd.save(tiny_model, run)
    app = demo_app.build_app([model, run], tmp_path)
    choices = [block.choices for block in app.blocks.values() if getattr(block, "label", "") == "Model"]
    assert choices == [[("mine", model), ("run", run)]]
    assert app._queue.max_size == demo_app.QUEUE


def test_a_broken_model_folder_ends_the_start_with_code_2(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["demo_app.py", "--model", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        demo_app.main()
    assert end.value.code == 2
    assert "config.json is missing" in capsys.readouterr().err


def test_a_port_that_is_none_ends_the_start_with_code_2(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["demo_app.py", "--port", "99999"])
    with pytest.raises(SystemExit) as stop:
        demo_app.main()
    assert stop.value.code == 2
    assert "--port must be between 1 and 65535" in capsys.readouterr().err


def test_a_taken_port_ends_the_start_with_code_2(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys, "argv", ["demo_app.py", "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit) as end:
            demo_app.main()
    assert end.value.code == 2
    assert "is taken" in capsys.readouterr().err


def test_a_model_brings_its_own_sampler_and_others_the_default(model, tmp_path):
    own = lgcvd.load(model)
    of_tasks = {"generate": {"steps": 20}}
    own.about = replace(own.about, sampling={"steps": 4, "spacing": "trailing"}, sampling_by_task=of_tasks)
    lgcvd.save(own, tmp_path / "own")
    app = demo_app.build_app([model, str(tmp_path / "own")], tmp_path)
    handlers = {function.name: function.fn for function in app.fns.values()}
    own_name, default = str(tmp_path / "own"), [DEFAULT_SAMPLER, DEFAULT_STEPS, DEFAULT_SPACING]
    own = {"predict": [DEFAULT_SAMPLER, 4, "trailing"], "generate": [DEFAULT_SAMPLER, 20, "trailing"]}
    assert handlers["on_other_model"](own_name, "predict") == (own["predict"], *own["predict"])
    assert handlers["on_other_model"](model, "predict") == (default, *default)
    on_other_task = handlers["on_other_task"]
    assert on_other_task(own_name, "generate", own["predict"], *own["predict"]) == (own["generate"], *own["generate"])
    chosen = [DEFAULT_SAMPLER, 7, "trailing"]
    assert on_other_task(own_name, "generate", own["predict"], *chosen) == (own["generate"], *chosen)
