from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
import torch

from lgcvd import PRESETS, UserError, save
from lgcvd.__main__ import main
from lgcvd.evaluation import (
    Evaluation,
    Predictor,
    evaluate,
    finished,
    gather,
    of_baseline,
    of_model,
    open_clips,
    shape_of,
)
from lgcvd.models import build
from lgcvd.objective import Share
from lgcvd.protocols import OURS, PROTOCOLS
from lgcvd.results import read_results
from lgcvd.shards import Recording, write_shard

SMALL = {"sampler": "ddpm", "steps": 2}
SHAPE = (16, 16, 1)
FAST = ("psnr", "ssim")
MACHINE = {"processor": "test", "threads": 1, "device": "cpu", "torch": "2"}


def evaluation_of(predictor: Predictor, clips: int = 5, **changes: object) -> Evaluation:
    """A small evaluation on moving digits."""
    changes = {"frames": 7, "clips": clips, "trajectories": 2, **SMALL} | changes
    metrics, seed = changes.pop("metrics", FAST), changes.pop("seed", 0)
    protocol = replace(changes.pop("protocol", OURS), **changes)
    shape = predictor.shape or SHAPE
    data = open_clips("digits", frames=protocol.context + protocol.frames, clips=clips, seed=seed, shape=shape)
    return Evaluation(predictor, data, protocol, seed, metrics)


def finish(evaluation: Evaluation, out: Path, **options: object) -> dict:
    for _ in evaluate(evaluation, out, **options):
        pass
    return gather(evaluation, out, MACHINE)


def numbers(results: dict) -> dict:
    """All but the time it took."""
    clips = [{name: value for name, value in clip.items() if name != "seconds"} for clip in results["clips"]]
    return {name: results[name] for name in ("settings", "summary", "per_frame")} | {"clips": clips}


def close(a: object, b: object) -> bool:
    """Equal but for the rounding of sums in another order."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return a == pytest.approx(b, rel=2e-4) if isinstance(a, float) else a == b


@pytest.fixture
def predictor(tiny_model) -> Predictor:
    return of_model(tiny_model, **SMALL)


def test_the_true_future_gets_the_ceiling(tmp_path):
    known: dict[bytes, torch.Tensor] = {}

    def prophet(observed, frames, generators):
        return torch.stack([known[clip.numpy().tobytes()] for clip in observed])

    evaluation = evaluation_of(Predictor("prophet", prophet, {}))
    for index in evaluation.clips.indices:
        clip = evaluation.clips.data[index].float() / 127.5 - 1
        known[clip[:2].numpy().tobytes()] = clip
    summary = finish(evaluation, tmp_path / "r.json")["summary"]
    assert summary["psnr"]["mean"] == summary["psnr"]["best"] == {"value": 100, "low": 100, "high": 100}
    assert summary["ssim"]["mean"]["value"] == pytest.approx(1)


def test_results_hold_what_decides_them_and_what_was_found(predictor, tmp_path):
    results = finish(evaluation_of(predictor), tmp_path / "r.json")
    assert results == read_results(tmp_path / "r.json")
    assert not (tmp_path / "r.json.parts").exists()
    settings = results["settings"]
    assert settings["model"]["config"]["image_size"] == [16, 16]
    assert settings["protocol"]["what"] == OURS.what
    assert (settings["sampler"], settings["steps"], settings["seed"], settings["trajectories"]) == ("ddpm", 2, 0, 2)
    assert len(results["clips"]) == 5
    assert results["per_frame"]["first"] == 3
    for name in FAST:
        values = [clip[name] for clip in results["clips"]]
        assert all(value["best"] >= value["mean"] for value in values)
        assert any(value["best"] > value["mean"] for value in values)
        mean = np.mean([value["mean"] for value in values])
        assert results["summary"][name]["mean"]["value"] == pytest.approx(mean, rel=1e-4)
        assert np.mean(results["per_frame"][name]["mean"]) == pytest.approx(mean, rel=1e-4)
        assert len(results["per_frame"][name]["low"]) == 7
    assert any("Intervals over 5 clips" in note for note in results["notes"])


def test_noise_depends_on_seed_clip_and_trajectory_alone(predictor, tmp_path):
    one, all_ = (finish(evaluation_of(predictor), tmp_path / f"{batch}.json", batch=batch) for batch in (1, 5))
    assert close(numbers(one), numbers(all_))
    more = finish(evaluation_of(predictor, trajectories=3), tmp_path / "more.json")
    assert more["summary"]["psnr"]["best"]["value"] > one["summary"]["psnr"]["best"]["value"]
    other = finish(evaluation_of(predictor, seed=1), tmp_path / "other.json")
    assert not close(other["summary"], one["summary"])


def test_broken_off_and_resumed_equals_uninterrupted(predictor, tmp_path):
    whole = finish(evaluation_of(predictor), tmp_path / "whole.json", batch=2)
    out = tmp_path / "resumed.json"
    steps = evaluate(evaluation_of(predictor), out, batch=2)
    assert next(steps).clips == 2
    steps.close()
    assert not out.exists()
    (tmp_path / "resumed.json.parts" / "000001.npz").write_bytes(b"PK cut short")  # as a full disk leaves it

    asked = []
    counting = replace(predictor, predict=lambda *a: (asked.append(len(a[0])), predictor.predict(*a))[1])
    resumed = finish(evaluation_of(counting), out, batch=2)
    assert numbers(resumed) == numbers(whole)
    assert asked == [4, 4, 2]

    steps = evaluate(evaluation_of(predictor), out, batch=2)
    next(steps)
    asked.clear()
    finish(evaluation_of(counting), out, batch=2)
    assert asked == [4, 2]  # two clips of two trajectories, then one


def test_shares_of_two_make_the_whole(predictor, tmp_path):
    whole = finish(evaluation_of(predictor), tmp_path / "whole.json", batch=2)
    evaluation = evaluation_of(predictor)
    for rank in (1, 0):
        for _ in evaluate(evaluation, tmp_path / "shared.json", batch=2, share=Share(rank, 2)):
            pass
    assert numbers(gather(evaluation, tmp_path / "shared.json", MACHINE)) == numbers(whole)


def test_another_evaluation_is_not_mixed_in(predictor, tmp_path):
    out = tmp_path / "r.json"
    next(evaluate(evaluation_of(predictor), out))
    with pytest.raises(UserError, match=r"another evaluation.*seed"):
        next(evaluate(evaluation_of(predictor, seed=1), out))
    results = finish(evaluation_of(predictor), out)
    assert finished(evaluation_of(predictor), out) == results
    with pytest.raises(UserError, match=r"another evaluation.*steps"):
        finished(evaluation_of(predictor, steps=3), out)


def test_clips_are_spread_over_the_split_by_the_seed():
    def indices(clips, seed):
        return open_clips("digits", frames=3, clips=clips, seed=seed, shape=SHAPE).indices

    drawn = indices(10, 0)
    assert drawn == indices(10, 0) != indices(10, 1)
    assert [index // 100_000 for index in drawn] == list(range(10))


def test_baselines_need_one_trajectory(tmp_path):
    baseline = of_baseline("copy-last-frame")
    results = finish(evaluation_of(baseline, trajectories=10), tmp_path / "r.json")
    assert results["settings"]["trajectories"] == 1
    assert results["settings"]["sampler"] is None
    assert results["summary"]["psnr"]["mean"] == results["summary"]["psnr"]["best"]
    assert any("one trajectory stands for all" in note for note in results["notes"])


@pytest.mark.parametrize("kind", ["mcvd-concat", "mcvd-spatin"])
def test_models_to_compare_with_are_evaluated_alike(tmp_path, kind):
    torch.manual_seed(0)
    model = build(replace(PRESETS["tiny"].model, kind=kind))
    results = finish(evaluation_of(of_model(model.eval(), **SMALL), clips=2), tmp_path / "r.json")
    assert results["settings"]["model"]["config"]["kind"] == kind
    assert results["summary"]["psnr"]["best"]["value"] > results["summary"]["psnr"]["mean"]["value"]


def test_what_a_memory_is_worth_can_be_measured(tiny_model, tmp_path):
    tiny_model.about = replace(tiny_model.about, name="tiny")
    with torch.no_grad():
        tiny_model.unet.cross.out.weight.normal_(generator=torch.Generator().manual_seed(0))  # it begins as zeros
    found = {}
    for memory in ("decay", "none"):
        predictor = of_model(tiny_model, memory=memory, **SMALL)
        found[predictor.name] = finish(evaluation_of(predictor, clips=2), tmp_path / f"{memory}.json")
    assert list(found) == ["tiny", "tiny, memory none"]
    first, second = (results["per_frame"]["psnr"]["mean"] for results in found.values())
    assert first[:4] == second[:4], "in the first window nothing is remembered yet"
    assert first[4:] != second[4:]
    forgetful = build(replace(PRESETS["tiny"].model, global_context=False))
    with pytest.raises(UserError, match="keeps no memory"):
        of_model(forgetful, memory="none")


@pytest.mark.parametrize("name", ["mcvd", "lgcvd-released"])
def test_other_protocols_judge_too(predictor, tmp_path, name):
    results = finish(evaluation_of(predictor, protocol=PROTOCOLS[name], clips=2, trajectories=10), tmp_path / "r.json")
    assert results["settings"]["protocol"]["name"] == name
    ours = finish(evaluation_of(predictor, clips=2, trajectories=10), tmp_path / "ours.json")
    for measure in FAST:
        same = results["summary"][measure]["mean"] == ours["summary"][measure]["mean"]
        assert same == (name == "lgcvd-released")


@pytest.mark.slow
def test_every_metric_is_measured(tmp_path):
    def jitter(observed, frames, generators):
        last = observed[:, -1:].expand(-1, frames, -1, -1, -1)
        noise = torch.stack([torch.randn(last.shape[1:], generator=generator) for generator in generators])
        return torch.cat([observed, (last + 0.3 * noise).clamp(-1, 1)], 1)

    evaluation = evaluation_of(
        Predictor("jitter", jitter, {}, (32, 32, 1)),
        clips=3,
        frames=9,
        metrics=("psnr", "ssim", "lpips", "fvd", "diversity"),
    )
    results = finish(evaluation, tmp_path / "r.json")
    summary = results["summary"]
    assert summary["fvd"]["mean"]["low"] <= summary["fvd"]["mean"]["value"] <= summary["fvd"]["mean"]["high"]
    assert summary["diversity"]["mean"]["low"] > 0
    assert summary["lpips"]["best"]["value"] < summary["lpips"]["mean"]["value"]
    assert any("Fréchet distance of 3 videos is too large" in note for note in results["notes"])


@pytest.mark.parametrize(("random", "told"), [(True, None), (False, 0.0)])
def test_diversity_of_one_trajectory_is_known_only_where_nothing_is_random(random, told, tmp_path):
    def still(observed, frames, generators):
        return torch.cat([observed, observed[:, -1:].expand(-1, frames, -1, -1, -1)], 1)

    evaluation = evaluation_of(
        Predictor("still", still, {}, random=random), trajectories=1, metrics=("psnr", "diversity")
    )
    summary = finish(evaluation, tmp_path / "r.json")["summary"]
    assert summary.get("diversity", {"mean": {"value": None}})["mean"]["value"] == told


def test_broken_predictions_are_named(tmp_path):
    def broken(observed, frames, generators):
        return torch.full((len(observed), 2 + frames, 1, 16, 16), torch.nan)

    def short(observed, frames, generators):
        return observed

    for predict, reason in ((broken, "NaN"), (short, "does not fit")):
        with pytest.raises(UserError, match=reason):
            finish(evaluation_of(Predictor("x", predict, {})), tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


def test_unknown_metrics_are_refused(predictor):
    for metrics in (("psnr", "beauty"), ()):
        with pytest.raises(UserError, match="metrics must be some of"):
            evaluation_of(predictor, metrics=metrics)


# ------------------------------------------------------------------------------------------------------ command line


@pytest.fixture
def arguments(tiny_model, tmp_path) -> list[str]:
    save(tiny_model, tmp_path / "model")
    options = "--data digits --clips 3 --trajectories 2 --frames 7 --sampler ddpm --steps 2 --batch 1 --device cpu"
    return ["evaluate", "--model", str(tmp_path / "model"), *options.split(), "--metrics", *FAST, "--out"]


def test_command_writes_results_and_a_second_time_nothing(arguments, tmp_path, capsys):
    out = tmp_path / "r.json"
    assert main([*arguments, str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: PSNR, dB, mean ")
    written = out.stat().st_mtime_ns
    assert main([*arguments, str(out)]) == 0
    assert capsys.readouterr().out == said
    assert out.stat().st_mtime_ns == written


@pytest.mark.slow
def test_two_processes_find_what_one_finds(arguments, tmp_path):
    assert main([*arguments, str(tmp_path / "one.json")]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lgcvd"]
    done = run([*launch, *arguments, str(tmp_path / "two.json")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (read_results(tmp_path / f"{name}.json") for name in ("one", "two"))
    assert numbers(one) == numbers(two)
    assert (one["machine"]["processes"], two["machine"]["processes"]) == (1, 2)


KILLED = """
import os, signal, sys
from lgcvd.__main__ import main
from lgcvd.commands import evaluate as command

whole = command.evaluate

def evaluate(*arguments, **options):
    for done in whole(*arguments, **options):
        yield done
        os.kill(os.getpid(), signal.SIGKILL)

command.evaluate = evaluate
main(sys.argv[1:])
"""
"""``lgcvd`` that is killed when the first clips of an evaluation are done."""


@pytest.mark.slow
def test_killed_and_started_again_finds_what_one_run_finds(arguments, tmp_path):
    longer = ["--clips", "12", "--frames", "40"]
    assert main([*arguments, str(tmp_path / "whole.json"), *longer]) == 0
    killed = tmp_path / "killed.json"
    assert run([sys.executable, "-c", KILLED, *arguments, str(killed), *longer]).returncode == -signal.SIGKILL
    assert not killed.exists()
    assert 1 <= len(list(tmp_path.glob("killed.json.parts/*.npz"))) < 12
    assert main([*arguments, str(killed), *longer]) == 0
    assert numbers(read_results(killed)) == numbers(read_results(tmp_path / "whole.json"))
    assert not (tmp_path / "killed.json.parts").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["--data", "nowhere"], "there is no data nowhere"),
        (["--model", "nothing"], "there is no model 'nothing'"),
        (["--clips", "2000000"], "set --clips lower"),
        (["--clips", "0"], "clips must be at least 1"),
        (["--steps", "5000"], "steps must be between"),
        (["--batch", "0"], "batch must be at least 1"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--context", "1"], "1 frame,"),
        (["--stride", "2"], "leave out stride"),
        (["--metrics", "lpips"], "at least 31 x 31"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_input_is_one_sentence_and_leaves_nothing(arguments, tmp_path, capsys, changes, reason):
    assert main([*arguments, str(tmp_path / "r.json"), *changes]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("lgcvd: ")
    assert reason in said[-1]
    assert not list(tmp_path.glob("r.json*"))


def test_results_are_json_and_nothing_else(arguments, tmp_path, capsys):
    assert main([*arguments, str(tmp_path / "r.txt")]) == 2
    (tmp_path / "r.json").write_text(json.dumps({"results": "of something else"}))
    assert main([*arguments, str(tmp_path / "r.json")]) == 2
    assert "no results file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ("ddim", 3, "trailing")),
        (["--steps", "10"], ("ddim", 10, "trailing")),  # the default number is a wish like any other
        (["--sampler", "euler", "--spacing", "ends"], ("euler", 3, "ends")),
        (["--protocol", "mcvd"], ("ddpm", 100, "ends")),
    ],
)
def test_models_are_sampled_in_their_own_way_unless_someone_says_how(
    options: list[str], expected: tuple, tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model.about = replace(tiny_model.about, sampling={"sampler": "ddim", "steps": 3, "spacing": "trailing"})
    save(tiny_model, tmp_path / "model")
    monkeypatch.setattr("lgcvd.evaluation.Evaluation.judge", lambda self, positions: asked.append(self) or 1 / 0)
    asked: list[Evaluation] = []
    command = ["evaluate", "--model", str(tmp_path / "model"), "--data", "digits", "--clips", "2"]
    with pytest.raises(ZeroDivisionError):
        main([*command, "--out", str(tmp_path / "out.json"), *options])
    protocol = asked[0].protocol
    assert (protocol.sampler, protocol.steps, protocol.spacing) == expected


def test_a_baseline_takes_its_shape_from_the_split_whatever_that_is_called(tmp_path):
    clip = Recording("clip", np.zeros((12, 16, 20, 3), np.uint8))
    for name, recordings in (("0.hdf5", []), ("1.hdf5", [clip])):
        write_shard(tmp_path / "val" / name, recordings, source="made here", split="validation")
    assert shape_of(str(tmp_path), "validation") == (16, 20, 3)
    with pytest.raises(UserError, match="height and width must be at least 1"):
        shape_of(str(tmp_path), "validation", image_size=(0, 0))


def films(folder: Path, seed: int = 0, lengths: tuple[int, ...] = (12, 14, 13), split: str = "") -> str:
    """A shard of noise in a folder."""
    rng = np.random.default_rng(seed)
    recordings = [
        Recording(f"v{i}", rng.integers(0, 256, (length, 16, 16, 1), np.uint8)) for i, length in enumerate(lengths)
    ]
    write_shard(folder / "shard_0001.hdf5", recordings, source="noise", split=split)
    return str(folder)


def copied(data: str, out: Path, *more: str) -> int:
    options = ["--clips", "3", "--frames", "3", "--metrics", "psnr", "--device", "cpu", "--batch", "1"]
    return main(["evaluate", "--model", "copy-last-frame", "--data", data, "--out", str(out), *options, *more])


def test_results_of_other_clips_are_not_taken_for_those_that_are_asked_for(tmp_path, capsys):
    here, there, out = films(tmp_path / "a" / "films"), films(tmp_path / "b" / "films", seed=1), tmp_path / "r.json"
    assert copied(here, out) == 0
    whole = out.read_text()
    for data, more, reason in ((there, (), "is of other clips"), (here, ("--stride", "2"), "stride: 1 there, 2 here")):
        assert copied(data, out, *more) == 2
        assert reason in capsys.readouterr().err
    old = json.loads(whole)
    assert old["settings"].pop("stride") == 1  # as in results from before it was told
    out.write_text(json.dumps(old))
    assert copied(here, out) == 0
    assert copied(here, out, "--stride", "2") == 2
    assert copied(there, out) == 2
    assert "is of other clips" in capsys.readouterr().err.splitlines()[-1]
    assert json.loads(out.read_text()) == old


def test_an_evaluation_does_not_go_on_with_other_clips(predictor, tmp_path):
    def of(data: str) -> Evaluation:
        protocol = replace(OURS, frames=3, clips=3, trajectories=2, **SMALL)
        return Evaluation(predictor, open_clips(data, frames=5, clips=3, seed=0, shape=SHAPE), protocol, 0, FAST)

    here, there = films(tmp_path / "a" / "films"), films(tmp_path / "b" / "films", seed=1)
    next(evaluate(of(here), tmp_path / "r.json", batch=1))
    with pytest.raises(UserError, match="is of other clips: v0, frame 5 is not what it was there"):
        next(evaluate(of(there), tmp_path / "r.json", batch=1))
    assert numbers(finish(of(here), tmp_path / "r.json")) == numbers(finish(of(here), tmp_path / "whole.json"))


def test_the_split_is_what_the_data_say_of_themselves(tmp_path, capsys):
    out = tmp_path / "r.json"
    for data in (films(tmp_path / "films", split="train"), films(tmp_path / "set" / "Train")):
        assert copied(data, out) == 2
        assert "is the train split, not test: give --split train, or the folder above it" in capsys.readouterr().err
        assert copied(data, out, "--split", "train") == 0
        results = read_results(out)
        assert results["settings"]["data"]["split"] == "train"
        assert not any("divided" in note for note in results["notes"])
        out.unlink()
    films(tmp_path / "set" / "test", split="train")  # moved there, where the folder decides
    assert copied(str(tmp_path / "set"), tmp_path / "divided.json") == 0
    assert not any("divided" in note for note in read_results(tmp_path / "divided.json")["notes"])
    assert copied(films(tmp_path / "mine"), out) == 0
    note = "mine is not divided into splits: a model may know these clips."
    assert note in read_results(out)["notes"]
    assert note in capsys.readouterr().out


def test_videos_that_are_too_short_are_told(tmp_path):
    assert copied(films(tmp_path / "test", lengths=(12, 4, 3, 20)), tmp_path / "r.json") == 0
    assert "2 of 4 videos are shorter than 5 frames and left out." in read_results(tmp_path / "r.json")["notes"]


def test_options_that_would_do_nothing_are_refused(arguments, tmp_path, capsys):
    data = films(tmp_path / "test")
    for options, reason in (
        (["--steps", "5", "--memory", "none"], "copy-last-frame is no model that denoises or remembers: leave out --s"),
        (["--sampler", "ddim"], "leave out --sampler"),
    ):
        assert copied(data, tmp_path / "r.json", *options) == 2
        assert reason in capsys.readouterr().err
    for options in (["--image-size", "32", "32"], ["--channels", "3"]):
        assert main([*arguments, str(tmp_path / "r.json"), *options]) == 2
        assert "--image-size and --channels are for baselines alone" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()
    assert main([*arguments, str(tmp_path / "r.json"), "--image-size", "16", "16", "--channels", "1"]) == 0
