"""Whether each coordinate of a code stands for one factor of the data.  Higgins et al. (2017), β-VAE.

Two images are made that share one factor, v_k, while the others are drawn anew for each.  Their codes z_1, z_2 differ
least where the code holds that factor:

    z_diff = (1/L)·Σ_l |z_1^(l) − z_2^(l)|,  over L pairs that share k           (1)  disentanglement.difference

In a code that keeps its factors apart, coordinate k of z_diff is 0, and E|z_1 − z_2| elsewhere: averaging takes the
chance out of it, but makes it no smaller.  From z_diff a linear classifier is to tell k; its accuracy is the score.
"""

from __future__ import annotations

from typing import Any

from scratchgen import ops


def difference(z1: Any, z2: Any) -> Any:
    """z_diff, eq. (1), for N batches at once: z1, z2 (N, L, d), a pair in each row; returns (N, d).

    Raises ValueError if the shapes differ.
    """
    if z1.ndim != 3 or z1.shape != z2.shape:
        raise ValueError(f"disentanglement.difference: z1 {z1.shape} and z2 {z2.shape} should both be (N, L, d)")
    return ops.mean(ops.absolute(z1 - z2), axis=1)
