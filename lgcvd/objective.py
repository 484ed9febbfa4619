"""Training objectives: generators of stage losses, so that the trainer takes one optimizer step a stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from lgcvd.context import ABSENT, NULL_CLIP, Context, TaskMix, draw_positions, local_context, past, prediction
from lgcvd.denoiser import VideoDenoiser
from lgcvd.errors import UserError

if TYPE_CHECKING:
    from lgcvd.config import ModelConfig, TrainConfig

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(predicted velocity, true velocity, alpha_bar at the time steps (B,)) -> loss of each clip (B,)."""

TimeSampler = Callable[[int, int, torch.Generator], Tensor]
"""(batch, steps, generator) -> time steps (B,)."""


def l1(predicted: Tensor, true: Tensor, alpha_bar: Tensor) -> Tensor:
    """The paper's loss: mean absolute difference of velocities."""
    return _of_each((predicted - true).abs())


def capped_l2(predicted: Tensor, true: Tensor, alpha_bar: Tensor, cap: float = 5.0) -> Tensor:
    """Mean squared difference of velocities, capped where there is little noise.

    Squared velocity error is squared x0 error times ``1 + SNR = 1 / (1 - alpha_bar)``; that weight is cut at ``cap``,
    in the spirit of min-SNR (Hang et al. 2023), so that nearly clean clips do not drown the noisy ones.
    """
    weight = (cap * (1 - alpha_bar)).clamp(max=1)
    return weight * _of_each((predicted - true).square())


def noise_l2(predicted: Tensor, true: Tensor, alpha_bar: Tensor) -> Tensor:
    """Mean squared difference of the noise (Ho et al. 2020, eq. 14), which MCVD is trained with.

    The noise that a velocity implies is ``sqrt(alpha_bar) velocity`` and a term that ``x_t`` alone decides.
    """
    return alpha_bar * _of_each((predicted - true).square())


def _of_each(values: Tensor) -> Tensor:
    """Mean of each clip: (B, T, C, H, W) -> (B,)."""
    return values.flatten(1).mean(1)


def uniform_times(batch: int, steps: int, generator: torch.Generator) -> Tensor:
    return torch.randint(steps, (batch,), generator=generator)


def high_noise_times(batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """``t = steps * u^(2/3)``: denser where there is more noise, since structure is decided there."""
    return (steps * torch.rand(batch, generator=generator) ** (2 / 3)).long().clamp(max=steps - 1)


def from_noise_times(batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """Half of the clips are pure noise, the rest as in ``high_noise_times``.

    Pure noise is where every prediction starts, and the only place where nothing shows the answer: what moves where is
    learned there.
    """
    pure = torch.rand(batch, generator=generator) < 0.5
    return high_noise_times(batch, steps, generator).masked_fill(pure, steps - 1)


@dataclass(frozen=True)
class Share:
    """What one of several processes takes of a batch.

    Random numbers are drawn for the whole batch by every process, from the same generator: what is drawn for a clip
    does not depend on how many processes there are.
    """

    rank: int = 0
    of: int = 1

    def __call__(self, whole):
        """Every ``of``-th item of ``whole``, a sequence or tensor over the whole batch."""
        return whole[self.rank :: self.of]

    def noise(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """Normal noise for ``x0``, such a share, drawn where ``x0`` is: a CPU would keep a GPU waiting."""
        there = torch.Generator(x0.device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return self(torch.randn((len(x0) * self.of, *x0.shape[1:]), generator=there, device=x0.device))


WHOLE = Share()
"""What a process takes that works alone."""


STAGES = ("stage1", "stage2")
"""What an objective may yield losses for."""

DISTANCES: dict[str, Distance] = {"l1": l1, "l2": capped_l2, "noise_l2": noise_l2}
TIMES: dict[str, TimeSampler] = {
    "uniform": uniform_times,
    "high_noise": high_noise_times,
    "from_noise": from_noise_times,
}


class StageLoss(NamedTuple):
    """What a stage has cost."""

    stage: str
    each: Tensor
    """Loss of every clip (B,)."""
    tasks: list[str]
    """What every clip was for: names of ``TaskMix``."""

    @property
    def loss(self) -> Tensor:
        """What is minimised: the mean."""
        return self.each.mean()


class Objective(Protocol):
    """What a model is trained to do."""

    @abstractmethod
    def clip_frames(self, config: ModelConfig) -> int:
        """Length of a training clip; ``UserError`` for a model that cannot be trained so."""

    @abstractmethod
    def __call__(
        self, model: VideoDenoiser, clip: Tensor, generator: torch.Generator, share: Share = WHOLE
    ) -> Iterator[StageLoss]:
        """Yield the losses for clips (B, clip_frames, C, H, W) in [-1, 1]; the trainer takes a step after each."""


class Denoised(NamedTuple):
    """What became of a batch of noisy clips."""

    loss: Tensor
    """Of each clip, (B,)."""
    estimate: Tensor
    """The clean clips that the model saw in them, in one step, (B, T, C, H, W)."""
    t: Tensor
    """How noisy they were: time steps (B,)."""


@dataclass(frozen=True)
class Denoising(Objective):
    """What our objectives have in common: the model denoises clips, from drawn time steps, for drawn tasks."""

    tasks: TaskMix = field(default_factory=TaskMix)
    distance: Distance = l1
    times: TimeSampler = uniform_times
    context_noise: float = 0.0
    """Largest standard deviation, in [-1, 1], of normal noise on the known frames; each clip draws its own. What is
    known at a rollout are the model's own frames, which are never quite right. The paper has none."""

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        """The objective with the choices of ``config``."""
        return cls(config.tasks, DISTANCES[config.loss], TIMES[config.times], config.context_noise)

    def at(self, task: str, t: int) -> Self:
        """The same objective for one task, a name of ``TaskMix``, and one time step alone, with clean known frames."""
        return replace(
            self,
            tasks=TaskMix.of(**{task: 1.0}),
            times=lambda batch, steps, generator: torch.full((batch,), t),
            context_noise=0.0,
        )

    def _denoise(
        self, model: VideoDenoiser, x0: Tensor, context: Context, generator: torch.Generator, share: Share
    ) -> Denoised:
        """Denoise ``x0`` from a random time step."""
        schedule = model.schedule
        t = share(self.times(len(x0) * share.of, schedule.steps, generator)).to(x0.device)
        noise = share.noise(x0, generator)
        x_t = schedule.add_noise(x0, noise, t)
        if self.context_noise:
            context = self._with_noise(context, generator, share)
        context = model.prepare(context, truth=x0)
        velocity = model(x_t, t, context)
        loss = self.distance(velocity, schedule.velocity(x0, noise, t), schedule.alpha_bar[t])
        return Denoised(loss, schedule.x0(x_t, velocity, t), t)

    def _with_noise(self, context: Context, generator: torch.Generator, share: Share) -> Context:
        """The context with noise on its known frames, the same on all frames of a clip in strength."""
        levels = share(self.context_noise * torch.rand(len(context.frames) * share.of, generator=generator))
        noise = share.noise(context.frames, generator)
        frames = context.frames + levels.to(noise.device)[:, None, None, None, None] * noise
        return replace(context, frames=frames.clamp(-1, 1))


def _check_denoised(config: ModelConfig, frames: int) -> None:
    """Raise ``UserError`` unless the model denoises so many frames together."""
    if config.output_frames != frames:
        raise UserError(
            f"this objective denoises {frames} frames and a {config.kind} model {config.output_frames}: "
            "MCVD is trained with block_masking, LGC-VD with two_stage or single_stage."
        )


@dataclass(frozen=True)
class OverlappingClips(Denoising):
    """Objectives for LGC-VD, whose training clips are two windows that overlap by K frames."""

    def clip_frames(self, config: ModelConfig) -> int:
        """Length of a training clip: two windows that overlap by K."""
        _check_denoised(config, config.clip_frames)
        return 2 * config.clip_frames - config.context_frames

    def _windows(self, model: VideoDenoiser, clip: Tensor) -> tuple[Tensor, Tensor]:
        """The two overlapping clips of T frames."""
        k, t, frames = model.context_frames, model.config.clip_frames, self.clip_frames(model.config)
        if clip.shape[1] != frames:
            raise UserError(
                f"a training clip must have {frames} frames, two windows of {t} that overlap by {k}, not "
                f"{clip.shape[1]}."
            )
        return clip[:, :t], clip[:, -t:]

    def _draw(
        self, model: VideoDenoiser, clip: Tensor, generator: torch.Generator, share: Share
    ) -> tuple[list[str], Tensor]:
        """The task of each clip, and where its local frames belong, (B, K)."""
        k, t = model.context_frames, model.config.clip_frames
        tasks = self.tasks.draw_tasks(len(clip) * share.of, generator)
        return share(tasks), share(draw_positions(tasks, k, t, generator)).to(clip.device)


@dataclass(frozen=True)
class TwoStage(OverlappingClips):
    """Two-stage training (paper, section 3.4).

    Stage 1 denoises a clip from its true local context and an empty memory. Stage 2 denoises the clip that overlaps it
    by K frames; its memory is the encoding of stage 1's own estimate, and for prediction its local frames are the
    estimate's last K: the model learns from the imperfect frames that it will meet at rollout. For the past, which a
    rollout makes from the end, the two clips change places.
    """

    estimate_level: float = 1.0
    """Noise, as a share of the diffusion, up to which stage 2 sees the estimate; of more noise it is a mean of all
    futures, unlike any frame of a rollout, and the true clip takes its place. The paper has no such limit."""

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        return replace(super().of(config), estimate_level=config.estimate_level)

    def __call__(
        self, model: VideoDenoiser, clip: Tensor, generator: torch.Generator, share: Share = WHOLE
    ) -> Iterator[StageLoss]:
        """Yield the losses of both stages for clips (B, 2 T - K, C, H, W) in [-1, 1], a share of a batch."""
        k = model.context_frames
        first, second = self._windows(model, clip)
        tasks, positions = self._draw(model, clip, generator, share)
        predicts, goes_back = (
            _rows_that_are(layout(k, first.shape[1]), positions)[:, None, None, None, None]
            for layout in (prediction, past)
        )
        first, second = torch.where(goes_back, second, first), torch.where(goes_back, first, second)

        context = local_context(first, positions, model.remember(None, size=clip.shape[-2:]))
        loss, estimate, t = self._denoise(model, first, context, generator, share)
        a_mean = (t >= self.estimate_level * model.schedule.steps)[:, None, None, None, None]
        estimate = torch.where(a_mean, first, estimate.detach().clamp(-1, 1))
        yield StageLoss(STAGES[0], loss, tasks)

        context = local_context(second, positions, model.remember(estimate))
        frames = torch.where(predicts, estimate[:, -k:], context.frames)
        frames = torch.where(goes_back, estimate[:, :k], frames)
        context = Context(frames, positions, context.memory)
        yield StageLoss(STAGES[1], self._denoise(model, second, context, generator, share).loss, tasks)


def _rows_that_are(row: list[int], positions: Tensor) -> Tensor:
    """Which rows of ``positions`` (B, K) are ``row``: (B,)."""
    return (positions == torch.tensor(row, device=positions.device)).all(dim=1)


@dataclass(frozen=True)
class SingleStage(OverlappingClips):
    """Training with true context only, to compare with: what it sees at rollout, its own frames, it never saw before.

    It denoises the second of the two clips; its memory is the encoding of the true first one, or of a grey clip, as at
    the start of a rollout, for half of them.
    """

    def __call__(
        self, model: VideoDenoiser, clip: Tensor, generator: torch.Generator, share: Share = WHOLE
    ) -> Iterator[StageLoss]:
        first, second = self._windows(model, clip)
        tasks, positions = self._draw(model, clip, generator, share)
        begins = share(torch.rand(len(clip) * share.of, generator=generator) < 0.5).to(clip.device)
        before = first.masked_fill(begins[:, None, None, None, None], NULL_CLIP)
        context = local_context(second, positions, model.remember(before))
        yield StageLoss(STAGES[0], self._denoise(model, second, context, generator, share).loss, tasks)


@dataclass(frozen=True)
class BlockMasking(Denoising):
    """MCVD's training (Voleti et al. 2022, section 3): the frames between a past and a future block are denoised.

    What is masked makes the task: prediction is shown the past, interpolation both blocks, generation none. MCVD's own
    mix has four such tasks alike, so that either block is masked with probability 1/2; for other names of ``tasks``, as
    "random", coins decide too.
    """

    def clip_frames(self, config: ModelConfig) -> int:
        """K past frames, N new ones, and the future ones that the model knows."""
        _check_denoised(config, config.new_frames)
        return config.clip_frames + config.future_frames

    def __call__(
        self, model: VideoDenoiser, clip: Tensor, generator: torch.Generator, share: Share = WHOLE
    ) -> Iterator[StageLoss]:
        """Yield the loss for clips (B, K + N + F, C, H, W) in [-1, 1], a share of a batch."""
        k, t, frames = model.context_frames, model.config.clip_frames, self.clip_frames(model.config)
        if clip.shape[1] != frames:
            raise UserError(f"a training clip must have {frames} frames, with past and future, not {clip.shape[1]}.")
        tasks = self.tasks.draw_tasks(len(clip) * share.of, generator)
        shown = share(self._draw_shown(tasks, generator)).to(clip.device)
        blocks = torch.tensor([*range(k), *range(t, frames)], device=clip.device)
        positions = blocks.where(shown[:, (blocks >= t).long()], ABSENT)
        context = local_context(clip, positions)
        yield StageLoss(STAGES[0], self._denoise(model, clip[:, k:t], context, generator, share).loss, share(tasks))

    def _draw_shown(self, tasks: list[str], generator: torch.Generator) -> Tensor:
        """Whether the past and the future are shown, (B, 2)."""
        coins = torch.rand((len(tasks), 2), generator=generator) < 0.5
        return torch.tensor([SHOWN.get(task, coin) for task, coin in zip(tasks, coins.tolist(), strict=True)])


SHOWN = {
    "prediction": [True, False],
    "generation": [False, False],
    "interpolation": [True, True],
    "past": [False, True],
}
"""Task -> whether MCVD is shown the past and the future."""

OBJECTIVES: dict[str, type[Denoising]] = {
    "two_stage": TwoStage,
    "single_stage": SingleStage,
    "block_masking": BlockMasking,
}
"""Objectives by name."""


def objective_of(config: TrainConfig) -> Denoising:
    """The objective that ``config`` describes."""
    return OBJECTIVES[config.objective].of(config)
