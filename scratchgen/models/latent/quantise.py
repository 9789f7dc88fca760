"""Vector quantisation: a latent vector is replaced by the nearest of a list of codes, and both are taught by it.
van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937.

    e = e_k,  k = argmin_j ‖E − e_j‖²        E = E(x), the encoder's answer             (1)  vq.nearest
    e_st = E + sg[e − E],  which is e, with ∂e_st/∂E = I                                (2)  vq.straight_through
    L = ‖x − D(e_st)‖² + ‖sg[E] − e‖² + β·‖sg[e] − E‖²                                  (3)  vq.loss

k has no derivative in E: (2) hands the decoder's gradient on as if the step from E to e were not there.  In (3) each
term then teaches its own part: the first the decoder D and, through (2), the encoder; the second only the codes, which
move to the vectors they stand for, as in k-means; the third only the encoder, which is to stay near its codes.  β, ¼ in
the paper, weighs the third and nothing else.  sg[·] is stop_gradient: the identity, and a constant to the gradient.

Vectors are (B, …, d): one for each example, or a grid of them; the codebook is (K, d).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd import stop_gradient
from scratchgen.autograd.tensor import value_of
from scratchgen.distributions.events import alike, per_example
from scratchgen.functional import embedding


class Loss(NamedTuple):
    """Per example, (B,), each summed over the event: eq. (3), and its three terms, the third without β."""

    loss: Any
    reconstruction: Any
    codebook: Any
    commitment: Any


def nearest(E: Any, codebook: Any) -> Any:
    """k of eq. (1), plain integers (B, …); of codes equally near, the first.

        ‖E − e_j‖² = ‖E‖² − 2·E·e_j + ‖e_j‖²,  and ‖E‖² is the same for all j

    One matrix product; both sides are measured from the codes' mean, so that what is large in both does not drown the
    differences.  E: (B, …, d).  codebook: (K, d).  Raises ValueError if d differs.
    """
    if codebook.ndim != 2 or E.ndim < 2 or E.shape[-1] != codebook.shape[1]:
        raise ValueError(f"quantise: E {E.shape} and codebook {codebook.shape} should be (B, …, d) and (K, d)")
    E, codebook = value_of(E), value_of(codebook)
    origin = codebook.mean(axis=0)
    codes = codebook - origin
    return ops.argmin((codes * codes).sum(axis=1) - 2 * (E - origin) @ codes.T, axis=-1)


def quantise(E: Any, codebook: Any) -> tuple[Any, Any]:
    """e and k of eq. (1): the codes (B, …, d), with a gradient in the codebook, and their places (B, …)."""
    k = nearest(E, codebook)
    return embedding(codebook, k), k


def straight_through(E: Any, e: Any) -> Any:
    """e_st, eq. (2), for the decoder: e up to rounding, its gradient that of E.  E, e: (B, …, d)."""
    return E + stop_gradient(e - E)


def loss(x: Any, decoded: Any, E: Any, e: Any, beta: float = 0.25) -> Loss:
    """Eq. (3).

    x: (B, …).  decoded: D(e_st), in x's shape.  E, e: (B, …, d), from the encoder and from `quantise`.
    Raises ValueError if the shapes differ.
    """
    alike("quantise.loss", "x", x, decoded=decoded)
    alike("quantise.loss", "E", E, e=e)
    reconstruction = per_example(ops.square(x - decoded))
    codebook = per_example(ops.square(stop_gradient(E) - e))
    commitment = per_example(ops.square(stop_gradient(e) - E))
    return Loss(reconstruction + codebook + beta * commitment, reconstruction, codebook, commitment)
