"""The motion skip: known frames stand, what moves evenly moves on, and nothing is invented from one frame."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lgcvd import video
from lgcvd.config import PRESETS, ModelConfig
from lgcvd.context import ABSENT, Context, TaskMix, local_context
from lgcvd.errors import UserError
from lgcvd.models import LGCVD, build
from lgcvd.motion import MotionSkip, Skip, _Mixed, mixed_at_once, over_patches, pooled_over, to_pixels
from lgcvd.paths import learn_paths
from lgcvd.splatting import SplattingSkip, splat

T, K, SIZE, PATCH, RADIUS = 6, 2, 32, 2, 3
CONFIG = ModelConfig(
    channels=1,
    new_frames=T - K,
    image_size=(SIZE, SIZE),
    patch_size=PATCH,
    motion=RADIUS,
    motion_things=2,
    data_mean=-1.0,
    data_std=0.3,
)


def moving(step: tuple[int, int], frames: int = T, batch: int = 1) -> torch.Tensor:
    """A textured square on a plain ground that moves by ``step`` pixels a frame, (B, T, 1, H, W) in [-1, 1]."""
    texture = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    clip = torch.full((frames, 1, SIZE, SIZE), -1.0)
    for i, frame in enumerate(clip):
        y, x = 11 + step[0] * (i - frames // 2), 11 + step[1] * (i - frames // 2)
        frame[:, y : y + 9, x : x + 9] = texture
    return clip.expand(batch, *clip.shape).clone()


def bright(step: tuple[int, int], frames: int = T, batch: int = 1) -> torch.Tensor:
    """``moving``, with a square that is brighter than the ground everywhere."""
    clip = moving(step, frames, batch)
    return clip.abs().where(clip > -1, -1)


def made(kind: type[Skip]) -> Skip:
    """Such a skip, without training."""
    return kind(CONFIG) if kind is SplattingSkip else kind(T, PATCH, RADIUS)


SKIPS = pytest.mark.parametrize("kind", [MotionSkip, SplattingSkip])


def shown(skip: Skip, clip: torch.Tensor, positions: list[list[int]], truth: torch.Tensor | None = None) -> Context:
    """The frames at ``positions`` with their evidence, made with the ``truth`` if it is given."""
    context = local_context(clip, torch.tensor(positions))
    told = [] if truth is None else [_standardised(truth)]
    return replace(context, evidence=skip.evidence(_standardised(context.frames), context.positions, *told))


def _standardised(frames: torch.Tensor) -> torch.Tensor:
    return (frames - CONFIG.data_mean) / CONFIG.data_std


def unanswered(skip: Skip, clip: torch.Tensor, context: Context) -> torch.Tensor:
    """What the skip makes of the context where the network answers nothing and paints black."""
    answer = torch.zeros(len(clip), skip.channels_out, SIZE // PATCH, SIZE // PATCH)
    return skip(answer, torch.full_like(clip, -1), context)


def untrained(clip: torch.Tensor, positions: list[list[int]], kind: type[Skip] = MotionSkip) -> torch.Tensor:
    """The same of the frames at ``positions``, without training."""
    skip = made(kind)
    return unanswered(skip, clip, shown(skip, clip, positions))


@SKIPS
@pytest.mark.parametrize("step", [(0, 0), (1, 0), (0, -2), (-1, 2)])
@pytest.mark.parametrize("positions", [[0, 1], [T - 2, T - 1], [0, 2]])
def test_what_moves_evenly_moves_on(step: tuple[int, int], positions: list[int], kind: type[Skip]) -> None:
    clip = moving(step)
    out = untrained(clip, [positions], kind)
    still = clip[:, positions[1] : positions[1] + 1].expand_as(clip)
    after = [i for i in range(T) if i not in positions and (i > positions[0] or positions == [T - 2, T - 1])]
    near = [i for i in after if min(abs(i - p) for p in positions) == 1]
    error = (out - clip)[:, near].square().mean()
    if step != (0, 0):
        assert error < 0.5 * (still - clip)[:, near].square().mean()
    assert error < 0.1


def test_a_stride_reaches_farther_with_as_many_displacements() -> None:
    far, near = MotionSkip(T, PATCH, 2 * RADIUS, stride=2), MotionSkip(T, PATCH, RADIUS)
    assert far.channels_out == near.channels_out
    clip = moving((0, 2 * RADIUS - 2), frames=4)  # farther in a frame than the near one reaches
    errors = []
    for skip in (far, near):
        skip.clip_frames = 4
        errors.append((unanswered(skip, clip, shown(skip, clip, [[0, 1]])) - clip)[:, 2].square().mean())
    assert errors[0] < 0.5 * errors[1]
    with pytest.raises(UserError, match="multiple of motion_stride"):
        replace(PRESETS["tiny"].model, motion=3, motion_stride=2)


@SKIPS
def test_known_frames_come_back_untouched(kind: type[Skip]) -> None:
    clip = torch.rand(3, T, 1, SIZE, SIZE) * 2 - 1
    positions = torch.tensor([[0, 1], [1, 4], [ABSENT, 5]])
    out = untrained(clip, positions.tolist(), kind)
    for b, k in ((0, 0), (0, 1), (1, 1), (1, 4), (2, 5)):
        assert torch.equal(out[b, k], clip[b, k])


def test_one_known_frame_is_no_evidence() -> None:
    skip = MotionSkip(T, PATCH, RADIUS)
    clip = moving((1, 1))
    for positions in ([0, ABSENT], [ABSENT, ABSENT]):
        assert not skip.agreement(clip[:, :2], torch.tensor([positions])).any()
        evidence = skip.evidence(clip[:, :2], torch.tensor([positions]))
        assert not any(found.any() for step in evidence.along for found in step)


@SKIPS
def test_clips_of_a_batch_do_not_meet(kind: type[Skip]) -> None:
    clip = torch.cat([moving((1, 0)), moving((0, -2)), moving((0, 0))])
    positions = [[0, 1], [T - 2, T - 1], [0, T - 1]]
    together = untrained(clip, positions, kind)
    for i, row in enumerate(positions):
        assert torch.allclose(untrained(clip[i : i + 1], [row], kind)[0], together[i], atol=1e-5)


@SKIPS
def test_the_past_is_the_future_of_the_reversed_clip(kind: type[Skip]) -> None:
    clip = moving((1, -1))
    past, future = untrained(clip, [[T - 2, T - 1]], kind), untrained(clip.flip(1), [[1, 0]], kind)
    assert torch.allclose(past, future.flip(1), atol=1e-5)


@pytest.mark.parametrize("things", [0, 1, 3])
def test_a_model_with_motion_answers_velocities_and_learns_through_the_skip(things: int) -> None:
    config = replace(PRESETS["tiny"].model, motion=2, motion_things=things, output="x0")
    torch.manual_seed(0)
    model = build(config)
    assert isinstance(model, LGCVD)
    x = torch.randn(2, config.clip_frames, 1, *config.image_size)
    frames = torch.rand(2, 2, 1, *config.image_size) * 2 - 1
    context = Context(frames, torch.tensor([[0, 1], [ABSENT, ABSENT]]), model.remember(None))
    t = torch.tensor([999, 300])
    velocity = model(x, t, context)
    assert velocity.shape == x.shape
    assert torch.allclose(model.schedule.x0(x, velocity, t)[0, :2], frames[0], atol=1e-3)
    velocity.square().mean().backward()
    weight = model.unet.head[1].weight.grad[-model.motion.channels_out :]
    assert weight.abs().sum() > 0


@pytest.mark.parametrize(("kind", "things"), [("lgcvd", 0), ("lgcvd", 2), ("mcvd-concat", 0)])
def test_a_prepared_context_gives_the_same_answer(kind: str, things: int) -> None:
    """What is worked out once for all denoising steps is what every step would work out."""
    config = replace(PRESETS["tiny"].model, kind=kind, motion=2, motion_things=things, output="x0")
    model = build(config).eval()
    torch.nn.init.normal_(model.unet.head[1].weight, std=0.01, generator=torch.Generator().manual_seed(1))
    frames = torch.rand(2, 2, 1, *config.image_size) * 2 - 1
    context = Context(frames, torch.tensor([[0, 1], [ABSENT, ABSENT]]), model.remember(None))
    x, t = torch.randn(2, model.output_frames, 1, *config.image_size), torch.tensor([999, 300])
    prepared = model.prepare(context)
    assert prepared.evidence is not None
    assert model.prepare(prepared) is prepared
    assert torch.equal(model(x, t, prepared), model(x, t, context))


def inputs_of_mixing(radius: int, stride: int) -> tuple[list[torch.Tensor], list[tuple[int, int]]]:
    """A padded frame and a kernel for its 2 x 3 patches, and the corners that the kernel is about."""
    side = 2 * radius // stride + 1
    sizes = [(2, 3, 2 * PATCH + 2 * radius, 3 * PATCH + 2 * radius), (2, side**2, 2, 3)]
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(size, dtype=torch.double, generator=generator, requires_grad=True) for size in sizes]
    return drawn, [(stride * y, stride * x) for y in range(side) for x in range(side)]


def test_the_written_derivative_of_a_mixture_is_the_true_one():
    (padded, kernel), corners = inputs_of_mixing(radius=1, stride=1)
    shares = kernel.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    height, width = shares.shape[2:]
    read = (padded[..., y : y + height, x : x + width] for y, x in corners)
    expected = sum(shares[:, n, None] * near for n, near in enumerate(read))
    torch.testing.assert_close(_Mixed.apply(padded, kernel, PATCH, corners), expected)
    assert torch.autograd.gradcheck(lambda *inputs: _Mixed.apply(*inputs, PATCH, corners), (padded, kernel))


@pytest.mark.parametrize(("radius", "stride"), [(2, 1), (4, 2)])
def test_what_a_graphics_card_mixes_is_what_a_cpu_mixes(radius: int, stride: int):
    inputs, corners = inputs_of_mixing(radius, stride)
    mixed = [_Mixed.apply(*inputs, PATCH, corners), mixed_at_once(*inputs, PATCH, stride)]
    torch.testing.assert_close(*mixed)
    for expected, found in zip(*(torch.autograd.grad(each.square().sum(), inputs) for each in mixed), strict=True):
        torch.testing.assert_close(expected, found)


@given(st.permutations([ABSENT, ABSENT, *range(T)]).map(lambda places: places[:3]))
def test_agreement_is_minus_the_variance_and_the_squared_mean(positions: list[int]) -> None:
    """Of what the known frames show, moved to the one that comes last in the scan."""
    skip = MotionSkip(T, PATCH, RADIUS)
    frames = torch.randn(1, 3, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    known = [position for position in positions if position != ABSENT]
    backwards = 2 * sum(known) > (T - 1) * len(known)
    last = (min if backwards else max)(known, default=0)
    found = skip.agreement(frames, torch.tensor([positions]))
    assert found.shape == (1, 2, len(skip.displacements), SIZE // PATCH, SIZE // PATCH)
    if len(known) < 2:
        return
    for n, displacement in enumerate(skip.displacements):
        moved = []
        for k, position in enumerate(positions):
            if position != ABSENT:
                y, x = (abs(last - position) * displacement).tolist()
                rows, columns = (torch.arange(SIZE).add(step).clamp(0, SIZE - 1) for step in (y, x))
                moved.append(frames[0, k][:, rows][:, :, columns])
        moved = torch.stack(moved)
        told = torch.stack([-moved.var(0, unbiased=False), moved.mean(0).square()]).mean(1)
        torch.testing.assert_close(found[0, :, n], F.avg_pool2d(told, PATCH), atol=1e-5, rtol=1e-4)


def test_outside_of_training_the_likeliest_displacement_wins_more_clearly() -> None:
    clip = moving((1, 1))
    errors = []
    for sharpness in (1.0, 4.0):
        skip = MotionSkip(T, PATCH, RADIUS, sharpness).eval()
        context = shown(skip, clip, [[0, 1]])
        errors.append((unanswered(skip, clip, context) - clip).square().mean())
        assert torch.equal(unanswered(skip.train(), clip, context), untrained(clip, [[0, 1]]))
    assert errors[1] < errors[0]


@given(st.integers(-8, 8), st.integers(-8, 8), st.integers(0, 2**31))
def test_pixels_that_go_together_arrive_as_they_left(y: int, x: int, seed: int) -> None:
    frame = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    moved, covered = splat(frame[:, None], torch.ones(2, 1, 8, 8), torch.tensor([y, x]).expand(2, 1, 2))
    rows, columns = (slice(max(0, step), 8 + min(0, step)) for step in (y, x))
    left = [slice(max(0, -step), 8 - max(0, step)) for step in (y, x)]
    torch.testing.assert_close(moved[..., rows, columns], frame[..., left[0], left[1]])
    assert covered[..., rows, columns].eq(1).all()
    assert covered.sum() == 2 * max(0, 8 - abs(y)) * max(0, 8 - abs(x))  # nothing lands elsewhere


def test_what_stands_out_hides_what_does_not_and_what_is_left_out_leaves_a_hole() -> None:
    pixels = torch.tensor([[4.0, 0.0, 0.1], [0.2, -0.1, 0.3]]).view(1, 2, 1, 1, 3)
    kept = torch.tensor([[1.0, 0, 1], [1, 0, 0]]).view(1, 2, 1, 3)
    moved, covered = splat(pixels, kept, torch.zeros(1, 2, 2, dtype=torch.long))
    assert moved[0, 0, 0, 0] == pytest.approx(4, abs=0.02)
    assert moved[0, 0, 0, 2] == pytest.approx(0.1)
    assert covered[0, 0, 0].tolist() == [True, False, True]


def test_splatting_keeps_what_a_mixture_loses() -> None:
    """A bright square that moves evenly is as bright after four steps."""
    clip = bright((1, 1))
    kept = [
        (untrained(clip, [[0, 1]], kind)[:, -1] + 1).sum() / (clip[:, -1] + 1).sum()
        for kind in (MotionSkip, SplattingSkip)
    ]
    assert abs(kept[1] - 1) < abs(kept[0] - 1)


def crossing() -> torch.Tensor:
    """Two letters that go through each other."""
    letters = torch.full((2, T, 1, SIZE, SIZE), -1.0)
    for i in range(T):
        y, x = 10, 6 + 3 * i
        letters[0, i, 0, y : y + 11, x : x + 2] = letters[0, i, 0, y : y + 2, x : x + 9] = 1  # a gamma
        y, x = 17 - 2 * i, 14
        letters[1, i, 0, y : y + 11, x : x + 2] = letters[1, i, 0, y + 9 : y + 11, x : x + 9] = 1  # an L
    return letters.amax(0, keepdim=True)


def test_things_that_go_through_each_other_come_out_whole() -> None:
    clip = crossing()
    skip = made(SplattingSkip)
    film = shown(skip, clip, [[1, 2]]).evidence.film
    ink = clip[:, 3:] > 0
    assert ((film[:, 3:] > 3) & ink).sum() > 0.95 * ink.sum()
    assert ((film[:, 3:] > 3) & ~ink).sum() < 0.1 * ink.sum()


def loss(skip: SplattingSkip, clip: torch.Tensor, positions: list[int], truth: torch.Tensor) -> torch.Tensor:
    """What it costs that the skip does not know where the things of ``clip`` go in ``truth``."""
    evidence = shown(skip, clip, [positions] * len(clip), truth).evidence
    return skip.path_loss(evidence.things, evidence.reference, evidence.ways)


@pytest.mark.parametrize("positions", [[0, 1], [T - 2, T - 1], [0, 3], [1, 3]])
@pytest.mark.parametrize("step", [(0, 1), (-1, 1)])
def test_what_moves_evenly_goes_no_other_way(step: tuple[int, int], positions: list[int]) -> None:
    """The paths of things that are not learned yet go straight on: right where they did, forwards and backwards."""
    skip, clip, other = made(SplattingSkip), bright(step), bright((step[0], -step[1]))
    assert loss(skip, clip, positions, truth=other) > loss(skip, clip, positions, truth=clip) + 0.1
    for truth in (clip, None):
        film = shown(skip, clip, [positions], truth).evidence.film
        torch.testing.assert_close(film, _standardised(clip), atol=0.01, rtol=0)


def test_one_known_frame_tells_of_no_path() -> None:
    """It stays, as the film has nothing else, and there is nothing to learn from it."""
    skip, clip = made(SplattingSkip), bright((1, 1), batch=2)
    torch.nn.init.normal_(skip.paths[-1].weight)
    evidence = shown(skip, clip, [[0, ABSENT], [ABSENT, ABSENT]], truth=clip).evidence
    assert skip.path_loss(evidence.things, evidence.reference, evidence.ways) == 0
    torch.testing.assert_close(evidence.film[0], _standardised(clip[0, :1]).expand_as(clip[0]))
    assert not evidence.film[1].any()
    assert evidence.covered.mean((1, 2, 3, 4)).tolist() == [1, 0]


@pytest.mark.parametrize("positions", [[2, 3], [3, 2], [0, T - 1]])
def test_before_the_frame_that_is_known_last_things_moved_evenly(positions: list[int]) -> None:
    skip, clip = made(SplattingSkip), bright((0, 1))
    torch.nn.init.normal_(skip.paths[-1].bias)  # which says how they go on, and nothing else
    film, last = shown(skip, clip, [positions]).evidence.film, max(positions)
    torch.testing.assert_close(film[:, :last], _standardised(clip[:, :last]), atol=0.01, rtol=0)
    assert loss(skip, clip, positions, truth=clip).any() == (last < T - 1)
    assert torch.allclose(film, _standardised(clip), atol=0.01) == (last == T - 1)


def turning() -> torch.Tensor:
    """A square that goes two steps, one back, and stops."""
    there = bright((0, 1), frames=4)
    return torch.cat([there[:, :3], there[:, 1:2].repeat(1, T - 3, 1, 1, 1)], dim=1)


def test_in_training_the_film_goes_the_true_ways() -> None:
    skip, clip = made(SplattingSkip), turning()
    told, told_not = (
        (shown(skip, clip, [[1, 2]], truth).evidence.film - _standardised(clip))[:, 3:].square().mean()
        for truth in (clip, None)
    )
    assert told < 0.3 * told_not


class Turns(torch.utils.data.Dataset):
    """Squares that turn round where they are, and some that may go either way."""

    def __init__(self, length: int, either: bool = False):
        self.length, self.either = length, either

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        clip = turning()[0]
        if self.either and index % 3 == 0:  # less often
            clip = bright((0, 1))[0]
        return video.to_uint8(clip)


def learned(data: Turns) -> LGCVD:
    torch.manual_seed(0)
    model = build(CONFIG)
    train = replace(PRESETS["tiny"].train, iterations=len(data), tasks=TaskMix(1, 0, 0, 0), batch_size=1)
    learn_paths(model, data, train, progress=False)
    return model


def test_things_learn_where_they_turn_round() -> None:
    model, clip = learned(Turns(400)), turning()
    before, after = (
        (unanswered(skip, clip, shown(skip, clip, [[0, 1]])) - clip)[:, 3:].square().mean()
        for skip in (made(SplattingSkip), model.motion)
    )
    assert after < 0.1 * before


def test_things_go_the_likeliest_way_and_none_between() -> None:
    film = shown(learned(Turns(400, either=True)).motion, turning(), [[0, 1]]).evidence.film
    torch.testing.assert_close(film, _standardised(turning()), atol=0.01, rtol=0)


def test_learning_paths_changes_nothing_else_and_gives_the_same_again() -> None:
    torch.manual_seed(0)
    before = build(CONFIG).state_dict()
    first, again = (learned(Turns(8)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], before[name])}
    assert changed
    assert all(name.startswith("motion.paths.") for name in changed)


def test_training_the_network_leaves_the_paths_alone() -> None:
    model = build(replace(PRESETS["tiny"].model, motion=2, motion_things=2, output="x0", data_std=0.3))
    clip = torch.rand(1, model.config.clip_frames, 1, *model.config.image_size) * 2 - 1
    context = model.prepare(local_context(clip, torch.tensor([[0, 1]]), model.remember(None)), truth=clip)
    model(torch.randn_like(clip), torch.tensor([999]), context).square().mean().backward()
    assert all(parameter.grad is None for parameter in model.motion.parameters())


def test_forward_moving_is_for_lgcvd_with_motion() -> None:
    for wrong in ({"motion": 0}, {"kind": "mcvd-concat"}):
        with pytest.raises(UserError, match="motion_things is for"):
            replace(PRESETS["tiny"].model, **({"motion": 2, "motion_things": 1} | wrong))
    with pytest.raises(UserError, match="motion_things must be at least 0"):
        replace(PRESETS["tiny"].model, motion=2, motion_things=-1)


def test_means_are_the_means_of_pooling() -> None:
    maps = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    for box in (3, 15):
        expected = F.avg_pool2d(maps, box, stride=1, padding=box // 2, count_include_pad=False)
        torch.testing.assert_close(pooled_over(maps, box), expected)
    torch.testing.assert_close(over_patches(maps, 2) / 4, F.avg_pool2d(maps, 2))
    torch.testing.assert_close(to_pixels(maps, 2), F.interpolate(maps, scale_factor=2))
