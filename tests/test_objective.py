from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lgcvd import LGCVD, PRESETS, SingleStage, TaskMix, TrainConfig, TwoStage, UserError
from lgcvd.context import LAYOUTS, NULL_CLIP, Context, local_context
from lgcvd.models import VideoDenoiser
from lgcvd.objective import (
    WHOLE,
    Denoising,
    Share,
    capped_l2,
    from_noise_times,
    high_noise_times,
    l1,
    objective_of,
    uniform_times,
)
from lgcvd.schedule import Schedule

ONLY = {
    "prediction": TaskMix(1, 0, 0, 0),
    "generation": TaskMix(0, 1, 0, 0),
    "interpolation": TaskMix(0, 0, 1, 0),
}


class Spy(VideoDenoiser):
    """Answers with its input times a weight, and keeps what it was told."""

    def __init__(self):
        super().__init__()
        self.config = PRESETS["tiny"].model
        self.schedule = Schedule(1000)
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.remembered: list[Tensor | None] = []
        self.calls: list[tuple[Tensor, Tensor, Context]] = []

    def remember(self, clip, size=None):
        self.remembered.append(clip)
        return torch.full((1, 1, 1, 1), float(len(self.remembered)))

    def forward(self, x_t, t, context):
        self.calls.append((x_t, t, context))
        return self.weight * x_t


def training_clip() -> Tensor:
    return torch.rand((3, 14, 1, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1


def run(model: VideoDenoiser, objective: TwoStage, seed: int = 1) -> dict[str, Tensor]:
    """Both losses, with the gradients of both gone through."""
    losses = {}
    for stage in objective(model, training_clip(), torch.Generator().manual_seed(seed)):
        model.zero_grad()
        stage.loss.backward()
        losses[stage.stage] = stage.loss.detach()
    return losses


@pytest.mark.parametrize("task", ONLY)
def test_second_stage_sees_the_estimate_as_local_context_only_for_prediction(task: str):
    model, clip = Spy(), training_clip()
    run(model, TwoStage(ONLY[task]))
    (x_t, t, first), (_, _, second) = model.calls
    positions = torch.tensor([LAYOUTS[task](2, 8)] * 3)
    assert torch.equal(first.frames, local_context(clip[:, :8], positions).frames)

    estimate = model.schedule.x0(x_t, 0.5 * x_t, t).clamp(-1, 1).detach()
    true = local_context(clip[:, 6:], positions).frames
    assert torch.equal(second.frames, estimate[:, -2:] if task == "prediction" else true)
    assert torch.equal(first.positions, positions)
    assert torch.equal(second.positions, positions)


def test_second_stage_remembers_the_detached_estimate_and_the_first_nothing():
    model = Spy()
    run(model, TwoStage())
    nothing, estimate = model.remembered
    assert nothing is None
    assert estimate.shape == (3, 8, 1, 16, 16)
    assert estimate.abs().max() <= 1
    assert not estimate.requires_grad
    assert [context.memory.item() for _, _, context in model.calls] == [1, 2]


def test_losses_are_those_of_the_papers_objective_written_out(tiny_model: LGCVD):
    seed, clip, schedule = 2, training_clip(), tiny_model.schedule
    generator = torch.Generator().manual_seed(seed)
    positions = TaskMix().draw(3, 2, 8, generator)
    frames, memory, expected = clip[:, :8], tiny_model.remember(None), {}
    local = local_context(frames, positions).frames
    for stage in ("stage1", "stage2"):
        t = torch.randint(1000, (3,), generator=generator)
        noise = WHOLE.noise(frames, generator)
        alpha_bar = schedule.alpha_bar[t].reshape(3, 1, 1, 1, 1)
        x_t = alpha_bar.sqrt() * frames + (1 - alpha_bar).sqrt() * noise
        v = tiny_model(x_t, t, Context(local, positions, memory))
        expected[stage] = (v - (alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * frames)).abs().mean().detach()

        estimate = (alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * v).detach().clamp(-1, 1)
        frames, memory = clip[:, 6:], tiny_model.remember(estimate)
        local = local_context(frames, positions).frames
        predicts = torch.tensor([row == [0, 1] for row in positions.tolist()])
        local[predicts] = estimate[predicts, -2:]
    assert 0 < predicts.sum() < 3
    torch.testing.assert_close(run(tiny_model, TwoStage(), seed), expected)


def test_stage_2_sees_the_true_clip_where_the_estimate_would_be_of_too_much_noise():
    spy, clip = Spy(), training_clip()
    times = [499, 500, 999]
    objective = TwoStage(ONLY["prediction"], times=lambda *_: torch.tensor(times), estimate_level=0.5)
    list(objective(spy, clip, torch.Generator().manual_seed(0)))
    (_, _, _), (_, _, context) = spy.calls
    assert [torch.equal(a, b) for a, b in zip(context.frames, clip[:, 6:8], strict=True)] == [False, True, True]
    assert [torch.equal(a, b) for a, b in zip(spy.remembered[1], clip[:, :8], strict=True)] == [False, True, True]


@pytest.mark.parametrize("objective", [TwoStage, SingleStage])
def test_noise_on_known_frames_is_as_strong_as_drawn_and_on_nothing_else(objective: type[Denoising]):
    spies, clip = {level: Spy() for level in (0.0, 0.1)}, training_clip() / 2
    for level, spy in spies.items():
        list(objective(ONLY["prediction"], context_noise=level)(spy, clip, torch.Generator().manual_seed(0)))
    noise = spies[0.1].calls[0][2].frames - spies[0.0].calls[0][2].frames
    strength = noise.std((1, 2, 3, 4))
    assert strength.min() > 0
    assert strength.max() < 0.1
    assert strength.unique().numel() == len(clip)
    torch.testing.assert_close(spies[0.1].calls[0][0], spies[0.0].calls[0][0])  # the clips that are denoised


def test_noise_on_known_frames_does_not_depend_on_how_many_share_it_and_is_not_validated_with():
    objective, clip = SingleStage(ONLY["prediction"], context_noise=0.1), training_clip()[:2]
    frames = []
    for share in (WHOLE, Share(0, 2), Share(1, 2)):
        spy = Spy()
        list(objective(spy, share(clip), torch.Generator().manual_seed(0), share))
        frames.append(spy.calls[0][2].frames)
    torch.testing.assert_close(frames[0], torch.cat(frames[1:]))
    assert objective.at("prediction", 5).context_noise == 0


def test_noise_is_normal_and_does_not_depend_on_how_many_share_it():
    x0 = torch.zeros(4, 2, 1, 32, 32)
    whole, even, odd = (
        share.noise(x0[share.rank :: share.of], torch.Generator().manual_seed(3))
        for share in (WHOLE, Share(0, 2), Share(1, 2))
    )
    assert torch.equal(whole[::2], even)
    assert torch.equal(whole[1::2], odd)
    assert whole.mean().abs() < 0.05
    assert whole.std() == pytest.approx(1, abs=0.05)


def test_both_stages_teach_the_encoder(tiny_model: LGCVD):
    for stage in TwoStage()(tiny_model, training_clip(), torch.Generator().manual_seed(0)):
        tiny_model.zero_grad()
        stage.loss.backward()
        idle = [name for name, weight in tiny_model.encoder.named_parameters() if not weight.grad.any()]
        assert idle == (["path.stem.weight"] if stage.stage == "stage1" else [])  # it multiplies the grey clip, zeros


def test_clips_of_another_length_are_refused():
    assert TwoStage().clip_frames(Spy().config) == 14
    with pytest.raises(UserError, match="must have 14 frames"):
        next(TwoStage()(Spy(), training_clip()[:, :13], torch.Generator()))


def test_capped_l2_weighs_nearly_clean_clips_less():
    predicted, true = torch.zeros(4, 1, 1), torch.ones(4, 1, 1)
    alpha_bar = torch.tensor([0.0, 0.8, 0.9, 1.0])
    losses = [capped_l2(predicted[i : i + 1], true[:1], alpha_bar[i : i + 1]).item() for i in range(4)]
    assert losses == pytest.approx([1, 1, 0.5, 0], abs=1e-6)
    assert l1(predicted, 3 * true, alpha_bar).tolist() == [3] * 4


@pytest.mark.parametrize(
    ("times", "mean"), [(uniform_times, 1 / 2), (high_noise_times, 3 / 5), (from_noise_times, 4 / 5)]
)
def test_time_steps_cover_the_whole_schedule(times, mean: float):
    drawn = times(20_000, 100, torch.Generator().manual_seed(0))
    assert drawn.max() == 99
    assert drawn.min() <= 2
    assert drawn.float().mean().item() / 99 == pytest.approx(mean, abs=0.01)


def test_distance_and_times_are_the_callers_choice():
    model = Spy()
    objective = TwoStage(distance=lambda v, *_: 0 * v.sum() + 7, times=lambda batch, *_: torch.full((batch,), 42))
    losses = run(model, objective)
    assert losses["stage1"] == losses["stage2"] == 7
    assert all((t == 42).all() for _, t, _ in model.calls)


def test_single_stage_sees_true_context_and_for_half_of_the_clips_no_clip_before():
    model, clip = Spy(), torch.rand((64, 14, 1, 4, 4), generator=torch.Generator().manual_seed(0)) * 2 - 1
    stages = list(SingleStage(ONLY["prediction"])(model, clip, torch.Generator().manual_seed(1)))
    assert [stage.stage for stage in stages] == ["stage1"]
    (before,), ((_, _, context),) = model.remembered, model.calls
    assert torch.equal(context.frames, clip[:, 6:8])
    grey = (before == NULL_CLIP).flatten(1).all(1)
    assert 16 < grey.sum() < 48
    assert torch.equal(before[~grey], clip[~grey, :8])


def test_objectives_are_made_as_the_config_says():
    config = TrainConfig(objective="single_stage", loss="l2", times="high_noise", tasks=ONLY["generation"])
    assert objective_of(config) == SingleStage(ONLY["generation"], capped_l2, high_noise_times)
    assert type(objective_of(TrainConfig())) is TwoStage


def test_the_past_is_trained_from_the_end(tiny_model: LGCVD):
    """The later clip comes first, and the earlier one goes on from the first frames of its estimate."""
    seen, clip = [], torch.rand(3, 14, 1, 16, 16) * 2 - 1
    tiny_model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    stages = TwoStage(TaskMix(0, 0, 0, 0, past=1))(tiny_model, clip, torch.Generator().manual_seed(0))
    encoded = []
    next(stages)
    tiny_model.encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(inputs[0]))
    next(stages)
    assert seen[0].positions.tolist() == seen[1].positions.tolist() == [[6, 7]] * 3
    assert torch.equal(seen[0].frames, clip[:, -2:])
    torch.testing.assert_close(seen[1].frames, encoded[0].unflatten(1, (8, 1))[:, :2])
