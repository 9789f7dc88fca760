"""Flows of couplings: NICE and RealNVP.

Half of the numbers stay as they are, and a network that sees only them says how the other half moves: no network is
inverted, and none is differentiated for the determinant.  Then the halves change roles.

    z_b = x_b + t(x_a)                       log |det J| = 0                            (1)  nice.coupling
    z = e^s ⊙ h                              log |det J| = Σ_i s_i                      (2)  nice.scaling
    z_b = e^s ⊙ x_b + t,   s = c ⊙ tanh(r),   (r, t) = network(x_a)
                                             log |det J| = Σ_i s_i                      (3)  realnvp.coupling

NICE (Dinh, Krueger & Bengio 2014, arXiv:1410.8516) is (1), which keeps volume, until (2) at the end, one number for
each dimension.  RealNVP (Dinh, Sohl-Dickstein & Bengio 2016, arXiv:1605.08803) is (3): the scale depends on the data.
It is kept between e^(−c) and e^c, c learnt, so that no step of the optimiser can blow it up.  The last layer of every
network starts at 0, and so g at the identity.

Points: couplings of the two halves of the coordinates, shuffled in between (of the plane: exchanged).  Images (§3.6):
flow.logit, then at every scale, squeezed, couplings of the checkerboard's colours in turn, couplings of shuffled
channels, and half of the channels leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.backend import Array
from scratchgen.models.flows import change
from scratchgen.models.flows.change import Affine, Chain, Flow, Forward, Permutation
from scratchgen.models.flows.density import Density
from scratchgen.models.flows.images import Logit, Scales, Squeeze, checkerboard, squeezed, swap
from scratchgen.nn import MLP, Conv2d, ResBlock
from scratchgen.nn.layers import constants
from scratchgen.nn.module import Module, Sequential
from scratchgen.nn.settings import at_least_one
from scratchgen.random import Generator


@dataclass(frozen=True)
class CouplingConfig:
    """shape: of one example.  levels: its grey levels, None if it is continuous.  affine: RealNVP, eq. (3), or NICE,
    (1) and (2).  couplings: in a row; of images, of each kind at each scale.  scales: of images.  hidden: units, or
    channels, of each network.  blocks: its hidden layers, or residual blocks.  alpha: of flow.logit.
    Raises ValueError for numbers that make no flow.
    """

    shape: tuple[int, ...] = (2,)
    levels: int | None = None
    affine: bool = True
    couplings: int = 8
    scales: int = 2
    hidden: int = 64
    blocks: int = 2
    alpha: float = 0.05

    def __post_init__(self) -> None:
        at_least_one(self, "couplings", "scales", "hidden", "blocks")
        if len(self.shape) not in (1, 3) or (len(self.shape) == 1) != (self.levels is None):
            raise ValueError(f"CouplingConfig: {self.shape} are no points (D,), nor images (H, W, C) with grey levels")
        if len(self.shape) == 1 and self.shape[0] < 2:
            raise ValueError("CouplingConfig: a point of one number has no halves")


class Coupling(Module):
    """The first k numbers of the last axis stay; the others move, eq. (3), or (1) if not affine.

    net: x_a (B, …, k) ↦ (B, …, 2·moving), or (B, …, moving) if not affine.
    """

    def __init__(self, net: Callable[[Any], Any], k: int, moving: int, affine: bool = True) -> None:
        self.net, self.k = net, k
        self.c = constants(moving, 1.0) if affine else None

    def conditioner(self, a: Array) -> Affine:
        found = self.net(a)
        if self.c is None:
            return Affine(ops.zeros_like(found), found)
        r, t = ops.split(found, 2, axis=-1)
        return Affine(self.c * ops.tanh(r), t)

    def forward_and_log_det(self, x: Array) -> Forward:
        return change.Coupling(self.conditioner, self.k).forward_and_log_det(x)

    def inverse(self, z: Array) -> Array:
        return change.Coupling(self.conditioner, self.k).inverse(z)


class Scaling(Module):
    """Every number by a factor of its own, eq. (2)."""

    def __init__(self, n: int) -> None:
        self.s = constants(n)

    def forward_and_log_det(self, x: Array) -> Forward:
        return self._map().forward_and_log_det(x)

    def inverse(self, z: Array) -> Array:
        return self._map().inverse(z)

    def _map(self) -> Flow:
        return change.Diagonal(ops.exp(self.s), ops.zeros_like(self.s))


class CouplingFlow(Density):
    """The system: points (B, D), or images (B, H, W, C) in [−1, 1] of so many grey levels."""

    def __init__(self, config: CouplingConfig, *, rng: Generator) -> None:
        self.config = config
        self.shape, self.levels = config.shape, config.levels
        if config.levels is None:
            self.noise = config.shape
            self.flow = Chain(_points(config, rng))
        else:
            self.noise = (config.shape[0] * config.shape[1] * config.shape[2],)
            scales = [Chain(_images(config, c, rng)) for _, _, c in squeezed(config.shape, config.scales)]
            self.flow = Chain([Logit(config.levels, config.alpha), Scales(config.shape, scales)])
        if not config.affine:
            self.flow.flows.append(Scaling(self.noise[0]))


def shuffle(n: int, rng: Generator) -> Permutation:
    """n numbers in an order drawn once; two are exchanged."""
    return Permutation([1, 0] if n == 2 else [int(i) for i in rng.permutation(n)])


def _points(config: CouplingConfig, rng: Generator) -> list[Flow]:
    """Couplings of halves, a shuffle between each and the next."""
    D, k = config.shape[0], config.shape[0] // 2
    flows: list[Flow] = []
    for i in range(config.couplings):
        width = (D - k) * (2 if config.affine else 1)
        net = MLP(k, *[config.hidden] * config.blocks, width, rng=rng, gain=0.0)
        flows += [shuffle(D, rng)] * bool(i) + [Coupling(net, k, D - k, config.affine)]
    return flows


def _images(config: CouplingConfig, c: int, rng: Generator) -> list[Flow]:
    """One scale: squeezed to c channels, couplings of colours in turn, then of shuffled channels."""
    half = c // 2

    def coupling() -> Coupling:
        net = network(half, half * (2 if config.affine else 1), config.hidden, config.blocks, rng)
        return Coupling(net, half, half, config.affine)

    flows: list[Flow] = [Squeeze(), checkerboard(c)]
    for _ in range(config.couplings):
        flows += [coupling(), swap(c)]
    for _ in range(config.couplings):
        flows += [shuffle(c, rng), coupling()]
    return flows


def network(c_in: int, c_out: int, hidden: int, blocks: int, rng: Generator) -> Sequential:
    """A convolution, residual blocks, and a convolution that starts at 0: (B, H, W, c_in) ↦ (B, H, W, c_out)."""
    middle = [ResBlock(hidden, hidden, rng=rng, groups=1) for _ in range(blocks)]
    return Sequential(Conv2d(c_in, hidden, rng=rng), *middle, F.silu, Conv2d(hidden, c_out, rng=rng, gain=0.0))
