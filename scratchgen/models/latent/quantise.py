"""Vector quantisation: a latent vector is replaced by the nearest of a list of codes, and both are taught by it.
van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937.

    e = e_k,  k = argmin_j ‖E − e_j‖²        E = E(x), the encoder's answer             (1)  vq.nearest
    e_st = E + sg[e − E],  which is e, with ∂e_st/∂E = I                                (2)  vq.straight_through
    L = ‖x − D(e_st)‖² + ‖sg[E] − e‖² + β·‖sg[e] − E‖²                                  (3)  vq.loss
    n_j ← γ·n_j + (1−γ)·Σ_i [k_i = j],   m_j ← γ·m_j + (1−γ)·Σ_i [k_i = j]·E_i,
    e_j = m_j/n_j                                                                       (4)  vq.moving_average
    perplexity = exp(−Σ_j p_j log p_j),   p_j the share of vectors whose code is j      (5)  vq.perplexity

k has no derivative in E: (2) hands the decoder's gradient on as if the step from E to e were not there.  In (3) each
term then teaches its own part: the first the decoder D and, through (2), the encoder; the second only the codes, which
move to the vectors they stand for, as in k-means; the third only the encoder, which is to stay near its codes.  β, ¼ in
the paper, weighs the third and nothing else.  sg[·] is stop_gradient: the identity, and a constant to the gradient.

The second term has a minimum that can be written down: each code at the mean of its vectors.  (4), the paper's appendix
A.1, goes there without a gradient: numbers and sums of vectors are counted over minibatches, the older the less, and
γ = 0 is one step of k-means.  (5) counts the codes in use: K if all are equally, 1 if it is always the same.

Vectors are (B, …, d): one for each example, or a grid of them; the codebook is (K, d).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd import stop_gradient
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import backend_of
from scratchgen.distributions import categorical
from scratchgen.distributions.events import alike, per_example
from scratchgen.functional import embedding, one_hot


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
    rows = (E - origin).reshape(-1, E.shape[-1])
    products = backend_of(E).matmul(rows, codes.T)
    return ops.argmin((codes * codes).sum(axis=1) - 2 * products, axis=-1).reshape(E.shape[:-1])


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


SELDOM = 1e-6
"""A code with fewer vectors than this to its name, all long ago, stays where it is."""


class Tally(NamedTuple):
    """What each code stands for, eq. (4): n, how many vectors, (K,), and m, their sums, (K, d)."""

    n: Any
    m: Any


def tally(E: Any, k: Any, K: int) -> Tally:
    """The sums over one minibatch in eq. (4), plain arrays.  E: (B, …, d).  k: their codes, (B, …), in [0, K)."""
    E = value_of(E)
    mine = ops.reshape(one_hot(k, K, E.dtype), (-1, K))
    return Tally(ops.sum(mine, axis=0), backend_of(E).matmul(mine.T, ops.reshape(E, (-1, E.shape[-1]))))


def moving_average(old: Tally, new: Tally, gamma: float) -> Tally:
    """n and m after one minibatch more, eq. (4).  gamma: γ in [0, 1), the share that is kept of the old."""
    return Tally(*(gamma * a + (1 - gamma) * b for a, b in zip(old, new, strict=True)))


def centres(found: Tally, codebook: Any) -> Any:
    """e of eq. (4), (K, d), but where nothing was counted: there what `codebook` has."""
    n, often = found.n[:, None], found.n[:, None] > SELDOM
    return ops.where(often, found.m / ops.where(often, n, 1.0), codebook)


def usage(k: Any, K: int) -> Any:
    """p of eq. (5), (K,), which sum to 1.  k: codes, plain integers of any shape."""
    return ops.mean(ops.reshape(one_hot(k, K, "float64"), (-1, K)), axis=0)


def perplexity(p: Any) -> Any:
    """Eq. (5): a number from 1 to K.  p: (K,), shares that sum to 1."""
    logits = ops.where(p > 0, ops.log(ops.where(p > 0, p, 1.0)), -float("inf"))
    return ops.exp(categorical.entropy(logits[None]))[0]
