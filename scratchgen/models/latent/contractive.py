"""Contractive autoencoder: a code that moves with x along the data, and across it hardly at all.
Rifai, Vincent, Muller, Glorot & Bengio (2011).

    J = ∂c/∂x,   J_jk: how fast the code's number j changes with x_k                    (1)  autoencoder.jacobian
    Ω = ‖J‖²_F = Σ_jk J_jk²                                                             (2)  autoencoder.contraction
    L = ‖x − x̂‖² + λ·Ω                                                                  autoencoder.loss with R = λ·Ω

Reconstruction wants a code that tells neighbouring examples apart; Ω wants one that does not change at all.  What is
left is change along the few directions in which examples do differ from their neighbours: J has few large singular
values, and their directions are the tangents of the data (tangents.vectors).  Training differentiates (1) again.

The encoder is one layer, and the decoder has its weights, transposed:

    c = σ(Wᵀx + b),   x̂ = W·c + a

Were they its own, the code could shrink until Ω is 0 and the decoder grow as much.  Of such a layer Ω has a closed
form, Σ_j (c_j(1 − c_j))²·‖w_j‖², w_j the j-th column of W; here (1) is differentiated all the same, as for any encoder.

Samples are a walk (Rifai, Bengio, Dauphin & Vincent 2012): a code is shaken more the faster it changes with x, decoded,
and encoded again:

    c' = c + J·Jᵀ·ε,   ε ~ N(0, s²·I),   x' = g(c')                                     (3)  autoencoder.walk
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.transforms import jacobian
from scratchgen.distributions.events import per_example
from scratchgen.models.latent import autoencoder, tangents
from scratchgen.models.system import System
from scratchgen.nn.layers import constants, weights
from scratchgen.random import Generator


def code_jacobian(encode: Callable[[Any], Any], x: Any) -> Any:
    """J of each example, eq. (1), (B, d, D), D the numbers of one x; to be differentiated in the encoder's weights.

    encode: (B, …) ↦ (B, d), each code from its own example.  x: (B, …).
    A row of the Jacobian of all codes' sum is that of each code: the others do not depend on its example.
    """
    J = jacobian(lambda x: ops.sum(encode(x), axis=0))(x)  # (d, B, …)
    return ops.swapaxes(ops.reshape(J, (J.shape[0], J.shape[1], -1)), 0, 1)


def contraction(J: Any) -> Any:
    """Ω, eq. (2), (B,).  J: (B, d, D)."""
    return per_example(ops.square(J))


def step(c: Any, J: Any, eps: Any) -> Any:
    """c', eq. (3), (B, d).  c: the code.  J: there, (B, d, D).  eps: (B, d)."""
    pulled = ops.swapaxes(J, -1, -2) @ ops.expand_dims(eps, -1)  # (B, D, 1)
    return c + (J @ pulled)[..., 0]


@dataclass(frozen=True)
class ContractiveConfig:
    """shape: of one x.  code: numbers in c.  contraction: λ.  Raises ValueError for what makes no network."""

    shape: tuple[int, ...] = (8, 8, 1)
    code: int = 64
    contraction: float = 3.0

    def __post_init__(self) -> None:
        if min(self.code, *self.shape) < 1 or self.contraction < 0:
            raise ValueError(f"ContractiveConfig: code and shape must be positive, contraction not negative: {self}")


class Loss(NamedTuple):
    """Per example (B,): the loss that is minimised, ‖x − x̂‖², and Ω, where λ asks for it."""

    loss: Any
    error: Any
    contraction: Any


class Contractive(System):
    """The system: w is W (D, code), b and a the offsets."""

    def __init__(self, config: ContractiveConfig, *, rng: Generator) -> None:
        self.config, n = config, prod(config.shape)
        self.w = weights(rng, (n, config.code), n)
        self.b, self.a = constants(config.code), constants(n)

    def encode(self, x: Any) -> Any:
        """c = σ(Wᵀx + b), (B, code).  x: (B, …)."""
        return F.sigmoid(ops.reshape(x, (x.shape[0], -1)) @ self.w + self.b)

    def decode(self, c: Any) -> Any:
        """x̂ = W·c + a, (B, …).  c: (B, code)."""
        return ops.reshape(c @ ops.transpose(self.w) + self.a, (c.shape[0], *self.config.shape))

    def loss(self, x: Any, rng: Generator) -> Loss:
        """‖x − x̂‖² + λ·Ω.  Nothing in it is drawn."""
        rebuilt, weight = self.decode(self.encode(x)), self.config.contraction
        if not weight:
            found = autoencoder.loss(x, rebuilt)
            return Loss(*found, 0 * found.error)
        omega = contraction(code_jacobian(self.encode, x))
        return Loss(*autoencoder.loss(x, rebuilt, weight * omega), omega)

    def error(self, x: Any) -> Any:
        """‖x − x̂‖², (B,).  x: (B, …)."""
        model = self.frozen()
        return autoencoder.loss(x, model.decode(model.encode(x))).error

    def jacobian(self, x: Any) -> Any:
        """J, eq. (1), (B, code, D), as plain arrays.  x: (B, …)."""
        return code_jacobian(self.frozen().encode, x)

    def tangents(self, x: Any, r: int) -> Any:
        """The r directions in which the code changes fastest (tangents.vectors), (B, r, D), unit vectors."""
        return tangents.vectors(self.jacobian(x), r)

    def walk(self, x: Any, rng: Generator, steps: int, shake: float = 1.0) -> Iterator[Any]:
        """Eq. (3): from each x (B, …) one x' after another.  shake: s."""
        model = self.frozen()
        for _ in range(steps):
            c = model.encode(x)
            eps = shake * rng.standard_normal(c.shape, c.dtype)
            x = model.decode(step(c, model.jacobian(x), eps))
            yield x

    def sample(self, x: Any, rng: Generator, steps: int = 5, shake: float = 1.0) -> Any:
        """Where a walk from each x (B, …) has come after some steps."""
        return [*self.walk(x, rng, steps, shake)][-1]
