"""Tangents of the manifold that an autoencoder has found, and how to teach a classifier to respect them.

    J = ∂c/∂x = U·D·Vᵀ;   v_1 … v_r: the first r rows of Vᵀ, largest singular values first    (1)  tangents.vectors
    Ω[f] = Σ_j ‖(∂f/∂x)·v_j‖²                                                             (2)  tangents.prop

A code c that is a coordinate of the manifold changes most along the manifold, and hardly across it: of all unit vectors
v_1 has the largest ‖J·v‖, v_2 the largest of those orthogonal to v_1, and so on.  Their signs mean nothing.

(2) is what f changes by on the way along the manifold, squared: without the square a rise would pay for a fall, and
the sign of a tangent, which means nothing, would decide which is which.

(1): Rifai, Dauphin, Vincent, Bengio & Muller (2011), for a contractive autoencoder.
(2): Tangent Prop, Simard, Victorri, LeCun & Denker (1992).
"""

from __future__ import annotations

from typing import Any

from scratchgen import ops


def vectors(J: Any, r: int) -> Any:
    """v_1 … v_r, eq. (1): unit vectors, one for each row, (B, r, D).

    J: the code's Jacobian at each point, (B, d, D), its singular values distinct for the vectors to be unique, or for
    a gradient.  Raises ValueError unless 1 ≤ r ≤ min(d, D).
    """
    if J.ndim != 3 or not 1 <= r <= min(J.shape[1:]):
        raise ValueError(f"tangents.vectors: no {r} tangents in Jacobians {J.shape}; they should be (B, d, D)")
    return ops.linalg.svd(J).Vh[:, :r]


def tangent_prop(J_f: Any, tangents: Any) -> Any:
    """Ω[f] of Tangent Prop, eq. (2), per example, (B,).

    J_f: the classifier's Jacobian, (B, K, D), for K outputs.  tangents: (B, r, D).
    Raises ValueError if the shapes do not fit.
    """
    if J_f.ndim != 3 or tangents.ndim != 3 or (J_f.shape[0], J_f.shape[2]) != (tangents.shape[0], tangents.shape[2]):
        shapes = f"J_f {J_f.shape}, tangents {tangents.shape}"
        raise ValueError(f"tangents.tangent_prop: {shapes} should be (B, K, D), (B, r, D)")
    return ops.sum(ops.square(J_f @ ops.swapaxes(tangents, -1, -2)), axis=(1, 2))
