"""Non-negative matrix factorisation: a table X as W·H, whose parts only add.
Lee & Seung (1999; 2001, "Algorithms for non-negative matrix factorization").

    D_F(X, WH)  = ½ Σ_ij M_ij·(X_ij − (WH)_ij)²                                         (1)  nmf.frobenius
    D_KL(X, WH) = Σ_ij M_ij·(X_ij·log(X_ij/(WH)_ij) − X_ij + (WH)_ij)                   (2)  nmf.kl
    W ← W ∘ ((M∘X)·Hᵀ) / ((M∘WH)·Hᵀ)                           for (1)                  (3)  nmf.frobenius_update
    W ← W ∘ ((M∘X/WH)·Hᵀ) / (M·Hᵀ)                             for (2)                  (4)  nmf.kl_update

with W, H ≥ 0, and H likewise: (3) and (4) of the transposed tables.  M_ij is 1 where X_ij is known and 0 where it is
missing, which the sums then leave out: W·H is a guess of what is missing (collaborative filtering: X_ij is how many
stars person i gives to film j).  (2) is what Poisson counts ask for: if X_ij ~ Poisson((WH)_ij), the
log-likelihood is −D_KL and a constant.

∂D/∂W is the denominator minus the numerator, so (3) and (4) are gradient steps of a length of their own for each
entry, W/denominator, with which no entry becomes negative and D never rises: each minimises, in W, a function that
touches D where W is and lies above it elsewhere (Jensen's inequality).

Everywhere: X, M (n, D), W (n, r), H (r, D).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, Self

from scratchgen import ops
from scratchgen.autograd.tensor import tensor, value_of
from scratchgen.backend import active, backend_of
from scratchgen.models.system import System
from scratchgen.random import Generator

TINY = 2.0**-23
"""In the place of a divisor that is 0, as in scikit-learn."""


def _kept(terms: Any, mask: Any) -> Any:
    return terms if mask is None else terms * mask


def frobenius(x: Any, w: Any, h: Any, mask: Any = None) -> Any:
    """½ Σ_j M_ij·(X_ij − (WH)_ij)², (n,): each row's share of D_F, eq. (1)."""
    return 0.5 * ops.sum(_kept(ops.square(x - w @ h), mask), axis=1)


def kl(x: Any, w: Any, h: Any, mask: Any = None) -> Any:
    """Σ_j M_ij·(X·log(X/WH) − X + WH)_ij, (n,): each row's share of D_KL, eq. (2).  0·log 0 = 0."""
    guess = w @ h
    some = value_of(x) > 0
    ratio = ops.where(some, x, 1.0) / ops.where(some, ops.maximum(guess, TINY), 1.0)
    return ops.sum(_kept(x * ops.log(ratio) - x + guess, mask), axis=1)


def _divided(above: Any, below: Any) -> Any:
    return above / ops.where(ops.equal(below, 0), TINY, below)


def frobenius_update(x: Any, w: Any, h: Any, mask: Any = None) -> Any:
    """The next W, eq. (3).  H's is the transpose of frobenius_update(Xᵀ, Hᵀ, Wᵀ, Mᵀ)."""
    ht = ops.transpose(h)
    below = w @ (h @ ht) if mask is None else _kept(w @ h, mask) @ ht
    return w * _divided(_kept(x, mask) @ ht, below)


def kl_update(x: Any, w: Any, h: Any, mask: Any = None) -> Any:
    """The next W, eq. (4).  H's is the transpose of kl_update(Xᵀ, Hᵀ, Wᵀ, Mᵀ)."""
    ht = ops.transpose(h)
    above = _kept(x / ops.maximum(w @ h, TINY), mask) @ ht
    below = ops.sum(ht, axis=0, keepdims=True) if mask is None else mask @ ht
    return w * _divided(above, below)


LOSSES = {"frobenius": (frobenius, frobenius_update), "kl": (kl, kl_update)}


@dataclass(frozen=True)
class NMFConfig:
    """examples: n.  features: D.  rank: r, how many parts.  loss: of LOSSES."""

    examples: int = 1437
    features: int = 64
    rank: int = 16
    loss: Literal["frobenius", "kl"] = "frobenius"
    dtype: str = "float64"

    def __post_init__(self) -> None:
        if min(self.examples, self.features, self.rank) < 1:
            raise ValueError("NMFConfig: examples, features and rank must be at least 1")


class NMF(System):
    """W, how much of each part is in each example, and H, the parts.  It has no distribution to sample from."""

    def __init__(self, config: NMFConfig) -> None:
        self.config = config
        self.W = tensor(active().zeros((config.examples, config.rank), config.dtype))
        self.H = tensor(active().zeros((config.rank, config.features), config.dtype))

    def starts(self, x: Any, rng: Generator, mask: Any = None) -> tuple[Any, Any]:
        """W and H of random sizes, whose product has about the mean of X."""
        mean = ops.mean(x) if mask is None else ops.sum(x * mask) / ops.sum(mask)
        scale = sqrt(float(mean) / self.config.rank)
        dtype, r = self.config.dtype, self.config.rank
        w, h = (rng.standard_normal(shape, dtype) for shape in ((x.shape[0], r), (r, x.shape[1])))
        return ops.absolute(w) * scale, ops.absolute(h) * scale

    def descend(self, x: Any, start: tuple[Any, Any], steps: int, mask: Any = None) -> Iterator[float]:
        """`steps` updates of W and then H, from `start`; the divergence after each.

        Raises ValueError for negative numbers, or shapes that do not fit.
        """
        config = self.config
        w, h = start
        if x.shape != (config.examples, config.features) or w.shape != self.W.shape or h.shape != self.H.shape:
            raise ValueError(f"NMF: X {x.shape}, W {w.shape}, H {h.shape} do not fit {self.W.shape}, {self.H.shape}")
        if any(bool((a < 0).any()) for a in (x, w, h)):
            raise ValueError("NMF: X, W and H must not be negative")
        loss, update = LOSSES[config.loss]
        turned = None if mask is None else ops.transpose(mask)
        for _ in range(steps):
            w = update(x, w, h, mask)
            h = ops.transpose(update(ops.transpose(x), ops.transpose(h), ops.transpose(w), turned))
            self.W.assign(w)
            self.H.assign(h)
            yield float(ops.sum(loss(x, w, h, mask)))

    def fit(
        self, x: Any, rng: Generator | None = None, start: tuple[Any, Any] | None = None, steps: int = 200,
        mask: Any = None,
    ) -> Self:  # fmt: skip
        """W and H for X, from a given start, or from a random one (which needs rng).  mask: M, 0 where X is missing."""
        x = x.astype(self.config.dtype)
        if start is None:
            if rng is None:
                raise ValueError("NMF.fit: give a start, or an rng to draw one")
            start = self.starts(x, rng, mask)
        for _ in self.descend(x, start, steps, mask):
            pass
        return self

    def transform(self, x: Any, mask: Any = None, steps: int = 200) -> Any:
        """W (n', r) of other examples for the parts that were found, from equal entries."""
        x, h = x.astype(self.config.dtype), value_of(self.H)
        mean = ops.mean(x) if mask is None else ops.sum(x * mask) / ops.sum(mask)
        w = backend_of(x).full((x.shape[0], h.shape[0]), sqrt(float(mean) / h.shape[0]), h.dtype)
        for _ in range(steps):
            w = LOSSES[self.config.loss][1](x, w, h, mask)
        return w

    def inverse_transform(self, w: Any) -> Any:
        """W·H, (n', D)."""
        return w @ value_of(self.H)
