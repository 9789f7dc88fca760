"""DDPM and DDIM as printed, one number at a time.

Transcribed line by line from the two papers in Python floats: no array expression, no table of coefficients,
every quantity recomputed from the β's by a loop at the moment it is needed. Slow, and obviously right or
wrong. Arrays of any shape go in and come out; each pixel is treated alone.

These are the papers' own formulas (β̃_t, μ from ε, x̂₀, σ(η), the two samplers), read a second time: they judge
indices, loops, broadcasting and copying, not whether a formula is true. That is judged without them, by composed
and conditioned kernels (`diffusion`), exact moments (`gaussian`, `denoisers`), quadrature (`bound`) and the
probability flow (`sde`).

    DDPM   Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models"
    DDIM   Song, Meng & Ermon 2021, "Denoising Diffusion Implicit Models"

Times run t = 1 … T and `beta[t-1]` is β_t. ᾱ_t is DDPM's; DDIM's paper writes α_t for it. ᾱ₀ = 1.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np


def alpha_bar(beta: Sequence[float], t: int) -> float:
    """ᾱ_t = Π_{s=1}^t (1 − β_s), by multiplying; ᾱ₀ = 1."""
    product = 1.0
    for s in range(1, t + 1):
        product *= 1.0 - float(beta[s - 1])
    return product


def _per_pixel(f: Callable[..., float], *arrays) -> np.ndarray:
    """Apply a function of floats to each pixel of arrays of one shape."""
    arrays = [np.asarray(array) for array in arrays]
    out = np.empty(arrays[0].shape, dtype=np.float64)
    for index in np.ndindex(out.shape):
        out[index] = f(*(float(array[index]) for array in arrays))
    return out


def noised_input(x0, eps, t: int, beta) -> np.ndarray:
    """√ᾱ_t x₀ + √(1−ᾱ_t) ε: the network's input in DDPM's Algorithm 1, line 5."""
    ab = alpha_bar(beta, t)
    return _per_pixel(lambda x, e: math.sqrt(ab) * x + math.sqrt(1.0 - ab) * e, x0, eps)


def squared_error(eps, eps_theta) -> list[float]:
    """‖ε − ε_θ‖² of each example (first axis), the sum over its pixels: DDPM's Algorithm 1, line 5.

    Divide by the number of pixels for the mean that most code calls the simple loss.
    """
    return [math.fsum((float(e) - float(h)) ** 2 for e, h in zip(np.ravel(a), np.ravel(b), strict=True))
            for a, b in zip(eps, eps_theta, strict=True)]


def beta_tilde(beta, t: int) -> float:
    """β̃_t = (1−ᾱ_{t−1})/(1−ᾱ_t) · β_t          (DDPM, eq. 7)"""
    return (1.0 - alpha_bar(beta, t - 1)) / (1.0 - alpha_bar(beta, t)) * float(beta[t - 1])


def mean_from_eps(xt, eps_theta, t: int, beta) -> np.ndarray:
    """1/√α_t · (x_t − β_t/√(1−ᾱ_t) · ε_θ)          (DDPM, eq. 11)"""
    b, ab = float(beta[t - 1]), alpha_bar(beta, t)
    return _per_pixel(lambda x, e: (x - b / math.sqrt(1.0 - ab) * e) / math.sqrt(1.0 - b), xt, eps_theta)


def mean_from_x0(xt, x0, t: int, beta) -> np.ndarray:
    """√ᾱ_{t−1} β_t/(1−ᾱ_t) · x₀ + √α_t (1−ᾱ_{t−1})/(1−ᾱ_t) · x_t          (DDPM, eq. 7)"""
    b, ab, ab_prev = float(beta[t - 1]), alpha_bar(beta, t), alpha_bar(beta, t - 1)

    def mean(x, x0):
        return (math.sqrt(ab_prev) * b / (1.0 - ab) * x0
                + math.sqrt(1.0 - b) * (1.0 - ab_prev) / (1.0 - ab) * x)
    return _per_pixel(mean, xt, x0)


def predicted_x0(xt, eps_theta, t: int, beta) -> np.ndarray:
    """(x_t − √(1−ᾱ_t) ε_θ)/√ᾱ_t          (DDPM, eq. 15; DDIM, eq. 9)"""
    ab = alpha_bar(beta, t)
    return _per_pixel(lambda x, e: (x - math.sqrt(1.0 - ab) * e) / math.sqrt(ab), xt, eps_theta)


def ddpm_step(xt, eps_theta, z, t: int, beta, variance: str = "beta") -> np.ndarray:
    """x_{t−1} from x_t: DDPM's Algorithm 2, lines 3 and 4. z is replaced by zero at t = 1.

    variance: "beta" for σ_t² = β_t or "beta_tilde" for σ_t² = β̃_t (section 3.2).
    """
    if variance not in ("beta", "beta_tilde"):
        raise ValueError(f"variance must be 'beta' or 'beta_tilde', not {variance!r}")
    var = float(beta[t - 1]) if variance == "beta" else beta_tilde(beta, t)
    sigma = math.sqrt(var) if t > 1 else 0.0
    return _per_pixel(lambda m, z: m + sigma * z, mean_from_eps(xt, eps_theta, t, beta), z)


def ddim_sigma(beta, t: int, t_prev: int, eta: float) -> float:
    """σ = η √((1−ᾱ_prev)/(1−ᾱ_t)) √(1 − ᾱ_t/ᾱ_prev)          (DDIM, eq. 16)"""
    ab, ab_prev = alpha_bar(beta, t), alpha_bar(beta, t_prev)
    return eta * math.sqrt((1.0 - ab_prev) / (1.0 - ab)) * math.sqrt(1.0 - ab / ab_prev)


def ddim_sigma_hat(beta, t: int, t_prev: int) -> float:
    """σ̂ = √(1 − ᾱ_t/ᾱ_prev), the larger noise of DDPM with σ_t² = β_t          (DDIM, section 5)"""
    return math.sqrt(1.0 - alpha_bar(beta, t) / alpha_bar(beta, t_prev))


def _ddim(xt, eps_theta, z, t: int, t_prev: int, beta, direction_sigma: float,
          noise_sigma: float) -> np.ndarray:
    ab_prev = alpha_bar(beta, t_prev)
    remaining = 1.0 - ab_prev - direction_sigma**2
    if remaining < -1e-12:
        raise ValueError(f"σ² = {direction_sigma**2:.6g} exceeds 1−ᾱ_prev = {1.0 - ab_prev:.6g}")
    direction = math.sqrt(max(remaining, 0.0))
    return _per_pixel(lambda x0, e, z: math.sqrt(ab_prev) * x0 + direction * e + noise_sigma * z,
                      predicted_x0(xt, eps_theta, t, beta), eps_theta, z)


def ddim_step(xt, eps_theta, z, t: int, t_prev: int, beta, eta: float) -> np.ndarray:
    """x_prev from x_t:  √ᾱ_prev x̂₀ + √(1−ᾱ_prev−σ²) ε_θ + σ z          (DDIM, eq. 12)

    t_prev is the previous *kept* time, 0 ≤ t_prev < t, not t − 1 (section 4.2).
    """
    sigma = ddim_sigma(beta, t, t_prev, eta)
    return _ddim(xt, eps_theta, z, t, t_prev, beta, sigma, sigma)


def ddim_step_sigma_hat(xt, eps_theta, z, t: int, t_prev: int, beta) -> np.ndarray:
    """The σ̂ row of DDIM's Table 1:  √ᾱ_prev x̂₀ + √(1−ᾱ_prev−σ(1)²) ε_θ + σ̂ z          (DDIM, app. D.3)

    The direction keeps σ at η = 1 while the noise has σ̂ > σ(1): with σ̂ in both places the root would be
    √(ᾱ_t/ᾱ_prev − ᾱ_prev), of a negative number where ᾱ_t < ᾱ_prev², as it always is at the last step.
    Without sub-sampling this is DDPM's step with σ_t² = β_t, and like there (Algorithm 2, line 3) the last
    step adds no noise. The formula alone would add σ̂ = √(1−ᾱ_t) to the finished image; the authors' code
    masks it.
    """
    noise = ddim_sigma_hat(beta, t, t_prev) if t_prev > 0 else 0.0
    return _ddim(xt, eps_theta, z, t, t_prev, beta, ddim_sigma(beta, t, t_prev, 1.0), noise)


def ddpm_chain(xT, eps_theta: Callable, zs: Sequence, beta, variance: str = "beta") -> list[np.ndarray]:
    """[x_T, …, x₀] by Algorithm 2. eps_theta(x, t) is the network; zs[i] the noise of the i-th step taken."""
    xs = [np.asarray(xT, dtype=np.float64)]
    for i, t in enumerate(range(len(beta), 0, -1)):
        xs.append(ddpm_step(xs[-1], eps_theta(xs[-1], t), zs[i], t, beta, variance))
    return xs


def ddim_chain(xT, eps_theta: Callable, zs: Sequence, times: Sequence[int], beta, eta: float | None) -> list:
    """[x at times[-1], …, x₀] over the increasing sub-sequence `times` of 1 … T; eta None means σ̂.

    DDIM, section 4.2: each step goes from a kept time to the kept time before it, the last one to 0.
    """
    if any(late <= early for early, late in zip([0, *times], times, strict=False)):
        raise ValueError("times must increase strictly from at least 1")
    xs = [np.asarray(xT, dtype=np.float64)]
    for i, k in enumerate(range(len(times) - 1, -1, -1)):
        t, t_prev = times[k], times[k - 1] if k > 0 else 0
        eps = eps_theta(xs[-1], t)
        if eta is None:
            xs.append(ddim_step_sigma_hat(xs[-1], eps, zs[i], t, t_prev, beta))
        else:
            xs.append(ddim_step(xs[-1], eps, zs[i], t, t_prev, beta, eta))
    return xs
