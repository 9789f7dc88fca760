"""Volumes of densities made from any function, and the derivatives of their logarithms.

Volumes are adaptive integrals, or sums over all states, one by one. The derivative of a log-volume is a finite
difference: that it equals a mean is what is to be tested.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

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


def slope(log_volume_of: Callable[[np.ndarray], float], theta, h: float = 1e-2) -> np.ndarray:
    """∇A by extrapolated differences of the volume alone."""
    return gradient(log_volume_of, theta, h=h)


def bend(log_volume_of: Callable[[np.ndarray], float], theta, h: float = 2e-2) -> np.ndarray:
    """∇²A, likewise."""
    return hessian(log_volume_of, theta, h=h)
