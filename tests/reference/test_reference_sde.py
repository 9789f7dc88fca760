"""The oracles of diffusions in continuous time where a closed form is known."""

import math

import numpy as np
import pytest
from scipy import stats

from reference import denoisers as E
from reference import sde as S

MEAN, COV = np.array([0.4, -0.3]), np.array([[0.5, 0.2], [0.2, 0.3]])
CONSTANT = S.vp_step(lambda t: 3.0)


def test_the_limit_of_a_chain_with_constant_beta():
    assert S.marginal(CONSTANT, 0.7) == pytest.approx((math.exp(-1.05), 1 - math.exp(-2.1)), abs=1e-11)
    assert S.rates(CONSTANT, 0.7) == pytest.approx((-1.5, 3.0), abs=1e-10)
    assert S.marginal(S.ve_step(lambda t: 1 + t), 0.5)[1] == pytest.approx(1.25, abs=1e-12)


def test_moments_forwards_and_backwards():
    """Ornstein and Uhlenbeck's, and the same equation started at its end with the noise still adding."""
    A, b, g2 = (lambda t: [[-1.5]]), (lambda t: np.zeros(1)), (lambda t: 3.0)
    mean, cov = S.linear_moments(A, b, g2, [2.0], [[0.0]], 0.0, 0.7)
    assert (mean[0], cov[0, 0]) == pytest.approx((2 * math.exp(-1.05), 1 - math.exp(-2.1)), abs=1e-9)
    _, cov = S.linear_moments(A, b, g2, [2.0], [[0.0]], 0.7, 0.0)
    assert cov[0, 0] == pytest.approx(math.exp(2.1) - 1, abs=1e-8)


def test_the_residual_of_the_heat_equation():
    """N(0, t) under dx = dw; it is no solution of twice the noise."""
    def log_p(x, t):
        return stats.norm.logpdf(x, 0, math.sqrt(t)).sum()

    still, x = (lambda x, t: 0 * x), np.array([0.3, -0.8])
    assert abs(S.fokker_planck(log_p, still, 1.0, x, 0.7)) < 1e-7
    assert abs(S.fokker_planck(log_p, still, 2.0, x, 0.7)) > 0.1


def test_both_flows_agree_on_a_gaussian():
    x0 = np.array([[0.9, 0.1], [-0.5, -1.0]])
    a, var = math.exp(-0.6), 1 - math.exp(-1.2)
    found = S.gaussian_flow(x0, MEAN, COV, a, math.sqrt(var))
    start = S.gaussian_flow(x0, MEAN, COV, math.exp(-0.15), math.sqrt(1 - math.exp(-0.3)))
    marginal = lambda t: (math.exp(-1.5 * t), 1 - math.exp(-3 * t))  # noqa: E731
    for point, end in zip(start, found, strict=True):
        flown = S.mixture_flow(point, E.gaussian(MEAN, COV), lambda t: (-1.5, 3.0), marginal, 0.1, 0.4)
        np.testing.assert_allclose(flown, end, atol=1e-7)
