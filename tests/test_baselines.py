from __future__ import annotations

import torch

from lgcvd.baselines import blank_frame, copy_last_frame


def test_observed_frames_stay_and_the_rest_is_the_last_one_or_black():
    observed = torch.rand(2, 3, 1, 4, 4) * 2 - 1
    copied, blank = copy_last_frame(observed, 5), blank_frame(observed, 5)
    for video in (copied, blank):
        assert video.shape == (2, 8, 1, 4, 4)
        assert torch.equal(video[:, :3], observed)
    assert all(torch.equal(copied[:, t], observed[:, 2]) for t in range(3, 8))
    assert (blank[:, 3:] == -1).all()
