"""Samplers of a diffusion in continuous time: from noise, t = 1, back to data, t = t_0.  Song et al. (2021), §4.

    em    the reverse equation (sde.reverse), by the steps of Euler and Maruyama
    pc    predictor–corrector: after each such step, one of Langevin's at the new time
              x' = x + ε·s + √(2ε)·z,   ε = 2(r·E‖z‖/E‖s‖)²                              (1)  sde.corrector
    ode   the probability flow (sde.probability_flow), by Euler's, Heun's or Runge and Kutta's steps, or by SciPy's
          methods, which choose their own

The corrector leaves p_t as it is, up to the error of its step, and so mends what the predictor got wrong.  The means
are over the batch: E‖s‖ is at most √d/σ_t, and about that where x is mostly noise, so that ε ≈ 2r²σ_t², a noise of 2r
deviations whatever the level.  (For VP the paper lets ε shrink by a factor that is nearly 1.)  The flow makes no noise
of its own: the same start has the same end with every solver, and can be found again from it.

Everywhere: score(x, t) is s_θ; x (B, …) at t = 1; noise makes z ~ N(0, I) of a shape; n steps of equal length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from scratchgen import ops
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, per_example
from scratchgen.models.score import solvers
from scratchgen.models.score.sde import SDE, probability_flow, reverse
from scratchgen.models.score.solvers import Solution, Step, adaptive, euler_maruyama, integrate, simulate

Score = Callable[[Array, float], Array]
Noise = Callable[[Any], Array]

STEPS: dict[str, Step] = {"euler": solvers.euler, "heun": solvers.heun, "rk4": solvers.rk4}
"""Of the probability flow, by name."""
ADAPTIVE = {"rk45": "RK45", "dop853": "DOP853"}
"""SciPy's methods for it."""
CALLS = {"em": 1, "pc": 2, "euler": 1, "heun": 2, "rk4": 4}
"""How often a step asks for the score."""
SOLVERS = (*CALLS, *ADAPTIVE)


def backwards(sde: SDE, score: Score, x: Array, n: int, t0: float, noise: Noise) -> Iterator[Array]:
    """x at the n times after t = 1 along the reverse equation, sde.reverse, by Euler and Maruyama's steps."""
    return simulate(lambda x, t: reverse(sde, x, score(x, t), t), sde.diffusion, x, 1.0, t0, n, noise)


def corrector(x: Array, s: Array, r: float, z: Array) -> Array:
    """Langevin's step at the time of x, eq. (1): langevin.step with a length that the batch decides.

    s: the score at x.  r: the ratio of signal to noise.  z ~ N(0, I).  All like x.
    Raises ValueError if the shapes differ, TypeError if the precisions do.
    """
    alike("corrector", "x", x, s=s, z=z)
    ratio = r * ops.mean(_norm(z)) / ops.mean(_norm(s))
    epsilon = 2 * ops.square(ratio)
    return euler_maruyama(lambda x, t: epsilon * s, ops.sqrt(2 * epsilon), x, 0.0, 1.0, z)


def _norm(x: Array) -> Array:
    """‖x‖ of each example: (B, …) → (B,)."""
    return ops.sqrt(per_example(ops.square(x)))


def predictor_corrector(
    sde: SDE, score: Score, x: Array, n: int, t0: float, noise: Noise, r: float = 0.16
) -> Iterator[Array]:
    """x at the n times after t = 1: a step of `backwards`, then sde.corrector there.  Raises ValueError for n < 1."""
    if n < 1:
        raise ValueError(f"predictor_corrector: {n} steps; at least one is needed")
    h = (t0 - 1) / n
    for k in range(n):
        t = 1 + k * h
        x = euler_maruyama(lambda x, t: reverse(sde, x, score(x, t), t), sde.diffusion(t), x, t, h, noise(x.shape))
        x = corrector(x, score(x, t + h), r, noise(x.shape))
        yield x


def flow(sde: SDE, score: Score, x: Array, n: int, t0: float, step: Step, t1: float = 1.0) -> Iterator[Array]:
    """x at the n times after t1 along sde.probability_flow, by steps of equal length; t0 > t1 leads to noise."""
    return integrate(step, lambda x, t: probability_flow(sde, x, score(x, t), t), x, t1, t0, n)


def flow_adaptive(
    sde: SDE, score: Score, x: Array, t0: float, method: str = "RK45", tolerance: float = 1e-3, t1: float = 1.0
) -> Solution:
    """x at t0 along sde.probability_flow, by one of SciPy's methods, and how many calls that took."""
    return adaptive(lambda x, t: probability_flow(sde, x, score(x, t), t), x, t1, t0, method, tolerance)
