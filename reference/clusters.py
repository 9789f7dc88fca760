"""Groups of few points, judged by loops over points and pairs, and by trying every way to group them."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np


def nearest(point, centres) -> tuple[int, float]:
    """Which of the centres is nearest to a point, and their squared distance; coordinate by coordinate."""
    squares = [math.fsum((a - b) ** 2 for a, b in zip(point, centre, strict=True)) for centre in centres]
    return int(np.argmin(squares)), min(squares)


def centre(points) -> np.ndarray:
    """The point with the least sum of squared distances to `points` (n, D): least squares, c = p_i for every i."""
    points = np.asarray(points, dtype=np.float64)
    n, D = points.shape
    return np.linalg.lstsq(np.tile(np.eye(D), (n, 1)), points.ravel(), rcond=None)[0]


def spread(points) -> float:
    """The sum of squared distances of points to their mean, from their distances to one another: Σ_{i<j} d_ij²/n."""
    return math.fsum(math.dist(a, b) ** 2 for a, b in combinations(points, 2)) / len(points)


def partitions(n: int, k: int) -> Iterator[tuple[int, ...]]:
    """Every way to put n things into at most k groups, as labels; a group is named when its first member comes."""
    def grown(labels: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(labels) == n:
            yield labels
            return
        for label in range(min(max(labels, default=-1) + 2, k)):
            yield from grown((*labels, label))
    return grown(())


def least_inertia(x, k: int) -> float:
    """The least that k-means can reach on few points: of all partitions the one of the smallest spread."""
    return min(math.fsum(spread([p for p, c in zip(x, labels, strict=True) if c == g]) for g in set(labels))
               for labels in partitions(len(x), k))


def shares(x, chosen: Sequence[int]) -> np.ndarray:
    """How likely each point is to be the next start: by its squared distance to the nearest start yet."""
    squares = [min(math.dist(point, x[i]) ** 2 for i in chosen) for point in x]
    return np.array(squares) / math.fsum(squares)


# --- groups of groups -----------------------------------------------------------------------------------------------


def apart(a, b, method: str) -> float:
    """How far two groups of points are apart, by all their members.

    Ward's: the root of twice what a merge adds to the sum of squares about the means.
    """
    between = [math.dist(p, q) for p in a for q in b]
    if method == "single":
        return min(between)
    if method == "complete":
        return max(between)
    if method == "average":
        return math.fsum(between) / len(between)
    return math.sqrt(max(0.0, 2 * (spread([*a, *b]) - spread(a) - spread(b))))


def tree(x, method: str) -> np.ndarray:
    """All merges of few points as SciPy tells them: the two groups, how far apart, how many points.

    At every merge the distances of all pairs of groups are taken anew, from their members.
    """
    groups = {i: [point] for i, point in enumerate(x)}
    rows = []
    for name in range(len(x), 2 * len(x) - 1):
        far = {(i, j): apart(groups[i], groups[j], method) for i, j in combinations(sorted(groups), 2)}
        i, j = min(far, key=far.__getitem__)
        groups[name] = groups.pop(i) + groups.pop(j)
        rows.append((i, j, far[i, j], len(groups[name])))
    return np.array(rows, dtype=np.float64)


def grouped(rows, k: int) -> set[frozenset[int]]:
    """The k sets of points that are left when the merges have been carried out until there are k."""
    n = len(rows) + 1
    left = {i: frozenset([i]) for i in range(n)}
    for t, (i, j, *_) in enumerate(rows):
        if len(left) == k:
            break
        left[n + t] = left.pop(int(i)) | left.pop(int(j))
    return set(left.values())
