"""The average difference of codes that share a factor, against counting."""

import re

import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted
from hypothesis import given
from hypothesis import strategies as st

from reference import disentanglement as oracle
from scratchgen.metrics import disentanglement as disentanglement_module

disentanglement = lifted(disentanglement_module)

levels = st.lists(st.integers(2, 3), min_size=2, max_size=3)


def scaled(levels, seed):
    """A code that holds each factor in a coordinate of its own, times 1, 2 or 3."""
    scales = np.random.default_rng(seed).integers(1, 4, len(levels))
    return lambda v: [int(scale) * value for scale, value in zip(scales, v, strict=True)]


@pytest.mark.equation("disentanglement.difference")
@given(levels=levels, seed=st.integers(0, 99), data=st.data())
def test_over_all_pairs_it_is_the_expectation(levels, seed, data):
    k = data.draw(st.integers(0, len(levels) - 1))
    code = scaled(levels, seed)
    z1, z2 = (np.array([code(v[i]) for v in oracle.pairs(levels, k)], float)[None] for i in (0, 1))
    found = disentanglement.difference(z1, z2)[0]
    agree(found, oracle.expected_difference(code, levels, k), rtol=1e-13)
    agree(found[k], 0.0)
    others = np.delete(found, k)
    at_most(0.4, others)  # of the least code, with two levels and a scale of 1, half of the pairs differ by 1
    agree(others, np.delete(oracle.expected_difference(code, levels, None), k), rtol=1e-13)


@pytest.mark.equation("disentanglement.difference")
@given(seed=st.integers(0, 2**32 - 1), N=st.integers(1, 3), L=st.integers(1, 4), d=st.integers(1, 3))
def test_it_is_a_mean_of_distances_one_by_one(seed, N, L, d):
    z1, z2 = np.random.default_rng(seed).uniform(-2, 2, (2, N, L, d))
    by_hand = [[sum(abs(z1[n, i, j] - z2[n, i, j]) for i in range(L)) / L for j in range(d)] for n in range(N)]
    found = disentanglement.difference(z1, z2)
    agree(found, by_hand, rtol=1e-13)
    agree(disentanglement.difference(z2, z1), found)
    assert disentanglement.difference(z1.astype("f"), z2.astype("f")).dtype == np.float32


@pytest.mark.equation("disentanglement.difference")
def test_differences_do_not_cancel():
    z1 = np.array([[[1.0], [-1.0]]])
    agree(disentanglement.difference(z1, 0 * z1), [[1.0]])
    apart(np.abs(z1.mean(1)), [[1.0]], by=0.9)


def test_misfits_are_refused():
    long, short = np.zeros((2, 3, 1)), np.zeros((2, 1, 1))
    for z1, z2 in ((long, short), (short, long), (long[0], long[0]), (long[None], long[None])):
        with pytest.raises(ValueError, match=re.escape(f"z1 {z1.shape} and z2 {z2.shape} should both be (N, L, d)")):
            disentanglement.difference(z1, z2)
