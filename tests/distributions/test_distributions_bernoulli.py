"""Coin flips against scipy.stats and the enumeration of all outcomes."""

import itertools

import numpy as np
import pytest
from closed_forms import (
    ALPHA,
    N,
    check_everywhere,
    check_finite,
    event_shapes,
    over_event,
    seeds,
    shapes,
    uniform,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

import scratchgen as sg
from reference import distributions as oracle
from scratchgen.distributions import bernoulli
from scratchgen.random import Generator

BATCH, SIZE = st.integers(1, 3), st.integers(1, 4)


@pytest.mark.equation("bernoulli.log_prob")
@given(event_shapes, seeds)
def test_log_prob_is_scipys(shape, seed):
    (logits,) = uniform(seed, shape, (-6, 6))
    x = np.random.default_rng(seed).integers(0, 2, shape).astype(np.float64)
    got = check_everywhere(bernoulli.log_prob, x, logits)
    np.testing.assert_allclose(got, over_event(oracle.bernoulli_log_prob(x, special.expit(logits))), rtol=1e-12)


@pytest.mark.equation("bernoulli.log_prob")
def test_probabilities_of_all_outcomes_sum_to_one():
    states = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    logits = np.array([[-3.0, 0.0, 0.4, 2.0, 9.0]])
    p = np.exp(bernoulli.log_prob(states, logits))
    np.testing.assert_allclose(p, oracle.bernoulli_table(special.expit(logits[0])), rtol=1e-12)
    assert p.sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.equation("bernoulli.entropy")
@given(BATCH, SIZE, seeds)
def test_entropy_by_enumeration(b, d, seed):
    (logits,) = uniform(seed, (b, d), (-6, 6))
    got = check_everywhere(bernoulli.entropy, logits)
    want = [oracle.entropy_enumerate(oracle.bernoulli_table(p)) for p in special.expit(logits)]
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.equation("bernoulli.kl")
@given(BATCH, SIZE, seeds)
def test_kl_by_enumeration(b, d, seed):
    q, p = uniform(seed, (b, d), (-6, 6), (-6, 6))
    got = check_everywhere(bernoulli.kl, q, p)
    tables = [[oracle.bernoulli_table(row) for row in special.expit(logits)] for logits in (q, p)]
    want = [oracle.kl_enumerate(*pair) for pair in zip(*tables, strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)


@pytest.mark.equation("bernoulli.kl")
@given(shapes, seeds)
def test_kl_is_a_divergence(shape, seed):
    q, p = uniform(seed, shape, (-6, 6), (-6, 6))
    assert (bernoulli.kl(q, p) > 0).all()
    np.testing.assert_array_equal(bernoulli.kl(q, q), 0)
    # δ²/2·p(1 − p), with p(1 − p) > 0.002, stands out of the rounding of terms below 20
    assert (bernoulli.kl(q, q + 1e-4) > 1e-12).all()


@pytest.mark.equation("bernoulli.kl")
def test_kl_takes_q_first():
    q, p = np.array([4.0]), np.array([0.0])
    forward = bernoulli.kl(q, p)[0]
    assert forward == pytest.approx(stats.entropy([special.expit(4), special.expit(-4)], [0.5, 0.5]), rel=1e-12)
    assert bernoulli.kl(p, q)[0] > 2 * forward


def test_gradients():
    q, p = uniform(1, (2, 3), (-3, 3), (-3, 3))
    x = (np.arange(6.0) % 2).reshape(2, 3)
    sg.check_grads(lambda l: bernoulli.log_prob(x, l), (q,), order=2)
    sg.check_grads(bernoulli.entropy, (q,), order=2)
    sg.check_grads(bernoulli.entropy, (np.zeros((2, 1)),), order=2)      # where −|l| has its kink
    sg.check_grads(bernoulli.kl, (q, p), order=2)


@pytest.mark.equation("bernoulli.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logit", [-1.5, 0.2, 4.0])
def test_samples_fit_and_the_opposite_does_not(logit, dtype):
    """At n = 20,000 and α = 1e-7 a probability that is off by 0.02 is found out."""
    x = bernoulli.sample(Generator(31), np.full((N, 1), logit, dtype))
    assert x.dtype == dtype
    assert set(np.unique(x)) <= {0, 1}
    ones = int(x.sum())
    assert stats.binomtest(ones, N, special.expit(logit)).pvalue > ALPHA
    assert stats.binomtest(ones, N, special.expit(-logit)).pvalue < ALPHA


@pytest.mark.equation("bernoulli.sample")
def test_injected_noise_decides_and_samples_are_constants():
    logits, u = uniform(4, (3, 2), (-2, 2), (0, 1))
    want = stats.bernoulli.ppf(1 - u, special.expit(logits))       # 1 where 1 − u > 1 − p
    for given_logits in (logits, sg.tensor(logits)):
        got = bernoulli.sample(None, given_logits, u=u)
        assert isinstance(got, np.ndarray)
        np.testing.assert_array_equal(got, want)
    with sg.backend("strict") as xp:
        got = bernoulli.sample(None, xp.asarray(logits), u=xp.asarray(u))
        np.testing.assert_array_equal(xp.to_numpy(got), want)
        assert bernoulli.sample(Generator(1), xp.asarray(logits)).shape == (3, 2)
    np.testing.assert_array_equal(bernoulli.sample(Generator(1), np.array([-700.0, 700.0])), [0, 1])


def test_extreme_logits():
    logits = np.array([-700.0, 700.0, -700.0, 700.0])
    x = np.array([0.0, 1.0, 1.0, 0.0])
    value, low = check_finite(lambda l: bernoulli.log_prob(x.astype(l.dtype), l), logits)
    np.testing.assert_allclose(value, -np.logaddexp(0, np.where(x == 1, -logits, logits)), atol=1e-300)
    np.testing.assert_array_equal(low, [0, 0, -700, -700])
    value, _ = check_finite(bernoulli.entropy, logits)
    np.testing.assert_allclose(value, 0, atol=1e-300)
    value, low = check_finite(bernoulli.kl, logits, np.array([700.0, -700.0, -700.0, 0.0]))
    np.testing.assert_allclose(value, [700, 700, 0, np.log(2)], atol=1e-13)
    assert low[2] == 0


def test_misfits_are_refused():
    a = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"logits \(4,\) does not fit x \(4, 3\)"):
        bernoulli.log_prob(a, np.zeros(4))
    with pytest.raises(ValueError, match=r"logits_p \(4, 6\) does not fit logits_q \(4, 3\)"):
        bernoulli.kl(a, np.zeros((4, 6)))
    with pytest.raises(ValueError, match=r"u \(3,\) should have the shape of logits, \(4, 3\)"):
        bernoulli.sample(None, a, u=np.zeros(3))
    with pytest.raises(ValueError, match="batch"):
        bernoulli.entropy(np.zeros(()))
    with pytest.raises(TypeError, match="logits is float64 but x is float32"):
        bernoulli.log_prob(a.astype("f"), a)
    assert bernoulli.log_prob(a.astype("f"), 0.0).dtype == np.float32
