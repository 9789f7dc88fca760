"""The noise schedule: how fast a diffusion forgets.

    ᾱ_t = Π_{s ≤ t} α_s,    α_t = 1 − β_t,    t = 1 … T                                 (1)  diffusion.alpha_bar
    β_t = (β_min + (t−1)/(T−1)·(β_max − β_min))/T                                       (2)  diffusion.schedule_linear
    ᾱ_t = f(t)/f(0),    f(t) = cos²((t/T + s)/(1 + s)·π/2)                              (3)  diffusion.schedule_cosine

(2) is Ho, Jain & Abbeel (2020, §4): β from 10⁻⁴ to 0.02 in T = 1000 steps; as T grows, ᾱ at time u = t/T tends to
exp(−β_min·u − ½(β_max − β_min)·u²) (Song et al. 2021, eq. 33).  (3) is Nichol & Dhariwal (2021, eq. 17).

Arrays are indexed by t itself: place 0 is the clean image, with β_0 = 0 and ᾱ_0 = 1.  They are computed in
float64 and rounded once, where they meet an image.
"""

from __future__ import annotations

from math import pi
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.backend import active, backend_of, float64


class Coefficients(NamedTuple):
    """The schedule at the times of a batch: float64, shaped (B, 1, …) to meet images, or numbers for one t."""

    beta: Any
    alpha: Any
    alpha_bar: Any
    alpha_bar_before: Any
    """ᾱ_{t−1}."""


class Schedule:
    """β and ᾱ, as plain float64 arrays of length T + 1 on the active backend.

    beta: β_1 … β_T, a plain float64 array of numbers in (0, 1).
    Raises ValueError if a β leaves (0, 1).
    """

    def __init__(self, beta: Any) -> None:
        xp = backend_of(beta)
        if beta.dtype != float64 or beta.ndim != 1 or not beta.shape[0]:
            raise ValueError(f"Schedule: β must be a row of float64 numbers, not {beta.shape} {beta.dtype}")
        if not bool(((beta > 0) & (beta < 1)).all()):
            raise ValueError("Schedule: every β must lie strictly between 0 and 1")
        self.T = int(beta.shape[0])
        self.beta = xp.concatenate([xp.zeros(1), beta])
        self.alpha = 1 - self.beta
        self.alpha_bar = xp.cumprod(self.alpha)
        self.alpha_bar_before = xp.concatenate([xp.ones(1), self.alpha_bar[:-1]])

    def at(self, t: Any, like: Any) -> Coefficients:
        """β_t, α_t, ᾱ_t and ᾱ_{t−1} for images `like` (B, …).  t: plain integers (B,), or one for all."""
        rows = (self.beta, self.alpha, self.alpha_bar, self.alpha_bar_before)
        return Coefficients(*(pick(row, t, like) for row in rows))


def pick(row: Any, t: Any, like: Any) -> Any:
    """row[t], shaped (B, 1, …) to meet images `like` (B, …); a number where t is one integer for all."""
    return row[t] if isinstance(t, int) else ops.take(row, t).reshape((-1,) + (1,) * (like.ndim - 1))


def linear(T: int, beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """β_1 … β_T in equal steps from β_min/T to β_max/T, eq. (2).

    Written so that ᾱ_T hardly depends on T.  Raises ValueError unless T > β_max, so that β_T < 1.
    """
    if beta_max >= T:
        raise ValueError(f"linear: T = {T} steps must be more than beta_max = {beta_max}, or β_T would reach 1")
    xp = active()
    return Schedule(xp.linspace(beta_min / T, beta_max / T, T))


def cosine(T: int, offset: float = 0.008, beta_cap: float = 0.999) -> Schedule:
    """β_t = 1 − ᾱ_t/ᾱ_{t−1} with the ᾱ of eq. (3), but at most `beta_cap`: (3) ends at ᾱ_T = 0.

    s = `offset` keeps the first steps from being too small.
    """
    xp = active()
    f = xp.cos((xp.linspace(0.0, 1.0, T + 1) + offset) / (1 + offset) * (pi / 2)) ** 2
    return Schedule(xp.minimum(1 - f[1:] / f[:-1], beta_cap))


SCHEDULES = {"linear": linear, "cosine": cosine}
