"""The forward process of a diffusion, its posterior, and what noise and clean image say about each other.

    q(x_t | x_{t−1}) = N(√α_t·x_{t−1}, β_t)                                             (1)  diffusion.forward_step
    q(x_t | x_0)     = N(√ᾱ_t·x_0, 1 − ᾱ_t)     x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε             (2)  diffusion.forward
    q(x_{t−1} | x_t, x_0) = N(μ̃_t, β̃_t)                                                 (3)  diffusion.posterior
        μ̃_t = √ᾱ_{t−1}·β_t/(1−ᾱ_t)·x_0 + √α_t·(1−ᾱ_{t−1})/(1−ᾱ_t)·x_t
        β̃_t = (1−ᾱ_{t−1})/(1−ᾱ_t)·β_t
    x̂_0 = (x_t − √(1−ᾱ_t)·ε)/√ᾱ_t                                                       (4)  diffusion.predict_x0
    ε   = (x_t − √ᾱ_t·x_0)/√(1−ᾱ_t)                                                     (5)  diffusion.predict_eps
    μ   = (x_t − β_t/√(1−ᾱ_t)·ε)/√α_t                                                   (6)  diffusion.mean_from_eps

(4) and (5) are (2), solved for the image and for the noise.  (6) is (3) with (4) put for x_0: the two
parameterisations of the mean.  Ho, Jain & Abbeel (2020).  More of them are in `parameterisation`.

Everywhere: x (B, …) images or points, t plain integers (B,) in 1 … T (or one integer for all), ε like x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import backend_of
from scratchgen.models.diffusion.schedule import Schedule
from scratchgen.ops import sqrt


class Normal(NamedTuple):
    """A Gaussian's mean, like x, and its variance, which broadcasts to it."""

    mean: Any
    var: Any


def mix(x: Any, *terms: tuple[Any, Any]) -> Any:
    """Σ coefficient·array: each float64 coefficient rounded once, to the precision of x."""
    (first, array), *rest = terms
    total = first.astype(x.dtype) * array
    for coefficient, array in rest:
        total = total + coefficient.astype(x.dtype) * array
    return total


def q_step(schedule: Schedule, x_before: Any, t: Any) -> Normal:
    """q(x_t | x_{t−1}), eq. (1)."""
    c = schedule.at(t, x_before)
    return Normal(mix(x_before, (sqrt(c.alpha), x_before)), c.beta.astype(x_before.dtype))


def q_marginal(schedule: Schedule, x0: Any, t: Any) -> Normal:
    """q(x_t | x_0), eq. (2)."""
    c = schedule.at(t, x0)
    return Normal(mix(x0, (sqrt(c.alpha_bar), x0)), (1 - c.alpha_bar).astype(x0.dtype))


def q_sample(schedule: Schedule, x0: Any, t: Any, eps: Any) -> Any:
    """x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε, eq. (2)."""
    c = schedule.at(t, x0)
    return mix(x0, (sqrt(c.alpha_bar), x0), (sqrt(1 - c.alpha_bar), eps))


def beta_tilde(c: Any) -> Any:
    """β̃_t = (1−ᾱ_{t−1})/(1−ᾱ_t)·β_t, the posterior's variance.  c: coefficients at t ≥ 1."""
    return (1 - c.alpha_bar_before) / (1 - c.alpha_bar) * c.beta


def posterior(schedule: Schedule, x0: Any, xt: Any, t: Any) -> Normal:
    """q(x_{t−1} | x_t, x_0), eq. (3).  At t = 1 it is x_0 itself, with variance 0."""
    c = schedule.at(t, xt)
    of_x0 = sqrt(c.alpha_bar_before) * c.beta / (1 - c.alpha_bar)
    of_xt = sqrt(c.alpha) * (1 - c.alpha_bar_before) / (1 - c.alpha_bar)
    return Normal(mix(xt, (of_x0, x0), (of_xt, xt)), beta_tilde(c).astype(xt.dtype))


def predict_x0(schedule: Schedule, xt: Any, eps: Any, t: Any) -> Any:
    """The clean image that ε and x_t imply, eq. (4)."""
    c = schedule.at(t, xt)
    return mix(xt, (1 / sqrt(c.alpha_bar), xt), (-sqrt(1 / c.alpha_bar - 1), eps))


def predict_eps(schedule: Schedule, xt: Any, x0: Any, t: Any) -> Any:
    """The noise that x_0 and x_t imply, eq. (5)."""
    c = schedule.at(t, xt)
    noise = sqrt(1 - c.alpha_bar)
    return mix(xt, (1 / noise, xt), (-sqrt(c.alpha_bar) / noise, x0))


def mean_from_eps(schedule: Schedule, xt: Any, eps: Any, t: Any) -> Any:
    """The mean of x_{t−1} that ε implies, eq. (6)."""
    c = schedule.at(t, xt)
    return mix(xt, (1 / sqrt(c.alpha), xt), (-c.beta / sqrt((1 - c.alpha_bar) * c.alpha), eps))


def clip_eps(schedule: Schedule, xt: Any, eps: Any, t: Any) -> Any:
    """ε corrected so that the clean image it implies stays in [−1, 1], where images live."""
    return predict_eps(schedule, xt, ops.clip(predict_x0(schedule, xt, eps, t), -1.0, 1.0), t)


def normals(rng: Any, like: Any) -> Callable[[Any], Any]:
    """Noise for a sampler: shape ↦ z ~ N(0, I) from `rng`, in the dtype of `like`."""
    return lambda shape: rng.standard_normal(shape, like.dtype)


def times(t: int, x: Any) -> Any:
    """The time t for every example of x, as plain integers (B,) where x lives."""
    return backend_of(value_of(x)).full((x.shape[0],), t, "int64")
