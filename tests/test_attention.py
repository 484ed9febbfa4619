from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lgcvd import LGCVD, ModelConfig, UserError, predict, seeded
from lgcvd.attention import attention_map, attention_picture, reads_memory, recorded_attention
from lgcvd.blocks import Attention


def test_weights_are_those_that_the_attention_computes_with():
    attention = Attention(8, 4)
    torch.nn.init.normal_(attention.out.weight)
    x, memory = torch.randn(2, 8, 3, 5), torch.randn(2, 8, 3, 5)
    with recorded_attention(attention) as weights:
        out = attention(x, memory)
    (read,) = weights
    assert read.shape == (2, 2, 15, 15)
    torch.testing.assert_close(read.sum(-1), torch.ones(2, 2, 15))
    value = attention.key_value(attention.norm(memory).flatten(2).mT).chunk(2, -1)[1]
    value = value.unflatten(-1, (2, 4)).transpose(1, 2)
    h = attention.out((read @ value).transpose(1, 2).flatten(2)).mT.unflatten(2, (3, 5))
    torch.testing.assert_close(out, (x + h) / 2**0.5)


def test_recording_changes_nothing_and_ends_with_its_block(tiny_model: LGCVD, digits_clip: Tensor):
    def film() -> Tensor:
        return predict(tiny_model, digits_clip[:, :2], 8, steps=2, generator=seeded(0))

    plain = film()
    with recorded_attention(reads_memory(tiny_model)) as weights:
        assert torch.equal(film(), plain)
    assert len(weights) == 4, "two windows of two steps, and the attention to the memory alone"
    film()
    assert len(weights) == 4


def test_a_fault_inside_does_not_leave_the_recorder_on():
    attention = Attention(8, 4)
    with recorded_attention(attention) as weights, pytest.raises(RuntimeError):
        attention(torch.randn(1, 3, 2, 2))
    with recorded_attention(attention) as later:
        Attention(8, 4)(torch.randn(1, 8, 2, 2))
    assert weights == later == []


def test_the_map_shows_what_is_read():
    weights = torch.zeros(1, 2, 4, 8)
    weights[..., 5] = 1  # of 2 rows and 4 columns the place (1, 1)
    shown = attention_map(weights, (4, 8))
    assert shown.shape == (1, 1, 4, 8)
    assert shown[0, 0, 2:, 2:4].unique().tolist() == [1]
    assert shown.sum() == 4
    assert attention_map(torch.full((1, 1, 4, 8), 1 / 8), (4, 8)).unique().item() == pytest.approx(0.5)
    assert attention_picture(torch.zeros(1, 1, 4, 8), weights).shape == (1, 3, 4, 8)


def test_a_model_without_memory_has_nothing_to_show():
    config = ModelConfig(channels=1, image_size=(16, 16), dim=8, multipliers=(1,), attention=(), global_context=False)
    with pytest.raises(UserError, match="keeps no memory"):
        reads_memory(LGCVD(config))
