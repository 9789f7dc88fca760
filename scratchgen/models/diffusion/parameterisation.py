"""What a network may be asked for: the noise, the score, the clean image or the velocity.  Each gives the others.

    s   = ∇ log p(x_t) = −ε/√(1−ᾱ_t)                                                    (1)  diffusion.score
    x̂_0 = (x_t + (1−ᾱ_t)·s)/√ᾱ_t                                                        (2)  diffusion.tweedie
    v   = √ᾱ_t·ε − √(1−ᾱ_t)·x_0                                                         (3)  diffusion.v
    x_0 = √ᾱ_t·x_t − √(1−ᾱ_t)·v,    ε = √(1−ᾱ_t)·x_t + √ᾱ_t·v                           (4)  diffusion.from_v

Of the score of q(x_t | x_0), −(x_t − √ᾱ_t·x_0)/(1−ᾱ_t), (1) is the definition of ε put in.  The score of x_t, whose
x_0 nobody knows, is that one's mean given x_t (Vincent 2011): so (1) and (2) hold between the best guesses
ε = E[ε | x_t] and x̂_0 = E[x_0 | x_t] for data of any density, and (2) is Tweedie's formula.

With √ᾱ_t = cos φ and √(1−ᾱ_t) = sin φ, x_t is a point on the circle through x_0 (φ = 0) and ε (φ = 90°), v is its
derivative by φ, and (4) turns the pair (x_t, v) back by φ (Salimans & Ho 2022, App. D).

ε from x_0, and back, is in `process`.  Everywhere: x (B, …), t plain integers (B,) in 1 … T (or one integer for all),
ε, s and v like x.
"""

from __future__ import annotations

from typing import Any

from scratchgen.models.diffusion.process import mix
from scratchgen.models.diffusion.schedule import Schedule
from scratchgen.ops import sqrt


def score_from_eps(schedule: Schedule, eps: Any, t: Any) -> Any:
    """The score of x_t that ε implies, eq. (1)."""
    c = schedule.at(t, eps)
    return mix(eps, (-1 / sqrt(1 - c.alpha_bar), eps))


def eps_from_score(schedule: Schedule, score: Any, t: Any) -> Any:
    """The noise that a score implies: eq. (1), solved for ε."""
    c = schedule.at(t, score)
    return mix(score, (-sqrt(1 - c.alpha_bar), score))


def x0_from_score(schedule: Schedule, xt: Any, score: Any, t: Any) -> Any:
    """The clean image that a score implies, eq. (2)."""
    c = schedule.at(t, xt)
    return mix(xt, (1 / sqrt(c.alpha_bar), xt), ((1 - c.alpha_bar) / sqrt(c.alpha_bar), score))


def velocity(schedule: Schedule, x0: Any, eps: Any, t: Any) -> Any:
    """v, eq. (3)."""
    c = schedule.at(t, x0)
    return mix(x0, (sqrt(c.alpha_bar), eps), (-sqrt(1 - c.alpha_bar), x0))


def x0_from_v(schedule: Schedule, xt: Any, v: Any, t: Any) -> Any:
    """The clean image that v and x_t imply, eq. (4)."""
    c = schedule.at(t, xt)
    return mix(xt, (sqrt(c.alpha_bar), xt), (-sqrt(1 - c.alpha_bar), v))


def eps_from_v(schedule: Schedule, xt: Any, v: Any, t: Any) -> Any:
    """The noise that v and x_t imply, eq. (4)."""
    c = schedule.at(t, xt)
    return mix(xt, (sqrt(1 - c.alpha_bar), xt), (sqrt(c.alpha_bar), v))
