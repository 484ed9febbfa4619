from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lgcvd.blocks import Attention, ResBlock, TimeEmbedding, group_norm, largest_divisor


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize(("channels", "groups"), [(128, 32), (512, 32), (16, 4), (8, 2), (2, 1), (20, 5), (28, 7)])
def test_groups_have_at_least_four_channels(channels: int, groups: int):
    assert group_norm(channels).num_groups == groups


def test_norms_work_in_float32_under_autocast():
    norm, x = group_norm(8), noise(2, 8, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), norm(x.float()))


@given(number=st.integers(1, 300), limit=st.integers(0, 300))
def test_largest_divisor_divides_and_nothing_larger_does(number: int, limit: int):
    found = largest_divisor(number, limit)
    assert [d for d in range(found, limit + 1) if number % d == 0] in ([found], [])
    assert number % found == 0


def test_fresh_blocks_pass_their_input_on():
    x, time = noise(2, 8, 4, 4), noise(2, 32)
    torch.testing.assert_close(ResBlock(8, 8, 32)(x, time), x / math.sqrt(2))
    torch.testing.assert_close(Attention(8, 4)(x), x / math.sqrt(2))


@pytest.mark.parametrize("has_memory", [False, True])
@pytest.mark.parametrize("head_channels", [4, 8, 99])
def test_attention_equals_the_written_out_softmax(has_memory: bool, head_channels: int):
    block = Attention(8, head_channels)
    torch.nn.init.normal_(block.out.weight, generator=torch.Generator().manual_seed(0))
    x = noise(2, 8, 4, 6)
    memory = noise(2, 8, 2, 3) if has_memory else x
    q = block.query(block.norm(x).flatten(2).mT)
    k, v = block.key_value(block.norm(memory).flatten(2).mT).chunk(2, dim=-1)
    width = min(head_channels, 8)
    heads = []
    for start in range(0, 8, width):
        part = slice(start, start + width)
        weights = torch.einsum("bic,bjc->bij", q[..., part], k[..., part]) / math.sqrt(width)
        heads.append(torch.einsum("bij,bjc->bic", weights.softmax(-1), v[..., part]))
    expected = (x + block.out(torch.cat(heads, -1)).mT.reshape(x.shape)) / math.sqrt(2)
    torch.testing.assert_close(block(x, memory) if has_memory else block(x), expected)


def test_channels_last_changes_nothing():
    block, x = Attention(8, 4), noise(2, 8, 4, 6)
    torch.nn.init.normal_(block.out.weight, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x.contiguous(memory_format=torch.channels_last)), block(x))


def test_time_is_embedded_as_sines_then_cosines():
    embedding, seen = TimeEmbedding(8), []
    embedding.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    embedding(torch.tensor([0, 100]))
    frequencies = [1, 10000 ** (-1 / 3), 10000 ** (-2 / 3), 1e-4]
    assert seen[0][0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    expected = [math.sin(100 * f) for f in frequencies] + [math.cos(100 * f) for f in frequencies]
    assert seen[0][1].tolist() == pytest.approx(expected, abs=1e-5)


def test_time_moves_a_residual_block():
    block, x = ResBlock(8, 16, 32), noise(1, 8, 4, 4)
    torch.nn.init.normal_(block.conv2.weight, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(block(x, noise(1, 32)), block(x, -noise(1, 32)), atol=0.1)
