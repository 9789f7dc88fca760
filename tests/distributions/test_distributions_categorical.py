"""One of K classes: against scipy.stats and the enumeration of all classes."""

import numpy as np
import pytest
from closed_forms import (
    POSITIVE,
    N,
    check_counts,
    check_everywhere,
    check_finite,
    check_gradients,
    check_miscounts,
    event_shapes,
    over_event,
    seeds,
    shapes,
    uniform,
)
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import scratchgen as sg
from reference import distributions as oracle
from scratchgen import distributions
from scratchgen.random import Generator

categorical = lifted(distributions.categorical)

CLASSES = st.integers(1, 5)


def draw(seed: int, shape: tuple[int, ...], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of this shape, logits and their probabilities."""
    (logits,) = uniform(seed, (*shape, k), (-6, 6))
    return np.random.default_rng(seed).integers(0, k, shape), logits, special.softmax(logits, axis=-1)


@pytest.mark.equation("categorical.log_prob")
@given(event_shapes, CLASSES, seeds)
def test_log_prob_is_scipys(shape, k, seed):
    labels, logits, p = draw(seed, shape, k)
    each = [oracle.categorical_log_prob(i, row) for i, row in zip(labels.ravel(), p.reshape(-1, k), strict=True)]
    want = over_event(np.reshape(each, shape))
    got = check_everywhere(lambda l: categorical.log_prob(labels, l), logits)
    agree(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.equation("categorical.log_prob")
def test_probabilities_of_all_classes_sum_to_one():
    logits = np.broadcast_to([-4.0, 0.0, 0.5, 20.0], (4, 4))
    agree(np.exp(categorical.log_prob(np.arange(4), logits)).sum(), 1, atol=1e-15)


@pytest.mark.equation("categorical.entropy")
@given(shapes, CLASSES, seeds)
def test_entropy_by_enumeration(shape, k, seed):
    _, logits, p = draw(seed, shape, k)
    got = check_everywhere(categorical.entropy, logits)
    want = over_event(np.reshape([oracle.entropy_enumerate(row) for row in p.reshape(-1, k)], shape))
    agree(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.equation("categorical.kl")
@given(shapes, CLASSES, seeds)
def test_kl_by_enumeration(shape, k, seed):
    _, logits_q, q = draw(seed, shape, k)
    _, logits_p, p = draw(seed + 1, shape, k)
    got = check_everywhere(categorical.kl, logits_q, logits_p)
    pairs = zip(q.reshape(-1, k), p.reshape(-1, k), strict=True)
    want = over_event(np.reshape([oracle.kl_enumerate(a, b) for a, b in pairs], shape))
    agree(got, want, rtol=1e-11, atol=1e-13)


@pytest.mark.equation("categorical.kl")
@given(shapes, st.integers(2, 5), seeds)
def test_kl_is_a_divergence_of_distributions(shape, k, seed):
    _, q, _ = draw(seed, shape, k)
    _, p, _ = draw(seed + 1, shape, k)
    at_most(POSITIVE, categorical.kl(q, p))
    agree(categorical.kl(q, q), 0)
    # a constant added to all logits is the same distribution; log-probabilities round at 1e-15 of 20
    agree(categorical.kl(q, q + 3.0), 0, atol=1e-13)
    moved = q.copy()
    moved[..., 0] += 1e-3       # (δ²/2)·p(1 − p), with p(1 − p) > 1e-6
    at_most(1e-14, categorical.kl(q, moved))


@pytest.mark.equation("categorical.kl")
def test_kl_takes_q_first():
    q, p = np.array([[5.0, 0.0, 0.0]]), np.zeros((1, 3))
    forward, backward = categorical.kl(q, p), categorical.kl(p, q)
    agree(forward, oracle.kl_enumerate(special.softmax(q[0]), special.softmax(p[0])), rtol=1e-12)
    apart(backward, forward, by=forward[0])


@pytest.mark.equation("categorical.log_prob", "categorical.entropy", "categorical.kl")
def test_gradients():
    labels, q, _ = draw(1, (2, 3), 4)
    _, p, _ = draw(2, (2, 3), 4)
    q, p = q / 2, p / 2
    check_gradients(lambda l: categorical.log_prob(labels, l), q)
    check_gradients(categorical.entropy, q)
    check_gradients(categorical.kl, q, p)


@pytest.mark.equation("categorical.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_fit_and_those_of_wrong_noise_do_not(dtype):
    """At n = 20,000 and α = 1e-7 a class whose probability is off by 0.02 is found out."""
    row = np.array([0.3, -1.0, 1.2, 0.0, -3.0], dtype)
    logits = np.broadcast_to(row, (N, 5))
    labels = categorical.sample(Generator(41), logits)
    assert labels.dtype == np.int64
    p = special.softmax(row.astype(np.float64))
    check_counts(labels, p)
    check_miscounts(labels, special.softmax(1.2 * row.astype(np.float64)))
    mirrored = np.random.default_rng(0).gumbel(size=(N, 5)).astype(dtype) * -1
    check_miscounts(categorical.sample(None, logits, gumbel=mirrored), p)


@pytest.mark.equation("categorical.sample")
@given(shapes, CLASSES, seeds)
def test_the_label_is_the_clock_that_rings_first(shape, k, seed):
    _, logits, p = draw(seed, shape, k)
    exponential = np.random.default_rng(seed).exponential(size=p.shape)
    agree(categorical.sample(None, logits, gumbel=-np.log(exponential)), oracle.categorical_of_noise(exponential, p))
    drawn = host(Generator(seed).exponential(p.shape, "float64"))
    agree(categorical.sample(Generator(seed), logits), oracle.categorical_of_noise(drawn, p))


@pytest.mark.equation("categorical.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_draw_of_zero_rings_first(dtype):
    """Against logits as far off as 80 nats, without infinities."""

    class Outermost:
        def exponential(self, shape, dtype):
            return up(np.array([[0, 1, 40]], dtype))

    agree(categorical.sample(Outermost(), np.array([[-40, 40, 0]], dtype)), [0])
    agree(categorical.sample(Outermost(), np.array([[-60, 40, 0]], dtype)), [1])


@pytest.mark.equation("categorical.sample")
def test_injected_noise_decides_and_samples_are_constants():
    _, logits, _ = draw(6, (3, 2), 4)
    gumbel = np.zeros_like(logits)
    gumbel[..., 2] = 50.0
    for given_logits in (logits, sg.tensor(logits)):
        got = categorical.sample(None, given_logits, gumbel=gumbel)
        assert isinstance(got, np.ndarray)
        agree(got, np.full((3, 2), 2))
    answers = []
    for name in ("numpy", "strict"):
        with sg.backend(name):
            answers.append(categorical.sample(Generator(5), logits))
    agree(*answers)


@pytest.mark.equation("categorical.log_prob", "categorical.entropy", "categorical.kl")
def test_extreme_logits():
    logits = np.array([[700.0, -700.0, 0.0], [-700.0, -700.0, 700.0], [700.0, 700.0, -700.0]])
    other = logits[::-1].copy()
    value, _ = check_finite(lambda l: categorical.log_prob(np.array([1, 2, 0]), l), logits)
    agree(value, [-1400, 0, -np.log(2)], rtol=1e-12, atol=1e-13)
    value, _ = check_finite(categorical.entropy, logits)
    agree(value, [0, 0, np.log(2)], rtol=1e-12, atol=1e-13)
    value, _ = check_finite(categorical.kl, logits, other)
    # rows: q on class 0 where p gives ½;  equal;  q is ½, ½ on classes 0 and 1, where log p is 0 and −1400
    agree(value, [np.log(2), 0, 700 - np.log(2)], rtol=1e-12, atol=1e-12)


@pytest.mark.equation("categorical.entropy", "categorical.kl", "categorical.sample")
def test_excluded_classes():
    """A logit of −inf is a class of probability 0, which adds nothing, and receives no gradient."""
    logits = np.array([[0.3, -np.inf, 1.0], [-np.inf, 2.0, -np.inf]])
    kept = np.array([[0.3, 1.0], [2.0, -50.0]])
    agree(categorical.entropy(logits), categorical.entropy(kept), rtol=1e-12, atol=1e-12)
    other = np.array([[0.1, 0.2, 0.3], [-np.inf, 0.0, 0.0]])
    p = special.softmax(logits, axis=-1), special.softmax(other, axis=-1)
    want = [oracle.kl_enumerate(*pair) for pair in zip(*p, strict=True)]
    agree(categorical.kl(logits, other), want, rtol=1e-12)
    agree(categorical.kl(other, logits)[0], np.inf)
    for f in (categorical.entropy, lambda l: categorical.kl(l, other)):
        leaf = sg.tensor(logits)
        gradient = host(sg.gradients(f(leaf).sum(), [leaf])[0])
        assert np.isfinite(gradient).all()
        agree(gradient[np.isinf(logits)], 0)
    assert set(categorical.sample(Generator(1), np.broadcast_to(logits[0], (200, 3)))) == {0, 2}


def test_misfits_are_refused():
    logits = np.zeros((4, 3, 5))
    with pytest.raises(ValueError, match=r"labels \(4,\) should have the shape of .*, \(4, 3\)"):
        categorical.log_prob(np.zeros(4, int), logits)
    with pytest.raises(ValueError, match=r"labels \(4, 1\)"):
        categorical.log_prob(np.zeros((4, 1), int), logits)
    with pytest.raises(ValueError, match=r"logits_p \(4, 1, 5\)"):
        categorical.kl(logits, logits[:, :1])
    with pytest.raises(ValueError, match=r"logits \(5,\) should be \(B, …, K\)"):
        categorical.entropy(np.zeros(5))
    with pytest.raises(ValueError, match=r"gumbel \(4, 5\)"):
        categorical.sample(None, logits, gumbel=np.zeros((4, 5)))
    with pytest.raises(TypeError, match="logits_p is float32 but logits_q is float64"):
        categorical.kl(logits, logits.astype("f"))
