"""What every flow is as a system: an exact density, fitted by maximum likelihood, and a map from noise to data.

    L = −log p(x),   log p(x) = log N(g(x); 0, I) + log |det J_g(x)|                    (1)  flow.likelihood
    L = −(log p(x_u) + D·log Δ)/(D·log 2)   of grey levels, one draw u for each         (2)  flow.bits
    x = g⁻¹(τ·ε),   ε ~ N(0, I)                                                         (3)  flow.sample

(1) is flow.change_of_variables with Gaussian noise: the first term draws the data's images under g together at 0, the
second keeps g from folding them all into one point.  (2) is dequantise.bound, which is in bits per dimension.  (3)
with the temperature τ = 1 samples p; with τ < 1 it prefers noise that is likely (Kingma & Dhariwal 2018, §6).  Where
log |det J| is constant this is p^(1/τ²)/Z; elsewhere it is not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scratchgen.backend import Array
from scratchgen.distributions import gaussian
from scratchgen.models.flows import change, dequantise
from scratchgen.models.system import System
from scratchgen.random import Generator


class Loss(NamedTuple):
    """Per example: −log p in nats; of grey levels, in bits per dimension."""

    loss: Any


class Density(System):
    """A flow with its base, N(0, I).  A subclass sets `flow`, whose noise is (B, D) or like the data."""

    shape: tuple[int, ...]
    """Of one example."""
    noise: tuple[int, ...]
    """Of one example's noise."""
    levels: int | None
    """Grey levels of the data; None if they are continuous."""
    flow: Any

    def log_prob(self, x: Array) -> Array:
        """log p(x), eq. (1): a density over numbers, also where the data are grey levels.  x (B, …).  (B,), in nats."""
        return change.log_prob(self.flow, lambda z: gaussian.log_prob(z, 0.0, 0.0), x)

    def loss(self, x: Array, rng: Generator) -> Loss:
        """Eq. (1), or (2) with its noise from rng."""
        if self.levels is None:
            return Loss(-self.log_prob(x))
        return Loss(dequantise.bits_per_dim(self.code(x, rng.random((1, *x.shape), x.dtype)).bound, x[0].size))

    def code(self, x: Array, u: Array) -> dequantise.Code:
        """What is known of log P(x), of grey levels x (B, …), from K draws u (K, B, …): two bounds from below, (B,)."""
        if self.levels is None:
            raise ValueError(f"{type(self).__name__}: the data are continuous, and have densities only")
        return dequantise.code(self.log_prob, x, self.levels, u)

    def encode(self, x: Array) -> Array:
        """z = g(x)."""
        return self.flow.forward_and_log_det(x).z

    def decode(self, z: Array) -> Array:
        """x = g⁻¹(z)."""
        return self.flow.inverse(z)

    def sample(self, n: int, rng: Generator, temperature: float = 1.0) -> Array:
        """n examples, eq. (3)."""
        return self.frozen().decode(temperature * rng.standard_normal((n, *self.noise), self.precision()))
