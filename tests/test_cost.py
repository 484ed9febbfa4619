from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lgcvd import LGCVD, PRESETS, TwoStage, UserError
from lgcvd.cost import GB, Cost, cost_of, told_when_too_large, too_large

TINY = PRESETS["tiny"]


def test_cost_counts_parameters_and_every_stage():
    cost, alone = (cost_of(TINY.model, replace(TINY.train, objective=name)) for name in ("two_stage", "single_stage"))
    assert cost.parameters == sum(weight.numel() for weight in LGCVD(TINY.model).parameters())
    assert list(cost.flops) == ["stage1", "stage2"]
    assert alone.flops == {"stage1": cost.flops["stage2"]}


def test_operations_of_the_paper_are_those_of_its_network():
    """39.6 GFLOP a U-Net, 17.1 an encoder, as their authors count; backward costs twice the forward pass."""
    flops = cost_of(PRESETS["bair-64"].model, PRESETS["bair-64"].train).flops
    assert flops["stage2"] == pytest.approx(3 * (39.6e9 + 17.1e9), rel=0.15)


def test_activations_are_what_autograd_keeps_and_grow_with_the_batch():
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    model = LGCVD(TINY.model)
    weights = sum(weight.untyped_storage().nbytes() for weight in model.parameters())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        next(TwoStage()(model, torch.zeros(16, 14, 1, 16, 16), torch.Generator()))
    measured = sum(storage.nbytes() for storage in kept.values()) - weights
    assert 0.5 * measured < 16 * cost_of(TINY.model, TINY.train).activations < 2 * measured


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("gb")])
def test_presets_for_cards_fit_them(name: str):
    preset, memory = PRESETS[name], int(name.split("-")[-1].removesuffix("gb")) * GB
    assert cost_of(preset.model, preset.train).fitting(preset.train.batch_size, memory) <= preset.train.accumulate


def test_parts_are_as_few_as_fit():
    cost = Cost(parameters=GB // 20, flops={}, activations=GB)
    assert cost.fixed == pytest.approx(GB, rel=1e-6)
    assert [cost.fitting(8, n * GB) for n in (20, 9, 6, 3, 2)] == [1, 2, 2, 8, None]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_running_out_of_memory_says_what_to_lower(error: Exception):
    told = told_when_too_large(lambda: too_large(TINY.model, TINY.train, GB))
    words = r"train\.accumulate to 2 \(now 1.*batch_size to 1 \(now 2\).*model\.dim"
    with pytest.raises(UserError, match=words), told:
        raise error


def test_other_errors_are_not_told_as_running_out_of_memory():
    with pytest.raises(RuntimeError, match="shape"), told_when_too_large(lambda: "out of memory"):
        raise RuntimeError("shape")


def test_what_does_not_fit_clip_by_clip_needs_a_smaller_model():
    assert too_large(TINY.model, replace(TINY.train, accumulate=2), GB).endswith(
        "lower model.dim (now 8; half of it needs about half) or model.image_size."
    )
    paper = PRESETS["bair-64"]
    assert "train.accumulate to 4 (now 1; trains the same), or train.batch_size to 16" in too_large(
        paper.model, paper.train, 8 * GB
    )
