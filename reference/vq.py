"""Vector quantisation by loops, and its gradients by differences of a loss whose stops are written out.

A stop-gradient is no function of numbers: it says which copy of a variable may move. Here every variable comes
twice, once as it moves (`E`, `codes`) and once as it stood (`E_held`, `codes_held`), and the assignments are
held too. The loss is then an ordinary function, and its differences are the gradient that is meant.
"""

import math
from collections.abc import Callable

import numpy as np

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
