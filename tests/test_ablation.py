from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lgcvd import PRESETS, MovingDigits, TaskMix, UserError
from lgcvd.ablation import COPY, VARIANTS, Budget, Score, ablate
from lgcvd.baselines import copy_last_frame
from lgcvd.metrics import lpips, psnr
from lgcvd.video import from_uint8

SIZE = 32  # LPIPS needs so many pixels
TINY = replace(PRESETS["tiny"], model=replace(PRESETS["tiny"].model, image_size=(SIZE, SIZE)))
DATA = MovingDigits(length=7, frames=14, image_size=SIZE)
NAMES = ("whole", "last-clip-only", "no-global-context")


def held_out() -> Tensor:
    data = MovingDigits(split="validation", length=2, frames=11, image_size=SIZE)
    return torch.stack([data[0], data[1]])


def compare(folder: Path, names=NAMES, budget: Budget | None = None, seeds=(0,)):
    return ablate(TINY, names, DATA, held_out(), folder, budget or Budget(iterations=3), seeds=seeds)


def test_each_variant_changes_what_it_says():
    changed = {name: variant.change(TINY) for name, variant in VARIANTS.items()}
    assert changed["whole"] == TINY
    assert len(set(changed.values()) | {replace(TINY, train=replace(TINY.train, tasks=TaskMix(1, 0, 0, 0)))}) == len(
        {*VARIANTS}
        - {"paper-tasks", "all-estimates", "no-things", "no-motion-skip"}  # tiny is the paper's, without a skip
    )
    assert changed["single-stage"].train.objective == "single_stage"
    late = replace(TINY, train=replace(TINY.train, iterations=10, single_stage=4))
    assert VARIANTS["single-stage"].change(late).train.iterations == 4 + 2 * 6, "as many optimizer steps"
    assert not changed["no-global-context"].model.global_context
    assert not changed["no-position-planes"].model.position_planes
    assert changed["last-clip-only"].model.memory_decay == 0


def test_budgets_shorten_every_phase_alike():
    config = replace(PRESETS["robot-64"].train, iterations=1000, warmup=10, single_stage=500, cooldown=100)
    shorter = Budget(iterations=100).of(config)
    assert (shorter.iterations, shorter.warmup, shorter.single_stage, shorter.cooldown) == (100, 1, 50, 10)
    timed = Budget(minutes=3).of(config)
    assert (timed.single_stage, timed.cooldown) == (0, 0)
    for bad in ({}, {"iterations": 0}, {"iterations": 1, "minutes": 1.0}):
        with pytest.raises(UserError, match="either in iterations or in minutes"):
            Budget(**bad)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablation")
    steps = list(compare(folder))
    assert [(at.variant, at.step.iteration) for at in steps] == [
        (name, n) for name in ("whole", "no-global-context") for n in (1, 2, 3)
    ]  # what differs at rollout only is not trained again
    assert steps[-1].fraction == 1
    return folder


def test_table_and_figure_show_every_variant_and_copying(compared: Path):
    with (compared / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == [*NAMES, COPY]
    assert [row["iterations"] for row in rows] == ["3", "3", "3", "-"]
    truth = from_uint8(held_out())
    copied = copy_last_frame(truth[:, :2], 9)[:, 2:]
    for title, measure, within in (("PSNR, dB", psnr, 0.006), ("LPIPS", lpips, 0.0006)):
        assert float(rows[-1][title].split()[0]) == pytest.approx(
            measure(copied, truth[:, 2:]).mean().item(), abs=within
        )
    markdown = (compared / "table.md").read_text()
    assert all(f"| {name} |" in markdown for name in (*NAMES, COPY))
    assert (
        "The optimizer steps of 3 iterations of the preset each, one seed; 2 held-out clips, 2 -> 9 frames" in markdown
    )
    with Image.open(compared / "figure.png") as picture:
        assert picture.width > 500


def test_a_comparison_that_is_done_is_only_written_again(compared: Path):
    before = (compared / "table.md").read_text()
    (compared / "table.md").unlink()
    assert list(compare(compared)) == []
    assert (compared / "table.md").read_text() == before


def test_what_has_its_scores_is_not_trained_again(compared: Path):
    shares_weights = "last-clip-only"  # with a variant that is not asked for
    assert list(compare(compared, (shares_weights,))) == []


def test_a_comparison_that_was_broken_off_goes_on(compared: Path, tmp_path: Path):
    steps = compare(tmp_path)
    for _ in range(5):
        last = next(steps)
    steps.close()
    assert last.variant == "no-global-context"
    assert [(at.variant, at.step.iteration) for at in compare(tmp_path)] == [("no-global-context", 3)]
    for name in NAMES:
        whole, broken = (Score.from_json(json.loads((f / f"{name}-0.json").read_text())) for f in (compared, tmp_path))
        assert np.array_equal(whole.values["psnr"], broken.values["psnr"])


def test_other_settings_are_refused(compared: Path):
    with pytest.raises(UserError, match=r"other settings \(budget\.iterations: 3 there, 4 here.*another folder"):
        next(compare(compared, budget=Budget(iterations=4)))


def test_what_cannot_be_compared_is_told_before_anything_is_trained(tmp_path: Path):
    clips = torch.zeros(1, 2 + 1001, 1, SIZE, SIZE, dtype=torch.uint8)
    with pytest.raises(UserError, match="between 1 and 1000, not 1001"):
        next(ablate(TINY, NAMES, DATA, clips, tmp_path, Budget(iterations=3)))
    mcvd = PRESETS["tiny-mcvd-concat"]
    with pytest.raises(UserError, match="MCVD is trained with block_masking"):
        next(ablate(mcvd, ("whole", "single-stage"), DATA, clips[:, :4], tmp_path, Budget(iterations=3)))
    assert not list(tmp_path.iterdir())


def test_scores_of_other_clips_are_not_mixed_in(compared: Path, tmp_path: Path):
    def again(clips: Tensor):
        return list(ablate(TINY, NAMES, DATA, clips, folder, Budget(iterations=3)))

    folder = shutil.copytree(compared, tmp_path / "copy")
    with pytest.raises(UserError, match=r"held out: crc32 \w+ there, crc32 \w+ here"):
        again(held_out().flip(0))
    settings = json.loads((folder / "settings.json").read_text())
    del settings["held out"]  # as in folders from before it was told
    (folder / "settings.json").write_text(json.dumps(settings))
    assert again(held_out()) == []


def test_minutes_are_counted_over_interruptions(tmp_path: Path):
    budget = Budget(minutes=1 / 60)
    steps = compare(tmp_path, ("whole",), budget)
    next(steps)
    steps.close()
    spent = json.loads((tmp_path / "whole-0" / "seconds.json").read_text())
    (tmp_path / "whole-0" / "seconds.json").write_text(json.dumps(spent + 100))
    assert len(list(compare(tmp_path, ("whole",), budget))) == 1


def psnr_of(score: Score) -> float:
    return score.values["psnr"].mean()


def test_seeds_are_trained_apart_and_can_be_added(tmp_path: Path):
    names = ("whole", "last-clip-only", "single-stage")
    assert len(list(compare(tmp_path, names))) == 3 + 6  # a stage takes one step: twice as many iterations
    added = list(compare(tmp_path, names, seeds=(0, 5)))
    assert {(at.variant, at.seed) for at in added} == {("whole", 5), ("single-stage", 5)}
    scores = {
        (name, seed): Score.from_json(json.loads((tmp_path / f"{name}-{seed}.json").read_text()))
        for name in names
        for seed in (0, 5)
    }
    assert not np.array_equal(scores["whole", 0].values["psnr"], scores["whole", 5].values["psnr"])
    with (tmp_path / "table.csv").open() as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    means = {name: (psnr_of(scores[name, 0]) + psnr_of(scores[name, 5])) / 2 for name in names}
    for name in names:
        assert float(rows[name]["PSNR, dB"].split()[0]) == pytest.approx(means[name], abs=0.006)
        by_seed = [float(value) for value in rows[name]["PSNR, dB by seed"].split(" / ")]
        assert by_seed == pytest.approx([psnr_of(scores[name, seed]) for seed in (0, 5)], abs=0.006)
    difference = float(rows["single-stage"]["PSNR, dB, difference from whole"].split()[0])
    assert difference == pytest.approx(means["single-stage"] - means["whole"], abs=0.006)
    assert "means of the seeds 0, 5" in (tmp_path / "table.md").read_text()


def test_frames_too_small_for_lpips_are_compared_without_it():
    small = torch.zeros(2, 3, 1, 16, 16)
    assert Score.of_frames(small, small).values.keys() == {"psnr", "ssim"}
    assert Score.of_frames(*[torch.zeros(2, 3, 1, 32, 32)] * 2).values.keys() == {"psnr", "ssim", "lpips"}
