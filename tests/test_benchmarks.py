from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lgcvd

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "promised"),
    [
        ("denoise_step.py --quick --rounds 2 --batch 1 2", ["| tiny | 1 |", "| tiny | 2 |"]),
        ("predict.py --quick --rounds 1 --batch 1 --clips 2", ["| tiny | 1 |", "| dpm++2m | 10 |"]),
        ("data_reader.py --seconds 0.01 --rounds 1 --videos 2", ["| 64 px | ours |", "| 128 px |"]),
        ("convert.py --videos 2 --frames 3 --workers 1", ["| 1 |"]),
        ("train_step.py --quick --rounds 1 --batch 2", ["| tiny | 2 |", "No GPU was at hand"]),
        ("sizes.py --presets tiny", ["| tiny | lgcvd | 8 |", "| tiny-mcvd-concat |", "| tiny-mcvd-spatin |"]),
        ("metrics.py --quick", ["| LPIPS |", "| I3D features |", "FVD of 2 clips"]),
        ("film_alone.py --clips 2 --frames 3", ["| the model |", "| its film alone |"]),
        ("recipes.py --minutes 0.01 --clips 2 --only 'the preset'", ["| the preset |"]),
    ],
)
def test_benchmark_prints_its_tables(command, promised):
    script, *options = shlex.split(command)
    done = subprocess.run([sys.executable, BENCHMARKS / script, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for text in promised:
        assert text in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "2", "0"], "--batch and --rounds must be at least 1."),
        (["--rounds", "0"], "--batch and --rounds must be at least 1."),
        (["--device", "cuda"], "there is no cuda device here: use --device cpu."),
    ],
)
def test_a_training_step_that_cannot_be_timed_is_told(options, words, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_step

    monkeypatch.setattr(sys, "argv", ["train_step.py", *options])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(lgcvd.UserError, match=words):
        train_step.main()


@pytest.mark.slow
def test_a_comparison_of_samplers_can_be_extended(tmp_path):
    """What was measured is kept: rows are added, and none is measured twice."""
    shutil.copy(BENCHMARKS.parent / "docs" / "samplers.md", tmp_path)
    options = ["--quick", "--data", "digits", "--clips", "2", "--frames", "9", "--only", "ddim", "--spacings", "karras"]
    command, rows = [sys.executable, BENCHMARKS / "samplers.py", "--out", tmp_path, *options, "--steps"], []
    for steps in (["2"], ["2", "4"]):
        done = subprocess.run([*command, *steps], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        rows.append(json.loads((tmp_path / "samplers.json").read_text())["rows"])
    assert rows[1][: len(rows[0])] == rows[0]  # with the same seconds, too
    page = (tmp_path / "samplers.md").read_text()
    for row in ("| ddpm, ends | 100 |", "| the same, other noise | 100 |", "| ddim | 2 |", "| ddim | karras | 4 |"):
        assert row in page
    assert page.startswith("# Samplers")
    assert (tmp_path / "samplers.png").exists()


@pytest.mark.slow
def test_tables_are_made_of_what_is_shipped(tmp_path):
    options = ["--clips", "2", "--trajectories", "1", "--frames", "2", "--steps", "1", "--metrics", "psnr", "ssim"]
    command = [sys.executable, BENCHMARKS / "tables.py", "digits", "--out", tmp_path, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    table = (folder / "table.md").read_text()
    for row in ("moving-digits", "copy-last-frame", "mean-frame", "blank-frame", "optical-flow"):
        assert f"| {row} |" in table
        assert (folder / f"{row}.json").exists()
    assert (folder / "prediction.gif").exists()


def test_straightforward_form_computes_the_same(tiny_model, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from denoise_step import step
    from plain import PlainAttention, straightforward

    plain = straightforward(tiny_model)
    assert sum(isinstance(module, PlainAttention) for module in plain.modules()) > 4
    with torch.no_grad():
        torch.testing.assert_close(step(plain, 2, False)(), step(tiny_model, 2, True)(), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="compiling for the CPU needs a C++ compiler")
def test_compiled_model_predicts_the_same(tiny_model, digits_clip, tmp_path):
    lgcvd.save(tiny_model, tmp_path / "model")
    predictions = [
        lgcvd.predict(
            lgcvd.load(tmp_path / "model", compile=compile),
            digits_clip[:, :2],
            8,
            steps=2,
            generator=torch.Generator().manual_seed(0),
        )
        for compile in (False, True)
    ]
    torch.testing.assert_close(*predictions, atol=1e-3, rtol=0)
