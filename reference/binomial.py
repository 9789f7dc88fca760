"""Diffusion of one bit, by listing every path that it can take.

A bit x₀ goes through T steps. In step t it is either left alone, or with probability β_t thrown away and a fair
coin put in its place: that sentence is the only fact used here, and `beta[t-1]` is β_t. The probabilities of all
2^(T+1) paths (x₀, x₁, …, x_T) stand in one array of T+1 axes; marginals are sums over axes, posteriors are slices
divided by their sum, divergences and evidence are sums over paths. No closed form in ᾱ, no logits.

The reverse model is a table, reverse[t-1, x_t] = p(x_{t−1} = 1 | x_t), with p(x_T) a fair coin. Pixels are
independent, so one bit is enough. `paths[x₀, x₁, …]`; all numbers in nats.
"""

import itertools
import math

import numpy as np


def forward_paths(beta, p0: float) -> np.ndarray:
    """q(x₀, x₁, …, x_T) for x₀ = 1 with probability p0, shape (2,)·(T+1), by listing what can happen to the bit."""
    T = len(beta)
    paths = np.zeros((2,) * (T + 1))
    for x0 in (0, 1):
        start = p0 if x0 else 1 - p0
        for events in itertools.product(("kept", "heads", "tails"), repeat=T):
            path, probability = [x0], start
            for b, event in zip(beta, events, strict=True):
                path.append(path[-1] if event == "kept" else int(event == "heads"))
                probability *= 1 - b if event == "kept" else b / 2
            paths[tuple(path)] += probability
    return paths


def reverse_paths(reverse) -> np.ndarray:
    """p(x₀, x₁, …, x_T) of the reverse model, shape (2,)·(T+1)."""
    T = len(reverse)
    paths = np.empty((2,) * (T + 1))
    for path in itertools.product((0, 1), repeat=T + 1):
        probability = 0.5
        for t in range(T, 0, -1):
            one = reverse[t - 1][path[t]]
            probability *= one if path[t - 1] else 1 - one
        paths[path] = probability
    return paths


def marginal(paths: np.ndarray, t: int) -> float:
    """The probability that x_t is 1."""
    other = tuple(axis for axis in range(paths.ndim) if axis != t)
    return float(paths.sum(axis=other)[1])


def given(paths: np.ndarray, **known: int) -> np.ndarray:
    """The same array for what is left when x1=…, x3=… and so on are known: other paths at 0, the rest scaled to 1."""
    kept = np.zeros_like(paths)
    where = tuple(known.get(f"x{t}", slice(None)) for t in range(paths.ndim))
    kept[where] = paths[where]
    return kept / kept.sum()


def posterior(beta, t: int, x0: int, xt: int) -> float:
    """q(x_{t−1} = 1 | x_t, x₀), from the paths that pass both; the prior of x₀ cannot matter."""
    return marginal(given(forward_paths(beta, 0.3), **{"x0": x0, f"x{t}": xt}), t - 1)


def kl(q: float, p: float) -> float:
    """KL between two coins that show 1 with probability q and p: two terms."""
    return math.fsum(a * math.log(a / b) for a, b in ((q, p), (1 - q, 1 - p)))


def bound_terms(beta, x0: int, reverse) -> tuple[float, list[float], float]:
    """L_T, [L_1, …, L_{T−1}], L₀ for a given x₀, each expectation over x_t a sum of two terms."""
    T, paths = len(beta), forward_paths(beta, float(x0))
    steps = []
    for t in range(2, T + 1):
        at = marginal(paths, t)
        steps.append(math.fsum(p * kl(posterior(beta, t, x0, xt), reverse[t - 1][xt])
                               for xt, p in ((1, at), (0, 1 - at))))
    first = marginal(paths, 1)
    ends = [math.log(row if x0 else 1 - row) for row in reverse[0]]
    return kl(marginal(paths, T), 0.5), steps, -(first * ends[1] + (1 - first) * ends[0])


def bound_direct(beta, x0: int, reverse) -> float:
    """−E_q[log p(x_{0:T}) − log q(x_{1:T} | x₀)], the definition, as one sum over 2^T paths."""
    q, p = forward_paths(beta, float(x0))[x0], reverse_paths(reverse)[x0]
    return -math.fsum((q * (np.log(p) - np.log(q))).ravel())


def evidence(x0: int, reverse) -> float:
    """log p(x₀), exact: all paths that end there."""
    return math.log(math.fsum(reverse_paths(reverse)[x0].ravel()))
