"""The game of two networks, judged by what it is about: a classifier's likelihood, searches for the best answer, and
the transport of earth, planned by linear programs.

A decision D = σ(l) is the chance that logistic noise stays below l.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, special, stats

from reference.derivatives import gradient
from reference.quadrature import panel_nodes

LogDensity = Callable[[np.ndarray], np.ndarray]


def value(real, fake) -> np.ndarray:
    """The log-likelihood of deciding right twice, "real" with logit `real`, and "generated" with logit `fake`."""
    return stats.logistic.logcdf(real) + stats.logistic.logsf(fake)


def caught(fake) -> np.ndarray:
    """The log-probability that a generated example is called generated."""
    return stats.logistic.logsf(fake)


def surprise(fake) -> np.ndarray:
    """Minus the log-probability that a generated example is called real."""
    return -stats.logistic.logcdf(fake)


def best_logit(log_p: float, log_q: float) -> float:
    """The logit l where p·log σ(l) + q·log(1 − σ(l)) has no slope, by bisection.

    Its slope is p·(1 − σ(l)) − q·σ(l); the two parts are compared by their logarithms, since densities may be tiny.
    """
    return optimize.brentq(lambda l: (log_p + special.log_expit(-l)) - (log_q + special.log_expit(l)), -900, 900,
                           xtol=1e-15, rtol=1e-14)


def best_value(log_p: LogDensity, log_q: LogDensity, edges: Sequence[float]) -> float:
    """∫ of p·log D + q·log(1 − D) with the best D at every node of a quadrature on the line, each searched for."""
    x, weights = panel_nodes(edges)
    total = []
    for w, a, b in zip(weights, log_p(x), log_q(x), strict=True):
        l = best_logit(a, b)
        total += [w * math.exp(a) * special.log_expit(l), w * math.exp(b) * special.log_expit(-l)]
    return math.fsum(total)


# --- transport ----------------------------------------------------------------------------------------------------


def transport(x, y) -> float:
    """W between two sets of points: on the line by their distribution functions, in space by a linear program."""
    x, y = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in (x, y))
    if x.shape[1] == 1:
        return stats.wasserstein_distance(x[:, 0], y[:, 0])
    return stats.wasserstein_distance_nd(x, y)


def potential(x, y) -> tuple[np.ndarray, np.ndarray]:
    """The values on x and on y of the function of slope at most 1 that tells the two sets apart the most.

    A linear program over the values at all points, of which no two differ by more than the points' distance.
    """
    x, y = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in (x, y))
    points = np.concatenate([x, y])
    n = len(points)
    gain = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))])
    rows, limits = [], []
    for i in range(n):
        for j in range(n):
            if i != j:
                row = np.zeros(n)
                row[i], row[j] = 1, -1
                rows.append(row)
                limits.append(np.linalg.norm(points[i] - points[j]))
    found = optimize.linprog(-gain, np.array(rows), limits, np.eye(n)[:1], [0.0], bounds=(None, None))
    return found.x[: len(x)], found.x[len(x) :]


def boxed(w, c: float) -> np.ndarray:
    """Of −c, w and c, entry by entry, the one in the middle."""
    w = np.asarray(w)
    return np.median([np.full(w.shape, -c), w, np.full(w.shape, c)], axis=0)


def steepness(matrix) -> float:
    """By how much a matrix stretches at most: the root of the largest eigenvalue of WᵀW."""
    matrix = np.asarray(matrix)
    return math.sqrt(np.linalg.eigvalsh(matrix.T @ matrix)[-1])


def on_the_line(real, fake, u) -> np.ndarray:
    """For each example the point of the segment from `fake`, at 0, to `real`, at 1, read off at u."""
    found = [np.interp(t, [0, 1], [b, a]) for r, f, t in zip(real, fake, u, strict=True)
             for a, b in zip(np.ravel(r), np.ravel(f), strict=True)]
    return np.reshape(found, np.shape(real))


def penalty(f: Callable[[np.ndarray], float], x) -> float:
    """How far from 1 f's slope at one point x is, squared; the slope by finite differences."""
    return (np.linalg.norm(gradient(f, x)) - 1) ** 2
