"""How far two clouds of points are apart: the energy distance.  Székely & Rizzo (2013).

    D²(P, Q) = 2·E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖,   X, X' ~ P,  Y, Y' ~ Q

It is 0 only if P = Q: the mean distance between strangers is larger than within the families.  In one dimension it is
2·∫(F − G)², of the two distribution functions.  The mean over all pairs of two samples estimates it; a pair of a point
with itself is left out, so that the estimate has no bias: for two samples of one law it is 0 in the mean, and half the
time below.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """D² between the laws that x (n, d) and y (m, d) were drawn from, unbiased, in the units of the points.

    Raises ValueError for clouds of other shapes, of fewer than two points, or of points that are not finite.
    """
    for cloud in (x, y):
        if cloud.ndim != 2 or len(cloud) < 2 or cloud.shape[1] != x.shape[1]:
            raise ValueError(f"energy_distance: {x.shape} and {y.shape} should be (n, d) and (m, d), n, m ≥ 2")
        if not np.isfinite(cloud).all():
            raise ValueError("energy_distance: a point is not finite")
    return 2 * float(cdist(x, y).mean()) - _within(x) - _within(y)


def _within(x: np.ndarray) -> float:
    """E‖X − X'‖ over pairs of different points."""
    n = len(x)
    return float(cdist(x, x).sum()) / (n * (n - 1))
