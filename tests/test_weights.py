"""The weights that come with lgcvd: they do what their cards say, and can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from data_tools import train_weights
from lgcvd import PRESETS, UserError, load, save, shipped_models
from lgcvd.__main__ import main
from lgcvd.checkpoints import SHIPPED

ROOT = Path(__file__).parents[1]


def check_of(name: str) -> dict:
    """What a card's head says of a short prediction."""
    return ModelCard.load(SHIPPED / name / "README.md").data["check"]


def means(check: dict, out: Path, model: str | None = None) -> dict[str, float]:
    """What the command of a check measures, of another ``model`` than its own if there is one."""
    program, *arguments = check["command"].split()
    assert program == "lgcvd"
    arguments[arguments.index("--out") + 1] = str(out)
    if model:
        arguments[arguments.index("--model") + 1] = model
    assert main(arguments) == 0
    summary = json.loads(out.read_text())["summary"]
    return {name: summary[name]["mean"]["value"] for name in check["means"]}


def holds(check: dict, measured: dict[str, float]) -> bool:
    return all(abs(measured[name] - mean) <= check["within"][name] for name, mean in check["means"].items())


@pytest.mark.parametrize("name", shipped_models())
def test_a_card_is_one_card(name: str) -> None:
    """Once the rest of an older one stood behind it."""
    lines = ModelCard.load(SHIPPED / name / "README.md").text.splitlines()
    assert [line for line in lines if line.startswith("# ")] == [f"# {name}"]
    assert sum(line.startswith("- **Measured**") for line in lines) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_models())
def test_weights_predict_as_their_card_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check = check_of(name)
    measured = means(check, tmp_path / "check.json")
    assert holds(check, measured), measured


@pytest.mark.slow
def test_the_check_sees_weights_that_are_spoiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    model = load("moving-digits")
    with torch.no_grad():
        model.unet.head[1].weight.mul_(0.9)
    save(model, tmp_path / "spoiled")
    check = check_of("moving-digits")
    assert not holds(check, means(check, tmp_path / "check.json", str(tmp_path / "spoiled")))


@pytest.mark.parametrize("name", shipped_models())
def test_every_shipped_model_has_a_recipe_that_says_what_its_checkpoint_says(name: str) -> None:
    about, recipe = load(name).about, train_weights.RECIPES[name]
    assert (about.data, about.licence) == (recipe.told, recipe.licence)
    assert about.step == sum(run.iterations for run in recipe.runs)
    assert (about.sampling, about.sampling_by_task) == (recipe.sampling, recipe.sampling_by_task)


def test_weights_are_trained_and_written_as_they_are_shipped(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    arguments = ["moving-digits", "--budget", "0.0001", "--out", str(tmp_path), "--", "--watch-every", "1000"]
    arguments += ["--train.batch-size", "1", "--device", "cpu"]
    assert train_weights.run(arguments) == 0
    assert "train digits" in capfd.readouterr().out
    model, shipped = load(tmp_path / "moving-digits"), load("moving-digits")
    assert model.config == shipped.config
    assert model.about.name == "moving-digits"
    assert model.about.step == len(train_weights.RECIPES["moving-digits"].runs)
    assert (model.about.data, model.about.licence) == (shipped.about.data, shipped.about.licence)
    size = (tmp_path / "moving-digits" / "model.safetensors").stat().st_size
    assert size == (SHIPPED / "moving-digits" / "model.safetensors").stat().st_size


@pytest.mark.parametrize("name", ["robot-pushing", "robot-hands"])
def test_mcvd_gets_as_many_optimizer_steps_on_the_same_data(name: str) -> None:
    ours, theirs = train_weights.RECIPES[name], train_weights.RECIPES[f"{name}-mcvd-spatin"]
    assert theirs.preset in PRESETS
    assert theirs.source == ours.source
    for our, their in zip(ours.runs[: ours.compared], theirs.runs, strict=True):
        in_two_stages = our.iterations - our.single_stage if our.objective == "two_stage" else 0
        assert their.objective == "block_masking"
        assert their.iterations == our.iterations + in_two_stages
        assert their.warmup == our.warmup * (2 if in_two_stages == our.iterations else 1)
        assert their.options == our.options


def test_a_recipe_may_begin_with_a_shipped_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("robot-hands", "robot-hands-mcvd-concat"):
        assert train_weights.run([name, "--data", str(tmp_path), "--out", "runs", "--dry-run"]) == 0
    begins = [line.rpartition("--init ")[2] for line in capsys.readouterr().out.splitlines()]
    assert begins[0::2] == ["robot-pushing", "robot-pushing-mcvd-concat"]
    assert begins[1::2] == [f"runs/runs/{name}-1/model" for name in ("robot-hands", "robot-hands-mcvd-concat")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["robot-feet"], "there is no recipe for 'robot-feet': choose one of"),
        (["robot-hands"], "robot-hands needs robot_hands: .* give the folder with --data"),
        (["--budget", "0"], "--budget must be positive"),
        (["--data", "somewhere"], "--data belongs to one model"),
    ],
)
def test_wrong_wishes_get_a_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        train_weights.run([*arguments, "--out", str(tmp_path)])
