"""The exponential law by scipy.stats, its integrals, and a root: nothing here inverts or integrates on paper.

    log_prob    scipy.stats.expon
    entropy     −∫ p log p
    kl          ∫ q (log q − log p)
    quantile    the x beyond which lies a given mass: the root of an integral of the density
"""

import math

import numpy as np
from scipy import optimize, stats

from reference.distributions import entropy_quad, kl_quad
from reference.quadrature import integrate_panels

REACH = 40.0
"""In units of 1/rate: beyond it lies e⁻⁴⁰ of the mass, less than the last digit of 1."""


def log_prob(x, rate) -> np.ndarray:
    """log of the density, elementwise; −∞ for negative x."""
    return stats.expon.logpdf(x, scale=1 / np.asarray(rate))


def entropy(rate: float) -> float:
    """−∫ p log p, by adaptive quadrature."""
    return entropy_quad(stats.expon(scale=1 / rate).logpdf, np.linspace(0, REACH / rate, 9))


def kl(rate_q: float, rate_p: float) -> float:
    """∫ q (log q − log p), by adaptive quadrature over what holds q's mass."""
    q, p = stats.expon(scale=1 / rate_q), stats.expon(scale=1 / rate_p)
    return kl_quad(q.logpdf, p.logpdf, np.linspace(0, REACH / rate_q, 9))


def quantile(u: float, rate: float) -> float:
    """The x with ∫_x^∞ p = u, by bisection of the integral of scipy's density; 0 < u < 1."""
    density = stats.expon(scale=1 / rate).pdf

    def excess(x: float) -> float:
        return math.log(integrate_panels(density, x + np.linspace(0, REACH / rate, 9))) - math.log(u)

    return float(optimize.brentq(excess, 0.0, 2 * REACH / rate, xtol=1e-14 / rate, rtol=1e-14))
