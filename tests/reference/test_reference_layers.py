"""The loops against scipy, against each other, and against what each layer promises."""

import math

import numpy as np
import pytest
from scipy import signal, special

from reference import layers as L
from reference import metrics as M

RNG = np.random.default_rng(0)


def test_softmax_and_logsumexp_against_scipy_and_at_extremes():
    x = RNG.standard_normal(7) * 5
    np.testing.assert_allclose(L.softmax(x), special.softmax(x), rtol=1e-13)
    assert L.logsumexp(x) == pytest.approx(special.logsumexp(x), rel=1e-14)
    assert L.softmax([700.0, -700.0, -math.inf]) == [1.0, 0.0, 0.0]
    assert L.logsumexp([700.0, 700.0]) == pytest.approx(700 + math.log(2))
    assert L.logsumexp([-math.inf, -math.inf]) == -math.inf


def test_conv2d_against_scipy_correlate():
    x, w = RNG.standard_normal((2, 6, 5, 2)), RNG.standard_normal((3, 2, 2, 3))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.stack([np.stack([
        sum(signal.correlate2d(padded[b, :, :, c], w[:, :, c, o], mode="valid") for c in range(2))
        for o in range(3)], axis=-1) for b in range(2)])
    np.testing.assert_allclose(L.conv2d(x, w, padding=1), expected, atol=1e-12)
    np.testing.assert_allclose(L.conv2d(x, w, stride=2, padding=1), expected[:, ::2, ::2], atol=1e-12)
    flipped = L.conv2d(x, w[::-1, ::-1], padding=1)                  # a convolution in the mathematical sense
    assert np.abs(flipped - expected).max() > 0.1


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 0, 5), (1, 1, 5), (2, 1, 7), (3, 2, 6)])
def test_transposed_convolution_is_the_adjoint(stride, padding, size):
    w = RNG.standard_normal((3, 3, 2, 4))
    small = (size + 2 * padding - 3) // stride + 1
    full = (small - 1) * stride + 3 - 2 * padding
    x, y = RNG.standard_normal((1, full, full, 2)), RNG.standard_normal((1, small, small, 4))
    transposed = L.conv2d_transpose(y, w.transpose(0, 1, 3, 2), stride, padding)
    assert transposed.shape == x.shape
    assert np.sum(L.conv2d(x, w, stride, padding) * y) == pytest.approx(np.sum(x * transposed), rel=1e-11)


def test_pools():
    x = RNG.standard_normal((1, 5, 4, 2))
    assert L.avg_pool2d(x, 2).shape == L.max_pool2d(x, 2).shape == (1, 2, 2, 2)
    assert L.max_pool2d(x, 2)[0, 1, 0, 1] == x[0, 2:4, 0:2, 1].max()
    mean = np.eye(2)[None, None] / 4 * np.ones((2, 2, 1, 1))
    np.testing.assert_allclose(L.avg_pool2d(x, 2, stride=1), L.conv2d(x, mean), atol=1e-14)


def test_norms():
    x, gamma, beta = RNG.standard_normal((2, 3, 2, 4)), RNG.standard_normal(4), RNG.standard_normal(4)
    y = (L.group_norm(x, 2, gamma, beta, tiny=0.0) - beta) / gamma
    for b in range(2):
        for group in (slice(0, 2), slice(2, 4)):
            assert y[b, :, :, group].mean() == pytest.approx(0, abs=1e-13)
            assert y[b, :, :, group].std() == pytest.approx(1)
    flat = x.reshape(12, 4)
    one_group = L.group_norm(flat, 1, gamma, beta)
    np.testing.assert_allclose(L.layer_norm(flat, gamma, beta), one_group, atol=1e-13)
    rms = L.rms_norm(flat, np.ones(4), tiny=0.0)
    np.testing.assert_allclose((rms**2).mean(-1), 1, rtol=1e-13)
    np.testing.assert_allclose(L.rms_norm(3 * flat, np.ones(4), tiny=0.0), rms, rtol=1e-13)


def test_attention():
    q, k, v = (RNG.standard_normal((2, *shape)) for shape in ((3, 4), (5, 4), (5, 2)))
    weights = special.softmax(q @ k.transpose(0, 2, 1) / 2, axis=-1)
    np.testing.assert_allclose(L.attention(q, k, v), weights @ v, atol=1e-14)
    mask = np.zeros((3, 5), dtype=bool)
    mask[:, 1] = True
    np.testing.assert_array_equal(L.attention(q, k, v, mask), np.repeat(v[:, 1:2], 3, axis=1))


def test_sinusoidal_embedding():
    e = L.sinusoidal_embedding([0, 1, 250], 8)
    assert e.shape == (3, 8)
    np.testing.assert_array_equal(e[0], [0, 0, 0, 0, 1, 1, 1, 1])
    assert e[1, 0] == pytest.approx(math.sin(1))
    assert e[2, 5] == pytest.approx(math.cos(250 * 10000 ** (-1 / 4)))
    np.testing.assert_allclose(e[:, :4] ** 2 + e[:, 4:] ** 2, 1, atol=1e-14)


def test_frechet_distance_against_eigenvalues_and_commuting_covariances():
    roots = RNG.standard_normal((2, 4, 4))
    c1, c2 = (r @ r.T + 0.1 * np.eye(4) for r in roots)
    m1, m2 = RNG.standard_normal((2, 4))
    eigenvalues = np.linalg.eigvals(c1 @ c2).real
    expected = np.sum((m1 - m2) ** 2) + np.trace(c1) + np.trace(c2) - 2 * np.sqrt(eigenvalues).sum()
    assert M.frechet_distance(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-10)
    d1, d2 = np.array([1.0, 4.0]), np.array([9.0, 0.25])
    commuting = M.frechet_distance([0, 0], np.diag(d1), [1, 2], np.diag(d2))
    assert commuting == pytest.approx(5 + np.sum((np.sqrt(d1) - np.sqrt(d2)) ** 2))
    assert M.frechet_distance(m1, c1, m1, c1) == pytest.approx(0, abs=1e-10)
    x = RNG.standard_normal((50, 3))
    assert M.frechet_from_samples(x, x + np.array([3, 0, 4])) == pytest.approx(25, rel=1e-10)


def test_precision_and_recall():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    assert M.neighbour_radii(real, 1) == [1, 1, 1, 8]
    assert M.precision_recall(real, real, k=1) == (1, 1)
    fake = np.array([[0.5], [0.6], [30.0]])            # radii .1, .1, 29.4: the last ball reaches 1
    assert M.precision_recall(real, fake, k=1) == (pytest.approx(2 / 3), pytest.approx(3 / 4))


def test_classifier_score_at_its_two_ends():
    assert M.classifier_score(np.full((6, 3), 1 / 3)) == pytest.approx(1)
    assert M.classifier_score([[1, 0], [1, 0]]) == pytest.approx(1)
    assert M.classifier_score(np.eye(4)) == pytest.approx(4)
    p = RNG.dirichlet(np.ones(5), 20)
    expected = np.exp(special.rel_entr(p, p.mean(0)).sum(1).mean())
    assert M.classifier_score(p) == pytest.approx(expected, rel=1e-13)
