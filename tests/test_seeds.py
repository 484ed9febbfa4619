"""Random numbers that depend on a key alone."""

from __future__ import annotations

from itertools import product

import torch

from lgcvd.seeds import generator_for, global_seed


def drawn(*key: int) -> tuple[float, ...]:
    return tuple(torch.rand(4, generator=generator_for(*key)).tolist())


def test_numbers_depend_on_the_key_alone_and_zeros_at_its_end_count_for_nothing():
    assert drawn(3, 5) == drawn(3, 5) == drawn(3, 5, 0) == drawn(3, 5, 0, 0)
    assert drawn(0) == drawn(0, 0)


def test_keys_of_one_length_and_longer_ones_that_end_in_no_zero_draw_differently():
    keys = [*product(range(9), range(9)), *product(range(9), range(9), range(1, 9))]
    assert len({drawn(*key) for key in keys}) == len(keys)


def test_large_seeds_are_seeds_of_their_own():
    seeds = [0, 1, 2**32, 2**32 + 1, 2**52]
    assert len({drawn(seed, 1) for seed in seeds}) == len(seeds)


def test_a_global_seed_ends_with_its_block():
    torch.manual_seed(1)
    undisturbed = torch.rand(4).tolist()
    torch.manual_seed(1)
    with global_seed(torch.device("cpu"), 3, 5):
        assert tuple(torch.rand(4).tolist()) == drawn(3, 5)
    assert torch.rand(4).tolist() == undisturbed
