"""One of K classes: against scipy.stats and the enumeration of all classes."""

import numpy as np
import pytest
from closed_forms import (
    N,
    check_everywhere,
    check_finite,
    event_shapes,
    fits_counts,
    over_event,
    seeds,
    shapes,
    uniform,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import scratchgen as sg
from reference import distributions as oracle
from scratchgen.backend import active
from scratchgen.distributions import categorical
from scratchgen.random import Generator

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
    got = categorical.log_prob(labels, logits)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(check_everywhere(lambda l: on_same_backend(labels, l), logits), got)


def on_same_backend(labels, logits):
    """Labels given to log_prob as an array of the active backend."""
    return categorical.log_prob(active().asarray(labels), logits)


@pytest.mark.equation("categorical.log_prob")
def test_probabilities_of_all_classes_sum_to_one():
    logits = np.broadcast_to([-4.0, 0.0, 0.5, 20.0], (4, 4))
    assert np.exp(categorical.log_prob(np.arange(4), logits)).sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.equation("categorical.entropy")
@given(shapes, CLASSES, seeds)
def test_entropy_by_enumeration(shape, k, seed):
    _, logits, p = draw(seed, shape, k)
    got = check_everywhere(categorical.entropy, logits)
    want = over_event(np.reshape([oracle.entropy_enumerate(row) for row in p.reshape(-1, k)], shape))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.equation("categorical.kl")
@given(shapes, CLASSES, seeds)
def test_kl_by_enumeration(shape, k, seed):
    _, logits_q, q = draw(seed, shape, k)
    _, logits_p, p = draw(seed + 1, shape, k)
    got = check_everywhere(categorical.kl, logits_q, logits_p)
    pairs = zip(q.reshape(-1, k), p.reshape(-1, k), strict=True)
    want = over_event(np.reshape([oracle.kl_enumerate(a, b) for a, b in pairs], shape))
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)


@pytest.mark.equation("categorical.kl")
@given(shapes, st.integers(2, 5), seeds)
def test_kl_is_a_divergence_of_distributions(shape, k, seed):
    _, q, _ = draw(seed, shape, k)
    _, p, _ = draw(seed + 1, shape, k)
    assert (categorical.kl(q, p) > 0).all()
    np.testing.assert_array_equal(categorical.kl(q, q), 0)
    # a constant added to all logits is the same distribution; log-probabilities round at 1e-15 of 20
    np.testing.assert_allclose(categorical.kl(q, q + 3.0), 0, atol=1e-13)
    moved = q.copy()
    moved[..., 0] += 1e-3       # (δ²/2)·p(1 − p), with p(1 − p) > 1e-6
    assert (categorical.kl(q, moved) > 1e-14).all()


@pytest.mark.equation("categorical.kl")
def test_kl_takes_q_first():
    q, p = np.array([[5.0, 0.0, 0.0]]), np.zeros((1, 3))
    assert categorical.kl(q, p)[0] == pytest.approx(
        oracle.kl_enumerate(special.softmax(q[0]), special.softmax(p[0])), rel=1e-12
    )
    assert categorical.kl(p, q)[0] > 2 * categorical.kl(q, p)[0]


def test_gradients():
    labels, q, _ = draw(1, (2, 3), 4)
    _, p, _ = draw(2, (2, 3), 4)
    q, p = q / 2, p / 2
    sg.check_grads(lambda l: categorical.log_prob(labels, l), (q,), order=2)
    sg.check_grads(categorical.entropy, (q,), order=2)
    sg.check_grads(categorical.kl, (q, p), order=2)


@pytest.mark.equation("categorical.sample")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_fit_and_those_of_wrong_noise_do_not(dtype):
    """At n = 20,000 and α = 1e-7 a class whose probability is off by 0.02 is found out."""
    row = np.array([0.3, -1.0, 1.2, 0.0, -3.0], dtype)
    logits = np.broadcast_to(row, (N, 5))
    labels = categorical.sample(Generator(41), logits)
    assert labels.dtype == np.int64
    p = special.softmax(row.astype(np.float64))
    assert fits_counts(labels, p)
    assert not fits_counts(labels, special.softmax(1.2 * row.astype(np.float64)))
    mirrored = np.random.default_rng(0).gumbel(size=(N, 5)).astype(dtype) * -1
    assert not fits_counts(categorical.sample(None, logits, gumbel=mirrored), p)


@pytest.mark.equation("categorical.sample")
def test_injected_noise_decides_and_samples_are_constants():
    _, logits, _ = draw(6, (3, 2), 4)
    gumbel = np.zeros_like(logits)
    gumbel[..., 2] = 50.0
    for given_logits in (logits, sg.tensor(logits)):
        got = categorical.sample(None, given_logits, gumbel=gumbel)
        assert isinstance(got, np.ndarray)
        np.testing.assert_array_equal(got, np.full((3, 2), 2))
    with sg.backend("strict") as xp:
        got = categorical.sample(Generator(5), xp.asarray(logits))
    np.testing.assert_array_equal(xp.to_numpy(got), categorical.sample(Generator(5), logits))


def test_extreme_logits():
    logits = np.array([[700.0, -700.0, 0.0], [-700.0, -700.0, 700.0], [700.0, 700.0, -700.0]])
    other = logits[::-1].copy()
    value, _ = check_finite(lambda l: categorical.log_prob(np.array([1, 2, 0]), l), logits)
    np.testing.assert_allclose(value, [-1400, 0, -np.log(2)], atol=1e-13)
    value, _ = check_finite(categorical.entropy, logits)
    np.testing.assert_allclose(value, [0, 0, np.log(2)], atol=1e-13)
    value, _ = check_finite(categorical.kl, logits, other)
    # rows: q on class 0 where p gives ½;  equal;  q is ½, ½ on classes 0 and 1, where log p is 0 and −1400
    np.testing.assert_allclose(value, [np.log(2), 0, 700 - np.log(2)], atol=1e-12)


def test_excluded_classes():
    """A logit of −inf is a class of probability 0, which adds nothing, and receives no gradient."""
    logits = np.array([[0.3, -np.inf, 1.0], [-np.inf, 2.0, -np.inf]])
    kept = np.array([[0.3, 1.0], [2.0, -50.0]])
    np.testing.assert_allclose(categorical.entropy(logits), categorical.entropy(kept), atol=1e-12)
    other = np.array([[0.1, 0.2, 0.3], [-np.inf, 0.0, 0.0]])
    p = special.softmax(logits, axis=-1), special.softmax(other, axis=-1)
    want = [oracle.kl_enumerate(*pair) for pair in zip(*p, strict=True)]
    np.testing.assert_allclose(categorical.kl(logits, other), want, rtol=1e-12)
    assert categorical.kl(other, logits)[0] == np.inf
    for f in (categorical.entropy, lambda l: categorical.kl(l, other)):
        leaf = sg.tensor(logits)
        (gradient,) = sg.gradients(f(leaf).sum(), [leaf])
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[np.isinf(logits)], 0)
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
