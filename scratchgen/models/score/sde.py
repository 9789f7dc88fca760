"""Diffusion in continuous time: three ways to add noise, and the way back.  Song et al. (2021), arXiv:2011.13456.

    dx = f(x, t) dt + g(t) dw          x_t | x_0 ~ N(a_t·x_0, σ_t²·I),   0 ≤ t ≤ 1

    VP       f = −½β(t)·x,  g² = β(t);              a = e^(−B/2),  σ² = 1 − e^(−B)      (1)  sde.vp
    VE       f = 0,  g² = 2σ(t)²·log(σ_max/σ_min);  a = 1,  σ² = σ(t)² − σ_min²         (2)  sde.ve
    sub-VP   f = −½β(t)·x,  g² = β(t)(1 − e^(−2B)); a = e^(−B/2),  σ = 1 − e^(−B)       (3)  sde.subvp
        β(t) = β_min + t·(β_max − β_min),   B = ∫₀ᵗ β,   σ(t) = σ_min·(σ_max/σ_min)^t
    dx = [f − g²·∇log p_t(x)] dt + g dw̄,  time running backwards                        (4)  sde.reverse
    dx/dt = f − ½g²·∇log p_t(x)                                                         (5)  sde.probability_flow
    log p_0(x_0) = log p_1(x_1) + ∫₀¹ tr ∇v(x_t, t) dt,   dx_t/dt = v, eq. (5)          (6)  sde.log_likelihood
    −log p_{t_0} ≤ E ∫ w_t·½‖σ_t·s + ε‖² dt + const,   w_t = g_t²/σ_t²                  (7)  sde.likelihood_weight
    t = u^p:   dx = p·u^(p−1)·f(x, u^p) du + √(p·u^(p−1))·g(u^p) dw                     (8)  sde.clock

(1) is DDPM's chain with ever more and smaller steps, (2) the chain of a noise-conditional score network; all three
follow from the mean's and the variance's equations, ȧ = −½βa and (σ²)˙ = −βσ² + g².  (4) and (5) have the same
densities p_t at all times as the equation of the noise (Anderson 1982; Maoutsa et al. 2020).  (6) is the change of
variables along a flow, d log p_t(x_t)/dt = −tr ∇v (Chen et al. 2018).  (7) makes denoising score matching a bound on
the likelihood of what (4) samples: ½E∫g²‖s − ∇log p_t‖² dt is how far the paths are apart, as a KL divergence (Song,
Durkan, Murray & Ermon 2021, arXiv:2101.09258).  (8) is any of them on a clock that runs slower where time begins,
p > 1: VP's noise grows as √t there, too fast for steps of one length, but in proportion to u = √t.

The paper writes σ(t)² for VE's variance, as though the data already carried noise of σ_min; (2) starts at t = 0 from
the data itself.

t: a number, or one per example (B,).  Coefficients are float64, () or (B,), and rounded where they meet x (B, …).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, prod
from typing import Any, NamedTuple, Protocol

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import Array, backend_of
from scratchgen.models.levels import meet, time
from scratchgen.models.score.matching import divergence, hutchinson
from scratchgen.models.score.solvers import Field, Step, integrate, rk4


class Marginal(NamedTuple):
    """x_t given x_0: N(mean·x_0, std²·I)."""

    mean: Any
    std: Any


class SDE(Protocol):
    """dx = f(x, t) dt + g(t) dw, with a Gaussian marginal given x_0."""

    def drift(self, x: Array, t: Any) -> Array:
        """f(x, t), like x."""

    def diffusion(self, t: Any) -> Any:
        """g(t)."""

    def marginal(self, t: Any) -> Marginal:
        """a_t and σ_t."""


@dataclass(frozen=True)
class VP:
    """Variance preserving, eq. (1): data of variance 1 keeps it.  Raises ValueError unless 0 < β_min ≤ β_max."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"{type(self).__name__}: beta_min {self.beta_min} and beta_max {self.beta_max}, not 0 < ≤")

    def beta(self, t: Any) -> Any:
        """β(t)."""
        return self.beta_min + (self.beta_max - self.beta_min) * time(t)

    def total(self, t: Any) -> Any:
        """B(t) = ∫₀ᵗ β."""
        t = time(t)
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * ops.square(t)

    def drift(self, x: Array, t: Any) -> Array:
        """−½β(t)·x."""
        return meet(-0.5 * self.beta(t), x) * x

    def diffusion(self, t: Any) -> Any:
        """√β(t)."""
        return ops.sqrt(self.beta(t))

    def marginal(self, t: Any) -> Marginal:
        """e^(−B/2) and √(1 − e^(−B)), which keeps its digits for small t."""
        B = self.total(t)
        return Marginal(ops.exp(-0.5 * B), ops.sqrt(-ops.expm1(-B)))


@dataclass(frozen=True)
class VE:
    """Variance exploding, eq. (2): the data keeps its scale.  Raises ValueError unless 0 < σ_min < σ_max."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"VE: sigma_min {self.sigma_min} and sigma_max {self.sigma_max}, not 0 < <")

    @property
    def rate(self) -> float:
        """log(σ_max/σ_min)."""
        return log(self.sigma_max / self.sigma_min)

    def drift(self, x: Array, t: Any) -> Array:
        """0."""
        return ops.zeros_like(x)

    def diffusion(self, t: Any) -> Any:
        """σ(t)·√(2·log(σ_max/σ_min))."""
        return self.sigma_min * (2 * self.rate) ** 0.5 * ops.exp(self.rate * time(t))

    def marginal(self, t: Any) -> Marginal:
        """1 and √(σ(t)² − σ_min²)."""
        t = time(t)
        return Marginal(ops.ones_like(t), self.sigma_min * ops.sqrt(ops.expm1(2 * self.rate * t)))


@dataclass(frozen=True)
class SubVP(VP):
    """VP's mean with less variance at every time, eq. (3)."""

    def diffusion(self, t: Any) -> Any:
        """√(β(t)(1 − e^(−2B)))."""
        return ops.sqrt(self.beta(t) * -ops.expm1(-2 * self.total(t)))

    def marginal(self, t: Any) -> Marginal:
        """e^(−B/2) and 1 − e^(−B)."""
        B = self.total(t)
        return Marginal(ops.exp(-0.5 * B), -ops.expm1(-B))


@dataclass(frozen=True)
class Clock:
    """Another equation's noise, at the time u^p in place of u, eq. (8); 0 and 1 stay.  ValueError unless p > 0."""

    sde: SDE
    power: float = 2.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"Clock: the power {self.power} should be positive")

    def rate(self, u: Any) -> Any:
        """dt/du."""
        return self.power * time(u) ** (self.power - 1)

    def drift(self, x: Array, t: Any) -> Array:
        """f(x, t^p)·p·t^(p−1)."""
        return meet(self.rate(t), x) * self.sde.drift(x, time(t) ** self.power)

    def diffusion(self, t: Any) -> Any:
        """g(t^p)·√(p·t^(p−1))."""
        return ops.sqrt(self.rate(t)) * self.sde.diffusion(time(t) ** self.power)

    def marginal(self, t: Any) -> Marginal:
        """a and σ at t^p."""
        return self.sde.marginal(time(t) ** self.power)


def time_of(sde: SDE, std: float) -> float:
    """The t in [0, 1] with σ_t = std, by bisection.  Raises ValueError if there is none."""
    if not 0 <= std <= float(value_of(sde.marginal(1.0).std)):
        raise ValueError(f"time_of: the noise is never of deviation {std}")
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(value_of(sde.marginal(middle).std)) < std else (low, middle)
    return high


def reverse(sde: SDE, x: Array, s: Array, t: Any) -> Array:
    """f − g²·s, the drift of eq. (4).  s: the score at x_t, like x.  Step it with h < 0; the noise keeps g."""
    return sde.drift(x, t) - meet(sde.diffusion(t) ** 2, x) * s


def probability_flow(sde: SDE, x: Array, s: Array, t: Any) -> Array:
    """f − ½g²·s, the velocity of eq. (5).  s: the score at x_t, like x."""
    return sde.drift(x, t) - meet(0.5 * sde.diffusion(t) ** 2, x) * s


def likelihood_weight(sde: SDE, t: Any) -> Any:
    """g_t²/σ_t², eq. (7): what the squared error of the noise costs, per time, in nats.  Float64, like t."""
    return ops.square(sde.diffusion(t) / sde.marginal(t).std)


def log_likelihood(
    sde: SDE, score: Callable[[Array, float], Array], x0: Array, log_prior: Callable[[Array], Array], n: int,
    t0: float = 0.0, t1: float = 1.0, step: Step = rk4, probe: Array | None = None,
    solve: Callable[[Field, Array, float, float], Array] | None = None,
) -> Array:  # fmt: skip
    """log p_{t0}(x0), eq. (6), in n steps.  Returns (B,), in nats.

    x0: (B, …).  score(x, t): s_θ.  log_prior(x_1): (B,), the log-density at t1, of N(0, I) for VP.
    probe: noise of x0's shape for Hutchinson's estimate of the trace, one draw for all times; None: the exact trace,
    d walks back per call.  solve(f, x, t0, t1): x at t1, in the place of n steps.  Raises ValueError for n < 1.
    """
    shape, xp = x0.shape, backend_of(value_of(x0))
    B, d = shape[0], prod(shape[1:])

    def flow(state: Array, t: float) -> Array:
        """Velocity and tr ∇v side by side: (B, d + 1)."""

        def velocity(x: Array) -> Array:
            return probability_flow(sde, x, score(x, t), t)

        x = ops.reshape(state[:, :d], shape)
        v, trace = divergence(velocity, x) if probe is None else hutchinson(velocity, x, probe)
        return ops.concatenate([ops.reshape(v, (B, d)), ops.reshape(trace, (B, 1))], axis=1)

    start = ops.concatenate([ops.reshape(x0, (B, d)), xp.zeros((B, 1), x0.dtype)], axis=1)
    if solve is not None:
        end = solve(flow, start, t0, t1)
    else:
        *_, end = integrate(step, flow, start, t0, t1, n)
    return log_prior(ops.reshape(end[:, :d], shape)) + end[:, d]
