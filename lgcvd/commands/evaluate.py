"""``lgcvd evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from tyro.conf import DisallowNone

from lgcvd.commands.common import Device, OfClips, Sampler, find_device, stop_signals
from lgcvd.progress import progress_bar

Protocol = Literal["ours", "mcvd", "lgcvd-released"]
Metric = Literal["psnr", "ssim", "lpips", "fvd", "diversity"]


@dataclass(frozen=True, kw_only=True)
class Evaluate(OfClips):
    """Measure predictions by a protocol; to stop, press Ctrl-C: the same command goes on."""

    model: str
    """A shipped model, a checkpoint folder, a hub id (owner/name), or a baseline: copy-last-frame, mean-frame,
    blank-frame, optical-flow."""
    out: Path
    """Results file, .json."""
    protocol: Protocol = "ours"
    """What is measured, and how: see docs/evaluation.md. The options from --context to --steps change it."""
    context: DisallowNone[int | None] = None
    """Frames that are observed."""
    frames: DisallowNone[int | None] = None
    """New frames."""
    clips: DisallowNone[int | None] = None
    """Clips, evenly spread over the split; the seed decides which."""
    trajectories: DisallowNone[int | None] = None
    """Predictions of each clip."""
    sampler: DisallowNone[Sampler | None] = None
    """How to denoise."""
    steps: DisallowNone[int | None] = None
    """Denoising steps a window."""
    fvd_observed: DisallowNone[bool | None] = None
    """Whether FVD sees the observed frames too."""
    metrics: tuple[Metric, ...] = ("psnr", "ssim", "lpips", "fvd", "diversity")
    """What is measured. All but psnr and ssim take long without a GPU."""
    batch: int = 4
    """Clips that are predicted together, with all their trajectories."""
    cache: DisallowNone[Path | None] = None
    """Folder that keeps the true clips' features for FVD, for the next evaluation of the same clips."""
    device: Device = "auto"
    """Where to compute. `torchrun` and `accelerate launch` start several processes, which share the clips."""

    def run(self) -> int:
        from accelerate import PartialState

        from lgcvd.evaluation import describe_machine, evaluate, finished, gather
        from lgcvd.objective import Share

        # processes wait for the slowest, which a resumed evaluation may leave alone with its share
        state = PartialState(cpu=find_device(self.device) == "cpu", timeout=timedelta(days=7))
        main = state.is_main_process
        evaluation = self._evaluation(state.device)
        results = finished(evaluation, self.out)
        if not results:
            share = Share(state.process_index, state.num_processes)
            with (
                stop_signals() as received,
                progress_bar(total=len(evaluation.clips), unit="clip", disable=not main) as bar,
            ):
                for done in evaluate(evaluation, self.out, batch=self.batch, share=share):
                    bar.update(done.clips - bar.n)
                    if received:
                        break
            if received:
                print(f"{self.out}: stopped; the same command goes on")
                return 128 + received[0]
            state.wait_for_everyone()
            if main:
                machine = describe_machine() | {"device": str(state.device), "processes": state.num_processes}
                results = gather(evaluation, self.out, machine)
        if main:
            from lgcvd.comparison import summary_line

            print(f"{self.out}: {summary_line(results)}")
            for note in results["notes"]:
                print(note)
        return 0

    def _evaluation(self, device):
        from lgcvd.evaluation import Evaluation, find_predictor
        from lgcvd.protocols import PROTOCOLS

        names = ("context", "frames", "clips", "trajectories", "sampler", "steps", "fvd_observed")
        changed = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        protocol = replace(PROTOCOLS[self.protocol], **changed)
        sampling = {name: getattr(protocol, name) for name in ("sampler", "steps", "spacing")}
        predictor = find_predictor(self.model, device=device, **sampling)
        clips = self.open(protocol.clips, protocol.context + protocol.frames, predictor.shape)
        return Evaluation(predictor, clips, protocol, self.seed, self.metrics, device, self.cache)
