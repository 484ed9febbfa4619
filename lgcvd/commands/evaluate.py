"""``lgcvd evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from tyro.conf import DisallowNone

from lgcvd.baselines import BASELINES
from lgcvd.checkpoints import load
from lgcvd.commands.common import Device, OfClips, OfSteps, find_device, stop_signals
from lgcvd.comparison import summary_line
from lgcvd.errors import UserError
from lgcvd.evaluation import Evaluation, count_judged, evaluate, finished, gather, of_baseline, of_model
from lgcvd.files import check_place
from lgcvd.machine import describe_machine
from lgcvd.measures import METRICS
from lgcvd.objective import Share
from lgcvd.progress import progress_bar
from lgcvd.protocols import OURS, PROTOCOLS, SAMPLING
from lgcvd.rollout import MEMORIES

Protocol = Literal[*PROTOCOLS]
Metric = Literal[*METRICS]


@dataclass(frozen=True, kw_only=True)
class Evaluate(OfSteps, OfClips):
    """Measure predictions by a protocol; to stop, press Ctrl-C: the same command goes on."""

    model: str
    """A shipped model, a checkpoint folder, a hub id (owner/name), or a baseline: copy-last-frame, mean-frame,
    blank-frame, optical-flow."""
    out: Path
    """Results file, .json."""
    protocol: Protocol = "ours"
    """What is measured, and how: see docs/evaluation.md. --context, --frames, --clips, --trajectories, --fvd-observed,
    --sampler, --steps and --spacing change it."""
    context: DisallowNone[int | None] = None
    """Frames that are observed."""
    frames: DisallowNone[int | None] = None
    """New frames."""
    clips: DisallowNone[int | None] = None
    """Clips, evenly spread over the split; the seed decides which."""
    trajectories: DisallowNone[int | None] = None
    """Predictions of each clip."""
    fvd_observed: DisallowNone[bool | None] = None
    """Whether FVD sees the observed frames too."""
    memory: Literal[*MEMORIES] = "decay"
    """What an LGC-VD model remembers of the windows before; "none" tells what its memory is worth."""
    metrics: tuple[Metric, ...] = METRICS
    """What is measured. All but psnr and ssim take long without a GPU."""
    batch: int = 4
    """Clips that are predicted together, with all their trajectories."""
    cache: DisallowNone[Path | None] = None
    """Folder that keeps the true clips' features for FVD, for the next evaluation of the same clips."""
    device: Device = "auto"
    """Where to compute. `torchrun` and `accelerate launch` start several processes, which share the clips."""

    def run(self) -> int:
        from accelerate import PartialState

        # processes wait for the slowest, which a resumed evaluation may leave alone with its share
        state = PartialState(cpu=find_device(self.device) == "cpu", timeout=timedelta(days=7))
        main = state.is_main_process
        evaluation = self._evaluation(state.device)
        check_place(self.out)
        results = finished(evaluation, self.out)
        if not results:
            share = Share(state.process_index, state.num_processes)
            with (
                stop_signals() as received,
                progress_bar(
                    total=len(evaluation.clips), initial=count_judged(self.out), unit="clip", disable=not main
                ) as bar,
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
            print(f"{self.out}: {summary_line(results)}")
            for note in results["notes"]:
                print(note)
        return 0

    def _evaluation(self, device):
        names = ("context", "frames", "clips", "trajectories", "fvd_observed")
        changed = {name: getattr(self, name) for name in names if getattr(self, name) is not None} | self.sampling()
        protocol = PROTOCOLS[self.protocol]
        if self.model in BASELINES:
            useless = [*self.sampling(), *(["memory"] if self.memory != "decay" else [])]
            if useless:
                named = " and ".join(f"--{name}" for name in useless)
                raise UserError(f"{self.model} is no model that denoises or remembers: leave out {named}.")
            protocol, predictor = replace(protocol, **changed), of_baseline(self.model)
        else:
            model = load(self.model, device)
            own = model.about.sampling_for("predict") if protocol is OURS else {}
            protocol = replace(protocol, **{name: own[name] for name in SAMPLING if name in own} | changed)
            sampling = {name: getattr(protocol, name) for name in SAMPLING}
            predictor = of_model(model, name=self.model, memory=self.memory, **sampling)
        clips = self.open(protocol.clips, protocol.context + protocol.frames, predictor.shape)
        return Evaluation(predictor, clips, protocol, self.seed, self.metrics, device, self.cache)
