"""Change of variables: an invertible map g carries data x to noise z = g(x), and its density back.

    log p_x(x) = log p_z(g(x)) + log |det J_g(x)|                                       (1)  flow.change_of_variables
    g = g_T∘…∘g_1:   log |det J_g(x)| = Σ_t log |det J_{g_t}(x_{t−1})|,  x_t = g_t(x_{t−1}), x_0 = x
                                                                                        (2)  flow.compose
    log |det J_{g⁻¹}(z)| = −log |det J_g(g⁻¹(z))|                                       (3)  flow.inverse

(1): the mass in a small volume around x is the mass in that volume's image, which is |det J_g| times as large.  (2) is
the chain rule, det AB = det A·det B, with each Jacobian at its own map's input.  (3) is (2) for g⁻¹∘g, whose Jacobian
is I.

A determinant costs D³ steps in general.  Maps whose Jacobian has a shape that gives it away:

    z_i = d_i·x_i + b_i           log |det J| = Σ_i log |d_i|                           (4)  flow.diagonal
    z = L·x + b, L triangular     log |det J| = Σ_i log |L_ii|                          (5)  flow.triangular
    z_i = x_π(i)                  log |det J| = 0                                       (6)  flow.permutation
    z_a = x_a,  z_b = e^s(x_a)⊙x_b + t(x_a)
          J = [[I, 0], [∂z_b/∂x_a, diag e^s]],   log |det J| = Σ_i s_i(x_a)             (7)  flow.coupling

In (7) s and t are any functions, such as networks: neither is inverted, nor differentiated for J (Dinh, Krueger &
Bengio 2014, arXiv:1410.8516, with s = 0; Dinh, Sohl-Dickstein & Bengio 2016, arXiv:1605.08803).  One such map leaves
x_a alone; between two of them, (6) changes the roles.

Everywhere: x and z (B, D), unless a map says more; log-determinants (B,), in nats.  Maps act on each example alone.
Maps of images are in `images`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import Array, backend_of
from scratchgen.distributions.events import alike, per_example, same_precision, same_shape
from scratchgen.nn.module import Module


class Forward(NamedTuple):
    """z = g(x), and log |det J_g(x)|, (B,)."""

    z: Array
    log_det: Array


class Flow(Protocol):
    """An invertible map.  All else follows from these two."""

    def forward_and_log_det(self, x: Array) -> Forward:
        """z = g(x), from data to noise, and log |det J_g(x)|, (B,)."""
        ...

    def inverse(self, z: Array) -> Array:
        """x = g⁻¹(z), from noise to data."""
        ...


def log_prob(flow: Flow, log_pz: Callable[[Array], Array], x: Array) -> Array:
    """log p_x(x), eq. (1).  log_pz: z ↦ log p_z(z), (B,).  Returns (B,).

    Raises ValueError if the density and the log-determinant do not have one shape.
    """
    z, log_det = flow.forward_and_log_det(x)
    base = log_pz(z)
    same_shape("flow.log_prob", "log_det", log_det.shape, log_pz=base)
    return base + log_det


# --- maps out of maps ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Compose:
    """One map after the other, the first of them first, eq. (2).  Raises ValueError if there is none."""

    flows: Sequence[Flow]

    def __post_init__(self) -> None:
        if not self.flows:
            raise ValueError("flow.Compose: no maps")

    def forward_and_log_det(self, x: Array) -> Forward:
        total: Any = 0.0
        for flow in self.flows:
            x, log_det = flow.forward_and_log_det(x)
            total = total + log_det
        return Forward(x, total)

    def inverse(self, z: Array) -> Array:
        for flow in reversed(self.flows):
            z = flow.inverse(z)
        return z


class Chain(Module):
    """`Compose`, of maps that have parameters, and of those that start from data: they have a `start(x)`."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        self.flows = list(flows)

    def forward_and_log_det(self, x: Array) -> Forward:
        return Compose(self.flows).forward_and_log_det(x)

    def inverse(self, z: Array) -> Array:
        return Compose(self.flows).inverse(z)

    def start(self, x: Array) -> None:
        """Show each map what reaches it."""
        for flow in self.flows:
            begin(flow, x)
            x = flow.forward_and_log_det(x).z


def begin(flow: Flow, x: Array) -> None:
    """Show the map its first data, if it has a use for them."""
    if hasattr(flow, "start"):
        flow.start(x)


@dataclass(frozen=True, eq=False)
class Inverse:
    """g⁻¹ as a map of its own, eq. (3): what it takes are the z of `flow`."""

    flow: Flow

    def forward_and_log_det(self, x: Array) -> Forward:
        z = self.flow.inverse(x)
        return Forward(z, -self.flow.forward_and_log_det(z).log_det)

    def inverse(self, z: Array) -> Array:
        return self.flow.forward_and_log_det(z).z


# --- maps whose Jacobians are easy --------------------------------------------------------------------------


def _fits(function: str, name: str, x: Array, b: Array) -> None:
    """Raises ValueError, or TypeError, unless x is a batch of events of b's shape, (B, …), and of b's precision."""
    same_shape(function, "a batch", (*x.shape[:1], *b.shape), **{name: x})
    same_precision(function, name, x, b=b)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """z = d⊙x + b, eq. (4).  x: (B, …).  d, b: (…), of the event's shape; no d is 0.

    Raises ValueError if the shapes differ, TypeError if the precisions do.
    """

    d: Array
    b: Array

    def __post_init__(self) -> None:
        alike("flow.Diagonal", "d", self.d, b=self.b)

    def forward_and_log_det(self, x: Array) -> Forward:
        _fits("flow.Diagonal", "x", x, self.b)
        log_d = ops.log(ops.absolute(self.d))
        return Forward(self.d * x + self.b, per_example(ops.broadcast_to(log_d, x.shape)))

    def inverse(self, z: Array) -> Array:
        _fits("flow.Diagonal", "z", z, self.b)
        return (z - self.b) / self.d


@dataclass(frozen=True, eq=False)
class Triangular:
    """z = L·x + b, eq. (5): z_i is made of x_1 … x_i.  L: (D, D), its lower triangle is read, no L_ii is 0.  b: (D,).

    Raises ValueError if the shapes do not fit, TypeError if the precisions differ.
    """

    L: Array
    b: Array

    def __post_init__(self) -> None:
        if self.L.shape != 2 * self.b.shape:
            raise ValueError(f"flow.Triangular: L {self.L.shape} and b {self.b.shape} should be (D, D) and (D,)")
        same_precision("flow.Triangular", "L", self.L, b=self.b)

    def forward_and_log_det(self, x: Array) -> Forward:
        _fits("flow.Triangular", "x", x, self.b)
        log_det = ops.sum(ops.log(ops.absolute(ops.diagonal(self.L))))
        return Forward(ops.matmul(x, ops.transpose(ops.tril(self.L))) + self.b, ops.broadcast_to(log_det, x.shape[:1]))

    def inverse(self, z: Array) -> Array:
        _fits("flow.Triangular", "z", z, self.b)
        return ops.transpose(ops.linalg.solve(ops.tril(self.L), ops.transpose(z - self.b)))


@dataclass(frozen=True, eq=False)
class Permutation:
    """z_i = x_π(i), eq. (6), along the last axis of x (B, …, D): of images, the channels.

    order: π(0) … π(D−1), plain integers.
    Raises ValueError if they are not 0 … D−1 in some order, or x does not have as many along its last axis.
    """

    order: Sequence[int]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"flow.Permutation: {list(self.order)} is no order of 0 … {len(self.order) - 1}")

    def forward_and_log_det(self, x: Array) -> Forward:
        same_shape("flow.Permutation", "a batch", self._fitting(x), x=x)
        zeros = backend_of(value_of(x)).zeros(x.shape[:1], x.dtype)
        return Forward(ops.take(x, list(self.order), axis=-1), zeros)

    def inverse(self, z: Array) -> Array:
        same_shape("flow.Permutation", "a batch", self._fitting(z), z=z)
        back = sorted(range(len(self.order)), key=lambda i: self.order[i])
        return ops.take(z, back, axis=-1)

    def _fitting(self, x: Array) -> tuple[int, ...]:
        """The shape that x should have: any, but for the last axis, which is not the batch's."""
        return (*x.shape[: max(1, x.ndim - 1)], len(self.order))


class Affine(NamedTuple):
    """What the untouched half says about the other one: the logarithm s of its scale, and its shift t, (B, D−k)."""

    s: Array
    t: Array


@dataclass(frozen=True, eq=False)
class Coupling:
    """The first k numbers of the last axis stay, and scale and shift the others, eq. (7).

    x: (B, …, D): of images, channels stay and move.  conditioner: x_a (B, …, k) ↦ s, t, both (B, …, D−k).  k: 1 … D−1.
    Raises ValueError if no number stays or none moves, or if s or t does not fit, TypeError if precisions differ.
    """

    conditioner: Callable[[Array], Affine]
    k: int

    def forward_and_log_det(self, x: Array) -> Forward:
        a, b, s, t = self._split(x)
        return Forward(ops.concatenate([a, ops.exp(s) * b + t], axis=-1), per_example(s))

    def inverse(self, z: Array) -> Array:
        a, b, s, t = self._split(z)
        return ops.concatenate([a, (b - t) * ops.exp(-s)], axis=-1)

    def _split(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """x_a, x_b, s(x_a), t(x_a): the same from z, since z_a = x_a."""
        if x.ndim < 2 or not 0 < self.k < x.shape[-1]:
            raise ValueError(f"flow.Coupling: {x.shape} cannot be split after {self.k}")
        a, b = x[..., : self.k], x[..., self.k :]
        s, t = self.conditioner(a)
        alike("flow.Coupling", "the part that moves", b, s=s, t=t)
        return a, b, s, t
