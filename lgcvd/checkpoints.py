"""Our checkpoint format: a folder with ``config.json`` and ``model.safetensors``, all that using the model needs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import torch
from safetensors import SafetensorError

from lgcvd.checks import check_value
from lgcvd.config import DEFAULT_MODEL, ModelConfig
from lgcvd.denoiser import About, VideoDenoiser
from lgcvd.errors import UserError
from lgcvd.files import ASSETS, draft_folder
from lgcvd.models import MODELS, build
from lgcvd.sampling import Sampling

SHIPPED = ASSETS / "models"
FILES = ("config.json", "model.safetensors")


def shipped_models() -> list[str]:
    """Names of the models that come with the package, the default one first."""
    names = (folder.name for folder in SHIPPED.iterdir() if (folder / FILES[0]).is_file())
    return sorted(names, key=lambda name: (name != DEFAULT_MODEL, name))


def load(name: str | Path, device: str | torch.device = "cpu", compile: bool = False) -> VideoDenoiser:
    """A model ready to predict, from a shipped model's name, a checkpoint folder, or a hub id (owner/name).

    ``compile``: see ``compile_networks``; worth it for many predictions of one size.
    Raises ``UserError`` with the remedy when there is no such model or its files are incomplete or foreign.
    """
    name = str(name)
    folder = SHIPPED / name if name in shipped_models() else Path(name)
    if not name or not os.path.isdir(folder):  # Path("") is this folder, and Path.is_dir() raises for long names
        folder = _download(name)
    if not (folder / FILES[1]).is_file() and (folder / "model" / FILES[1]).is_file():
        raise UserError(f"{folder} is the folder of a run: its model is {folder / 'model'}.")
    for file in FILES:
        if not (folder / file).is_file():
            raise UserError(f"{folder} is no lgcvd checkpoint: {file} is missing; copy the whole folder again.")
    config = _read_config(folder / FILES[0])
    try:
        # the mixin announces every local folder, and draws weights, from the caller's random numbers, only to drop them
        with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
            model = MODELS[config.kind].from_pretrained(folder, strict=True)
    except (RuntimeError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise UserError(
            f"{folder / FILES[1]} does not fit {FILES[0]} ({reason}): copy both from one checkpoint."
        ) from error
    model = model.to(device).eval()
    return compile_networks(model) if compile else model


def compile_networks(model: VideoDenoiser) -> VideoDenoiser:
    """``torch.compile`` the networks of ``model`` in place, and return it.

    Shapes are static: the first step of every new batch or frame size is slow, all others are faster. The CPU needs a
    C++ compiler for it.
    """
    for network in model.children():
        network.compile(dynamic=False)
    return model


def save(
    model: VideoDenoiser, folder: str | Path, about: About | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write ``model`` as a checkpoint folder; an old one of that name is replaced only once the new one is whole.

    ``dtype``: store the weights in it (float16 halves the file); they are float32 again after ``load``.
    """
    with draft_folder(Path(folder)) as part:
        write(model, part, about, dtype)


def write(model: VideoDenoiser, folder: Path, about: About | None = None, dtype: torch.dtype | None = None) -> None:
    """``save`` into a folder that nobody reads yet."""
    with torch.device("meta"):  # else it would draw weights, from the caller's random numbers, only to drop them
        copy = build(model.config, about or model.about)
    copy.load_state_dict(model.state_dict(), assign=True)
    try:
        copy.to(dtype).save_pretrained(folder)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(str(error)) from error
    (folder / FILES[1]).chmod((folder / FILES[0]).stat().st_mode)  # else it is for its owner's eyes alone
    (folder / "README.md").unlink(missing_ok=True)  # the hub's, which would take the place of a card


def read_torch_file(file: Path, keys: tuple[str, ...]) -> dict:
    """The dictionary that ``torch.save`` wrote to ``file``; ``UserError`` unless it is one and has ``keys``."""
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}: check the path.") from error
    except Exception as error:  # what unpickling foreign bytes raises has no common base
        raise UserError(f"{file} is no checkpoint that torch can read, or it is damaged: copy it again.") from error
    missing = [key for key in keys if key not in saved] if isinstance(saved, dict) else list(keys)
    if missing:
        raise UserError(f"{file} is another kind of file, it has no {' and no '.join(missing)}: check the path.")
    return saved


def _download(name: str) -> Path:
    """Fetch a hub checkpoint into the local cache."""
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise UserError(
            f"there is no model {name!r}: give a shipped model ({', '.join(shipped_models())}), a checkpoint folder, "
            "or a Hugging Face hub id (owner/name)."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # the hub client's errors have no common base: network, HTTP and validation errors
        raise UserError(
            f"{name!r} is neither a folder here nor could it be fetched from the Hugging Face hub "
            f"({type(error).__name__}): check the name and the network, or give a local folder."
        ) from error


def _read_config(path: Path) -> ModelConfig:
    """The model's settings; ``UserError`` unless these, and what the file says about the model, can be."""
    try:
        content = json.loads(path.read_text())
        config, about = content["model"], content.get("about")
        unknown = config.keys() - {field.name for field in fields(ModelConfig)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not an lgcvd model's config: use a checkpoint folder that lgcvd wrote.") from error
    if unknown:
        raise UserError(f"{path} has unknown settings ({', '.join(sorted(unknown))}): update lgcvd to read it.")
    try:
        check_value("about", about, dict | None)
        _check_about(about or {})
        return ModelConfig(**config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _check_about(written: dict) -> None:
    """Raise ``UserError`` unless ``About`` can be made of what a file says, and ``Sampling`` of its options."""
    about = About(**{field.name: written[field.name] for field in fields(About) if field.name in written})
    hints = get_type_hints(Sampling)
    for task in ("", *about.sampling_by_task):
        options = about.sampling_for(task)
        for name, value in options.items():
            if name not in hints:
                raise UserError(f"sampling has no {name!r}: choose from {', '.join(hints)}.")
            check_value(name, value, hints[name])
        Sampling(**options)
