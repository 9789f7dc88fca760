"""How well groups that were found agree with classes that are known, whatever the groups are called.

    n_ab: how many examples are in group a and in class b;  n_a, n_b: its sums;  n: all
    purity = (1/n) Σ_a max_b n_ab                                                        (1)
    ARI = (R − E)/(½(R_a + R_b) − E),   R = Σ_ab C(n_ab, 2),  R_a = Σ_a C(n_a, 2),  R_b likewise,
          E = R_a·R_b/C(n, 2)                                                            (2)

(1) is the accuracy of calling every group by its commonest class; it is 1 for groups of one example each.  (2), the
adjusted Rand index (Hubert & Arabie 1985), counts pairs that both put together, R, and takes off the E that chance
would: 1 for the same partition, 0 in the mean for one drawn at random with the same sizes.
"""

from __future__ import annotations

import numpy as np


def contingency(groups: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """n_ab, integers (groups, classes).  groups, classes: labels (n,) of any kind.

    Raises ValueError for labels that do not pair.
    """
    if groups.shape != classes.shape or groups.ndim != 1 or not len(groups):
        raise ValueError(f"groups {groups.shape} and classes {classes.shape} should both be (n,), n ≥ 1")
    a, b = (np.unique(labels, return_inverse=True)[1] for labels in (groups, classes))
    table = np.zeros((a.max() + 1, b.max() + 1), dtype=np.int64)
    np.add.at(table, (a, b), 1)
    return table


def purity(groups: np.ndarray, classes: np.ndarray) -> float:
    """Eq. (1), in (0, 1]."""
    table = contingency(groups, classes)
    return float(table.max(axis=1).sum() / table.sum())


def adjusted_rand(groups: np.ndarray, classes: np.ndarray) -> float:
    """Eq. (2), at most 1; 1 too where both put all together, or all apart, so that there is nothing to adjust."""
    table = contingency(groups, classes)
    together, a, b, all_ = (float(_pairs(x)) for x in (table, table.sum(1), table.sum(0), table.sum()))
    if a == b == together:
        return 1.0
    expected = a * b / all_
    return (together - expected) / ((a + b) / 2 - expected)


def _pairs(counts: np.ndarray) -> int:
    """Σ C(m, 2)."""
    return int(np.sum(counts * (counts - 1)) // 2)
