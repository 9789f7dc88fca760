"""Volumes of densities made from any function, the derivatives of their logarithms, and mixtures.

Volumes are adaptive integrals, or sums over all states, one by one. The derivative of a log-volume is a finite
difference: that it equals a mean is what is to be tested.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from scipy import stats

from reference.derivatives import gradient, hessian
from reference.quadrature import integrate


def softplus(f: float) -> float:
    """log(1 + e^f) as the integral of the logistic function, from where it holds less than e⁻⁴⁰ of the whole."""
    return integrate(lambda t: 1 / (1 + math.exp(-t)), np.linspace(min(f, 0) - 40, f, 5), absolute=0)


def positive(form: str, f: float) -> float:
    """One of the four ways to make a number positive."""
    return {"square": lambda: f**2, "exponential": lambda: math.exp(f), "absolute": lambda: abs(f),
            "softplus": lambda: softplus(f)}[form]()


def volume(g: Callable[[float], float], edges: Sequence[float]) -> float:
    """∫ g over the edges, adaptively."""
    return integrate(g, edges)


def total(g: Callable[[tuple[int, ...]], float], sizes: Sequence[int]) -> float:
    """Σ g over all states of several discrete variables, one after the other."""
    return math.fsum(g(state) for state in itertools.product(*map(range, sizes)))


def log_volume(theta, statistics: Callable[[float], np.ndarray], h: Callable[[float], float],
               edges: Sequence[float]) -> float:
    """A(θ) = log ∫ h(x) e^{θ·T(x)} dx, adaptively."""
    theta = np.asarray(theta, dtype=np.float64)
    return math.log(integrate(lambda x: h(x) * math.exp(theta @ statistics(x)), edges))


# Mixtures. No sum of weighted densities: cases are counted, or the outcome is a law of another name.

def urns(tickets: Sequence[int], balls: Sequence[Sequence[int]]) -> list[Fraction]:
    """The probability of each colour (n,) when a ticket decides from which of K urns the ball is drawn; exact.

    tickets: (K,), how many name each urn.  balls: (K, n), how many of each colour an urn holds.
    Every urn is filled up, by copies of what it holds, to one number of balls. Then all pairs of a ticket and a
    ball are equally likely, and are counted one after the other.
    """
    size = math.lcm(*(int(sum(urn)) for urn in balls))
    contents = [[colour for colour, many in enumerate(urn) for _ in range(int(many))] for urn in balls]
    names = [k for k, many in enumerate(tickets) for _ in range(int(many))]
    drawn = Counter(colour for k in names for colour in contents[k] * (size // len(contents[k])))
    return [Fraction(drawn[colour], len(names) * size) for colour in range(len(balls[0]))]


def left_twice(n: int, p: float, q: float) -> np.ndarray:
    """log P(x) for x = 0 … n (n + 1,): of n coins each is left with p, and of those left each with q.

    So each coin is left both times with p·q, independently of all others: x is binomial again.
    """
    return stats.binom(n, p * q).logpmf(np.arange(n + 1))


def unknown_precision(x, nu: float) -> np.ndarray:
    """log p(x) of x ~ N(0, 1/λ) whose precision λ ~ Gamma(ν/2, rate ν/2): Student's t of ν degrees of freedom."""
    return stats.t(nu).logpdf(x)


# Derivatives of log-volumes.

def slope(log_volume_of: Callable[[np.ndarray], float], theta, h: float = 1e-2) -> np.ndarray:
    """∇A by extrapolated differences of the volume alone."""
    return gradient(log_volume_of, theta, h=h)


def bend(log_volume_of: Callable[[np.ndarray], float], theta, h: float = 2e-2) -> np.ndarray:
    """∇²A, likewise."""
    return hessian(log_volume_of, theta, h=h)
