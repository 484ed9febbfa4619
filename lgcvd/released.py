"""Import of the LGC-VD authors' released checkpoints.

Their network is ours but for the names, and for one thing that our configuration can say: on the way up they put
attention at the mirrored level (listed for 16 of 64 pixels, it sits at 16 on the way down and at 32 on the way up).
Their second group norm seeks a divisor of the block's input channels, ours of its own; at dim 128 both find 32 groups.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lgcvd.checkpoints import read_torch_file
from lgcvd.config import PRESETS, ModelConfig
from lgcvd.errors import UserError
from lgcvd.models import LGCVD, About

ATTENTION = {"bair-64": (16,), "cityscapes-128": (32,)}
"""Preset -> heights of feature maps that the released checkpoints list for attention."""

NAMES = (
    ("encoder.path.levels", "encoder_fn.downs"),
    ("unet.path.levels", "denoise_fn.downs"),
    ("unet.levels", "denoise_fn.ups"),
    ("encoder.path", "encoder_fn"),
    ("unet.path", "denoise_fn"),
    ("unet", "denoise_fn"),
    ("stem", "init_conv"),
    ("time.mlp.0", "time_mlp.1"),
    ("time.mlp.2", "time_mlp.3"),
    ("mid_res1", "midblock1"),
    ("mid_attn", "midblock2"),
    ("mid_res2", "midblock3"),
    ("cross", "midblock4"),
    ("head.1", "finial_conv"),
    ("res1", "0"),
    ("attn1", "1"),
    ("res2", "2"),
    ("attn2", "3"),
    ("res3", "4"),
    ("down.", "4."),
    ("up.", "5."),
    ("norm1", "GroupNorm_0"),
    ("norm2", "GroupNorm_1"),
    ("norm", "GroupNorm_0"),
    ("conv1", "Conv_0"),
    ("conv2", "Conv_1"),
    ("shortcut", "Conv_2"),
    ("time.", "Dense_0."),
)
"""Ours -> theirs, replaced one after the other."""

NINS = {"query": ("NIN_0",), "key_value": ("NIN_1", "NIN_2"), "out": ("NIN_3",)}
"""Our attention layers -> their 1x1 linear maps, stacked; their weights ``W`` are (in, out), ours (out, in)."""

SCHEDULE_BUFFERS = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
}


def load_released(file: str | Path, preset: str | ModelConfig, encoder: Literal["ema", "model"] = "ema") -> LGCVD:
    """The model in an authors' checkpoint file (a ``torch.save`` dictionary with ``model``, ``ema`` and ``step``).

    preset: name of a preset, or the settings that the checkpoint was trained with (``attention`` as listed there).
    encoder: the averaged encoder, or the raw one that the released sampler takes; the denoiser is always averaged.
    Raises ``UserError`` for a file that is none of theirs or does not fit the preset.
    """
    file = Path(file)
    saved = read_torch_file(file, ("model", "ema"))
    if not (isinstance(saved["model"], dict) and isinstance(saved["ema"], dict)):
        raise UserError(f"{file} holds no weights under model and ema: use a checkpoint of the authors' trainer.")
    theirs = {key: value for key, value in saved["ema"].items() if key not in SCHEDULE_BUFFERS}
    theirs |= {key: value for key, value in saved[encoder].items() if key.startswith("encoder_fn.")}
    about = About(
        name=f"released-{preset}" if isinstance(preset, str) else file.stem,
        data=f"as the LGC-VD authors trained it (imported from their checkpoint {file.name}, encoder from {encoder!r})",
        licence="the authors' terms",
        step=int(saved.get("step", 0)),
    )
    model = LGCVD(released_config(preset), about)
    model.load_state_dict(_renamed(theirs, model.state_dict(), file))
    return model.eval()


def released_config(preset: str | ModelConfig) -> ModelConfig:
    """Our settings for the network that the released code builds."""
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise UserError(f"there is no preset {preset!r}: choose one of {', '.join(ATTENTION)}.")
        model = PRESETS[preset].model
        preset = replace(model, attention=ATTENTION.get(preset, model.attention))
    finest, levels = preset.image_size[0] // preset.patch_size, len(preset.multipliers)
    heights = [finest // 2**level for level in range(levels)]
    mirrored = dict(zip(heights, reversed(heights), strict=True))
    return replace(preset, attention_up=tuple(mirrored[height] for height in preset.attention if height in mirrored))


def _renamed(theirs: dict[str, Tensor], ours: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Their tensors under our names and in our shapes; ``UserError`` unless they are just what ``ours`` needs."""
    sources = {name: _their_names(name) for name in ours}
    needed = {name for names in sources.values() for name in names}
    _refuse(file, "lacks", needed - theirs.keys())
    _refuse(file, "has unknown", theirs.keys() - needed)
    misshapen = []
    for name, parts in sources.items():
        rows, *rest = ours[name].shape
        shape = (rows // len(parts), *rest)
        for part in parts:
            expected, found = shape[::-1] if part.endswith(".W") else shape, tuple(theirs[part].shape)
            if found != expected:
                misshapen.append(f"{part} {found} for {expected}")
    _refuse(file, "has other shapes:", misshapen)
    return {
        name: torch.cat([theirs[part].T if part.endswith(".W") else theirs[part] for part in parts])
        for name, parts in sources.items()
    }


def _their_names(name: str) -> list[str]:
    """The keys of a checkpoint that make up our tensor ``name``: two for the fused keys and values, else one."""
    for our, their in NAMES:
        name = name.replace(our, their)
    *block, layer, kind = name.split(".")
    if layer not in NINS:
        return [name]
    return [".".join([*block, nin, {"weight": "W", "bias": "b"}[kind]]) for nin in NINS[layer]]


def _refuse(file: Path, what: str, names: set[str] | list[str]) -> None:
    if names:
        first = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise UserError(f"{file} does not fit this preset: it {what} {first}; choose the preset it was trained with.")
