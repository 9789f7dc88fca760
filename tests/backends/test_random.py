"""Random numbers: the same everywhere, restorable, independent, and of the right distribution.

Statistical tests: fixed seeds, n as stated, thresholds for a family-wise error of 1e-6 over the family's
tests, and for each kind a wrong generator that the test must reject.
"""

import json

import numpy as np
import pytest
from scipy import stats

import scratchgen as sg
from scratchgen.backend import get
from scratchgen.random import Generator

N = 200_000
FAMILY = 1e-6 / 20  # fewer than 20 tests share the error


def draws(rng):
    return [
        rng.standard_normal((3, 2)),
        rng.standard_normal((4,), sg.float64),
        rng.random((5,)),
        rng.integers(-3, 7, (6,)),
        rng.permutation(8),
        rng.choice(5, (4,)),
        rng.choice(6, (3,), replace=False),
        rng.exponential((3,)),
        rng.choice(3, (20,), p=[0.5, 0.25, 0.25]),
        rng.standard_normal(),
        rng.random(()),
    ]


def host(arrays):
    return [np.asarray(get("strict").to_numpy(a)) for a in arrays]


def test_the_same_seed_gives_the_same_bits_on_every_backend():
    with sg.backend("strict"):
        there = draws(Generator(7))
        assert {type(a).__name__ for a in there} == {"StrictArray"}
    for a, b in zip(host(draws(Generator(7))), host(there), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def test_types_and_ranges():
    rng = Generator(0)
    assert [a.dtype for a in host(draws(rng))] == [
        np.float32,
        np.float64,
        np.float32,
        np.int64,
        np.int64,
        np.int64,
        np.int64,
        np.float32,
        np.int64,
        np.float32,
        np.float32,
    ]
    assert rng.standard_normal().shape == ()
    assert sorted(rng.permutation(5).tolist()) == list(range(5))
    assert sorted(rng.choice(5, (5,), replace=False).tolist()) == list(range(5))
    u = rng.random((10_000,))
    assert u.min() >= 0
    assert u.max() < 1
    assert set(rng.integers(2, 4, (200,)).tolist()) == {2, 3}
    assert rng.exponential((1000,)).min() >= 0


def test_there_is_no_global_state():
    np.random.seed(0)
    a = Generator(1).standard_normal((5,))
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    b = Generator(1).standard_normal((5,))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_the_state_survives_json():
    rng = Generator(5)
    draws(rng)
    children = rng.spawn(2)
    state = json.loads(json.dumps(rng.state()))
    wanted, wanted_children = draws(rng), [c.random((4,)) for c in rng.spawn(2)]
    again = Generator.from_state(state)
    for a, b in zip(host(draws(again)), host(wanted), strict=True):
        assert a.tobytes() == b.tobytes()
    for child, b in zip(again.spawn(2), wanted_children, strict=True):
        np.testing.assert_array_equal(child.random((4,)), b)
    child = Generator.from_state(json.loads(json.dumps(children[1].state())))
    np.testing.assert_array_equal(child.random((3,)), children[1].random((3,)))


def test_seeds_may_be_numpy_integers_and_seed_sequences():
    wanted = Generator(4).random((3,))
    for seed in (np.int64(4), np.uint8(4), np.random.SeedSequence(4)):
        rng = Generator(seed)
        json.dumps(rng.state())
        np.testing.assert_array_equal(rng.random((3,)), wanted)


def test_spawning_does_not_disturb_the_parent_and_children_differ():
    a, b = Generator(9), Generator(9)
    children = a.spawn(3) + a.spawn(2)
    np.testing.assert_array_equal(a.random((5,)), b.random((5,)))
    streams = np.stack([a.random((8,)), *[c.random((8,)) for c in children]])
    assert len(np.unique(streams)) == streams.size
    again = Generator(9).spawn(5)
    np.testing.assert_array_equal(streams[1:], np.stack([c.random((8,)) for c in again]))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode 'gpu' is not one of host, counter"):
        Generator(0, mode="gpu")


# --- distributions ------------------------------------------------------------------------------------------


def rejects(p_value):
    return p_value < FAMILY


@pytest.mark.parametrize("dtype", [sg.float32, sg.float64])
def test_normal_uniform_and_exponential_numbers(dtype):
    """Kolmogorov and Smirnov's test, n = 200,000: sees a shift of 0.02σ with power > 0.99."""
    rng = Generator(11)
    for sample, law in (
        (rng.standard_normal((N,), dtype), stats.norm),
        (rng.random((N,), dtype), stats.uniform),
        (rng.exponential((N,), dtype), stats.expon),
    ):
        x = np.asarray(sample, np.float64)
        assert not rejects(stats.kstest(x, law.cdf).pvalue)
        assert rejects(stats.kstest(x + 0.02, law.cdf).pvalue)  # the control
        assert rejects(stats.kstest(x * 1.03, law.cdf).pvalue)


def test_integers_choices_and_permutations_are_uniform():
    """Pearson's χ², n = 200,000: sees one value in ten that is 5 % too frequent."""
    rng = Generator(12)
    first = np.array([int(rng.permutation(10)[0]) for _ in range(20_000)])
    for sample in (rng.integers(0, 10, (N,)), rng.choice(10, (N,)), first):
        counts = np.bincount(sample, minlength=10)
        assert not rejects(stats.chisquare(counts).pvalue)
    loaded = np.where(rng.random((N,)) < 0.01, 0, rng.integers(0, 10, (N,)))
    assert rejects(stats.chisquare(np.bincount(loaded)).pvalue)


def test_choices_follow_their_probabilities():
    p = np.array([0.5, 0.3, 0.15, 0.05])
    counts = np.bincount(Generator(13).choice(4, (N,), p=p), minlength=4)
    assert not rejects(stats.chisquare(counts, N * p).pvalue)
    assert rejects(stats.chisquare(counts, N * np.full(4, 0.25)).pvalue)


def test_parents_and_children_are_uncorrelated():
    """Pairs of streams, n = 200,000: |r| < 5.5/√n; 3 % of one stream in another are seen."""
    parent = Generator(14)
    streams = [g.standard_normal((N,), sg.float64) for g in (parent, *parent.spawn(4))]
    bound = stats.norm.isf(FAMILY / 2) / np.sqrt(N)
    for i in range(5):
        for j in range(i):
            assert abs(np.mean(streams[i] * streams[j])) < bound
    tainted = streams[0] + 0.03 * streams[1]
    assert abs(np.mean(tainted * streams[1])) > bound


def test_successive_numbers_are_uncorrelated():
    x = Generator(15).standard_normal((N,), sg.float64)
    bound = stats.norm.isf(FAMILY / 2) / np.sqrt(N)
    for lag in (1, 2, 3, 64):
        assert abs(np.mean(x[lag:] * x[:-lag])) < bound
    averaged = (x[1:] + 0.05 * x[:-1]) / np.sqrt(1 + 0.05**2)
    assert abs(np.mean(averaged[1:] * averaged[:-1])) > bound
