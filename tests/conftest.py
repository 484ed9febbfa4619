"""Shared fixtures. No test leaves this machine."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_ANALYTICS_ENABLED": "False"}

import hypothesis
import pytest
import torch
from torch import Tensor

from lgcvd import LGCVD, PRESETS, MovingDigits
from lgcvd.video import from_uint8

torch.set_num_threads(1)
hypothesis.settings.register_profile("facts", deadline=None)  # how long an example takes is not what is tested
hypothesis.settings.load_profile("facts")
signal.signal(signal.SIGINT, signal.default_int_handler)  # `make test &`: shells let what runs behind ignore Ctrl-C


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """A process that does not come to its end when its tests have come to theirs shows where it hangs, and ends."""
    faulthandler.dump_traceback_later(300, exit=True)


@pytest.fixture(autouse=True)
def real_time_ends_with_the_test() -> Iterator[None]:
    """SVT-AV1, which encodes clips of some tests, gives root's whole process real-time priority and leaves it there.

    What the process starts afterwards has it too, a browser for example, and starves all else on a small machine.
    """
    yield
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def perturbed(model: LGCVD, seed: int = 0) -> LGCVD:
    """``model`` in evaluation mode, all its weights moved: fresh output layers are zero and would hide everything."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model.eval()


@pytest.fixture
def tiny_model() -> LGCVD:
    """Gray 16 x 16, K = 2, N = 6, dim 8; the same random weights for every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return perturbed(LGCVD(PRESETS["tiny"].model))


@pytest.fixture(scope="session")
def digits_clip() -> Tensor:
    """A clip (1, 14, 1, 16, 16) of the test split, in [-1, 1]."""
    return from_uint8(MovingDigits(split="test", length=1, frames=14, image_size=16)[0][None])
