"""Steps of fixed size for differential equations, ordinary and stochastic.

    dx = f(x, t) dt
    x + h·k₁,                              k₁ = f(x, t)                                 (1)  solver.euler
    x + h/2·(k₁ + k₂),                     k₂ = f(x + h·k₁, t + h)                      (2)  solver.heun
    x + h/6·(k₁ + 2k₂ + 2k₃ + k₄)                                                       (3)  solver.rk4
        k₂ = f(x + h/2·k₁, t + h/2),   k₃ = f(x + h/2·k₂, t + h/2),   k₄ = f(x + h·k₃, t + h)
    dx = f(x, t) dt + g(t) dw
    x + h·f(x, t) + √|h|·g(t)·z,           z ~ N(0, I)                                  (4)  solver.euler_maruyama

Over a fixed stretch of time the errors of (1), (2) and (3) shrink as h, h² and h⁴; those of averages over (4) as h
(its weak order).  (2) predicts with (1), then corrects with the slope at the prediction.  A negative h runs time
backwards, for (4) along the reverse equation of a diffusion.  Langevin's step is (4) with f = ½·∇log p and g = 1.
Kloeden & Platen (1992); Hairer, Nørsett & Wanner (1993).  `adaptive` is SciPy's: it chooses its steps by itself.

f(x, t): x (B, …), t a Python float; returns x's shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any, NamedTuple

from scipy.integrate import solve_ivp

from scratchgen.backend import Array, backend_of
from scratchgen.models.levels import meet

Field = Callable[[Array, float], Array]
Step = Callable[[Field, Array, float, float], Array]
"""step(f, x, t, h): x at time t + h."""


def euler(f: Field, x: Array, t: float, h: float) -> Array:
    """x + h·f(x, t), eq. (1): one call, first order."""
    return x + h * f(x, t)


def heun(f: Field, x: Array, t: float, h: float) -> Array:
    """Euler's step with the mean of the slopes at its two ends, eq. (2): two calls, second order."""
    k1 = f(x, t)
    k2 = f(x + h * k1, t + h)
    return x + (h / 2) * (k1 + k2)


def rk4(f: Field, x: Array, t: float, h: float) -> Array:
    """Runge and Kutta's classical step, eq. (3): four calls, fourth order."""
    k1 = f(x, t)
    k2 = f(x + (h / 2) * k1, t + h / 2)
    k3 = f(x + (h / 2) * k2, t + h / 2)
    k4 = f(x + h * k3, t + h)
    return x + (h / 6) * (k1 + 2 * k2 + 2 * k3 + k4)


def euler_maruyama(f: Field, g: Any, x: Array, t: float, h: float, z: Array) -> Array:
    """x + h·f(x, t) + √|h|·g·z, eq. (4).  g: the value g(t), a number or (B,).  z ~ N(0, I), like x."""
    return x + h * f(x, t) + meet(g, x) * (sqrt(abs(h)) * z)


def _grid(name: str, t0: float, t1: float, n: int) -> tuple[list[float], float]:
    if n < 1:
        raise ValueError(f"{name}: {n} steps; at least one is needed")
    h = (t1 - t0) / n
    return [t0 + k * h for k in range(n)], h


def integrate(step: Step, f: Field, x: Array, t0: float, t1: float, n: int) -> Iterator[Array]:
    """x at the n times after t0, t1 the last, one at a time; t1 < t0 runs backwards.  ValueError for n < 1."""
    times, h = _grid("integrate", t0, t1, n)
    for t in times:
        x = step(f, x, t, h)
        yield x


def simulate(
    f: Field, g: Callable[[float], Any], x: Array, t0: float, t1: float, n: int, noise: Callable[[Any], Array]
) -> Iterator[Array]:
    """A path of dx = f dt + g dw by eq. (4), at the n times after t0.  noise: makes z ~ N(0, I) of a shape.

    Backwards (t1 < t0) f is the drift of the reverse equation.  Raises ValueError for n < 1.
    """
    times, h = _grid("simulate", t0, t1, n)
    for t in times:
        x = euler_maruyama(f, g(t), x, t, h, noise(x.shape))
        yield x


class Solution(NamedTuple):
    """x at the end, and how often f was asked."""

    x: Any
    calls: int


def adaptive(f: Field, x: Array, t0: float, t1: float, method: str = "RK45", tolerance: float = 1e-4) -> Solution:
    """x at t1, by a method of SciPy's `solve_ivp` that takes steps as long as its estimate of their error allows.

    The steps are those of the whole batch, and planned on the host; f is computed where x lives.  x: a plain array.
    tolerance: of each step, relative and absolute.  Raises ArithmeticError if no step is short enough.
    """
    xp = backend_of(x)

    def slope(t: float, y: Any) -> Any:
        return xp.to_numpy(f(xp.asarray(y.reshape(x.shape), x.dtype), float(t))).ravel()

    found = solve_ivp(slope, (t0, t1), xp.to_numpy(x).ravel(), method, rtol=tolerance, atol=tolerance)
    if not found.success:
        raise ArithmeticError(f"adaptive: {found.message}")
    return Solution(xp.asarray(found.y[:, -1].reshape(x.shape), x.dtype), int(found.nfev))
