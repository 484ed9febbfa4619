"""Many futures of one clip: a diffusion model draws one, so draw several and see where they agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from lgcvd.errors import UserError
from lgcvd.models import VideoDenoiser
from lgcvd.pictures import heat_map
from lgcvd.rollout import Window, rollout
from lgcvd.seeds import seeded

MAX_FUTURES = 64
"""More at once are refused: they are made as one batch."""


@dataclass(frozen=True)
class Futures:
    """What was drawn."""

    videos: Tensor
    """(n, T, C, H, W) in [-1, 1]."""
    given: tuple[bool, ...]
    """For each of the T frames whether it was given; those are the same in all futures."""

    @property
    def mean(self) -> Tensor:
        """(T, C, H, W): sharp where the futures agree."""
        return self.videos.mean(0)

    @property
    def spread(self) -> Tensor:
        """Standard deviation of every pixel over the futures, (T, 1, H, W) in [0, 1]."""
        return self.videos.std(0, correction=0).mean(1, keepdim=True)

    def ranked(self, truth: Tensor) -> list[int]:
        """Indices of the futures, the closest to ``truth`` (T', C, H, W) first, by PSNR of the new frames it has."""
        from lgcvd.metrics import psnr

        new = [i for i, given in enumerate(self.given) if not given and i < len(truth)]
        if not new:
            raise UserError("the true clip has none of the new frames, so no future is nearer to it than another.")
        truth = truth[new].expand(len(self.videos), -1, -1, -1, -1)
        return psnr(self.videos[:, new], truth.to(self.videos)).mean(1).argsort(descending=True).tolist()

    def panels(self, truth: Tensor | None = None) -> dict[str, Tensor]:
        """Videos to look at, by name: best and worst where there is a truth, two of them where not; mean; spread."""
        if truth is None or all(self.given[: len(truth)]):
            chosen = {f"future {i + 1}": self.videos[i] for i in range(min(2, len(self.videos)))}
        else:
            order = self.ranked(truth)
            chosen = {"best": self.videos[order[0]], "worst": self.videos[order[-1]]}
        return chosen | {"mean": self.mean, "spread": heat_map(self.spread)}

    def beside(self, truth: Tensor | None, called: str = "truth") -> dict[str, Tensor]:
        """The truth, where there is one, then the panels; a future that is alone is the prediction."""
        real = {} if truth is None else {called: truth}
        return real | (self.panels(truth) if len(self.videos) > 1 else {"prediction": self.videos[0]})


def futures(
    model: VideoDenoiser, observed: Tensor | None, count: int, *, seed: int = 0, **options: object
) -> Iterator[Window]:
    """``count`` rollouts of one clip (1, F, C, H, W) as one batch, with the seeds ``seed``, ``seed + 1``, ...

    ``options`` are those of ``rollout``; each future is the one that its seed would give alone.
    """
    if not 1 <= count <= MAX_FUTURES:
        raise UserError(f"the number of futures must be between 1 and {MAX_FUTURES}, not {count}.")
    if observed is None:
        observed = next(model.parameters()).new_empty(1, 0, model.config.channels, *model.config.image_size)
    if len(observed) != 1:
        raise UserError(f"futures are of one clip, not of {len(observed)}.")
    generators = seeded(*range(seed, seed + count))
    yield from rollout(model, observed.expand(count, -1, -1, -1, -1), generator=generators, **options)
