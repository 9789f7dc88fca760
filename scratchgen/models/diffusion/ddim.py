"""Denoising diffusion implicit models.  Song, Meng & Ermon (2021), arXiv:2010.02502.

A DDPM's network, sampled by another process with the same marginals: fewer steps, and with η = 0 no noise, so
that an image has one code x_T and a code one image.  The paper's α_t is the ᾱ_t of DDPM.

    τ_1 < … < τ_S, a sub-sequence of 1 … T; τ_0 = 0.  With t = τ_i and s = τ_{i−1}:
    σ_t(η) = η·√((1−ᾱ_s)/(1−ᾱ_t))·√(1 − ᾱ_t/ᾱ_s)                                        (1)  ddim.sigma
    σ̂_t    = √(1 − ᾱ_t/ᾱ_s)                                                             (2)  ddim.sigma_hat
    x_s = √ᾱ_s·x̂_0 + √(1−ᾱ_s−σ²)·ε_θ + σ·z,    x̂_0 = (x_t − √(1−ᾱ_t)·ε_θ)/√ᾱ_t          (3)  ddim.step
    inversion: (3) with σ = 0 and s > t                                                 (4)  ddim.invert

η = 1 is DDPM with σ_t² = β̃_t.  The paper's σ̂ rows add more noise, σ̂, than the direction leaves room for:
√(1−ᾱ_s−σ(1)²)·ε_θ + σ̂·z (App. D.3), which is DDPM with σ_t² = β_t when no step is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from scratchgen.backend import backend_of
from scratchgen.models.diffusion.ddpm import DDPM, EpsTheta
from scratchgen.models.diffusion.process import clip_eps, normals, predict_x0, times
from scratchgen.models.diffusion.schedule import Schedule
from scratchgen.random import Generator

SIGMA_HAT = "sigma_hat"
"""In place of η: the larger noise σ̂, eq. (2)."""


def sub_sequence(T: int, S: int) -> list[int]:
    """τ_0 = 0 < τ_1 < … < τ_S = T, as evenly as integers can.  Raises ValueError unless 1 ≤ S ≤ T."""
    if not 1 <= S <= T:
        raise ValueError(f"sub_sequence: {S} steps are not between 1 and T = {T}")
    return [round(i * T / S) for i in range(S + 1)]


def sigmas(schedule: Schedule, t: int, s: int, eta: float | str) -> tuple[Any, Any]:
    """(σ of the direction, σ of the noise) for the step from t to s, as float64 numbers on their backend.

    Both are eq. (1), except for eta = "sigma_hat": then the noise has eq. (2) and the direction η = 1.
    With η = 0 both are 0 in either direction of time.  Raises ValueError unless 0 ≤ η ≤ 1.
    """
    xp = backend_of(schedule.alpha_bar)
    at_t, at_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
    if eta == 0:
        return 0 * at_s, 0 * at_s
    if s >= t:
        raise ValueError(f"sigmas: noise belongs to steps back in time, not to one from {t} to {s}")
    sigma_hat = xp.sqrt(1 - at_t / at_s)
    sigma_one = xp.sqrt((1 - at_s) / (1 - at_t)) * sigma_hat
    if isinstance(eta, str):
        if eta != SIGMA_HAT:
            raise ValueError(f"eta: {eta!r} is neither a number nor {SIGMA_HAT!r}")
        return sigma_one, sigma_hat
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: {eta} is not between 0 and 1")
    return eta * sigma_one, eta * sigma_one


def step(schedule: Schedule, xt: Any, eps: Any, t: int, s: int, eta: float | str, z: Any) -> Any:
    """x_s from x_t, eq. (3).  z ~ N(0, I), not read where there is no noise: for η = 0, and at s = 0.

    (At s = 0 eq. (1) is 0 by itself; σ̂ is not, and Algorithm 2 adds no noise at its last step.)
    """
    xp = backend_of(schedule.alpha_bar)
    direction, noise = sigmas(schedule, t, s, eta)
    at_s = schedule.alpha_bar[s]
    room = xp.sqrt(xp.maximum(1 - at_s - direction * direction, 0.0))  # ≥ 0 but for rounding: σ(1)² ≤ 1 − ᾱ_s
    x = xp.sqrt(at_s).astype(xt.dtype) * predict_x0(schedule, xt, eps, t) + room.astype(xt.dtype) * eps
    return x if s == 0 or eta == 0 else x + noise.astype(xt.dtype) * z


def sample(
    eps_theta: EpsTheta, schedule: Schedule, xT: Any, S: int, eta: float | str, noise: Callable[[Any], Any],
    clip: bool = False,
) -> Iterator[Any]:  # fmt: skip
    """x_{τ_{S−1}}, …, x_0 in S steps, one at a time.  noise: makes z ~ N(0, I) of a shape."""
    x, tau = xT, sub_sequence(schedule.T, S)
    for t, s in zip(tau[:0:-1], tau[-2::-1], strict=True):
        eps = eps_theta(x, times(t, x))
        if clip:
            eps = clip_eps(schedule, x, eps, t)
        z = noise(x.shape) if s > 0 and eta != 0 else None
        x = step(schedule, x, eps, t, s, eta, z)
        yield x


def invert(eps_theta: EpsTheta, schedule: Schedule, x0: Any, S: int) -> Iterator[Any]:
    """x_{τ_1}, …, x_T from an image: eq. (4), the sampler with η = 0 run backwards, exact as S grows.

    ε_θ is asked at the point that is left, and for the time it is at; x_0 is asked at time 1.
    """
    x, tau = x0, sub_sequence(schedule.T, S)
    for s, t in pairwise(tau):
        eps = eps_theta(x, times(max(s, 1), x))
        x = step(schedule, x, eps, s, t, 0.0, None)
        yield x


def denoise(
    model: DDPM, n: int, rng: Generator, S: int, eta: float | str = 0.0, xT: Any = None
) -> Iterator[Any]:
    """n images of a trained DDPM in S steps, one x at a time."""
    xT = model.prior(n, rng) if xT is None else xT
    return sample(model.frozen().eps_theta, model.schedule, xT, S, eta, normals(rng, xT), model.config.clip)
