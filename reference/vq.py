"""Vector quantisation by loops, and its gradients by differences of a loss whose stops are written out.

A stop-gradient is no function of numbers: it says which copy of a variable may move. Here every variable comes
twice, once as it moves (`E`, `codes`) and once as it stood (`E_held`, `codes_held`), and the assignments are
held too. The loss is then an ordinary function, and its differences are the gradient that is meant.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from reference.derivatives import gradient


def nearest(E, codes) -> list[int]:
    """For each vector of E (n, d) the place of the nearest of codes (K, d), the first of several; one by one."""
    found = []
    for vector in E:
        best, least = 0, math.inf
        for j, code in enumerate(codes):
            distance = math.dist(vector, code)
            if distance < least:
                best, least = j, distance
        found.append(best)
    return found


def squared_distance(a, b) -> float:
    """‖a − b‖² over all entries of two arrays of one shape."""
    return math.fsum((float(u) - float(v)) ** 2 for u, v in zip(np.ravel(a), np.ravel(b), strict=True))


def held_loss(x, decoder: Callable, E, codes, E_held, codes_held, k, beta: float) -> float:
    """‖x − D(e)‖² + ‖sg[E] − e‖² + β‖sg[e] − E‖² with each stop written out, for n vectors E (n, d), k (n,).

    The decoder is given E + (e_held − E_held): the code, which follows E wherever E goes.
    """
    e, e_held = np.asarray(codes)[k], np.asarray(codes_held)[k]
    through = np.asarray(E) + (e_held - np.asarray(E_held))
    return (squared_distance(x, decoder(through)) + squared_distance(E_held, e)
            + beta * squared_distance(e_held, E))


def loss_gradients(x, decoder: Callable, E, codes, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of the loss in E and in the codes, of their shapes, by extrapolated differences."""
    E, codes = np.asarray(E, dtype=np.float64), np.asarray(codes, dtype=np.float64)
    k = nearest(E, codes)
    return (gradient(lambda moved: held_loss(x, decoder, moved, codes, E, codes, k, beta), E),
            gradient(lambda moved: held_loss(x, decoder, E, moved, E, codes, k, beta), codes))


def kmeans_step(vectors, codes) -> np.ndarray:
    """The codes (K, d) after one step of k-means: each at the mean of the vectors (n, d) it is nearest to.

    A code without vectors stays where it is.
    """
    groups: dict[int, list[np.ndarray]] = {}
    for vector, j in zip(vectors, nearest(vectors, codes), strict=True):
        groups.setdefault(j, []).append(vector)
    return np.array([[math.fsum(column) / len(groups[j]) for column in zip(*groups[j], strict=True)]
                     if j in groups else np.asarray(code, dtype=np.float64) for j, code in enumerate(codes)])


def aged_means(history, begin, gamma: float) -> np.ndarray:
    """The means (K, d) of all vectors that codes have stood for, a vector of t minibatches ago with weight γᵗ.

    history: minibatches of (vectors (n, d), codes (n,)), the oldest first.  begin: (K, d): each code begins with one
    vector, of weight 1/(1 − γ), γᵗ times that when t minibatches have passed.
    """
    T = len(history)
    found = []
    for j, first in enumerate(begin):
        pairs = [(np.asarray(first), gamma**T / (1 - gamma))]
        pairs += [(vector, gamma ** (T - 1 - t)) for t, (vectors, k) in enumerate(history)
                  for vector, place in zip(vectors, k, strict=True) if place == j]
        found.append(np.average([v for v, _ in pairs], axis=0, weights=[w for _, w in pairs]))
    return np.array(found)


def perplexity(shares) -> float:
    """Π p_j^(−p_j): how many equally likely codes would be as hard to guess."""
    return math.prod(p ** (-p) for p in map(float, shares) if p > 0)


def log_evidence(x, prior: dict, means: Callable, sigma, levels: int) -> tuple[float, dict]:
    """log P(x) = log Σ_k p(k)·P(x|k) by adding up all grids k, and the posterior p(k|x) by grid.

    x: numbers of any shape, on `levels` values of [−1, 1].  prior: grid ↦ p.  means: grid ↦ the Gaussian's, of x's
    shape.  sigma: of x's shape.  P(x|k) is the product of the Gaussians' masses from midpoint to midpoint of levels.
    """
    h = 1 / (levels - 1)
    x, sigma = np.ravel(x), np.ravel(sigma)
    joint = {}
    for k, p in prior.items():
        below, above = (np.where(edge, s * math.inf, x + s * h) - np.ravel(means(k))
                        for s, edge in ((-1, x < -1 + h), (1, x > 1 - h)))  # fmt: skip
        mirrored = below > 0  # to the side where the two chances are small, and their difference keeps its digits
        a, b = np.where(mirrored, -above, below) / sigma, np.where(mirrored, -below, above) / sigma
        joint[k] = p * math.prod(map(float, stats.norm.cdf(b) - stats.norm.cdf(a)))
    total = math.fsum(joint.values())
    return math.log(total), {k: q / total for k, q in joint.items()}
