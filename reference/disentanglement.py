"""What the average difference of codes that share a factor comes to, by counting all pairs of factors."""

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np


def pairs(levels: Sequence[int], k: int | None) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All pairs of factors v_1, v_2, factor j of each in 0 … levels[j] − 1; those with equal factor k, if not None."""
    every = list(itertools.product(*map(range, levels)))
    return [(v, w) for v in every for w in every if k is None or v[k] == w[k]]


def expected_difference(code: Callable, levels: Sequence[int], k: int | None) -> np.ndarray:
    """E|z_1 − z_2| by coordinate, for factors uniform and independent but for a shared k. code: integers to integers.

    In fractions, so that equal expectations are equal numbers.
    """
    found = pairs(levels, k)
    differences = [[abs(Fraction(a) - Fraction(b)) for a, b in zip(code(v), code(w), strict=True)] for v, w in found]
    return np.array([float(sum(column) / len(found)) for column in zip(*differences, strict=True)])
