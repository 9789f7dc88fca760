"""Directions and parts of a table of numbers, by least squares, by the EM algorithm, and by bounds searched for their
least values."""

import math

import numpy as np
from scipy import optimize, special, stats


def variance_along(x, v) -> float:
    """The variance of the points x (n, D) along a unit vector, by their differences: Σ_{i<j} (p_i − p_j)²/(n(n−1))."""
    p = np.asarray(x) @ np.asarray(v)
    return math.fsum((a - b) ** 2 for i, a in enumerate(p) for b in p[:i]) / (len(p) * (len(p) - 1))


def nearest_on_plane(x, origin, directions) -> tuple[np.ndarray, np.ndarray]:
    """Of the plane origin + span(directions (r, D)) the points nearest to x: their coordinates, and they themselves.

    Least squares; nothing is taken for granted of the directions but that they are independent.
    """
    directions = np.asarray(directions)
    coordinates = np.linalg.lstsq(directions.T, (np.asarray(x) - origin).T, rcond=None)[0].T
    return coordinates, origin + coordinates @ directions


def factor_covariance(x, r: int, rounds: int = 3000) -> np.ndarray:
    """The covariance W·Wᵀ + σ²·I, with W (D, r), under which x (n, D) is likeliest, by EM.

    Tipping & Bishop (1999), §3.3.  Likeliest but for n − 1 in the place of n.  z given x is Gaussian; W
    and σ² are then fitted to its moments.
    """
    x = np.asarray(x, dtype=np.float64)
    D = x.shape[1]
    S = np.cov(x.T).reshape(D, D)
    W, var = np.cos(np.arange(1.0, D * r + 1)).reshape(D, r), np.trace(S) / D
    for _ in range(rounds):
        M = np.linalg.inv(W.T @ W + var * np.eye(r))
        SW = S @ W
        new = SW @ np.linalg.inv(var * np.eye(r) + M @ W.T @ SW)
        var = np.trace(S - SW @ M @ new.T) / D
        done = np.abs(new - W).max() < 1e-15 * np.abs(new).max()
        W = new
        if done:
            break
    return W @ W.T + var * np.eye(D)


# --- sums of parts --------------------------------------------------------------------------------------------------


def squared_error(x, guess, known) -> list[float]:
    """Of each row, half the squares of what a guess is off, where a number is known."""
    return [math.fsum((a - b) ** 2 for a, b, k in zip(*rows, strict=True) if k) / 2
            for rows in zip(x, guess, known, strict=True)]


def excess(x, guess, known) -> np.ndarray:
    """Of each row of counts, by how much likelier they are as Poisson counts of their own mean than of the guess."""
    gap = stats.poisson.logpmf(x, x) - stats.poisson.logpmf(x, guess)
    return np.where(known, gap, 0.0).sum(axis=1)


def divergence(x, guess, known) -> np.ndarray:
    """The same for numbers that need not be whole, by SciPy's kl_div."""
    return np.where(known, special.kl_div(x, guess), 0.0).sum(axis=1)


def bound(u, x, w, h, known, loss: str):
    """A function of u that lies above the loss of Σ_k u_k·h_k as a guess of one row x, and touches it at u = w.

    A convex function of a mean is at most the mean of its values (Jensen), with the weights that each part has at w.
    u, w: (r,), u perhaps complex; x, known: (D,); h: (r, D), all positive.
    """
    weights = w[:, None] * h / (w @ h)
    each = u[:, None] * h / weights  # the guess, had it been this part's alone
    terms = (x - each) ** 2 / 2 if loss == "frobenius" else x * np.log(x) - x - x * np.log(each) + each
    return (known * (weights * terms).sum(axis=0)).sum()


def bound_minimum(x, w, h, known, loss: str) -> np.ndarray:
    """The u (r,) with the least bound: one number after the other, where its slope, by complex steps, is 0."""
    found = np.array(w, dtype=np.float64)

    def slope(t: float, k: int) -> float:
        u = np.array(w, dtype=complex)
        u[k] = u[k] * np.exp(t) + 1e-30j
        return bound(u, x, w, h, known, loss).imag

    for k in range(len(w)):
        found[k] *= np.exp(optimize.brentq(slope, -15, 15, args=(k,), xtol=1e-14, rtol=1e-14))
    return found
