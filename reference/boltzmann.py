"""Boltzmann machines and lattices of spins, small enough to write every state down.

A restricted machine is here a machine like any other, whose n + m units are all coupled, most of them by 0: one table
of 2^(n+m) probabilities, from which marginals and conditionals are sums. No unit is summed out on paper, no sigmoid
taken.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from reference.mcmc import binary_states, pair_potential


def machine(W, b, c) -> np.ndarray:
    """log e^−E of every state, (2ⁿ, 2ᵐ), rows x and columns z in the order of `binary_states`."""
    W = np.asarray(W, dtype=np.float64)
    n, m = W.shape
    couplings = np.zeros((n + m, n + m))
    couplings[:n, n:] = W
    pairs = [couplings[i, j] for i, j in itertools.combinations(range(n + m), 2)]
    theta = np.concatenate([np.ravel(b), np.ravel(c), pairs])
    return pair_potential(theta, binary_states(n + m)).reshape(2**n, 2**m)


def log_total(logs) -> float:
    """The logarithm of a sum of exponentials, added up with no rounding."""
    top = float(np.max(logs))
    return top + math.log(math.fsum(math.exp(v - top) for v in np.ravel(logs).tolist()))


def table(logs) -> np.ndarray:
    """Probabilities, in the shape of the logarithms."""
    return np.exp(np.asarray(logs) - log_total(logs))


def unit_given(joint, states) -> np.ndarray:
    """p(unit = 1 | column), (units, columns): joint (2ᵏ, columns) over rows of k units, whose states are given."""
    return states.T @ joint / joint.sum(axis=0)


def pixel_given_rest(p, n: int) -> np.ndarray:
    """log p(x_i | all other pixels) of every state, (2ⁿ, n): p is a table over 2ⁿ states."""
    states = binary_states(n)
    found = np.empty((2**n, n))
    for row, i in itertools.product(range(2**n), range(n)):
        same = np.all(np.delete(states, i, axis=1) == np.delete(states[row], i), axis=1)
        found[row, i] = math.log(p[row] / p[same].sum())
    return found


def flipped(p, y, rho) -> np.ndarray:
    """p(x | y) over all states x, by Bayes' rule, where each pixel of x is flipped with probability rho (n,) or ()."""
    states = binary_states(len(y))
    chances = np.where(states == np.asarray(y), 1 - np.asarray(rho), rho)
    joint = p * np.prod(chances, axis=1)
    return joint / joint.sum()


def block_chain(logs) -> np.ndarray:
    """The matrix over x, (2ⁿ, 2ⁿ), of drawing all of z given x, and then all of x given z."""
    joint = table(logs)
    z_given_x = joint / joint.sum(axis=1, keepdims=True)
    x_given_z = joint / joint.sum(axis=0, keepdims=True)
    return z_given_x @ x_given_z.T


def annealed_walks(first, kernels: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All walks over a few states, (walks, steps), and their probabilities: the first state's, then each step's."""
    count = len(first)
    walks = np.array(list(itertools.product(range(count), repeat=len(kernels) + 1)))
    chances = np.asarray(first)[walks[:, 0]]
    for k, kernel in enumerate(kernels):
        chances = chances * np.asarray(kernel)[walks[:, k], walks[:, k + 1]]
    return walks, chances
