"""Counts of neighbouring symbols: against a model made of dictionaries; chances that sum to 1; compressors."""

from collections import Counter
from fractions import Fraction
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgen.recipes.ngrams import NGram, compressed, numbered

K = 3
texts = st.lists(st.integers(0, K - 1), min_size=1, max_size=30)


def chance(train, n, history, symbol):
    """p_n(symbol | the last n − 1 of history), by counting anew in the text, in fractions."""
    if n == 0:
        return Fraction(1, K)
    if len(history) < n - 1:
        return chance(train, n - 1, history, symbol)
    h = tuple(history[len(history) - n + 1 :])
    after = Counter(train[i + n - 1] for i in range(len(train) - n + 1) if tuple(train[i : i + n - 1]) == h)
    shorter = chance(train, n - 1, history, symbol)
    if not after:
        return shorter
    return (after[symbol] + len(after) * shorter) / Fraction(sum(after.values()) + len(after))


@given(train=texts, held=texts, n=st.integers(1, 4))
def test_bits_are_those_of_the_counts(train, held, n):
    found = NGram(np.array(train), n, K).bits(np.array(held))
    expected = [-log2(chance(train, n, held[:i], held[i])) for i in range(len(held))]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@given(train=texts, history=st.lists(st.integers(0, K - 1), max_size=5), n=st.integers(1, 4))
def test_the_chances_of_what_comes_next_sum_to_1(train, history, n):
    model = NGram(np.array(train), n, K)
    p = [2.0 ** -model.bits(np.array([*history, k]))[-1] for k in range(K)]
    assert sum(p) == pytest.approx(1, rel=1e-12)


def test_single_symbols_cost_their_entropy():
    """Of a long text, by itself: what is added for the unseen is too little to see."""
    text = np.random.default_rng(0).choice(K, 30_000, p=[0.7, 0.2, 0.1])
    p = np.bincount(text) / len(text)
    assert NGram(text, 1, K).bits(text).mean() == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-4)


def test_a_text_that_counts_know_costs_next_to_nothing():
    text = np.tile([0, 1, 0, 2], 200)
    singles, triples = (NGram(text, n, K).bits(text).mean() for n in (1, 3))
    assert singles == pytest.approx(1.5, abs=0.01)
    assert triples < 0.05


def test_rows_have_numbers_of_their_own():
    assert numbered(np.array([1, 2, 0, 1]), 2, K).tolist() == [5, 6, 1]
    assert numbered(np.array([1]), 2, K).size == 0
    with pytest.raises(ValueError, match="rows of 10 of 96 symbols"):
        NGram(np.array([0]), 10, 96)


def test_compressors_remember_what_they_read():
    noise = np.random.default_rng(0).integers(32, 127, 3000).astype(np.uint8).tobytes()
    alone, after = compressed(b"", noise), compressed(noise, noise)
    assert alone.keys() == after.keys() == {"gzip", "bz2", "xz"}
    for name in alone:
        assert log2(95) < alone[name] < 8  # noise of 95 kinds cannot be made shorter
        assert after[name] < 0.6 * alone[name]
