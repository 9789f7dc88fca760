"""Langevin dynamics on Gaussians and on 1-D mixtures, by the transition of the process in continuous time, by discrete
Lyapunov equations, and by densities on a grid.

On p = N(m, Σ) the process dx = ∇log p dt + √2 dw is the Ornstein–Uhlenbeck process, whose transition is known for
any time: x_t | x ~ N(m + e^{−Σ⁻¹t}(x − m), Σ − e^{−Σ⁻¹t} Σ e^{−Σ⁻¹t}). A step of length ε of the Euler–Maruyama
method is its tangent at t = 0, found here by a complex step: no score, no √2ε.
"""

from collections.abc import Callable

import numpy as np
from scipy import linalg, optimize, stats

from reference.quadrature import gaussian_nodes


def tangent_step(mean, cov, x, epsilon: float, h: float = 1e-20) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of one Euler–Maruyama step of length ε from x (d,), on p = N(mean, cov).

        x + ε·d/dt E[x_t | x],    ε·d/dt Cov[x_t | x],    at t = 0, each as Im(…)/h at the time i·h
    """
    mean, x, cov = np.asarray(mean), np.asarray(x), np.asarray(cov)
    decay = linalg.expm(-1j * h * linalg.inv(cov))
    drift = np.imag(mean + decay @ (x - mean)) / h
    spread = np.imag(cov - decay @ cov @ decay.T) / h
    return x + epsilon * drift, epsilon * spread


def stationary_covariance(A, noise) -> np.ndarray:
    """The V with V = A V Aᵀ + noise, where the covariance of x ← A x + w, w ~ N(0, noise), comes to rest."""
    return linalg.solve_discrete_lyapunov(np.asarray(A), np.asarray(noise))


def mixture_log_density(weights, means, variances) -> Callable:
    """log p of a 1-D mixture, x (…) ↦ (…), for real and for complex x."""
    def log_p(x):
        x = np.asarray(x)[..., None]
        logs = np.log(weights) - (x - np.asarray(means)) ** 2 / (2 * np.asarray(variances))
        logs = logs - np.log(2 * np.pi * np.asarray(variances)) / 2
        top = logs.real.max(axis=-1, keepdims=True)
        return (np.log(np.exp(logs - top).sum(axis=-1, keepdims=True)) + top)[..., 0]
    return log_p


def slope(log_p: Callable, x, h: float = 1e-20) -> np.ndarray:
    """d/dx log p at each of the points x, by a complex step."""
    return np.imag(log_p(np.asarray(x) + 1j * h)) / h


def proposal_density(log_p: Callable, to, x, epsilon: float) -> np.ndarray:
    """The density with which an Euler–Maruyama step from x arrives at `to`, in one dimension."""
    return stats.norm.pdf(to, loc=x + epsilon * slope(log_p, x), scale=np.sqrt(2 * epsilon))


def signal_to_noise(sigma: float, alpha: float) -> float:
    """E[(α/2·s)²] / E[(√α·z)²] on N(0, σ²): how a step of length α splits into direction and noise."""
    x, w = gaussian_nodes([0.0], [[sigma**2]], order=4)
    direction = alpha / 2 * slope(normal_log_density(sigma), x[:, 0])
    z, v = gaussian_nodes([0.0], [[alpha]], order=4)
    return float(w @ direction**2 / (v @ z[:, 0] ** 2))


def normal_log_density(sigma: float) -> Callable:
    """log N(·; 0, σ²), for real and for complex arguments."""
    return mixture_log_density([1.0], [0.0], [sigma**2])


def balanced_steps(sigma, epsilon: float) -> np.ndarray:
    """α_i (L,) for which direction and noise split at every level as they do at the last, where α_L = ε.

    Found by root finding on `signal_to_noise`.
    """
    target = signal_to_noise(sigma[-1], epsilon)
    return np.array([
        optimize.brentq(lambda a, s=s: signal_to_noise(s, a) / target - 1, 1e-3 * epsilon, 1e9 * epsilon,
                        xtol=1e-15 * epsilon, rtol=1e-14)
        for s in sigma
    ])
