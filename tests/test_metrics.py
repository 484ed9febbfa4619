from __future__ import annotations

import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lgcvd import i3d, metrics
from lgcvd.errors import UserError
from lgcvd.metrics import (
    MAX_PSNR,
    diversity,
    frechet_distance,
    frechet_interval,
    lpips,
    pixels,
    psnr,
    ssim,
    too_few,
    video_features,
)
from lgcvd.video import from_uint8


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "fixtures" / "metrics.npz") as file:
        clips = {name: from_uint8(torch.from_numpy(file[name]).movedim(-1, 2)) for name in ("clips", "other")}
        return clips | {name: torch.from_numpy(file[name]) for name in file.files if name not in clips}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------ frame by frame


@pytest.mark.parametrize(
    ("metric", "name", "tolerance"),
    [(psnr, "psnr", 1e-4), (ssim, "ssim_uniform_rgb", 1e-4), (lpips, "lpips_alex", 2e-4)],
)
def test_recorded_values_are_met(recorded, metric, name, tolerance):
    ours = metric(recorded["clips"], recorded["other"])
    assert ours.shape == recorded[name].shape
    assert (ours - recorded[name]).abs().max() < tolerance


def test_identical_frames_reach_the_ceiling(recorded):
    clips = recorded["clips"]
    assert (psnr(clips, clips) == MAX_PSNR).all()
    assert (lpips(clips, clips) == 0).all()
    for window in ("uniform", "gaussian"):
        torch.testing.assert_close(ssim(clips, clips, window), torch.ones(4, 16), atol=1e-4, rtol=0)


@given(error=st.floats(0.01, 1.0), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_psnr_of_a_constant_error_is_its_formula(error, seed):
    a = torch.rand(1, 2, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) - 1
    expected = 20 * np.log10(2 / error)
    torch.testing.assert_close(psnr(a, a + error), torch.full((1, 2), expected, dtype=torch.float32), atol=0.01, rtol=0)


def test_gaussian_ssim_is_wangs_formula_on_gray_frames(recorded):
    axis = torch.arange(11, dtype=torch.float64) - 5
    bell = (-axis.square() / (2 * 1.5**2)).exp()
    weights = torch.outer(bell, bell).flatten() / bell.sum() ** 2
    a, b = (recorded[name][0, 0].double() / 2 + 0.5 for name in ("clips", "other"))
    a, b = (F.unfold((0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2])[None, None], 11)[0] for x in (a, b))  # (121, windows)
    mean_a, mean_b = weights @ a, weights @ b
    var_a, var_b, shared = weights @ a**2 - mean_a**2, weights @ b**2 - mean_b**2, weights @ (a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_a * mean_b + c1) * (2 * shared + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    ours = ssim(recorded["clips"][:1, :1], recorded["other"][:1, :1], "gaussian")
    assert abs(float(ours) - float(expected.mean())) < 1e-5


@pytest.mark.parametrize("metric", [psnr, ssim, lpips])
def test_frames_are_judged_one_by_one(recorded, metric):
    a, b = recorded["clips"][:1], recorded["other"][:1].clone()
    before = metric(a, b)
    b[:, 3] = a[:, 3]
    assert ((before - metric(a, b)).abs() > 1e-4).nonzero().tolist() == [[0, 3]]


def test_networks_see_gray_as_three_equal_colours(recorded):
    gray = recorded["clips"][:1, :9, :1]
    other = recorded["other"][:1, :9, :1]
    torch.testing.assert_close(lpips(gray, other), lpips(gray.repeat(1, 1, 3, 1, 1), other.repeat(1, 1, 3, 1, 1)))
    torch.testing.assert_close(video_features(gray), video_features(gray.repeat(1, 1, 3, 1, 1)))


@pytest.mark.parametrize("metric", [psnr, ssim, lpips])
def test_values_do_not_depend_on_how_frames_are_batched(recorded, monkeypatch, metric):
    a, b = recorded["clips"][:2, :3], recorded["other"][:2, :3]
    together = metric(a, b)
    for name in ("WINDOW_PIXELS", "NETWORK_PIXELS"):
        monkeypatch.setattr(metrics, name, 1)
    torch.testing.assert_close(metric(a, b), together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "measure",
    [
        psnr,
        ssim,
        lpips,
        pytest.param(lambda good, bad: video_features(bad), id="video_features"),
        pytest.param(lambda good, bad: diversity(torch.stack((good, bad))), id="diversity"),
    ],
)
@pytest.mark.parametrize(
    "spoil", [lambda v: v + 1.5, lambda v: v - 1.5, lambda v: v * torch.nan], ids=[">1", "<-1", "nan"]
)
def test_values_outside_the_range_are_refused(measure, spoil):
    good = torch.full((1, 9, 1, 32, 32), 0.1)
    with pytest.raises(UserError, match=r"in \[-1, 1\]"):
        measure(good, spoil(good))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda v: psnr(v, v[:, :1]), "must both be"),
        (lambda v: lpips(v, v[..., :31]), "must both be"),
        (lambda v: video_features(v[0]), r"must be \(B, T, C, H, W\)"),
        (lambda v: psnr(v, v.byte()), "convert uint8"),
        (lambda v: ssim(v[..., :6], v[..., :6]), "at least 7 x 7"),
        (lambda v: ssim(v[..., :8], v[..., :8], "gaussian"), "at least 11 x 11"),
        (lambda v: ssim(v, v, "round"), "uniform and gaussian"),
        (lambda v: lpips(v[..., :30], v[..., :30]), "at least 31 x 31"),
        (lambda v: video_features(v[:, :8]), "at least 9 frames"),
        (lambda v: psnr(v.repeat(1, 1, 2, 1, 1), v.repeat(1, 1, 2, 1, 1)), "1 or 3 channels"),
        (lambda v: psnr(v[:0], v[:0]), "not empty"),
        (lambda v: diversity(v[None]), "at least two trajectories"),
        (lambda v: diversity(torch.stack((v, v))[..., :16]), "at least 31 x 31"),
    ],
    ids=range(13),
)
def test_videos_that_a_metric_cannot_take_are_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call(torch.zeros(1, 9, 1, 32, 32))


# -------------------------------------------------------------------------------------------------------------- I3D


@pytest.mark.slow
def test_recorded_logits_are_met_and_fvd_grows_with_noise(recorded):
    features = {name: video_features(recorded[name]) for name in ("clips", "other")}
    for name, ours in features.items():
        assert (ours - recorded[f"i3d_logits_{name}"]).abs().max() < 0.05
    noise = torch.randn(recorded["clips"].shape, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(action="ignore"):
        distances = [
            frechet_distance(features["clips"], video_features((recorded["clips"] + level * noise).clamp(-1, 1)))
            for level in (0.02, 0.1)
        ]
        assert frechet_distance(features["clips"], features["clips"]) < 1e-6 * distances[0]
    assert 2 * distances[0] < distances[1]


def test_folded_batch_norm_is_the_batch_norm():
    x, weight = drawn(1, 2, 3, 3, 3).float(), drawn(4, 2, 1, 1, 1, seed=1).float()
    bias, mean = drawn(4, seed=2).float(), drawn(4, seed=3).float()
    variance = drawn(4, seed=4).float().exp()
    norm = {"U.bn.bias": bias, "U.bn.running_mean": mean, "U.bn.running_var": variance}
    folded = i3d.fold_batch_norms({"U.conv.weight": weight, **norm, "L.conv.weight": weight, "L.conv.bias": bias})
    expected = F.batch_norm(F.conv3d(x, weight), mean, variance, bias=bias, eps=1e-3)
    torch.testing.assert_close(F.conv3d(x, folded["U.weight"], folded["U.bias"]), expected)
    assert torch.equal(folded["L.weight"], weight)
    assert torch.equal(folded["L.bias"], bias)


@given(
    sizes=st.tuples(*[st.integers(1, 20)] * 3), side=st.tuples(*[st.integers(1, 7)] * 3), stride=st.sampled_from([1, 2])
)
def test_same_padding_leaves_ceil_of_n_over_stride(sizes, side, stride):
    x = torch.zeros(1, 1, *sizes)
    padded = i3d.pad_same(x, side, (stride,) * 3, 1.0)
    for n, m, k in zip(sizes, padded.shape[2:], side, strict=True):
        if k >= stride:
            assert (m - k) // stride + 1 == -(-n // stride)
        assert m - n <= k - 1
    assert (padded == 0).sum() == x.numel()


@given(sizes=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 99))
def test_max_pool_in_two_steps_is_the_one_over_all_axes(sizes, seed):
    x = drawn(2, 3, *sizes, seed=seed).float()
    for kernel, stride in (((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2),) * 2):
        expected = F.max_pool3d(i3d.pad_same(x, kernel, stride, -torch.inf), kernel, stride)
        assert torch.equal(i3d.MaxPool(kernel, stride)(x), expected)


class CountingNetwork:
    """Stands for I3D: fast, and counts the videos that it sees."""

    def __init__(self):
        self.seen = 0

    def __call__(self, video: Tensor) -> Tensor:
        self.seen += len(video)
        return video.mean((1, 2, 3, 4))[:, None].repeat(1, i3d.LOGITS)


@pytest.fixture
def network(monkeypatch) -> CountingNetwork:
    network = CountingNetwork()
    monkeypatch.setattr(i3d, "shipped_i3d", lambda device: network)
    return network


def test_features_are_kept_by_content(network, tmp_path):
    video = torch.rand(3, 9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first = video_features(video, tmp_path)
    assert torch.equal(video_features(video.clone(), tmp_path), first)
    assert network.seen == 3
    assert not torch.equal(video_features(-video, tmp_path), first)
    video_features(video.reshape(3, 9, 1, 4, 16), tmp_path)  # the same values in another shape
    assert network.seen == 9
    more = torch.cat([1 - video[1:], video])  # kept for each clip, whatever it was seen beside
    assert torch.equal(video_features(more, tmp_path)[2:], first)
    assert network.seen == 11


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[::-1]], ids=["cut", "empty", "reversed"]
)
def test_damaged_cache_is_made_anew(network, tmp_path, damage):
    video = torch.rand(2, 9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first = video_features(video, tmp_path)
    file, _ = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert torch.equal(video_features(video, tmp_path), first)
    assert network.seen == 3
    assert file.read_bytes() == whole


def test_cache_folder_that_cannot_be_made_is_a_sentence(network, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        video_features(torch.zeros(1, 9, 1, 8, 8), tmp_path / "file")


# --------------------------------------------------------------------------------------------------------- Fréchet


def with_moments(mean: Tensor, root: Tensor, n: int, seed: int) -> Tensor:
    """Samples (n, D) whose mean and covariance are exactly ``mean`` and ``root @ root.T``."""
    x = drawn(n, len(mean), seed=seed)
    white = torch.linalg.qr(x - x.mean(0)).Q * (n - 1) ** 0.5
    return white @ root.T + mean


def by_roots_of_covariances(a: Tensor, b: Tensor) -> float:
    """The distance as it is written: with the root of root(C_a) C_b root(C_a)."""

    def root(c: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(c)
        return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T

    c_a, c_b = a.T.cov(), b.T.cov()
    shared = root(root(c_a) @ c_b @ root(c_a)).trace()
    return float((a.mean(0) - b.mean(0)).square().sum() + c_a.trace() + c_b.trace() - 2 * shared)


@given(dims=st.integers(2, 6), extra=st.integers(2, 30), seed=st.integers(0, 99))
def test_frechet_of_gaussians_with_known_moments(dims, extra, seed):
    spread_a, spread_b = drawn(2, dims, seed=seed).exp()
    shift = drawn(dims, seed=seed + 1)
    a = with_moments(torch.zeros(dims), spread_a.diag(), dims + extra, seed)
    b = with_moments(shift, spread_b.diag(), dims + extra + 3, seed + 1)
    expected = shift.square().sum() + (spread_a - spread_b).square().sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)


@given(n=st.integers(2, 40), m=st.integers(2, 40), dims=st.integers(2, 30), seed=st.integers(0, 99))
def test_frechet_is_the_formula_for_few_and_many_samples(n, m, dims, seed):
    a, b = drawn(n, dims, seed=seed) @ drawn(dims, dims, seed=7), drawn(m, dims, seed=seed + 1) + 1
    with warnings.catch_warnings(action="ignore"):
        ours = frechet_distance(a, b)
        assert ours == pytest.approx(by_roots_of_covariances(a, b), rel=1e-5, abs=1e-6)
        assert frechet_distance(b, a) == pytest.approx(ours, rel=1e-9)
        turn = torch.linalg.qr(drawn(dims, dims, seed=3)).Q
        assert frechet_distance(a @ turn, b @ turn) == pytest.approx(ours, rel=1e-6)
        assert frechet_distance(a, a) < 1e-9 * float(a.square().sum())


def test_too_few_videos_are_said_to_be_too_few():
    with pytest.warns(UserWarning, match=r"of 20 videos is too large.*400 dimensions"):
        frechet_distance(drawn(20, 400), drawn(500, 400))
    assert too_few(400)
    assert not too_few(401)
    with warnings.catch_warnings(action="error"):
        frechet_distance(drawn(6, 5), drawn(6, 5))


@pytest.mark.parametrize("measure", [frechet_distance, frechet_interval])
@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (drawn(1, 4), drawn(9, 4), "at least 2 clips"),
        (drawn(9, 4), drawn(9, 5), "must both be"),
        (drawn(9), drawn(9), "must both be"),
        (drawn(9, 4), drawn(9, 4) / 0, "finite"),
    ],
    ids=["one", "widths", "flat", "infinite"],
)
def test_features_that_have_no_distance_are_refused(measure, a, b, sentence):
    with pytest.raises(UserError, match=sentence):
        measure(a, b)


def test_interval_holds_the_distance_and_narrows_with_more_clips():
    widths = []
    for n in (50, 800):
        a, b = drawn(n, 3), drawn(n, 3, seed=1) + 0.5
        low, high = frechet_interval(a, b)
        assert 0 <= low < frechet_distance(a, b) < high
        assert (low, high) == frechet_interval(a, b)
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]
    a = drawn(50, 3)
    assert frechet_interval(a, a) == pytest.approx((0, 0), abs=1e-9)


def test_interval_covers_what_other_clips_give():
    distances = []
    for seed in range(60):
        a, b = drawn(40, 3, seed=2 * seed), 1.5 * drawn(40, 3, seed=2 * seed + 1) + 0.5
        distances.append((frechet_distance(a, b), frechet_interval(a, b, resamples=50)))
    typical = np.mean([distance for distance, _ in distances])
    covered = np.mean([low <= typical <= high for _, (low, high) in distances])
    assert covered >= 0.85


def test_trajectories_of_one_clip_are_drawn_together():
    """Five videos a clip that are all the same tell no more than one."""
    clips, true = drawn(40, 4), drawn(40, 4, seed=1)
    repeated = clips[:, None].repeat(1, 5, 1)
    alone, together = frechet_interval(clips, true), frechet_interval(repeated, true)
    as_if_apart = frechet_interval(repeated.flatten(0, 1), true.repeat_interleave(5, 0))
    assert together[1] - together[0] > 0.8 * (alone[1] - alone[0])
    assert as_if_apart[1] - as_if_apart[0] < 0.7 * (alone[1] - alone[0])
    assert frechet_distance(repeated, true) == pytest.approx(frechet_distance(repeated.flatten(0, 1), true))


# -------------------------------------------------------------------------------------------------------- diversity


@given(n=st.integers(2, 4), seed=st.integers(0, 99))
@settings(max_examples=5)
def test_diversity_is_the_mean_over_pairs(n, seed):
    trajectories = torch.rand(n, 2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    pairs = list(combinations(trajectories, 2))
    expected = torch.stack([lpips(a, b).mean(1) for a, b in pairs]).mean(0)
    torch.testing.assert_close(diversity(trajectories), expected, atol=1e-5, rtol=1e-4)
    squared = torch.stack([((a - b) / 2).square().mean((1, 2, 3, 4)) for a, b in pairs]).mean(0)
    torch.testing.assert_close(diversity(trajectories, pixels), squared, atol=1e-6, rtol=1e-4)


def test_equal_trajectories_have_no_diversity(recorded):
    one = recorded["clips"][:, :2]
    assert (diversity(torch.stack((one, one, one))) < 1e-9).all()
    different = diversity(torch.stack((one, recorded["other"][:, :2])))
    assert different.shape == (4,)
    assert (different > 0.01).all()
