"""Numeric derivatives of functions of NumPy arrays: central differences, Richardson, complex step.

The forward computation alone is asked, at displaced points; no chain rule appears. A central difference has
a truncation error of order h² and a rounding error of order 10⁻¹⁶/h; extrapolation in h² buys two further
orders for two more evaluations. The complex step has no difference in it at all, so h can be 10⁻²⁰ and the
result is exact to rounding, but the function must be analytic and be written in operations that accept
complex numbers (no abs, max, comparison or conjugate).
"""

import itertools
from collections.abc import Callable

import numpy as np


def _directional(f: Callable, x: np.ndarray, v: np.ndarray, h: float) -> np.ndarray:
    return (np.asarray(f(x + h * v)) - np.asarray(f(x - h * v))) / (2 * h)


def _second(f: Callable, x: np.ndarray, v: np.ndarray, h: float) -> np.ndarray:
    return (np.asarray(f(x + h * v)) - 2 * np.asarray(f(x)) + np.asarray(f(x - h * v))) / h**2


def richardson(estimate: Callable[[float], np.ndarray], h: float, levels: int = 3) -> np.ndarray:
    """Limit h → 0 of an estimate whose error is a series in h²: Romberg's table on h, h/2, h/4, …

    Row k combines two of row k−1 so that the term in h^{2k} cancels: (4^k·fine − coarse)/(4^k − 1).
    """
    row = [np.asarray(estimate(h / 2**i), dtype=np.float64) for i in range(levels)]
    for k in range(1, levels):
        row = [(4**k * fine - coarse) / (4**k - 1) for coarse, fine in itertools.pairwise(row)]
    return row[0]


def directional(f: Callable, x, v, h: float = 1e-2, levels: int = 4) -> np.ndarray:
    """d/dt f(x + t·v) at t = 0, the Jacobian times v; of f's shape."""
    x, v = np.asarray(x, dtype=np.float64), np.asarray(v, dtype=np.float64)
    return richardson(lambda h: _directional(f, x, v, h), h, levels)


def directional_second(f: Callable, x, v, h: float = 4e-2, levels: int = 4) -> np.ndarray:
    """d²/dt² f(x + t·v) at t = 0, that is vᵀHv for a scalar f; of f's shape."""
    x, v = np.asarray(x, dtype=np.float64), np.asarray(v, dtype=np.float64)
    return richardson(lambda h: _second(f, x, v, h), h, levels)


def bilinear_second(f: Callable, x, v, w, h: float = 4e-2, levels: int = 4) -> np.ndarray:
    """∂²/∂s∂t f(x + s·v + t·w) at 0, that is vᵀHw, by polarisation: ¼[(v+w)ᵀH(v+w) − (v−w)ᵀH(v−w)]."""
    v, w = np.asarray(v, dtype=np.float64), np.asarray(w, dtype=np.float64)
    return (directional_second(f, x, v + w, h, levels) - directional_second(f, x, v - w, h, levels)) / 4


def jacobian(f: Callable, x, h: float = 1e-2, levels: int = 4) -> np.ndarray:
    """All first derivatives, of shape f(x).shape + x.shape, one coordinate at a time."""
    x = np.asarray(x, dtype=np.float64)
    columns = [directional(f, x, unit.reshape(x.shape), h, levels) for unit in np.eye(x.size)]
    return np.stack(columns, axis=-1).reshape(columns[0].shape + x.shape)


def gradient(f: Callable, x, h: float = 1e-2, levels: int = 4) -> np.ndarray:
    """Gradient of a scalar function, of x's shape."""
    return jacobian(lambda x: np.asarray(f(x)).reshape(()), x, h, levels)


def hessian(f: Callable, x, h: float = 4e-2, levels: int = 4) -> np.ndarray:
    """Second derivatives of a scalar function, of shape x.shape + x.shape."""
    x = np.asarray(x, dtype=np.float64)
    units = [unit.reshape(x.shape) for unit in np.eye(x.size)]
    entries = [[bilinear_second(f, x, v, w, h, levels) for w in units] for v in units]
    return np.array(entries, dtype=np.float64).reshape(x.shape + x.shape)


def complex_step(f: Callable, x, v, h: float = 1e-20) -> np.ndarray:
    """d/dt f(x + t·v) at t = 0 as Im f(x + i·h·v)/h, for analytic f (Squire & Trapp 1998)."""
    x, v = np.asarray(x, dtype=np.float64), np.asarray(v, dtype=np.float64)
    return np.imag(f(x + 1j * h * v)) / h
