"""Diffusions in continuous time, from their definition: limits of chains, moment equations, Fokker and Planck.

    chains      VP and VE as the limit of DDPM's and the score network's steps, composed one by one
    moments     ODEs of mean and covariance of a linear equation, solved by SciPy
    residuals   whether densities p_t solve the equation of Fokker and Planck, by finite differences
    flows       probability-flow trajectories of mixtures by SciPy's DOP853, of Gaussians by matrix functions

No marginal is integrated in closed form here, and no equation is reversed by its theorem.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy import integrate, linalg

from reference import denoisers
from reference.derivatives import gradient, hessian, jacobian, richardson

Step = Callable[[float, float], tuple[float, float]]
"""step(t, h): factor and added variance of one step of a chain from t to t + h."""


# --- chains --------------------------------------------------------------------------------------------------------


def vp_step(beta: Callable[[float], float]) -> Step:
    """DDPM's step with β = h·β(t), taken in the middle of the step: factor √(1−β), variance β."""
    return lambda t, h: (math.sqrt(1 - h * beta(t + h / 2)), h * beta(t + h / 2))


def ve_step(sigma: Callable[[float], float]) -> Step:
    """The score network's step: factor 1, and as much noise as brings σ(t)² to σ(t+h)²."""
    return lambda t, h: (1.0, sigma(t + h) ** 2 - sigma(t) ** 2)


def _limit(estimate: Callable[[float], np.ndarray], h: float, levels: int) -> np.ndarray:
    """Limit h → 0 of an estimate whose error is a series in h: (2^k·fine − coarse)/(2^k − 1)."""
    row = [np.asarray(estimate(h / 2**i), dtype=np.float64) for i in range(levels)]
    for k in range(1, levels):
        row = [(2**k * fine - coarse) / (2**k - 1) for coarse, fine in itertools.pairwise(row)]
    return row[0]


def marginal(step: Step, t: float, n: int = 64, levels: int = 7) -> tuple[float, float]:
    """(a, σ²) with x_t | x_0 ~ N(a·x_0, σ²): n, 2n, 4n, … steps composed, extrapolated to infinitely many."""
    def composed(h: float) -> np.ndarray:
        a, var = 1.0, 0.0
        for k in range(round(t / h)):
            factor, added = step(k * h, h)
            a, var = factor * a, factor**2 * var + added
        return np.array([a, var])
    a, var = _limit(composed, t / n, levels)
    return float(a), float(var)


def rates(step: Step, t: float) -> tuple[float, float]:
    """(c, g²) of the limit dx = c·x dt + g dw at time t: what one step does, per time."""
    def per_time(h: float) -> np.ndarray:
        factor, added = step(t, h)
        return np.array([(factor - 1) / h, added / h])
    c, g2 = _limit(per_time, 1e-2, 7)
    return float(c), float(g2)


# --- moments -------------------------------------------------------------------------------------------------------


def linear_moments(A: Callable, b: Callable, g2: Callable, mean, cov, t0: float, t1: float):
    """Mean and covariance at t1 of dx = (A(t)x + b(t)) dt + g dw, g² = g2(t), from those at t0.

        ṁ = Am + b,   Ċ = AC + CAᵀ + g²·I·sign(t1 − t0)

    t1 < t0 runs the equation backwards, where the noise still adds: dw̄ is a Wiener process in −t.
    """
    mean = np.atleast_1d(np.asarray(mean, dtype=np.float64))
    d = mean.size
    sign = math.copysign(1.0, t1 - t0)

    def slope(t, y):
        m, C, At = y[:d], y[d:].reshape(d, d), np.asarray(A(t)).reshape(d, d)
        return np.concatenate([At @ m + b(t), (At @ C + C @ At.T + sign * g2(t) * np.eye(d)).ravel()])
    start = np.concatenate([mean, np.asarray(cov, dtype=np.float64).ravel()])
    end = integrate.solve_ivp(slope, (t0, t1), start, "DOP853", rtol=1e-10, atol=1e-11).y[:, -1]
    return end[:d], end[d:].reshape(d, d)


# --- residuals -----------------------------------------------------------------------------------------------------


def fokker_planck(log_p: Callable, drift: Callable, g2: float, x, t: float) -> float:
    """∂_t log p + div f + f·∇log p − ½g²(Δ log p + ‖∇log p‖²) at one point x (d,) and time t.

    Zero where p solves ∂_t p = −div(f p) + ½g²Δp. log_p(x, t) and drift(x, t) at single points; all derivatives
    numeric. g2 = 0 gives the continuity equation of a flow, −g2 the equation of noise that runs backwards in time.
    """
    x = np.atleast_1d(np.asarray(x, dtype=np.float64))
    rate = float(richardson(lambda h: (log_p(x, t + h) - log_p(x, t - h)) / (2 * h), 1e-2, 4))
    score = gradient(lambda x: log_p(x, t), x)
    curvature = float(np.trace(hessian(lambda x: log_p(x, t), x)))
    spread = float(np.trace(jacobian(lambda x: drift(x, t), x)))
    return rate + spread + float(drift(x, t) @ score) - g2 / 2 * (curvature + float(score @ score))


# --- flows ---------------------------------------------------------------------------------------------------------


def mixture_flow(x, data: denoisers.Mixture, rates: Callable, marginal: Callable, t0: float, t1: float) -> np.ndarray:
    """Where the probability flow takes one point x (d,) from t0 to t1, by DOP853, for a mixture's exact noise.

    rates(t) = (c, g²), marginal(t) = (a, σ²): dx/dt = c·x + ½g²·E[ε | x_t = x]/σ_t.
    """
    def velocity(t, x):
        (c, g2), (a, var) = rates(t), marginal(t)
        return c * x + g2 / 2 * denoisers.noise(x, data, a, math.sqrt(var)) / math.sqrt(var)
    return integrate.solve_ivp(velocity, (t0, t1), np.asarray(x, float), "DOP853", rtol=1e-9, atol=1e-10).y[:, -1]


def gaussian_flow(x0, mean, cov, a: float, sigma: float) -> np.ndarray:
    """Where the probability flow takes points x0 (n, d) of N(mean, cov) when x_t ~ N(a·mean, S), S = a²cov + σ²I.

        x_t = a·mean + S^½ cov^−½ (x_0 − mean) = a·mean + exp(½(log S − log cov))·(x_0 − mean)

    All covariances on the way share their eigenvectors, so the linear flow's matrices commute, and the only
    symmetric positive map from cov to S that commutes with both is the one above.
    """
    S = a**2 * np.asarray(cov) + sigma**2 * np.eye(len(cov))
    gain = linalg.expm((linalg.logm(S) - linalg.logm(cov)) / 2)
    return a * np.asarray(mean) + (np.asarray(x0) - mean) @ gain.T


# --- samplers ------------------------------------------------------------------------------------------------------


def on_a_clock(step: Step, tau: Callable[[float], float]) -> Step:
    """A chain's steps as a clock shows them: from u to u + h it goes from tau(u) to tau(u + h)."""
    return lambda u, h: step(tau(u), tau(u + h) - tau(u))


def direction_and_noise(step: Callable, x, z) -> tuple[np.ndarray, np.ndarray]:
    """The two parts of a step z ↦ x' that treats z and −z alike: where it goes without noise, and what z adds.

        ½(x'(z) + x'(−z)) − x,    ½(x'(z) − x'(−z))
    """
    there, back = step(z), step(-np.asarray(z))
    return (there + back) / 2 - x, (there - back) / 2
