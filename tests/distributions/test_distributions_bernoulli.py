"""Coin flips against scipy.stats and the enumeration of all outcomes."""

import itertools

import numpy as np
import pytest
from closed_forms import (
    POSITIVE,
    N,
    check_everywhere,
    check_finite,
    check_gradients,
    event_shapes,
    over_event,
    seeds,
    shapes,
    successes,
    uniform,
)
from evidence import agree, apart, at_most, lifted
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

import scratchgen as sg
from reference import distributions as oracle
from scratchgen import distributions
from scratchgen.random import Generator

bernoulli = lifted(distributions.bernoulli)

BATCH, SIZE = st.integers(1, 3), st.integers(1, 4)


@pytest.mark.equation("bernoulli.log_prob")
@given(event_shapes, seeds)
def test_log_prob_is_scipys(shape, seed):
    (logits,) = uniform(seed, shape, (-6, 6))
    x = np.random.default_rng(seed).integers(0, 2, shape).astype(np.float64)
    got = check_everywhere(bernoulli.log_prob, x, logits)
    agree(got, over_event(oracle.bernoulli_log_prob(x, special.expit(logits))), rtol=1e-12)


@pytest.mark.equation("bernoulli.log_prob")
@given(event_shapes, seeds)
def test_grey_values_mix_the_two_outcomes(shape, seed):
    """log p is affine in each x: between 0 and 1 it is the mean over coins that show 1 with probability x."""
    x, logits = uniform(seed, shape, (0, 1), (-6, 6))
    p = special.expit(logits)
    want = over_event(x * oracle.bernoulli_log_prob(1, p) + (1 - x) * oracle.bernoulli_log_prob(0, p))
    agree(bernoulli.log_prob(x, logits), want, rtol=1e-12)


@pytest.mark.equation("bernoulli.log_prob")
def test_probabilities_of_all_outcomes_sum_to_one():
    states = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    logits = np.array([[-3.0, 0.0, 0.4, 2.0, 9.0]])
    p = np.exp(bernoulli.log_prob(states, logits))
    agree(p, oracle.bernoulli_table(special.expit(logits[0])), rtol=1e-12)
    agree(p.sum(), 1, atol=1e-14)


@pytest.mark.equation("bernoulli.entropy")
@given(BATCH, SIZE, seeds)
def test_entropy_by_enumeration(b, d, seed):
    (logits,) = uniform(seed, (b, d), (-6, 6))
    got = check_everywhere(bernoulli.entropy, logits)
    want = [oracle.entropy_enumerate(oracle.bernoulli_table(p)) for p in special.expit(logits)]
    agree(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.equation("bernoulli.entropy")
@pytest.mark.parametrize("logit", [8.0, 25.0, 60.0, 300.0])
def test_entropy_of_a_sure_coin_keeps_its_digits(logit):
    """The rarer side's probability has all its digits, and the other's logarithm is log1p of it."""
    p = special.expit(-logit)
    want = special.entr(p) - special.xlog1py(1 - p, -p)
    # −|l| is exact; exp rounds its argument, of up to 300, and so the result by 300 ulp
    agree(bernoulli.entropy(np.array([logit, -logit])), [want, want], rtol=1e-13)


@pytest.mark.equation("bernoulli.kl")
@given(BATCH, SIZE, seeds)
def test_kl_by_enumeration(b, d, seed):
    q, p = uniform(seed, (b, d), (-6, 6), (-6, 6))
    got = check_everywhere(bernoulli.kl, q, p)
    tables = [[oracle.bernoulli_table(row) for row in special.expit(logits)] for logits in (q, p)]
    want = [oracle.kl_enumerate(*pair) for pair in zip(*tables, strict=True)]
    agree(got, want, rtol=1e-11, atol=1e-13)


@pytest.mark.equation("bernoulli.kl")
@given(shapes, seeds)
def test_kl_is_a_divergence(shape, seed):
    q, p = uniform(seed, shape, (-6, 6), (-6, 6))
    at_most(POSITIVE, bernoulli.kl(q, p))
    agree(bernoulli.kl(q, q), 0)
    # δ²/2·p(1 − p), with p(1 − p) > 0.002, stands out of the rounding of terms below 20
    at_most(1e-12, bernoulli.kl(q, q + 1e-4))


@pytest.mark.equation("bernoulli.kl")
def test_kl_takes_q_first():
    q, p = np.array([4.0]), np.array([0.0])
    forward, backward = bernoulli.kl(q, p), bernoulli.kl(p, q)
    agree(forward, stats.entropy([special.expit(4), special.expit(-4)], [0.5, 0.5]), rtol=1e-12)
    apart(backward, forward, by=forward[0])


@pytest.mark.equation("bernoulli.log_prob", "bernoulli.entropy", "bernoulli.kl")
def test_gradients():
    q, p = uniform(1, (2, 3), (-3, 3), (-3, 3))
    x = (np.arange(6.0) % 2).reshape(2, 3)
    check_gradients(lambda l: bernoulli.log_prob(x, l), q)
    check_gradients(bernoulli.entropy, q)
    check_gradients(bernoulli.entropy, np.zeros((2, 1)))      # where −|l| has its kink
    check_gradients(bernoulli.kl, q, p)


@pytest.mark.equation("bernoulli.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logit", [-1.5, 0.2, 4.0])
def test_samples_fit_and_the_opposite_does_not(logit, dtype):
    """At n = 20,000 and α = 1e-7 a probability that is off by 0.02 is found out."""
    x = bernoulli.sample(Generator(31), np.full((N, 1), logit, dtype))
    assert x.dtype == dtype
    assert set(np.unique(x)) <= {0, 1}
    middle, half = successes(special.expit(logit))
    agree(np.sum(x, dtype=np.float64), middle, atol=half)
    middle, half = successes(special.expit(-logit))
    apart(np.sum(x, dtype=np.float64), middle, by=half)


@pytest.mark.equation("bernoulli.sample")
def test_injected_noise_decides_and_samples_are_constants():
    logits, u = uniform(4, (3, 2), (-2, 2), (0, 1))
    want = oracle.bernoulli_of_noise(u, special.expit(logits))
    for given_logits in (logits, sg.tensor(logits)):
        got = bernoulli.sample(None, given_logits, u=u)
        assert isinstance(got, np.ndarray)
        agree(got, want)
    with sg.backend("strict"):
        agree(bernoulli.sample(None, logits, u=u), want)
        assert bernoulli.sample(Generator(1), logits).shape == (3, 2)
    agree(bernoulli.sample(Generator(1), np.array([-700.0, 700.0])), [0, 1])


@pytest.mark.equation("bernoulli.sample")
def test_of_evenly_spaced_noise_a_share_of_exactly_p_is_one():
    """u on a grid of eighths, 0 among them and 1 not: a fair coin shows 1 four times, and 0 at u = p itself."""
    u = np.arange(8.0) / 8
    got = bernoulli.sample(None, np.zeros(8), u=u)
    agree(got, oracle.bernoulli_of_noise(u, 0.5))
    agree(got.sum(), 4)


@pytest.mark.equation("bernoulli.log_prob", "bernoulli.entropy", "bernoulli.kl")
def test_extreme_logits():
    logits = np.array([-700.0, 700.0, -700.0, 700.0])
    x = np.array([0.0, 1.0, 1.0, 0.0])
    value, low = check_finite(lambda l: bernoulli.log_prob(x.astype(l.dtype), l), logits)
    agree(value, -np.logaddexp(0, np.where(x == 1, -logits, logits)), rtol=1e-12, atol=1e-300)
    agree(low, [0, 0, -700, -700])
    value, _ = check_finite(bernoulli.entropy, logits)
    agree(value, 0, atol=1e-300)
    value, low = check_finite(bernoulli.kl, logits, np.array([700.0, -700.0, -700.0, 0.0]))
    agree(value, [700, 700, 0, np.log(2)], rtol=1e-12, atol=1e-13)
    agree(low[2], 0)


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
