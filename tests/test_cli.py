"""The command line, from arguments to files and exit codes."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media import BAD_CLIPS, bad_clip, grays, noise, phone_clip, write_clip, write_gif
from PIL import Image
from safetensors.torch import load_file

import lgcvd
from lgcvd import pictures, video
from lgcvd.__main__ import main
from lgcvd.files import alone_in
from lgcvd.models import build
from lgcvd.run_folder import _Record
from lgcvd.shards import Recording, write_shard

TINY = ["--train.iterations", "6", "--train.save-every", "4", "--train.warmup", "0"]


@pytest.fixture
def model(tiny_model, tmp_path: Path) -> str:
    lgcvd.save(tiny_model, tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_gif(tmp_path / "clip.gif", grays(24, 20, 20)[16:], [100] * 8)


def share(image: torch.Tensor, colour: tuple[int, int, int]) -> float:
    """Share of the pixels of (3, H, W) that are near this colour: H.264 does not keep it exactly."""
    wanted = torch.tensor(colour)[:, None, None]
    return float(((video.to_uint8(image).int() - wanted).abs().amax(0) <= 12).float().mean())


def sentence(capsys: pytest.CaptureFixture) -> str:
    """What stderr says, if it is one line and no traceback."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("lgcvd: ")
    return lines[0]


# help


def test_help_is_quick_and_names_every_verb():
    """In a process of its own: nothing but torch and what the package itself needs may be loaded for it."""
    code = (
        "import sys; from lgcvd.__main__ import main; code = main(['--help']); "
        "heavy = {'av', 'diffusers', 'gradio', 'imageio', 'matplotlib', 'torchmetrics'} & set(sys.modules); "
        "sys.exit(f'loaded: {heavy}' if heavy else code)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for verb in (*lgcvd.TASKS, "train", "adapt", "ablate", "evaluate-digits", "models", "import-released"):
        assert verb in run.stdout


def test_python_m_lgcvd_tells_its_version():
    run = subprocess.run(
        [sys.executable, "-m", "lgcvd", "--version"], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("lgcvd ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a verb: there are predict, past, "),
        (["train"], "give a preset: there are bair-64, "),
        (["fly"], "there is no verb 'fly'"),
        (["train", "huge"], "there is no preset 'huge'"),
        (["predict"], "CLIP must be given: lgcvd predict --help tells all options."),
        (["evaluate"], "--data STR and --model STR and --out PATH must be given"),
        (["infill", "a"], "--missing [INT [INT ...]] must be given"),
        (["predict", "a.mp4", "--sped", "9"], "there is no --sped (did you mean --seed?): lgcvd predict --help"),
        (["predict", "--modle", "x"], "there is no --modle (did you mean --model?): lgcvd predict --help"),
        (["distill", "--modle=x"], "there is no --modle: lgcvd distill --help"),
        (["predict", "a.mp4", "--clips", "9"], "there is no --clips: lgcvd predict --help tells all options."),
        (["predict", "a", "--steps", "x"], "error parsing --steps: 'x' is no INT"),
        (["predict", "a", "--steps"], "missing value for argument '--steps': expected 1 values"),
        (
            ["evaluate", "--model", "m", "--out", "o", "--data", "d", "--image-size", "64"],
            "error parsing --image-size: no type matching {INT INT} could be instantiated from ['64']: lgcvd evaluate",
        ),
        (["--foo"], "there is no --foo: lgcvd --help tells all options."),
        (["predict", "a", "b"], "b is more than it takes: lgcvd predict --help tells all options."),
        (
            ["slowmo", "a", "--factor", "3"],
            "invalid choice '3' for argument '--factor': expected one of 2, 4, 8",
        ),
        (
            ["train", "tiny", "--train.loss", "l3"],
            "expected one of l1, l2, noise_l2: lgcvd train tiny --help tells all options.",
        ),
    ],
)
def test_what_cannot_be_parsed_exits_with_2_and_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture
):
    assert main(arguments) == 2
    assert words in sentence(capsys)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "digits", "--help"], ["predict", "--help"]])
def test_help_exits_with_0(arguments: list[str], capsys: pytest.CaptureFixture):
    assert main(arguments) == 0
    assert "usage: lgcvd" in capsys.readouterr().out


# predict


def test_a_phones_clip_goes_through(model: str, tmp_path: Path):
    phone, out, strip = phone_clip(tmp_path / "phone.mp4"), tmp_path / "out.mp4", tmp_path / "strip.png"
    options = ["--frames", "8", "--start", "1", "--steps", "2", "--out", str(out), "--strip", str(strip)]
    assert main(["predict", str(phone), "--model", model, *options]) == 0
    with av.open(str(out)) as file:
        stream = file.streams.video[0]
        assert stream.frames == 10
        assert float(stream.average_rate) == pytest.approx(30, rel=0.01)
        size = (stream.height, stream.width)
    assert size[0] % 2 == size[1] % 2 == 0
    frames = video.read_clip(out, size, 3).frames[:, :, :-64]  # without the foot
    for index, frame in enumerate(frames):
        left, right = frame.tensor_split(2, dim=-1)
        assert (share(left, pictures.OBSERVED) > 0.01) == (share(right, pictures.OBSERVED) > 0.01) == (index < 2)
        assert (share(left, pictures.NEUTRAL) > 0.01) == (share(right, pictures.PREDICTED) > 0.01) == (index >= 2)
    assert strip.read_bytes().startswith(b"\x89PNG")


def test_predictions_start_where_they_are_told_and_where_the_clip_ends_its_panel_goes_dark(
    model: str, clip: Path, tmp_path: Path
):
    out = tmp_path / "out.gif"
    options = ["--frames", "5", "--start", "4", "--steps", "1", "--out", str(out)]
    assert main(["predict", str(clip), "--model", model, *options]) == 0
    with Image.open(out) as gif:
        size = (gif.height, gif.width)
    left = video.read_clip(out, size, 3).frames.tensor_split(2, dim=-1)[0]
    dark = [share(frame, pictures.DARK) > 0.3 for frame in left]
    assert dark == [False] * 4 + [True] * 3  # frames 4 to 7 of the clip, then no more
    observed = video.to_uint8(left[0]).float()
    assert observed[:, observed.shape[1] // 2, observed.shape[2] // 2] == pytest.approx(8 * (16 + 4), abs=4)


@pytest.mark.parametrize("same", [True, False])
def test_the_seed_decides_the_future(model: str, clip: Path, tmp_path: Path, same: bool):
    files = []
    for index, seed in enumerate((3, 3 if same else 4)):
        files.append(tmp_path / f"{index}.png")
        options = ["--frames", "2", "--steps", "1", "--seed", str(seed), "--strip", str(files[-1])]
        assert main(["predict", str(clip), "--model", model, "--out", str(tmp_path / "a.mp4"), *options]) == 0
    assert (files[0].read_bytes() == files[1].read_bytes()) == same


@pytest.mark.parametrize("kind", BAD_CLIPS)
def test_bad_clips_exit_with_2_and_a_sentence(model: str, tmp_path: Path, capsys: pytest.CaptureFixture, kind: str):
    out = tmp_path / "out.mp4"
    assert main(["predict", str(bad_clip(kind, tmp_path)), "--model", model, "--out", str(out)]) == 2
    assert BAD_CLIPS[kind] in sentence(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--start", "7"], "start earlier"),
        (["--start", "-1"], "0 or more"),
        (["--start", "9999999999999999999"], "start earlier"),
        (["--start", "9999999999999999999", "--fps", "5"], "start earlier"),
        (["--frames", "0"], "between 1 and 1000"),
        (["--frames", "5000000"], "between 1 and 1000"),
        (["--steps", "0"], "steps must be between"),
        (["--fps", "0"], "frame rate must be"),
        (["--out", "a.wmv"], ".mp4 or .gif"),
        (["--out", "."], "'.' names no kind of file"),
        (["--seed", "-1"], "seed must be at least 0 and below"),
        (["--seed", "99999999999999999999"], "seed must be at least 0 and below"),
        (["--strip", "a.jpg"], ".png"),
        (["--model", "no-such-model"], "there is no model"),
        (["--model", ""], "there is no model ''"),
        (["--model", "long" * 1000], "there is no model"),
        (["--out", f"{'long' * 1000}.mp4"], "cannot be written"),
        (["--model", "."], "config.json is missing"),
        (["--device", "mps"], "--device auto"),
    ],
)
def test_bad_options_exit_with_2_and_a_sentence(
    model: str, clip: Path, capsys: pytest.CaptureFixture, options: list[str], words: str
):
    if options == ["--device", "mps"] and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    assert main(["predict", str(clip), "--model", model, *options]) == 2
    assert words in sentence(capsys)


def test_a_clip_that_nothing_can_be_is_not_there(model: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    for nothing in (loop, tmp_path / ("long" * 1000)):
        assert main(["predict", str(nothing), "--model", model, "--out", str(tmp_path / "out.mp4")]) == 2
        assert f"there is no file {nothing}" in sentence(capsys)


def test_a_clip_shorter_than_the_context_is_refused(model: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.write_image(folder / "0.png", torch.zeros(1, 8, 8))
    assert main(["predict", str(folder), "--model", model]) == 2
    assert "has only 1 frame, and 2 are needed: take a longer clip" in sentence(capsys)


def test_a_clip_cut_short_is_predicted_with_a_note(model: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    path = write_clip(tmp_path / "a.mp4", noise(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main(["predict", str(path), "--model", model, "--steps", "1", "--out", str(tmp_path / "out.mp4")]) == 0
    assert "a.mp4 is cut short" in capsys.readouterr().err


def test_ctrl_c_exits_with_130_and_leaves_nothing(
    model: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lgcvd.commands.tasks.panel_frames", lambda *_: signal.raise_signal(signal.SIGINT))
    out = tmp_path / "out.mp4"
    assert main(["predict", str(clip), "--model", model, "--steps", "1", "--out", str(out)]) == 130
    assert sentence(capsys) == "lgcvd: stopped"
    assert not list(tmp_path.glob("*out*"))


# the other tasks


@pytest.fixture
def able(tiny_model, tmp_path: Path) -> str:
    """A model that is said to be trained for everything."""
    tiny_model.about = lgcvd.About(tasks=("prediction", "generation", "interpolation", "random", "past", "start"))
    lgcvd.save(tiny_model, tmp_path / "able")
    return str(tmp_path / "able")


@pytest.mark.parametrize(
    ("verb", "options", "frames", "observed"),
    [
        ("predict", ["--frames", "3"], 5, {0, 1}),
        ("past", ["--frames", "3", "--start", "4"], 5, {3, 4}),
        ("interpolate", ["--frames", "3"], 5, {0, 4}),
        ("infill", ["--missing", "2", "4"], 8, {0, 2, 4, 5, 6, 7}),
        ("slowmo", ["--frames", "3", "--factor", "4"], 9, {0, 4, 8}),
        ("generate", ["--frames", "3"], 3, set()),
        ("animate", ["--frames", "3"], 4, {0}),
        ("reconstruct", ["--level", "0.1"], 8, set()),
        ("reconstruct", ["--level", "0.1", "--back", "inversion", "--back-steps", "3"], 8, set()),
    ],
)
def test_every_task_has_its_verb(
    able: str, clip: Path, tmp_path: Path, verb: str, options: list[str], frames: int, observed: set[int], capsys
):
    out, strip = tmp_path / "out.gif", tmp_path / "strip.png"
    clips = [] if verb == "generate" else [str(clip)]
    run = [verb, *clips, "--model", able, "--steps", "1", "--resample", "1", "--out", str(out), "--strip", str(strip)]
    assert main([*run, *options]) == 0
    made = {"generate": "generated", "reconstruct": "reconstructed"}.get(verb, "predicted")
    new, given = frames - len(observed), f"{len(observed)} observed, " if observed else ""
    assert f"{out}: {given}{new} {made} frame" in capsys.readouterr().out
    with Image.open(out) as gif:
        assert gif.n_frames == frames
        size = (gif.height, gif.width)
    film = video.read_clip(out, size, 3).frames[:, :, :-64]  # without the foot
    if verb not in ("slowmo", "generate"):  # there the truth is not known, and the result stands alone
        film = film.tensor_split(2, dim=-1)[1]
    assert {i for i, frame in enumerate(film) if share(frame, pictures.OBSERVED) > 0.01} == observed
    assert {i for i, frame in enumerate(film) if share(frame, pictures.PREDICTED) > 0.01} == {*range(frames)} - observed
    assert strip.is_file()


def test_two_clips_are_bridged_by_the_end_of_one_and_the_beginning_of_the_other(able: str, clip: Path, tmp_path: Path):
    picture, out = tmp_path / "end.png", tmp_path / "out.gif"
    pictures.write_image(picture, torch.ones(1, 20, 20))
    options = ["--second", str(picture), "--frames", "2", "--steps", "1", "--out", str(out)]
    assert main(["interpolate", str(clip), "--model", able, *options]) == 0
    with Image.open(out) as gif:
        assert gif.n_frames == 4


def test_many_futures_and_what_the_memory_was_read_for(able: str, clip: Path, tmp_path: Path):
    out, attention = tmp_path / "out.gif", tmp_path / "attention.png"
    for futures, columns in (("1", 2), ("3", 3)):  # five panels in two rows
        options = ["--frames", "3", "--steps", "1", "--futures", futures, "--out", str(out)]
        assert main(["predict", str(clip), "--model", able, *options, "--attention", str(attention)]) == 0
        with Image.open(out) as gif:
            assert gif.width == pytest.approx(20 + columns * 352, abs=2)
    assert attention.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("verb", "options", "words"),
    [
        ("past", [], "past would show it frames"),
        ("animate", [], "needs at least 2"),
        ("infill", ["--missing", "9"], "frame 9 is not among the 8 frames that are taken"),
        ("infill", ["--missing", *"12345678"], "every frame of the clip is missing: leave at least one"),
        ("slowmo", ["--frames", "1"], "number of frames must be at least 2, not 1"),
        ("interpolate", ["--frames", "0"], "number of new frames"),
        ("interpolate", ["--frames", "9"], "2 are needed|and 11 are needed"),
        ("reconstruct", ["--level", "2"], "level of noise"),
        ("reconstruct", ["--back-steps", "3"], "leave back_steps out, or choose back inversion"),
        ("reconstruct", ["--back", "inversion", "--back-steps", "0"], "steps back must be at least 1, not 0"),
        ("reconstruct", ["--frames", "4"], "number of frames must be at least 8, not 4"),
        ("interpolate", ["--frames", "5000"], "number of new frames must be between 1 and 997, not 5000"),
        ("predict", ["--attention", "a.png", "--memory-guidance", "2"], "leave the guidance out"),
        ("predict", ["--futures", "0"], "number of futures"),
        ("predict", ["--local-guidance", "-1"], "local_guidance must be 0 or more"),
        ("predict", ["--attention", "a.jpg"], ".png"),
    ],
)
def test_what_a_task_cannot_do_exits_with_2_and_a_sentence(
    model: str, clip: Path, capsys: pytest.CaptureFixture, verb: str, options: list[str], words: str
):
    assert main([verb, str(clip), "--model", model, *options]) == 2
    assert re.search(words, sentence(capsys))


# train


def train(folder: Path, *options: str) -> int:
    return main(["train", "tiny", "--folder", str(folder), "--device", "cpu", *TINY, *options])


def losses(folder: Path) -> list[dict]:
    with (folder / "losses.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_leaves_a_model_that_predicts(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    run = tmp_path / "run"
    assert train(run, "--data", "stochastic-digits", "--model.dim", "16") == 0
    assert "6 of 6 iterations" in capsys.readouterr().out
    model = lgcvd.load(run / "model")
    assert (model.about.step, model.config.dim) == (6, 16)
    assert "MNIST" in model.about.data
    assert [row["iteration"] for row in losses(run)] == list("123456")
    assert all(float(row["stage1"]) > 0 and float(row["stage2"]) > 0 for row in losses(run))
    options = ["--frames", "1", "--steps", "1", "--out", str(tmp_path / "out.mp4")]
    assert main(["predict", str(clip), "--model", str(run / "model"), *options]) == 0


@pytest.fixture
def gray_videos(tmp_path: Path) -> Path:
    """A data set of 16 x 16 pixels in both splits."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 20, 16, 16, 1), np.uint8)
    for clip, split in zip(frames, ("train", "validation"), strict=True):
        path = tmp_path / "gray videos" / split / "shard_0001.hdf5"
        write_shard(path, [Recording("one", clip)], source="noise", split=split)
    return tmp_path / "gray videos"


@pytest.mark.slow
def test_own_data_are_trained_on_by_any_number_of_workers(gray_videos: Path, tmp_path: Path):
    options = ["--data", str(gray_videos), "--flip", "--jitter", "0.1", "--shift", "1", "--speeds", "2"]
    for run, more in {"a": [], "b": ["--workers", "1"]}.items():
        assert train(tmp_path / run, *options, *more) == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    about = lgcvd.load(tmp_path / "a" / "model").about
    assert about.data == "gray videos"
    assert "licence of the data" in about.licence


def test_videos_without_a_validation_split_are_validated_on_with_a_note(
    gray_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert train(tmp_path / "run", "--data", str(gray_videos / "train"), "--train.iterations", "1") == 0
    assert "has no folder validation: what is validated is trained on, too" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_data(gray_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert train(tmp_path / "run", "--train.iterations", "1") == 0
    assert train(tmp_path / "run", "--data", str(gray_videos)) == 2
    assert "data: MovingDigits" in capsys.readouterr().err


def test_what_is_broken_or_too_short_is_told_and_logged(
    gray_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    short = Recording("two", np.zeros((13, 16, 16, 1), np.uint8), note="it is cut short.")
    skipped = [(f"b{i}", "it is empty.") for i in range(6)]
    path = gray_videos / "train" / "shard_0002.hdf5"
    write_shard(path, [short], source="noise", split="train", skipped=skipped)
    assert train(tmp_path / "run", "--data", str(gray_videos), "--train.iterations", "1") == 0
    told, log = capsys.readouterr().err, (tmp_path / "run" / "log.txt").read_text()
    for line in (
        "skipped b4: it is empty.",
        "skipped 1 more",
        "incomplete two: it is cut short.",
        "1 of 2 videos are shorter than 14 frames and left out.",
    ):
        assert told.count(f"{line}\n") == log.count(f"{line}\n") == 1


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_data_that_break_on_the_way_stop_with_a_sentence(
    workers: str, gray_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    other = np.zeros((20, 8, 8, 1), np.uint8)
    write_shard(gray_videos / "train" / "shard_0002.hdf5", [Recording("two", other)], source="", split="train")
    assert train(tmp_path / "run", "--data", str(gray_videos), "--workers", workers) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("lgcvd: two has frames of 8x8 pixels")
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "no-such-folder"], "there is no data no-such-folder: give a folder"),
        (["--stride", "2"], "leave out stride, for videos only"),
        (["--model.channels", "3"], "the digits are gray squares"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert train(tmp_path / "run", *options) == 2
    assert words in sentence(capsys)


def test_a_run_can_begin_with_given_weights(model: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    options = ["--init", model, "--train.rate", "1e-30", "--train.ema", "0"]
    assert train(tmp_path / "run", *options) == 0
    before, after = lgcvd.load(model).state_dict(), lgcvd.load(tmp_path / "run" / "model").state_dict()
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight.half().float(), msg=name)
    assert train(tmp_path / "other", "--init", model, "--model.dim", "16") == 2
    assert "do not fit (dim: 8 there, 16 here): set the model's options" in capsys.readouterr().err
    assert train(tmp_path / "faithful", "--init", model, "--model.memory-decay", "0.75") == 0
    assert "trained with other settings: memory_decay: 0.5 there, 0.75 here" in capsys.readouterr().err


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train(folder) == 0
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    whole_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
):
    add = _Record.add

    def add_and_interrupt(record, step, look):
        add(record, step, look)
        if step.iteration == 3:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(_Record, "add", add_and_interrupt)
        assert train(tmp_path / "broken") == 128 + number
    out = capsys.readouterr().out
    assert "3 of 6 iterations" in out
    assert "run the same command again to go on" in out
    assert signal.getsignal(number) is before
    assert lgcvd.load(tmp_path / "broken" / "model").about.step == 3

    assert train(tmp_path / "broken") == 0
    assert "going on after iteration 3" in capsys.readouterr().out
    whole, broken = (load_file(run / "model" / "model.safetensors") for run in (whole_run, tmp_path / "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert losses(whole_run) == losses(tmp_path / "broken")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_run_saves_it(tmp_path: Path, number: signal.Signals):
    command = [sys.executable, "-m", "lgcvd", "train", "tiny", "--folder", str(tmp_path / "run"), "--device", "cpu"]
    command += ["--workers", "2", "--train.iterations", "100000", "--train.save-every", "100000"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    table = tmp_path / "run" / "losses.csv"
    try:
        while not (table.exists() and len(table.read_text().splitlines()) > 3):
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.1)
        os.killpg(run.pid, number)
        out, err = run.communicate(timeout=120)
    finally:
        run.kill()
    assert run.returncode == 128 + number, err
    assert "Traceback" not in err
    assert err.count("stopping when") == 1
    assert "run the same command again to go on" in out
    assert list((tmp_path / "run" / "checkpoints").glob("*.pt"))


def test_a_finished_run_stays_as_it_is(whole_run: Path, capsys: pytest.CaptureFixture):
    before = losses(whole_run)
    assert train(whole_run) == 0
    assert "6 of 6 iterations" in capsys.readouterr().out
    assert losses(whole_run) == before


def test_losses_behind_the_checkpoint_are_dropped(tmp_path: Path):
    """As after a power cut between two checkpoints."""
    run = tmp_path / "run"
    assert train(run, "--minutes", "1e-9") == 0
    with (run / "losses.csv").open("a") as file:
        file.write("2,9,9,9\n3,9,9,9\n")
    assert train(run) == 0
    assert [row["iteration"] for row in losses(run)] == list("123456")
    assert "9" not in {row["stage1"] for row in losses(run)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.channels", "3", "--model.dim", "32"], "--model.channels 1"),
        (["--model.image-size", "24", "24"], "--model.image-size 64 64"),
        (["--model.image-size", "15", "15"], "must be multiples of 2"),
        (["--model.dim", "2"], "dim"),
        (["--train.rate", "1e30"], "lower rate"),
    ],
)
def test_bad_training_settings_exit_with_2_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], words: str
):
    assert train(tmp_path / "run", *options) == 2
    err = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("lgcvd: ")]
    assert len(err) == 1
    assert words in err[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["train", "ablate"])
@pytest.mark.parametrize(
    ("preset", "options", "words"),
    [
        ("digits", ["--model.motion-sharpness", "2"], "motion_sharpness is for models that have motion: leave it out"),
        (
            "robot-64",
            ["--model.motion", "0", "--model.motion-stride", "3"],
            "motion_stride is for models that have mot",
        ),
        (
            "digits",
            ["--model.no-global-context", "--model.memory-decay", "0"],
            "memory_decay is for models that have global_context",
        ),
        (
            "digits",
            ["--train.objective", "single_stage", "--train.estimate-level", "0.5"],
            "estimate_level is for the objective two_stage",
        ),
    ],
)
def test_settings_without_effect_are_refused(
    verb: str, preset: str, options: list[str], words: str, capsys: pytest.CaptureFixture
):
    assert main([verb, preset, *options]) == 2
    assert words in sentence(capsys)


def test_settings_of_a_preset_may_lose_their_effect(tmp_path: Path, capsys: pytest.CaptureFixture):
    """ "robot-64" has a sharpness of its motion."""
    options = ["--model.motion", "0", "--data", str(tmp_path / "none"), "--folder", str(tmp_path / "run")]
    assert main(["train", "robot-64", *options]) == 2
    assert "none" in sentence(capsys)


def test_a_run_with_other_settings_is_not_continued(tmp_path: Path, capsys: pytest.CaptureFixture):
    def content() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}

    assert train(tmp_path / "run", "--minutes", "1e-9") == 0
    there = content()
    assert train(tmp_path / "run", "--train.seed", "5") == 2
    assert "train.seed" in capsys.readouterr().err
    assert content() == there


@pytest.mark.parametrize(
    ("options", "nearest"),
    [
        (["--train.iteration", "5"], "did you mean --train.iterations?"),
        (["--train.losss", "l2"], "did you mean --train.loss?"),
        (["--train.rat", "1"], "did you mean --train.rate?"),
        (["--train.lr", "1"], "did you mean --train.rate?"),
        (["--lr", "1"], "did you mean --train.rate?"),
        (["--epochs", "1"], "did you mean --train.iterations?"),
        (["--model.dimm", "16"], "did you mean --model.dim?"),
        (["--modle", "x"], "did you mean --model.*?"),
        (["--foldr", "x"], "did you mean --folder?"),
        (["--train.batch_sise", "2"], "did you mean --train.batch-size?"),
        (["--train.precision", "fp16"], "float16, float32 (did you mean float16?)"),
        (["--train.precision", "bf16"], "float16, float32 (did you mean bfloat16?)"),
        (["--train.loss", "l3"], "l1, l2"),
        (["--train.rate", "fast"], "could not convert string to float: 'fast'"),
    ],
)
def test_wrong_names_and_types_are_told_with_the_right_ones(
    options: list[str], nearest: str, capsys: pytest.CaptureFixture
):
    assert main(["train", "tiny", *options]) == 2
    told = sentence(capsys)
    assert options[0] in told
    assert nearest in told


def test_a_dry_run_tells_the_cost_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert train(tmp_path / "run", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "parameters:  0.07 million" in told
    for words in ("GFLOP an iteration (stage1 ", "GB and 2 clips of ", "10 timed", "to the end:  about 0:00:0"):
        assert words in told
    assert not (tmp_path / "run").exists()


def test_a_dry_run_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Of a model in colour, which cannot be trained on the digits that are there without data."""
    small = ["--model.dim", "16", "--train.batch-size", "1", "--device", "cpu"]
    command = ["train", "robot-64", "--folder", str(tmp_path / "run"), *small]
    assert main([*command, "--dry-run"]) == 0
    assert "10 timed" in capsys.readouterr().out
    assert main(command) == 2
    assert "the digits are gray" in sentence(capsys)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "tiny"],
        ["ablate", "tiny", "--iterations", "1", "--clips", "1", "--variants", "whole"],
        ["distill", "moving-digits"],
    ],
)
def test_a_second_run_in_a_folder_is_refused(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    with alone_in(tmp_path / "run"):
        assert main([*command, "--folder", str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert "another run is writing" in sentence(capsys)
    assert not (tmp_path / "run").exists()


def test_variants_that_change_nothing_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture):
    ablate = ["ablate", "tiny", "--iterations", "1", "--clips", "1", "--frames", "4", "--device", "cpu"]
    ablate += ["--folder", str(tmp_path / "run")]
    assert main([*ablate, "--variants", "no-things", "no-motion-skip"]) == 2
    assert "no-things and no-motion-skip would change nothing" in sentence(capsys)
    assert main([*ablate, "--train.iterations", "50"]) == 2
    assert "leave out --train.iterations" in sentence(capsys)
    assert main([*ablate, "--variants", "whole", "no-things"]) == 0
    told = capsys.readouterr()
    assert "left out, as nothing would change: no-things" in told.err
    assert "no-things" not in told.out


def test_weights_to_begin_with_are_not_asked_for_again(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert train(tmp_path / "first") == 0
    start = (tmp_path / "first" / "model").rename(tmp_path / "start")
    run = ["--init", str(start), "--train.iterations", "8"]
    assert train(tmp_path / "run", *run, "--minutes", "0.0001") == 0
    start.rename(tmp_path / "moved")
    capsys.readouterr()
    assert train(tmp_path / "run", *run) == 0
    assert "start is only for the beginning of a run" in capsys.readouterr().out


def test_a_comparison_that_is_refused_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture):
    ablate = ["ablate", "tiny", "--iterations", "1", "--variants", "whole", "--clips", "1", "--device", "cpu"]
    assert main([*ablate, "--folder", str(tmp_path / "run"), "--model.dim", "4"]) == 2
    assert "too narrow" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    assert main([*ablate, "--folder", str(tmp_path / "file")]) == 2
    assert "cannot be written" in sentence(capsys)


def test_what_cannot_be_trained_is_told_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture):
    for options, words in (
        (["--workers", "-1"], "workers must not"),
        (["--dry-run", "--model.dim", "4"], "too narrow"),
        (["--model.kind", "mcvd-concat"], "this objective denoises 8 frames and a mcvd-concat model 6"),
    ):
        assert train(tmp_path / "run", *options) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert words in told.err
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    assert train(tmp_path / "file" / "run") == 2
    assert "cannot be written" in sentence(capsys)


@pytest.mark.slow
def test_accelerate_launches_two_processes_that_train_what_one_does(whole_run: Path, tmp_path: Path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    launch = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", port]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "lgcvd", "train", "tiny"]
    options = ["--folder", str(tmp_path / "run"), "--device", "cpu", *TINY]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launch, *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 of 6 iterations") == 1
    for shared, alone in zip(losses(tmp_path / "run"), losses(whole_run), strict=True):
        for name, value in alone.items():
            assert bool(shared[name]) == bool(value), "a task that no clip of the batch was for has no loss"
            assert not value or float(shared[name]) == pytest.approx(float(value), rel=1e-3)
    assert "2 processes" in (tmp_path / "run" / "commands.txt").read_text()


def test_variants_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = tmp_path / "ablation"
    ablate = ["ablate", "tiny", "--folder", str(folder), "--clips", "2", "--frames", "7", "--device", "cpu"]
    of_two = [*ablate, "--iterations", "2", "--variants", "whole", "single-stage"]
    assert main([*of_two, "--train.batch-size", "3", "--model.memory-decay", "0.25"]) == 0
    out = capsys.readouterr().out
    assert "| whole |" in out
    assert "| single-stage |" in out
    assert {"table.md", "table.csv", "figure.png"} <= {path.name for path in folder.iterdir()}
    for variant in ("whole", "single-stage"):
        trained = json.loads((folder / f"{variant}-0" / "config.json").read_text())
        assert trained["train"]["batch_size"] == 3
        assert trained["model"]["memory_decay"] == 0.25
    assert main([*of_two, "--train.batch-size", "3", "--train.precision", "bfloat16"]) == 2
    err = capsys.readouterr().err
    assert "precision: float32 there, bfloat16 here" in err
    assert "memory_decay: 0.25 there" in err
    assert main(ablate) == 2
    assert "either in iterations or in minutes" in sentence(capsys)
    for option, words in (
        (["--frames", "2000"], "number of new frames must be between 1 and 1000, not 2000"),
        (["--variants"], "--variants wants at least one, and each only once"),
        (["--variants", "whole", "whole"], "--variants wants at least one, and each only once"),
        (["--seeds", "1", "1"], "--seeds wants at least one, and each only once"),
    ):
        assert main([*ablate, "--iterations", "2", *option]) == 2
        assert words in sentence(capsys)
    assert main(["ablate", "tin"]) == 2
    assert "did you mean tiny?" in sentence(capsys)


# the other verbs


def test_shipped_models_are_listed_with_data_and_licence(capsys: pytest.CaptureFixture):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    for name in lgcvd.shipped_models():
        assert name in out
    assert out.count("licence: ") == out.count("trained on ") == len(lgcvd.shipped_models())


def test_foreign_checkpoints_are_not_imported(tmp_path: Path, capsys: pytest.CaptureFixture):
    file = tmp_path / "file.pt"
    torch.save({"weights": torch.zeros(1)}, file)
    assert main(["import-released", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "no model" in sentence(capsys)
    assert not (tmp_path / "out").exists()


def test_an_imported_checkpoint_is_one_of_ours(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reading the authors' files is tested in test_released; theirs are too large to be made here."""
    monkeypatch.setattr(
        "lgcvd.commands.models.load_released", lambda file, preset: {"cityscapes-128": tiny_model}[preset]
    )
    out = tmp_path / "out"
    assert main(["import-released", "file.pt", "--preset", "cityscapes-128", "--out", str(out)]) == 0
    assert lgcvd.load(out).config == tiny_model.config
    assert main(["import-released", "file.pt", "--out", str(out)]) == 2  # a model that is there is kept


def test_digits_are_evaluated(model: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    options = ["--clips", "1", "--frames", "2", "--steps", "1", "--out", str(tmp_path / "report")]
    assert main(["evaluate-digits", "--model", model, *options]) == 0
    assert "| PSNR, dB |" in capsys.readouterr().out
    assert (tmp_path / "report" / "table.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "there is no verb 'trian': did you mean train?"),
        (["train", "robot64"], "there is no preset 'robot64': did you mean robot-64?"),
        (["train", "mars"], "there is no preset 'mars': there are bair-64, "),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest_right_one(arguments, sentence, capsys):
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("options", "steps"), [([], 3), (["--steps", "10"], 10)])
def test_a_model_is_sampled_in_its_own_way_unless_someone_says_how(
    tiny_model, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], steps: int
):
    tiny_model.about = lgcvd.About(sampling={"steps": 3})
    lgcvd.save(tiny_model, tmp_path / "own")
    calls = []
    monkeypatch.setattr(lgcvd.LGCVD, "forward", lambda self, x, t, context: calls.append(t) or 0 * x)
    out = ["--out", str(tmp_path / "out.gif"), "--frames", "6"]
    assert main(["predict", str(clip), "--model", str(tmp_path / "own"), *out, *options]) == 0
    assert len(calls) == steps


def test_what_is_written_replaces_neither_the_clip_nor_each_other(model: str, clip: Path, tmp_path: Path, capsys):
    before = clip.read_bytes()
    for options in (["--out", str(clip)], ["--strip", "a.png", "--attention", "./a.png"]):
        assert main(["predict", str(clip), "--model", model, *options]) == 2
        assert "give each file a name of its own" in sentence(capsys)
    assert clip.read_bytes() == before


def test_a_place_that_cannot_be_written_is_told_before_the_work(model: str, clip: Path, tmp_path: Path, capsys):
    (tmp_path / "file").touch()
    for options in (["--out", str(tmp_path / "file" / "x.mp4")], ["--strip", str(tmp_path / "file" / "x.png")]):
        assert main(["predict", str(clip), "--model", str(tmp_path / "none"), *options]) == 2
        assert "cannot be written" in sentence(capsys)  # not that there is no such model


def test_a_run_folder_is_told_from_a_model(model: str, clip: Path, tmp_path: Path, capsys):
    shutil.copytree(model, tmp_path / "run" / "model")
    assert main(["predict", str(clip), "--model", str(tmp_path / "run")]) == 2
    assert f"its model is {tmp_path / 'run' / 'model'}" in sentence(capsys)


def test_memory_cannot_be_asked_of_a_model_that_has_none(clip: Path, tmp_path: Path, capsys):
    lgcvd.save(build(lgcvd.PRESETS["tiny-mcvd-concat"].model), tmp_path / "mcvd")
    for options in (["--memory", "none"], ["--memory-guidance", "3"]):
        assert main(["predict", str(clip), "--model", str(tmp_path / "mcvd"), *options]) == 2
        assert "keeps no memory" in sentence(capsys)
