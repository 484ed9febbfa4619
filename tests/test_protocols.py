from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from lgcvd import UserError
from lgcvd.measures import MEASURES
from lgcvd.metrics import lpips, psnr
from lgcvd.protocols import LGCVD_RELEASED, MCVD, OURS, PROTOCOLS, each_clip, released_groups


def test_every_protocol_is_written_down():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert len(protocol.what) > 50
        assert all(measure.what for measure in protocol.measures.values())


def test_best_of_n_is_chosen_for_each_measure_by_itself():
    values = np.array([[1.0, 3.0, 2.0], [6.0, 5.0, 4.0]])
    best = {name: [MEASURES[name].best(group) for group in each_clip(values)] for name in OURS.measures}
    assert best == {"psnr": [3, 6], "ssim": [3, 6], "lpips": [1, 4]}


def test_released_groups_end_one_file_too_early():
    # two clips of 20 predictions in 10 files of 2
    groups = released_groups(np.arange(40.0).reshape(2, 20))
    assert groups[0].tolist() == [0, 1]
    assert groups[1].tolist() == list(range(2, 22))  # two of these are of the second clip
    assert len(groups) == 2  # and the second clip's other predictions are lost


@given(clips=st.integers(1, 5), n=st.integers(1, 30))
def test_released_groups_are_as_many_as_clips_and_share_nothing(clips, n):
    groups = released_groups(np.arange(float(clips * n)).reshape(clips, n))
    assert len(groups) == clips
    everything = np.concatenate(groups)
    assert len(everything) == len(set(everything.tolist()))


def test_psnr_of_mcvd_is_that_of_the_mean_error_over_frames():
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(2, 5, 1, 8, 8, generator=generator) * 2 - 1
    predicted = (true + torch.linspace(0.01, 0.5, 5)[:, None, None, None]).clamp(-1, 1)
    mse = ((predicted - true) / 2).square().mean((1, 2, 3, 4))
    measure = MCVD.measures["psnr"]
    ours = measure.over_frames(psnr(predicted, true).numpy())
    np.testing.assert_allclose(ours, (-10 * mse.log10()).numpy(), atol=1e-4)
    assert (ours < OURS.measures["psnr"].over_frames(psnr(predicted, true).numpy())).all()


def test_lpips_of_mcvd_is_taken_at_128_pixels_and_the_released_one_in_a_wrong_range():
    generator = torch.Generator().manual_seed(0)
    true, predicted = (torch.rand(1, 1, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(2))
    enlarged = [F.interpolate(film[0], (128, 128), mode="bilinear")[None] for film in (predicted, true)]
    halved = [(film + 1) / 2 for film in (predicted, true)]
    for protocol, seen in ((OURS, (predicted, true)), (MCVD, enlarged), (LGCVD_RELEASED, halved)):
        value = protocol.measures["lpips"].per_frame(predicted, true)
        torch.testing.assert_close(value, lpips(*seen))
        assert value.shape == (1, 1)


def test_numbers_below_one_are_refused():
    for name in ("context", "frames", "clips", "trajectories", "steps"):
        with pytest.raises(UserError, match=name):
            replace(OURS, **{name: 0})


def test_groups_of_files_need_as_many_trajectories_in_each():
    assert replace(LGCVD_RELEASED, trajectories=20).trajectories == 20
    with pytest.raises(UserError, match=r"lgcvd-released groups .* must be a multiple of 10, not 15"):
        replace(LGCVD_RELEASED, trajectories=15)
