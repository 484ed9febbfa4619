from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lgcvd import UserError
from lgcvd.__main__ import main
from lgcvd.comparison import compare

CLIPS, FRAMES = 30, 4


def results(name: str, gain: float = 0.0, seed: int = 0, **settings: object) -> dict:
    """A results file whose clips are ``gain`` dB better than those of gain 0, but for a little noise."""
    clips = 20 + np.random.default_rng(7).normal(0, 3, CLIPS)
    mean = clips + gain + np.random.default_rng(seed).normal(0, 0.2, CLIPS)
    value = {"value": float(mean.mean()), "low": float(mean.mean()) - 1, "high": float(mean.mean()) + 1}
    return {
        "settings": {
            "model": {"name": name},
            "data": {"name": "digits", "split": "test", "shape": [64, 64, 1], "clips": CLIPS},
            "protocol": {
                "name": "ours",
                "what": "As we like it.",
                "context": 2,
                "frames": FRAMES,
                "trajectories": 10,
                "fvd_observed": False,
                "measures": {"psnr": "PSNR in dB"},
            },
            "trajectories": 10,
            "sampler": "ddpm",
            "steps": 10,
            "seed": 0,
            "metrics": ["psnr", "fvd"],
        }
        | settings,
        "summary": {
            "psnr": {"mean": value, "best": value},
            "fvd": {"mean": {"value": 100.0 - gain, "low": 80.0, "high": 120.0}},
        },
        "notes": ["Intervals are too narrow."],
        "seconds": {"prediction": 1.5, "all": 450.0},
        "machine": {"processor": "a processor", "threads": 1, "device": "cpu", "torch": "2"},
        "per_frame": {"first": 3, "psnr": {which: [20.0, 19.0, 18.0, 17.0] for which in ("mean", "low", "high")}},
        "clips": [
            {"clip": str(i), "content": i, "psnr": {"mean": float(v), "best": float(v) + 1}} for i, v in enumerate(mean)
        ],
    }


@pytest.fixture
def write(tmp_path):
    def write(**files: dict) -> list[Path]:
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return [tmp_path / f"{name}.json" for name in files]

    return write


def rows(table: str) -> dict[str, list[str]]:
    """Cells of a Markdown table by their row's name."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in cells}


def test_table_has_a_row_a_model_and_the_best_in_bold(write):
    comparison = compare(write(a=results("lgcvd", gain=2), b=results("copy-last-frame", seed=1)))
    table = rows(comparison.table())
    assert table[""][:3] == ["PSNR, dB, mean", "PSNR, dB, best", "FVD"]
    assert table["lgcvd"][0].startswith("**2")
    assert table["lgcvd"][2] == "**98** [80, 120]"
    assert table["copy-last-frame"][2] == "100 [80, 120]"
    assert "lgcvd" in comparison.markdown()


def test_small_gain_on_every_clip_shows_though_intervals_overlap(write):
    comparison = compare(write(a=results("base"), b=results("better", gain=0.5, seed=1)))
    base, better = (r["summary"]["psnr"]["mean"] for r in comparison.results.values())
    assert base["high"] > better["low"]
    cell = rows(comparison.tests())["better"][0]
    assert cell.startswith("+0.")
    assert cell.endswith("p < 0.001")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": {"name": "robot", "split": "test", "shape": [64, 64, 1], "clips": CLIPS}}, "data.name: digits there"),
    ],
)
def test_results_of_something_else_are_refused(write, change, reason):
    with pytest.raises(UserError, match=f"cannot be compared with .*{reason}"):
        compare(write(a=results("a"), b=results("b", **change)))


def test_other_protocols_frames_and_clips_are_refused(write):
    protocol, frames, clips = (copy.deepcopy(results("b")) for _ in range(3))
    protocol["settings"]["protocol"]["name"] = "mcvd"
    frames["settings"]["protocol"]["frames"] = 28
    clips["clips"][3]["content"] = 99
    for other, reason in (
        (protocol, "protocol.name"),
        (frames, "protocol.frames: 4 there, 28 here"),
        (clips, "other"),
    ):
        with pytest.raises(UserError, match=reason):
            compare(write(a=results("a"), b=other))


def test_one_trajectory_of_what_is_never_random_is_fair(write):
    copied = results("copy-last-frame", trajectories=1, sampler=None, steps=None)
    assert len(compare(write(a=results("a"), b=copied)).results) == 2


def test_the_best_of_many_and_the_best_of_few_are_not_compared(write):
    copied = results("copy-last-frame", trajectories=1, sampler=None, steps=None)
    few = results("b", trajectories=5)
    for others in ({}, {"first": copied}):  # whatever stands before them
        with pytest.raises(UserError, match=r"best of so many trajectories .*\(10 in .*a\.json, 5 in .*b\.json\)"):
            compare(write(**others, a=results("a"), b=few))


def test_what_not_all_have_is_left_out_and_named(write):
    few = results("few")
    del few["summary"]["fvd"]
    comparison = compare(write(a=results("a"), b=few))
    assert "FVD" not in comparison.table()
    assert "left out: fvd." in comparison.markdown()


def test_models_of_one_name_are_told_by_their_files(write):
    assert list(compare(write(few=results("m"), many=results("m"))).results) == ["m (few)", "m (many)"]


def test_command_writes_table_and_figures(write, tmp_path, capsys):
    files = write(a=results("one"), b=results("two", gain=1))
    assert main(["compare", *map(str, files), "--out", str(tmp_path / "out")]) == 0
    assert "| one |" in capsys.readouterr().out
    assert (tmp_path / "out" / "table.md").read_text().count("Intervals are too narrow") == 1
    lines = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert {line["model"] for line in lines} == {"one", "two"}
    assert len(lines) == 6
    for picture in ("frames.png", "seconds.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")


def test_command_says_what_it_cannot_compare(write, tmp_path, capsys):
    files = write(a=results("one"), b={"no": "results"})
    for given, reason in ((files, "no results file"), ([tmp_path / "none.json"], "there are no results")):
        assert main(["compare", *map(str, given), "--out", str(tmp_path / "out")]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_blank_frame_does_not_decide_what_the_axes_show(write):
    files = write(a=results("one"), b=results("blank-frame", gain=-100), c=results("two", gain=1))
    with_blank, without = compare(files), compare([files[0], files[2]])
    for draw in ("frames_figure", "seconds_figure"):
        limits = [[axes.get_ylim() for axes in getattr(it, draw)().axes] for it in (with_blank, without)]
        assert limits[0] == limits[1]
