from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from media import full_disk
from safetensors.torch import save_file

from lgcvd import LGCVD, About, UserError, load, save, shipped_models

ABOUT = About("mine", data="moving digits", licence="MIT", step=123)


@pytest.fixture
def folder(tiny_model: LGCVD, tmp_path: Path) -> Path:
    save(tiny_model, tmp_path / "model", ABOUT)
    return tmp_path / "model"


def same_weights(a: LGCVD, b: LGCVD) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_what_is_saved_comes_back(tiny_model: LGCVD, folder: Path):
    model = load(folder)
    assert (model.config, model.about) == (tiny_model.config, ABOUT)
    assert not model.training
    assert same_weights(model, tiny_model)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_saving_and_loading_draw_no_random_numbers(tiny_model: LGCVD, tmp_path: Path):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    save(tiny_model, tmp_path / "model", dtype=torch.float16)
    load(tmp_path / "model")
    assert torch.equal(torch.rand(3), expected)
    assert {(weight.dtype, weight.device.type) for weight in tiny_model.parameters()} == {(torch.float32, "cpu")}


def test_half_precision_halves_the_file_and_computes_in_single(tiny_model: LGCVD, folder: Path, tmp_path: Path):
    save(tiny_model, tmp_path / "half", dtype=torch.float16)
    model = load(tmp_path / "half")
    for ours, exact in zip(model.parameters(), tiny_model.parameters(), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, exact, atol=1e-3, rtol=1e-3)
    sizes = [(path / "model.safetensors").stat().st_size for path in (tmp_path / "half", folder)]
    assert sizes[0] < 0.7 * sizes[1]
    assert next(tiny_model.parameters()).dtype == torch.float32


def test_whoever_may_read_the_config_may_read_the_weights(folder: Path):
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_config_file_carries_all_that_the_use_needs(tiny_model: LGCVD, folder: Path):
    written = json.loads((folder / "config.json").read_text())
    assert written["about"] == json.loads(json.dumps(asdict(ABOUT)))
    assert written["model"] == json.loads(json.dumps(asdict(tiny_model.config)))


def test_saving_anew_replaces_the_old(tiny_model: LGCVD, folder: Path):
    with torch.no_grad():
        next(tiny_model.parameters()).add_(1)
    save(tiny_model, folder, About("newer"))
    assert load(folder).about.name == "newer"
    assert same_weights(load(folder), tiny_model)


def test_a_full_disk_leaves_the_old_folder_whole(tiny_model: LGCVD, folder: Path, tmp_path: Path):
    with full_disk(after=10_000), pytest.raises(UserError, match="cannot be written"):
        save(tiny_model, folder, About("newer"))
    assert load(folder).about == ABOUT
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_missing_file_is_named(folder: Path, file: str):
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not an lgcvd model's config"),
        ("[1]", "is not an lgcvd model's config"),
        ('{"architectures": ["GPT2"]}', "is not an lgcvd model's config"),
        ('{"model": "gpt2"}', "is not an lgcvd model's config"),
        ("[" * 100_000, "is not an lgcvd model's config"),
        ('{"model": {"dim": "wide"}}', "dim must be a whole number, not 'wide'"),
        ('{"model": {"dim": 7}}', "dim must be"),
        ('{"model": {"magic": 1}}', r"unknown settings \(magic\)"),
    ],
)
def test_foreign_config_is_refused(folder: Path, content: str, words: str):
    (folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("part", "setting", "words"),
    [
        ("model", '"dim": 8.0', "dim must be a whole number, not 8.0"),
        ("model", '"multipliers": [1, 2.5]', "multipliers must be a list, each a whole number"),
        ("model", '"image_size": [16.0, 16.0]', "image_size must be a list of 2, each a whole number"),
        ("model", '"image_size": [16]', "image_size must be a list of 2, each a whole number"),
        ("model", '"attention": 5', "attention must be a list, each a whole number, not 5"),
        ("model", '"attention": null', "attention must be a list, each a whole number, not None"),
        ("model", '"attention_up": 3', "attention_up must be a list, each a whole number or nothing, not 3"),
        ("model", '"context_frames": 1.5', "context_frames must be a whole number"),
        ("model", '"timesteps": 2.5', "timesteps must be a whole number"),
        ("model", '"head_channels": 2.5', "head_channels must be a whole number"),
        ("model", '"global_context": "no"', "global_context must be true or false, not 'no'"),
        ("model", '"data_mean": "x"', "data_mean must be a finite number, not 'x'"),
        ("model", '"data_mean": null', "data_mean must be a finite number"),
        ("model", '"data_mean": NaN', "data_mean must be a finite number"),
        ("model", '"data_std": NaN', "data_std must be a finite number"),
        ("model", '"kind": [1]', "there is no kind"),
        ("about", "5", "about must be values by name or nothing, not 5"),
        ("about", '"x"', "about must be values by name"),
        ("about", "[1]", "about must be values by name"),
        ("about", '"name": 5', "name must be text, not 5"),
        ("about", '"tasks": null', "tasks must be a list, each text"),
        ("about", '"tasks": 5', "tasks must be a list, each text"),
        ("about", '"tasks": [1]', "tasks must be a list, each text"),
        ("about", '"sampling": null', "sampling must be values by name, each text or a whole number"),
        ("about", '"sampling": 5', "sampling must be values by name"),
        ("about", '"sampling": {"a": 1}', "sampling has no 'a': choose from sampler, steps"),
        ("about", '"sampling": {"steps": "few"}', "steps must be a whole number, not 'few'"),
        ("about", '"sampling": {"sampler": "x"}', "there is no sampler 'x'"),
        ("about", '"sampling_by_task": null', "sampling_by_task must be values by name"),
        ("about", '"sampling_by_task": {"past": {"eta": 2}}', "eta"),
    ],
)
def test_a_wrong_value_in_a_config_is_told_with_its_file_and_name(folder: Path, part: str, setting: str, words: str):
    """``setting`` is one value of the part, or the whole part."""
    file = folder / "config.json"
    content = json.loads(file.read_text())
    read = json.loads(f"{{{setting}}}" if ":" in setting else setting)
    content[part] = content[part] | read if isinstance(read, dict) else read
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"^{re.escape(str(file))}: .*{re.escape(words)}"):
        load(folder)


def test_a_config_needs_to_say_nothing_about_the_model(folder: Path):
    file = folder / "config.json"
    settings = json.loads(file.read_text())["model"]
    for about in ({}, {"about": None}, {"about": {"of_a_later_version": 1}}):
        file.write_text(json.dumps({"model": settings} | about))
        assert load(folder).about == About()


def test_weights_of_another_model_are_refused_by_name(folder: Path):
    save_file({"foreign": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"(?s)does not fit config\.json .*Missing key.*copy both from one checkpoint"):
        load(folder)


@pytest.mark.parametrize("length", [0, 5, 2000])
def test_truncated_weights_are_refused(folder: Path, length: int):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:length])
    with pytest.raises(UserError, match="does not fit"):
        load(folder)


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere", "/nowhere/at/all", "a/b/c"])
def test_unknown_name_is_refused_with_the_choice(name: str):
    with pytest.raises(UserError, match=r"moving-digits.*hub id"):
        load(name)


def test_hub_id_that_cannot_be_fetched_is_refused():
    with pytest.raises(UserError, match="neither a folder here"):
        load("nobody/nothing")


def test_every_shipped_model_loads_and_says_what_it_is():
    assert "moving-digits" in shipped_models()
    for name in shipped_models():
        about = load(name).about
        assert (about.name, bool(about.data), bool(about.licence)) == (name, True, True)
