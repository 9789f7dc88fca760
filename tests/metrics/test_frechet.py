"""The Fréchet distance against Schur's root, closed forms, optimal transport, and what must not change it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from reference import metrics as oracle
from scratchgen.metrics.frechet import Moments, distance, frechet, moments, root

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 7)


def random_moments(rng, d, rank=None, scale=1.0):
    factor = rng.standard_normal((d, d + 2 if rank is None else rank)) * scale
    return Moments(rng.standard_normal(d), factor @ factor.T)


@given(seeds, sizes)
def test_agrees_with_schur_root(seed, d):
    rng = np.random.default_rng(seed)
    a, b = random_moments(rng, d), random_moments(rng, d)
    assert distance(a, b) == pytest.approx(oracle.frechet_distance(*a, *b), rel=1e-6, abs=1e-6)


@given(seeds, sizes, st.integers(2, 40), st.integers(2, 40))
def test_moments_are_numpys(seed, d, n, m):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)) * 3 + 1, rng.standard_normal((m, d))
    for features in (x, y):
        mu, cov = moments(features)
        np.testing.assert_allclose(mu, features.mean(0), atol=1e-13)
        np.testing.assert_allclose(cov, np.atleast_2d(np.cov(features, rowvar=False)), atol=1e-12)
    if min(n, m) > d + 8:  # the oracle wants well-conditioned covariances
        assert frechet(x, y) == pytest.approx(oracle.frechet_from_samples(x, y), rel=1e-6, abs=1e-6)


@given(seeds, sizes)
def test_commuting_covariances_in_closed_form(seed, d):
    """Σ_i = U diag(s_i²) Uᵀ: ‖μ₁ − μ₂‖² + Σ (s₁ − s₂)², singular directions included."""
    rng = np.random.default_rng(seed)
    basis = linalg.qr(rng.standard_normal((d, d)))[0]
    s1, s2 = rng.uniform(0, 3, (2, d))
    s1[0] = 0
    a = Moments(rng.standard_normal(d), basis * s1**2 @ basis.T)
    b = Moments(rng.standard_normal(d), basis * s2**2 @ basis.T)
    exact = np.sum((a.mu - b.mu) ** 2) + np.sum((s1 - s2) ** 2)
    assert distance(a, b) == pytest.approx(exact, rel=1e-10)


@given(seeds, st.floats(0.1, 5), st.floats(0.1, 5))
def test_two_dimensions_in_closed_form(seed, scale1, scale2):
    """For 2 × 2 matrices tr M^½ = √(tr M + 2√det M), which knows nothing of eigenvectors."""
    rng = np.random.default_rng(seed)
    a, b = random_moments(rng, 2, scale=scale1), random_moments(rng, 2, scale=scale2)
    product = a.cov @ b.cov
    overlap = np.sqrt(np.trace(product) + 2 * np.sqrt(max(linalg.det(product), 0)))
    exact = np.sum((a.mu - b.mu) ** 2) + np.trace(a.cov) + np.trace(b.cov) - 2 * overlap
    assert distance(a, b) == pytest.approx(exact, rel=1e-8, abs=1e-8)


def test_one_dimension_is_the_transport_between_quantiles():
    u = (np.arange(200_000) + 0.5) / 200_000
    transport = np.mean((stats.norm.ppf(u, 0.3, 2.0) - stats.norm.ppf(u, -1.0, 0.5)) ** 2)
    a, b = Moments(np.array([0.3]), np.array([[4.0]])), Moments(np.array([-1.0]), np.array([[0.25]]))
    assert distance(a, b) == pytest.approx(transport, rel=1e-4)
    assert distance(a, b) == pytest.approx(1.3**2 + 1.5**2, rel=1e-13)


@given(seeds, st.integers(2, 12), st.data())
def test_singular_covariances(seed, d, data):
    """tr(Σ₁Σ₂)^½ is the nuclear norm of BᵀA for Σ₁ = AAᵀ and Σ₂ = BBᵀ, whatever their ranks."""
    rng = np.random.default_rng(seed)
    ranks = data.draw(st.integers(0, d)), data.draw(st.integers(0, d))
    factors = [rng.standard_normal((d, r)) for r in ranks]
    a, b = (Moments(rng.standard_normal(d), f @ f.T) for f in factors)
    overlap = linalg.svdvals(factors[1].T @ factors[0]).sum() if min(ranks) else 0.0
    exact = np.sum((a.mu - b.mu) ** 2) + sum(np.sum(f**2) for f in factors) - 2 * overlap
    assert distance(a, b) == pytest.approx(exact, rel=1e-6, abs=1e-6)


@given(seeds, sizes)
def test_a_metric_on_moments(seed, d):
    rng = np.random.default_rng(seed)
    a, b, c = (random_moments(rng, d) for _ in range(3))
    assert distance(a, a) <= 1e-12 * np.trace(a.cov)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9)
    assert distance(a, c) ** 0.5 <= distance(a, b) ** 0.5 + distance(b, c) ** 0.5 + 1e-9


@given(seeds, sizes)
def test_rotation_and_order_change_nothing(seed, d):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((20, d)), rng.standard_normal((30, d)) * 2 + 1
    turn, offset = linalg.qr(rng.standard_normal((d, d)))[0], rng.standard_normal(d)
    exact = pytest.approx(frechet(x, y), rel=1e-8)
    assert frechet(x @ turn + offset, y @ turn + offset) == exact
    assert frechet(rng.permutation(x), rng.permutation(y)) == exact
    assert frechet(3 * x, 3 * y) == pytest.approx(9 * frechet(x, y), rel=1e-8)


@given(seeds, st.floats(0.5, 10))
def test_a_shift_adds_its_square(seed, step):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((50, 4))
    assert frechet(x, x + step / 2) == pytest.approx(step**2, rel=1e-9)


@settings(max_examples=20)
@given(seeds)
def test_the_bias_falls_with_n(seed):
    """Two samples of one law: 5 times the n, well under half the distance.  Why every row needs one n."""
    rng = np.random.default_rng(seed)
    few, many = (frechet(rng.standard_normal((n, 16)), rng.standard_normal((n, 16))) for n in (100, 500))
    assert 0 < many < 0.5 * few


def test_float32_features_are_reduced_in_float64():
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32) + 1000
    assert moments(x).mu.dtype == np.float64
    np.testing.assert_allclose(moments(x).cov, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10)


def test_root_squares_to_the_covariance():
    cov = random_moments(np.random.default_rng(0), 6, rank=4).cov
    half = root(cov)
    np.testing.assert_allclose(half @ half, cov, atol=1e-12)
    np.testing.assert_allclose(half, half.T, atol=1e-14)
    np.testing.assert_array_equal(root(np.zeros((3, 3))), 0)


@pytest.mark.parametrize(("features", "message"), [
    (np.zeros((1, 3)), "1 examples are too few"), (np.zeros((0, 3)), "0 examples are too few"),
    (np.zeros(3), "not \\(n, d\\)"), (np.zeros((3, 2, 2)), "not \\(n, d\\)"), (np.zeros((3, 0)), "not \\(n, d\\)"),
    (np.full((3, 2), np.nan), "not finite"), (np.full((3, 2), np.inf), "not finite"),
])  # fmt: skip
def test_features_that_have_no_moments(features, message):
    with pytest.raises(ValueError, match=message):
        moments(features)


@pytest.mark.parametrize(("cov", "message"), [
    (np.diag([1.0, -1.0]), "negative eigenvalue"), (np.array([[1.0, 1.0], [0.0, 1.0]]), "symmetric"),
    (np.full((2, 2), np.nan), "finite"), (np.eye(3), "no distance"),
])  # fmt: skip
def test_what_is_no_covariance(cov, message):
    with pytest.raises(ValueError, match=message):
        distance(Moments(np.zeros(2), np.eye(2)), Moments(np.zeros(2), cov))
