from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import perturbed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lgcvd
from lgcvd import LGCVD, PRESETS, Context, ModelConfig, UserError
from lgcvd.blocks import Attention
from lgcvd.context import local_context

TINY = PRESETS["tiny"].model


def clip(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.rand((batch, 8, 1, 16, 16), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def velocity(model: LGCVD, *, positions=(0, 1), frames=None, memory=None, t=(300, 700), x_t=None) -> Tensor:
    """The model's answer in a situation, of which a test changes one part."""
    context = Context(
        clip(1)[:, :2] if frames is None else frames,
        torch.tensor([positions] * 2),
        model.remember(None) if memory is None else memory,
    )
    with torch.no_grad():
        return model(clip(2) if x_t is None else x_t, torch.tensor(t), context)


def test_everything_that_the_model_is_told_changes_its_answer(tiny_model: LGCVD):
    told = velocity(tiny_model)
    for other in (
        velocity(tiny_model, memory=tiny_model.remember(clip(3))),
        velocity(tiny_model, frames=clip(3)[:, :2]),
        velocity(tiny_model, positions=(0, 7)),
        velocity(tiny_model, t=(400, 600)),
        velocity(tiny_model, x_t=clip(3)),
    ):
        assert (other - told).abs().max() > 1e-3


def test_a_frame_at_an_absent_position_is_ignored(tiny_model: LGCVD):
    frames = clip(1)[:, :2]
    other = frames.clone()
    other[:, 1] = 0.5
    assert torch.equal(
        velocity(tiny_model, positions=(3, -1), frames=frames), velocity(tiny_model, positions=(3, -1), frames=other)
    )


def test_network_sees_frames_position_planes_and_the_noisy_clip_in_this_order(tiny_model: LGCVD):
    seen = []
    tiny_model.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    velocity(tiny_model, positions=(3, -1))
    first, first_plane, second, second_plane, *noisy = seen[0].unbind(1)
    assert torch.equal(first, clip(1)[:, 0, 0])
    torch.testing.assert_close(first_plane, torch.full_like(first, 2 * 4 / 9 - 1))
    assert (second == -1).all()
    assert (second_plane == -1).all()
    assert torch.equal(torch.stack(noisy, 1), clip(2)[:, :, 0])


def test_a_model_without_global_context_remembers_nothing_and_is_smaller(tiny_model: LGCVD):
    model = perturbed(LGCVD(replace(TINY, global_context=False)))
    assert model.remember(clip()) is None
    assert (tiny_model.keeps_memory, model.keeps_memory) == (True, False)
    assert not [name for name, _ in model.named_parameters() if name.startswith(("encoder", "unet.cross"))]
    assert lgcvd.predict(model, clip()[:, :2], 8, steps=1).shape == (2, 10, 1, 16, 16)
    assert torch.equal(velocity(model), velocity(model, memory=tiny_model.remember(clip(3))))


def test_a_model_without_position_planes_sees_no_difference_between_places():
    model = perturbed(LGCVD(replace(TINY, position_planes=False)))
    assert torch.equal(velocity(model, positions=(0, 1)), velocity(model, positions=(4, 7)))
    assert not torch.equal(velocity(model, positions=(0, 1)), velocity(model, positions=(0, -1)))


def test_samples_of_a_batch_do_not_mix(tiny_model: LGCVD):
    context = local_context(clip(1), torch.tensor([[0, 1], [4, -1]]), tiny_model.remember(clip(3)))
    t, x_t = torch.tensor([10, 900]), clip(2)
    with torch.no_grad():
        both = tiny_model(x_t, t, context)
        alone = tiny_model(x_t[1:], t[1:], Context(context.frames[1:], context.positions[1:], context.memory[1:]))
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-5)


def test_painting_a_clean_clip_gives_the_velocity_that_it_implies(tiny_model: LGCVD):
    painter = LGCVD(replace(TINY, output="x0"))
    painter.load_state_dict(tiny_model.state_dict())
    painted, t = velocity(tiny_model), torch.tensor([300, 700])
    torch.testing.assert_close(velocity(painter), painter.schedule.velocity_from_x0(clip(2), painted, t))


def test_a_network_for_standardised_clips_is_one_for_plain_ones_on_other_data(tiny_model: LGCVD):
    mean, std, t = -0.5, 0.4, torch.tensor([0, 0])  # at t = 0 the noisy clip is as good as clean
    estimates = []
    for statistics in ({}, {"data_mean": mean, "data_std": std}):
        model = LGCVD(replace(TINY, output="x0", **statistics))
        model.load_state_dict(tiny_model.state_dict())
        clean = mean + std * clip(2) if statistics else clip(2)
        context = local_context(clean, torch.tensor([[0, 1], [4, 5]]), model.remember(clean))
        with torch.no_grad():
            estimates.append(model.schedule.x0(clean, model(clean, t, context), t))
    torch.testing.assert_close(mean + std * estimates[0], estimates[1], atol=2e-3, rtol=0)


def test_empty_memory_is_that_of_a_grey_clip(tiny_model: LGCVD):
    torch.testing.assert_close(tiny_model.remember(None), tiny_model.remember(torch.zeros(1, 8, 1, 16, 16)))
    assert tiny_model.remember(None, size=(32, 24)).shape[-2:] == (16, 12)


def test_one_time_step_for_a_whole_batch_is_refused(tiny_model: LGCVD):
    with pytest.raises(ValueError, match="time steps"):
        velocity(tiny_model, t=(300,))


def test_sizes_that_the_down_path_does_not_divide_are_refused(tiny_model: LGCVD):
    with pytest.raises(UserError, match="multiples of 2"):
        velocity(tiny_model, x_t=torch.zeros(2, 8, 1, 15, 16), frames=torch.zeros(2, 2, 1, 15, 16))


@given(
    channels=st.sampled_from([1, 3]),
    context_frames=st.integers(1, 3),
    new_frames=st.integers(1, 4),
    patch_size=st.sampled_from([1, 2, 3]),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    multipliers=st.sampled_from([(1,), (2, 1), (1, 1, 3)]),
)
@settings(max_examples=20)
def test_any_frames_channels_sizes_and_patches_work(
    channels: int,
    context_frames: int,
    new_frames: int,
    patch_size: int,
    size: tuple[int, int],
    multipliers: tuple[int, ...],
):
    height, width = (n * patch_size * 2 ** (len(multipliers) - 1) for n in size)
    config = ModelConfig(
        context_frames=context_frames,
        new_frames=new_frames,
        channels=channels,
        image_size=(height, width),
        patch_size=patch_size,
        dim=4,
        multipliers=multipliers,
        attention=(size[0],),
        head_channels=3,
    )
    model = LGCVD(config)
    x = torch.zeros(2, config.clip_frames, channels, height, width)
    memory = model.remember(x)
    assert memory.shape == (2, 4 * multipliers[-1], *size)
    context = local_context(x, torch.zeros(2, context_frames, dtype=torch.long), memory)
    assert model(x, torch.tensor([0, 999]), context).shape == x.shape


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_folding_is_undone(patch_size: int):
    model = LGCVD(ModelConfig(image_size=(16, 16), patch_size=patch_size, dim=4, multipliers=(1,)))
    video = torch.rand(2, 8, 3, 16, 24)
    folded = model._fold(video)
    assert folded.shape == (2, 24 * patch_size**2, 16 // patch_size, 24 // patch_size)
    assert torch.equal(model._unfold(folded), video)


@pytest.mark.parametrize(
    ("attention", "attention_up"), [((16,), None), ((8, 32), None), ((), None), ((16,), (32,)), ((8,), ())]
)
def test_attention_sits_at_the_listed_heights(attention: tuple[int, ...], attention_up: tuple[int, ...] | None):
    config = ModelConfig(
        channels=1,
        image_size=(64, 32),
        patch_size=2,
        dim=32,
        multipliers=(1, 1, 1, 1),
        attention=attention,
        attention_up=attention_up,
    )
    model, heights = LGCVD(config), {}
    for name, module in model.unet.named_modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _, __, out, name=name: heights.update({name: out.shape[-2]}))
    x = torch.zeros(1, 8, 1, 64, 32)
    model(x, torch.zeros(1, dtype=torch.long), local_context(x, torch.tensor([[0, 1]]), model.remember(None)))
    down = {height for name, height in heights.items() if name.startswith("path.levels")}
    up = {height for name, height in heights.items() if name.startswith("levels")}
    assert (down, up) == (set(attention), set(attention if attention_up is None else attention_up))
    assert heights["path.mid_attn"] == heights["cross"] == 4


def test_training_starts_from_a_black_box_that_answers_nothing():
    """The output layer starts at zero, so that the first velocity is zero and no noise is amplified."""
    x = clip()
    model = LGCVD(TINY)
    context = local_context(x, torch.tensor([[0, 1]] * 2), model.remember(None))
    assert not model(x, torch.tensor([0, 999]), context).any()
