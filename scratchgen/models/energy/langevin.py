"""Langevin dynamics: uphill along the score, shaken by noise, so that the walk visits each x as often as p says.
Roberts & Tweedie (1996); with noise levels, Song & Ermon (2019), arXiv:1907.05600.

Steps of length ε of dx = ∇log p dt + √2 dw, which leaves p as it is.  Two conventions are in use; the second is the
first with ε halved, and the drift of one with the noise of the other samples another distribution:

    x' = x + ε·s(x) + √(2ε)·z         s = ∇log p,  z ~ N(0, I)                         (1)  langevin.step
    x' = x + (ε/2)·s(x) + √ε·z                                                         (2)  langevin.step_half

A step of finite length overshoots.  On a Gaussian the walk (1) stays Gaussian, with a variance that is too large:

    v = σ² / (1 − ε/(2σ²)),           ε < 2σ²; beyond, the walk flies apart            (3)  langevin.stationary

MALA takes (1) as a proposal, q(x'|x) = N(x'; x + ε·s(x), 2ε), and refuses it as often as it must:

    a = min(1, p(x')·q(x|x') / (p(x)·q(x'|x)))                                         (4)  langevin.mala

Annealed: the levels σ_1 > … > σ_L one after the other, with steps (2) in proportion to their variances:

    α_i = ε·σ_i²/σ_L²                                                                  (5)  langevin.annealed

At level i the score is about 1/σ_i, so α_i/2·s is about √α_i/(2σ_i) times the noise √α_i·z: with (5) a constant.

Everywhere: x, scores and noise (B, …); ε a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log, sqrt
from typing import Any

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.distributions import gaussian
from scratchgen.distributions.events import alike
from scratchgen.models.energy.metropolis import LogP, State, choose, fits, log_hastings

Score = Callable[[Any], Any]
"""x (B, …) ↦ ∇ₓ log p(x), in x's shape."""


def step(x: Any, score: Any, epsilon: float, z: Any) -> Any:
    """x' = x + ε·s + √(2ε)·z, eq. (1).  score: s(x), in x's shape.  z ~ N(0, I), too.

    Raises ValueError if the shapes differ, or ε < 0.
    """
    _length("langevin.step", epsilon)
    alike("langevin.step", "x", x, score=score, z=z)
    return x + epsilon * score + sqrt(2 * epsilon) * z


def step_half(x: Any, score: Any, epsilon: float, z: Any) -> Any:
    """x' = x + (ε/2)·s + √ε·z, eq. (2).  score: s(x), in x's shape.  z ~ N(0, I), too.

    Raises ValueError if the shapes differ, or ε < 0.
    """
    _length("langevin.step_half", epsilon)
    alike("langevin.step_half", "x", x, score=score, z=z)
    return x + 0.5 * epsilon * score + sqrt(epsilon) * z


def _length(function: str, epsilon: float) -> None:
    if not epsilon >= 0:
        raise ValueError(f"{function}: epsilon = {epsilon} should be 0 or more")


def stationary(var: Any, epsilon: float) -> Any:
    """The variance that eq. (1) settles at, in the place of σ², eq. (3).  For eq. (2): epsilon/2.

    var: σ² of a Gaussian p, a number or an array; along the axes of its covariance for a p of several dimensions.
    Returns var's shape.  Raises ValueError unless 0 < ε < 2σ².
    """
    least = float(value_of(ops.min(var))) if hasattr(var, "dtype") else var
    if not 0 < epsilon < 2 * least:
        raise ValueError(f"langevin.stationary: a step of {epsilon} is not between 0 and 2σ² = {2 * least}")
    return var / (1 - 0.5 * epsilon / var)


def log_proposal(x_new: Any, x: Any, score: Any, epsilon: float) -> Any:
    """log q(x'|x) = log N(x'; x + ε·s(x), 2ε): the density of eq. (1)'s x'.  score: s(x).  Returns (B,), in nats.

    Raises ValueError if the shapes do not fit, or unless ε > 0.
    """
    if not epsilon > 0:
        raise ValueError(f"langevin.log_proposal: epsilon = {epsilon} should be positive")
    return gaussian.log_prob(x_new, x + epsilon * score, log(2 * epsilon))


def mala(log_p: LogP, score: Score, state: State, epsilon: float, z: Any, u: Any) -> State:
    """One step of the Metropolis-adjusted Langevin algorithm, eq. (4).

    state: the chains, from `metropolis.start`.  z: N(0, I), in x's shape.  u: U[0, 1), (B,).
    Raises ValueError if the shapes do not fit, or unless ε > 0.
    """
    x, here = state.x, score(state.x)
    x_new = step(x, here, epsilon, z)
    fits(state, x_new, u)
    log_p_new = log_p(x_new)
    there = log_proposal(x_new, x, here, epsilon)
    back = log_proposal(x, x_new, score(x_new), epsilon)
    return choose(state, x_new, log_p_new, log_hastings(state.log_p, log_p_new, there, back), u)


def annealed_steps(sigma: Any, epsilon: float) -> Any:
    """α_i = ε·σ_i²/σ_L², eq. (5).  sigma: σ_1 … σ_L, (L,), the largest first.  Returns (L,), the last of them ε.

    Raises ValueError unless sigma is one row.
    """
    if sigma.ndim != 1 or not sigma.shape[0]:
        raise ValueError(f"langevin.annealed_steps: sigma {sigma.shape} should be one row of levels, (L,)")
    return epsilon * ops.square(sigma / sigma[-1])


def annealed(
    score: Callable[[Any, float], Any], x: Any, sigma: Any, epsilon: float, T: int, noise: Callable[[Any], Any],
    after: Callable[[Any, int], Any] | None = None,
) -> Iterator[Any]:  # fmt: skip
    """Annealed Langevin dynamics (Song & Ermon 2019, Algorithm 1): T steps (2) at each level, one x at a time.

    score: (x, σ_i) ↦ the score of p blurred by N(0, σ_i²).  noise: makes z ~ N(0, I) of a shape.
    after: (x, i) ↦ the x to go on from, where a step at level i = 0 … L−1 has led to x; by default x itself.
    """
    alpha = annealed_steps(sigma, epsilon)
    for i, (width, length) in enumerate(zip(sigma.tolist(), alpha.tolist(), strict=True)):
        for _ in range(T):
            x = step_half(x, score(x, width), length, noise(x.shape))
            x = x if after is None else after(x, i)
            yield x
