from __future__ import annotations

import math
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from media import full_disk
from torch import Tensor

from lgcvd import LGCVD, PRESETS, MovingDigits, TaskMix, TrainConfig, TrainStep, TwoStage, UserError, train
from lgcvd.data import Shards, Windows, different_items
from lgcvd.objective import Share
from lgcvd.shards import Recording, write_shard
from lgcvd.trainer import Batches, accelerator_for, checkpoints, learning_rate, read_checkpoint
from lgcvd.video import from_uint8

CONFIG = TrainConfig(iterations=6, batch_size=2, rate=1e-3, warmup=2, cooldown=3, save_every=3, seed=5)
SHARED = replace(CONFIG, iterations=4, batch_size=4, save_every=2, cooldown=0)
DATA = MovingDigits(length=7, frames=14, image_size=16)


def fresh_model() -> LGCVD:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LGCVD(PRESETS["tiny"].model)


def steps_of(config: TrainConfig = CONFIG, *, data=DATA, **options) -> list[TrainStep]:
    return list(train(fresh_model(), data, config, **options))


def weights(step: TrainStep) -> list[Tensor]:
    return list(step.model.state_dict().values())


def same(a: TrainStep, b: TrainStep) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


@pytest.fixture(scope="module")
def uninterrupted() -> list[TrainStep]:
    return steps_of()


def test_every_iteration_is_told(uninterrupted: list[TrainStep]):
    assert [step.iteration for step in uninterrupted] == [1, 2, 3, 4, 5, 6]
    for step in uninterrupted:
        assert step.loss == pytest.approx((step.losses["stage1"] + step.losses["stage2"]) / 2)
        assert {stage for stage, _ in step.task_losses} == {"stage1", "stage2"}
        assert not step.saves
    (step,) = steps_of(replace(CONFIG, iterations=1, tasks=TaskMix(0, 0, 1, 0)))
    assert step.task_losses == {(stage, "interpolation"): pytest.approx(loss) for stage, loss in step.losses.items()}


def test_killed_run_goes_on_as_if_it_had_never_stopped(uninterrupted: list[TrainStep], tmp_path: Path):
    run = train(fresh_model(), DATA, CONFIG, folder=tmp_path)
    first = [next(run) for _ in range(4)]
    assert [step.saves for step in first] == [False, False, True, False]
    run.close()
    last, killed_at_3 = checkpoints(tmp_path)
    last.unlink()
    assert read_checkpoint(tmp_path)["iteration"] == int(killed_at_3.stem) == 3

    resumed = steps_of(folder=tmp_path)
    assert [step.iteration for step in resumed] == [4, 5, 6]
    assert [step.losses for step in resumed] == [step.losses for step in uninterrupted[3:]]
    assert [step.task_losses for step in resumed] == [step.task_losses for step in uninterrupted[3:]]
    assert same(resumed[-1], uninterrupted[-1])


def test_run_that_its_caller_stops_keeps_its_last_iteration(uninterrupted: list[TrainStep], tmp_path: Path):
    run = train(fresh_model(), DATA, CONFIG, folder=tmp_path)
    for _ in range(4):
        next(run)
    run.close()
    resumed = steps_of(folder=tmp_path)
    assert [step.iteration for step in resumed] == [5, 6]
    assert same(resumed[-1], uninterrupted[-1])


def test_dropout_is_resumed_exactly_too_and_leaves_the_callers_random_numbers_alone(tmp_path: Path):
    objective = TwoStage(distance=lambda predicted, true, _: F.dropout(predicted - true).abs().flatten(1).mean(1))
    torch.manual_seed(1)
    *_, whole = steps_of(objective=objective)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == drawn
    run = train(fresh_model(), DATA, CONFIG, folder=tmp_path, objective=objective)
    for _ in range(4):
        next(run)
    run.close()
    torch.manual_seed(2)
    assert same(steps_of(folder=tmp_path, objective=objective)[-1], whole)


def test_resuming_with_other_settings_names_the_difference(tmp_path: Path):
    steps_of(replace(CONFIG, iterations=1), folder=tmp_path)
    changed = replace(CONFIG, iterations=1, rate=0.5, tasks=TaskMix(prediction=1))
    with pytest.raises(UserError, match=r"train\.rate: 0\.001 there, 0\.5 here; train\.tasks\.prediction: 0\.45"):
        steps_of(changed, folder=tmp_path)
    wider = LGCVD(replace(PRESETS["tiny"].model, dim=16))
    with pytest.raises(UserError, match=r"model\.dim: 8 there, 16 here"):
        next(train(wider, DATA, replace(CONFIG, iterations=1), folder=tmp_path))


def test_a_run_goes_on_with_the_same_videos_only_if_its_checkpoint_tells_them(tmp_path: Path):
    clips = []
    for name, lengths in (("here", (14, 16)), ("there", (16, 14))):
        recordings = [Recording(f"v{i}", np.zeros((n, 16, 16, 1), np.uint8)) for i, n in enumerate(lengths)]
        write_shard(tmp_path / f"{name}.hdf5", recordings, source="", split="")
        clips.append(Windows(Shards([tmp_path / f"{name}.hdf5"]), 14, draws=4))
    here, there = clips
    assert repr(here) == repr(there)
    steps_of(replace(CONFIG, iterations=1), data=here, folder=tmp_path)
    with pytest.raises(UserError, match=r"other settings \(videos: sha256 \w+ there, sha256 \w+ here\)"):
        steps_of(replace(CONFIG, iterations=2, cooldown=0), data=there, folder=tmp_path)
    (newest,) = checkpoints(tmp_path)
    saved = torch.load(newest, weights_only=True)
    del saved["config"]["videos"]  # as in checkpoints from before it was told
    torch.save(saved, newest)
    steps_of(replace(CONFIG, iterations=1), data=there, folder=tmp_path)


def test_a_cooldown_that_has_begun_ends_where_it_was_to_end(tmp_path: Path):
    run = train(fresh_model(), DATA, CONFIG, folder=tmp_path)
    for _ in range(3):
        next(run)
    run.close()
    assert steps_of(replace(CONFIG, iterations=7), folder=tmp_path)[-1].iteration == 7
    with pytest.raises(UserError, match="too far for other iterations or cooldown: go on with iterations 7"):
        steps_of(replace(CONFIG, iterations=9), folder=tmp_path)


def test_a_second_stage_that_has_not_begun_may_begin_earlier(tmp_path: Path):
    late, early = replace(CONFIG, single_stage=4), replace(CONFIG, single_stage=2)
    run = train(fresh_model(), DATA, late, folder=tmp_path)
    next(run)
    run.close()
    assert same(steps_of(early, folder=tmp_path)[-1], steps_of(early)[-1])
    with pytest.raises(UserError, match="too far for other single_stage"):
        steps_of(late, folder=tmp_path)


@pytest.mark.parametrize("broken", ["os.replace", "torch.save"])
def test_kill_during_a_save_leaves_the_old_checkpoint(
    broken: str, uninterrupted: list[TrainStep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(*args: object) -> None:
        if broken == "torch.save":
            args[1].write_bytes(b"half of a check")
        raise KeyboardInterrupt

    run = train(fresh_model(), DATA, CONFIG, folder=tmp_path)
    for _ in range(6):
        next(run)
    with monkeypatch.context() as patch:
        patch.setattr(os if broken == "os.replace" else torch, broken.split(".")[1], killed)
        with pytest.raises(KeyboardInterrupt):
            next(run)
    resumed = steps_of(folder=tmp_path)
    assert [step.iteration for step in resumed] == [4, 5, 6]
    assert same(resumed[-1], uninterrupted[-1])
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"00000006.pt", "00000003.pt"}


ENDLESS = replace(CONFIG, iterations=1_000_000, save_every=1)
EVENTS = 1_000_000
"""Calls and returns of about two iterations."""


def train_until_killed(folder: Path, iterations: int, place: str, calls: int) -> None:
    """Train for so many iterations, then until the n-th call of a function, and kill this process there.

    ``place`` names a function that writing a checkpoint calls; empty, any function's call or end counts, Python's own
    included. Moments are counted, not timed, so that they are the same on every machine.
    """
    torch.set_num_threads(1)
    left = calls

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def killing(real: Callable, *arguments: object) -> None:
        if place == "save" and left == 1:
            arguments[1].write_bytes(b"half of a check")
        count()
        real(*arguments)

    for step, _ in enumerate(train(fresh_model(), DATA, ENDLESS, folder=folder), 1):
        if step == iterations:
            if place:
                module = torch if place == "save" else os
                setattr(module, place, partial(killing, getattr(module, place)))
            else:
                sys.setprofile(lambda *_: count())


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(tmp_path: Path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lgcvd", "accelerate", "torch._dynamo"])  # so that a start takes no seconds
    rng, reached = random.Random(0), []
    for kill in range(20):
        place = ("", "save", "", "fsync", "", "replace")[kill % 6]
        calls = rng.randint(1, 2) if place else rng.randint(1, EVENTS)
        worker = context.Process(target=train_until_killed, args=(tmp_path, rng.randint(1, 2), place, calls))
        worker.start()
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        reached.append(int(checkpoints(tmp_path)[0].stem))
    assert reached == sorted(reached)
    config = replace(ENDLESS, iterations=reached[-1] + 4)
    assert same(steps_of(config, folder=tmp_path)[-1], steps_of(config)[-1])
    assert len(list((tmp_path / "checkpoints").iterdir())) == config.keep


@pytest.mark.parametrize("content", [b"", b"foreign"])
def test_damaged_checkpoint_is_refused_where_there_is_no_other(content: bytes, tmp_path: Path):
    steps_of(folder=tmp_path)
    last, before = checkpoints(tmp_path)
    last.write_bytes(content)
    with pytest.warns(UserWarning, match=r"00000006\.pt .* damaged.*Trying the checkpoint before"):
        assert [step.iteration for step in steps_of(folder=tmp_path)] == [4, 5, 6]
    for path in (last, before):
        path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(UserError, match="damaged"):
        steps_of(folder=tmp_path)


def test_newest_checkpoints_are_kept(tmp_path: Path):
    steps_of(replace(CONFIG, save_every=1, keep=3), folder=tmp_path)
    assert [path.stem for path in checkpoints(tmp_path)] == ["00000006", "00000005", "00000004"]


def test_settings_that_are_newer_than_a_checkpoint_had_their_default(tmp_path: Path):
    steps_of(replace(CONFIG, iterations=1, cooldown=0), folder=tmp_path)
    (path,) = checkpoints(tmp_path)
    saved = torch.load(path)
    del saved["config"]["train"]["schedule"], saved["config"]["train"]["tasks"]["random"]
    torch.save(saved, path)
    with pytest.raises(UserError, match=r"settings \(train\.schedule: constant there, cosine here\)"):
        steps_of(replace(CONFIG, iterations=1, cooldown=0, schedule="cosine"), folder=tmp_path)
    assert steps_of(replace(CONFIG, iterations=4, cooldown=0), folder=tmp_path)[-1].iteration == 4


@pytest.mark.parametrize(("factor", "words"), [(math.nan, "became nan"), (1e4, r"became [\d.]{5,}")])
def test_loss_that_explodes_stops_before_it_reaches_the_weights(factor: float, words: str, tmp_path: Path):
    class Diverging(TwoStage):
        calls = 0

        def __call__(self, model, *draws):
            Diverging.calls += 1
            times = 1 if Diverging.calls < 3 else factor
            return (loss._replace(each=times * loss.each) for loss in super().__call__(model, *draws))

    sentence = rf"the loss of stage1 {words} at iteration 3: lower rate \(now 0.001\)"
    for save_every, clip_grad, clip, end in (
        (2, None, "set clip_grad", "; the last checkpoint is kept"),
        (3, 1.0, r"clip_grad \(now 1\)", ""),  # there is no checkpoint yet
    ):
        Diverging.calls, model, folder = 0, fresh_model(), tmp_path / str(save_every)
        config = replace(CONFIG, iterations=3, save_every=save_every, clip_grad=clip_grad)
        with pytest.raises(UserError, match=rf"{sentence} or {clip}{end}\.$"):
            list(train(model, DATA, config, objective=Diverging(), folder=folder))
        assert [int(path.stem) for path in checkpoints(folder)] == ([2] if end else [])
        assert all(weight.isfinite().all() for weight in model.parameters())


def train_a_share(rank: int, folder: Path, iterations: int, accumulate: int) -> None:
    """One of two processes: trains, keeps what it saw and its weights."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-{iterations}", rank=rank, world_size=2)
    torch.manual_seed(rank)  # every process has its own first weights until the first one's are sent around
    model = fresh_model() if rank == 0 else LGCVD(PRESETS["tiny"].model)
    config = replace(SHARED, iterations=iterations, accumulate=accumulate)
    steps = list(train(model, DATA, config, folder=folder))
    losses = [step.losses | step.task_losses for step in steps]
    torch.save((steps[-1].model.state_dict(), losses), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_that_share_batches_train_what_one_trains(tmp_path: Path):
    *_, alone = losses = steps_of(SHARED)
    for iterations, accumulate in ((2, 1), (4, 2)):  # resumed on the way
        torch.multiprocessing.spawn(train_a_share, (tmp_path, iterations, accumulate), nprocs=2)
        results = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
        for weight, other in zip(results[0][0].values(), results[1][0].values(), strict=True):
            assert torch.equal(weight, other)
        assert results[0][1] == results[1][1]
    for told, step in zip(results[0][1], losses[2:], strict=True):
        assert told == pytest.approx(step.losses | step.task_losses, rel=1e-4)
    for name, weight in alone.model.state_dict().items():
        torch.testing.assert_close(results[0][0][name], weight, rtol=0, atol=1e-4, msg=name)


def test_processes_take_different_clips():
    config = TrainConfig(iterations=3, batch_size=4)
    for whole, *parts in zip(Batches(13, config), *(Batches(13, config, 0, Share(r, 2)) for r in (0, 1)), strict=True):
        assert parts == [whole[::2], whole[1::2]]


@given(windows=st.integers(1, 40), batch=st.sampled_from([2, 4, 8]))
def test_no_two_processes_see_the_same_window(windows: int, batch: int):
    """Though every window comes up again and again; where there are fewer than a batch holds, they must."""
    frames = np.arange(windows + 1, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    data = Windows(InMemory(frames), 2, draws=500, flip=True)
    config, seen = TrainConfig(iterations=60, batch_size=batch), []
    assert data.windows == windows
    shares = [Batches(len(data), config, 0, Share(rank, 2), different_items(data)) for rank in (0, 1)]
    for parts in zip(*shares, strict=True):
        shown = [int(data[index][0, 0, 0, 0]) for part in parts for index in part]
        assert len(shown) == batch
        assert len({*shown}) == batch or windows < batch
        seen += shown
    if windows % batch == 0:
        assert sorted(seen[:windows]) == [*range(windows)]  # an epoch shows all of them


class InMemory:
    """One video."""

    split, names, fps, skipped, notes = "", ["video"], [None], (), ()

    def __init__(self, frames: np.ndarray):
        self.frames, self.lengths, self.shape = frames, [len(frames)], frames.shape[1:]

    def read(self, video: int, window: range) -> np.ndarray:
        return self.frames[window.start : window.stop : window.step]


def test_batches_in_parts_train_what_whole_ones_do():
    whole, parts = (steps_of(replace(SHARED, accumulate=n)) for n in (1, 4))
    for a, b in zip(whole, parts, strict=True):
        assert b.losses == pytest.approx(a.losses, rel=1e-4)
        assert b.task_losses == pytest.approx(a.task_losses, rel=1e-4)
        assert b.norms == pytest.approx(a.norms, rel=1e-3)
    for weight, other in zip(weights(whole[-1]), weights(parts[-1]), strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=1e-4)


def test_batches_that_cannot_be_shared_are_refused():
    with pytest.raises(UserError, match="batch_size 2 cannot be divided into 3 parts: set it to a multiple of 3"):
        steps_of(replace(CONFIG, accumulate=3))


def test_a_full_disk_ends_a_run_with_a_sentence_and_the_checkpoint_before(tmp_path: Path):
    steps = train(fresh_model(), DATA, CONFIG, folder=tmp_path)
    reached = next(step.iteration for step in steps if step.saves)
    next(steps)
    with full_disk(after=10_000), pytest.raises(UserError, match=r"cannot be written \(is the disk full"):
        list(steps)
    assert next(train(fresh_model(), DATA, CONFIG, folder=tmp_path)).iteration == reached + 1


def test_average_follows_the_weights_of_encoder_and_denoiser():
    model = fresh_model()
    start = {name: weight.clone() for name, weight in model.named_parameters()}
    *_, last = train(model, DATA, replace(CONFIG, rate=1e-2, ema=0.9))
    averaged = dict(last.model.named_parameters())
    for name, weight in model.named_parameters():
        assert not torch.equal(averaged[name], weight), name
        assert not torch.equal(averaged[name], start[name]), name
        assert (averaged[name] - weight).norm() < (start[name] - weight).norm(), name


def test_average_with_no_decay_is_the_model_itself():
    model = fresh_model()
    *_, last = train(model, DATA, replace(CONFIG, iterations=2, ema=0.0))
    assert all(torch.equal(a, b) for a, b in zip(last.model.parameters(), model.parameters(), strict=True))


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch):
    norms = []
    step = torch.optim.Adam.step

    def spy(optimizer: torch.optim.Adam, *args: object) -> None:
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        step(optimizer, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    steps_of(replace(CONFIG, iterations=2, clip_grad=1e-3))
    assert len(norms) == 4
    assert max(norms) <= 1.001e-3


def test_norms_are_those_of_the_gradients_before_they_are_clipped(uninterrupted: list[TrainStep]):
    (clipped,) = steps_of(replace(CONFIG, iterations=1, clip_grad=1e-3))
    assert clipped.norms["stage1"] == uninterrupted[0].norms["stage1"] > 1e-3


def test_rate_warms_up_and_cools_down():
    config = TrainConfig(iterations=100, rate=2.0, warmup=10, cooldown=20)
    rates = [learning_rate(config, i) for i in (1, 5, 10, 81, 91, 100)]
    assert rates == pytest.approx([0.2, 1.0, 2.0, 2.0, 1.0, 0.1])
    assert {learning_rate(TrainConfig(iterations=3, rate=2.0), i) for i in (1, 2, 3)} == {2.0}
    cosine = replace(config, schedule="cosine", cooldown=0)
    rates = [learning_rate(cosine, i) for i in (1, 26, 51, 100)]
    assert rates == pytest.approx([0.2, 1 + math.sqrt(0.5), 1.0, 0.0005], rel=0.05)


def test_second_stage_joins_after_the_single_stage_iterations():
    stages = [list(step.losses) for step in steps_of(replace(CONFIG, iterations=3, single_stage=2))]
    assert stages == [["stage1"], ["stage1"], ["stage1", "stage2"]]


def test_things_learn_their_paths_before_the_first_iteration_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever trains: the command line, a notebook, an ablation; after a stop, or from weights that know them, not."""
    config = replace(PRESETS["tiny"].model, motion=2, motion_things=2, output="x0", data_mean=-0.9, data_std=0.4)
    torch.manual_seed(0)
    model = LGCVD(config)
    assert not model.motion.knows_paths
    first = next(train(model, DATA, CONFIG, folder=tmp_path))
    assert first.model.motion.knows_paths
    monkeypatch.setattr("lgcvd.trainer.learn_paths", lambda *_: pytest.fail("they were learned before"))
    assert next(train(LGCVD(config), DATA, CONFIG, folder=tmp_path)).iteration == 2
    assert next(train(first.model, DATA, CONFIG)).iteration == 1


def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own():
    config = TrainConfig(iterations=8, batch_size=2, seed=1)
    first, second = torch.tensor(list(Batches(8, config))).reshape(2, 8).tolist()
    assert sorted(first) == sorted(second) == list(range(8))
    other, _ = torch.tensor(list(Batches(8, replace(config, seed=2)))).reshape(2, 8).tolist()
    assert len({tuple(order) for order in (first, second, other)}) == 3


def test_batches_go_on_in_the_middle_of_an_epoch():
    config = TrainConfig(iterations=9, batch_size=2)
    batches = list(Batches(7, config))
    for start in range(10):
        rest = Batches(7, config, start)
        assert list(rest) == batches[start:]
        assert len(rest) == 9 - start


def test_model_too_narrow_for_velocity_is_not_trained():
    with pytest.raises(UserError, match="dim 8 is too narrow"):
        next(train(LGCVD(replace(PRESETS["tiny"].model, patch_size=2)), DATA, CONFIG))


def test_bfloat16_trains_nearly_the_same_and_keeps_float32_weights():
    exact, reduced = (steps_of(replace(CONFIG, precision=p))[-1] for p in ("float32", "bfloat16"))
    assert all(weight.dtype == torch.float32 for weight in reduced.model.parameters())
    assert not same(exact, reduced)
    assert reduced.losses == pytest.approx(exact.losses, rel=0.02)


def test_float16_is_for_gpus():
    with pytest.raises(UserError, match="float16 is for GPUs: use bfloat16 or float32"):
        steps_of(replace(CONFIG, precision="float16"))


def float16_on_a_cpu() -> Accelerator:
    """With the scaler that a GPU would have, in its place; it doubles its scale with every third step."""
    accelerator = accelerator_for(CONFIG, "cpu")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
    return accelerator


def test_the_scaler_of_float16_is_saved_and_gradients_are_told_without_it(
    uninterrupted: list[TrainStep], tmp_path: Path
):
    whole = steps_of(accelerator=float16_on_a_cpu())
    assert not same(whole[-1], uninterrupted[-1])
    for half, full in zip(whole, uninterrupted, strict=True):
        assert half.losses == pytest.approx(full.losses, rel=0.02)
        assert half.norms == pytest.approx(full.norms, rel=0.1)

    run = train(fresh_model(), DATA, CONFIG, folder=tmp_path, accelerator=float16_on_a_cpu())
    for _ in range(4):
        next(run)
    run.close()
    assert read_checkpoint(tmp_path)["scaler"]["scale"] == 2.0**12  # after eight steps
    *_, resumed = steps_of(folder=tmp_path, accelerator=float16_on_a_cpu())
    assert same(resumed, whole[-1])


def test_fewer_clips_than_a_batch_are_refused():
    with pytest.raises(UserError, match="fewer than one batch"):
        steps_of(replace(CONFIG, batch_size=8))


@pytest.mark.slow
def test_training_learns():
    data = MovingDigits(length=2, frames=14, image_size=16)

    @torch.no_grad()
    def loss(model: LGCVD) -> float:
        draws = (
            TwoStage()(model, from_uint8(torch.stack([data[0], data[1]])), torch.Generator().manual_seed(n))
            for n in range(8)
        )
        return sum(stage.loss.item() for stages in draws for stage in stages)

    *_, last = train(fresh_model(), data, TrainConfig(iterations=20, batch_size=2, rate=5e-3))
    assert loss(last.model) < 0.75 * loss(fresh_model())
