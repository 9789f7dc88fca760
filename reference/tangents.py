"""Directions in which a map changes most, by iteration, and squared changes along given directions, by differences."""

from collections.abc import Callable

import numpy as np

from reference.derivatives import directional


def most_changing(J, r: int, rounds: int = 200) -> np.ndarray:
    """Unit vectors (r, D): the v with the largest ‖Jv‖, then the best of those orthogonal to it, and so on.

    Power iteration v ← JᵀJ v, with what is already found taken out of v each time. It converges like the ratio of
    neighbouring squared singular values to the power of `rounds`.
    """
    J = np.asarray(J, dtype=np.float64)
    found: list[np.ndarray] = []
    for i in range(r):
        v = np.cos(np.arange(1, J.shape[1] + 1) * (i + 1.0))
        for _ in range(rounds):
            v = J.T @ (J @ v)
            for other in found:
                v = v - (v @ other) * other
            v /= np.linalg.norm(v)
        found.append(v)
    return np.stack(found)


def squared_change(f: Callable, x, tangents) -> float:
    """Σ_j ‖d/ds f(x + s·v_j)‖² at s = 0, for f of any shape, by extrapolated differences."""
    return float(sum(np.sum(directional(f, x, v) ** 2) for v in tangents))
