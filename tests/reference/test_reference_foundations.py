"""The oracles of the exponential law, of divergences, volumes and flows, where the answer is known on paper."""

import math

import numpy as np
import pytest
from scipy import stats

from reference import densities, divergence, exponential, flows

NODES = divergence.plane((-9, -8), (9, 8), (100, 90))
MU, COV = np.array([0.5, -0.3]), np.array([[1.1, 0.4], [0.4, 0.7]])


def test_exponential_law():
    np.testing.assert_allclose(exponential.log_prob([-1.0, 0.0, 2.0], 3.0), [-np.inf, np.log(3), np.log(3) - 6])
    assert exponential.entropy(0.2) == pytest.approx(1 + math.log(5), abs=1e-11)
    assert exponential.kl(2.0, 0.5) == pytest.approx(math.log(4) - 0.75, abs=1e-11)
    for u in (1e-12, 0.3, 1 - 1e-9):
        assert exponential.quantile(u, 0.4) == pytest.approx(-math.log(u) / 0.4, rel=1e-10, abs=1e-13)


def test_divergences_of_gaussians():
    p, q = stats.multivariate_normal(MU, COV), stats.multivariate_normal(-MU, np.eye(2))
    trace, log_det = np.trace(COV), np.linalg.slogdet(COV)[1]
    assert divergence.kl(p.logpdf, q.logpdf, NODES) == pytest.approx((trace + 4 * MU @ MU - 2 - log_det) / 2, rel=1e-12)
    assert divergence.js(p.logpdf, p.logpdf, NODES) == 0
    far = stats.multivariate_normal([5, 5], 0.1 * np.eye(2)), stats.multivariate_normal([-5, -5], 0.1 * np.eye(2))
    assert divergence.js(far[0].logpdf, far[1].logpdf, NODES) == pytest.approx(math.log(2), rel=1e-9)


@pytest.mark.parametrize("forward", [True, False])
def test_the_search_finds_the_gaussian_itself(forward):
    p = stats.multivariate_normal(MU, COV).logpdf
    pair = (lambda q: (p, q)) if forward else (lambda q: (q, p))
    found = divergence.fit(lambda q: divergence.kl(*pair(q), NODES), np.zeros(2), np.eye(2))
    np.testing.assert_allclose(found.mu, MU, atol=1e-6)
    np.testing.assert_allclose(found.cov, COV, atol=1e-6)
    assert abs(found.divergence) < 1e-12


def test_volumes():
    assert densities.softplus(0.7) == pytest.approx(np.logaddexp(0, 0.7), rel=1e-11)
    assert densities.softplus(-30.0) == pytest.approx(np.logaddexp(0, -30.0), rel=1e-11)
    assert densities.volume(lambda x: math.exp(-x * x), [-9, 0, 9]) == pytest.approx(math.sqrt(math.pi), rel=1e-12)
    assert densities.total(lambda state: 2.0 ** sum(state), (2, 3, 2)) == 3 * 7 * 3

    def A(theta):
        return densities.log_volume(theta, lambda x: (x,), lambda x: 1.0, [0, 1, 60])

    rate = np.array([-1.5])
    np.testing.assert_allclose([A(rate), *densities.slope(A, rate)], [-math.log(1.5), 1 / 1.5], rtol=1e-9)
    np.testing.assert_allclose(densities.bend(A, rate), [[1 / 1.5**2]], rtol=1e-7)


def test_maps():
    A, B = np.array([[2.0, 0.5], [0.0, -3.0]]), np.array([[0.0, 1.0], [1.0, 4.0]])
    x = np.array([0.3, -0.2])
    assert flows.log_abs_det(lambda x: A @ x, x) == pytest.approx(math.log(6), abs=1e-11)
    chain = [np.exp, lambda x: A @ x, lambda x: B @ x]
    assert flows.chain_log_abs_det(chain, x) == pytest.approx(x.sum() + math.log(6), abs=1e-9)
    log_p = flows.image_density(lambda x: A @ x + 1, 2)
    assert log_p(x) == pytest.approx(stats.norm.logpdf(A @ x + 1).sum() + math.log(6), abs=1e-12)
    mean = flows.image_mean(lambda x: x[:, 0], lambda z: np.exp(0.3 * z), 2)
    assert mean == pytest.approx(math.exp(0.045), rel=1e-12)
