"""Glow: a flow of images with invertible 1×1 convolutions.  Kingma & Dhariwal (2018), arXiv:1807.03039.

    z_{hwc} = e^{s_c}·(x_{hwc} + b_c)                  log |det J| = H·W·Σ_c s_c        (1)  glow.actnorm
    b_c = −mean,  s_c = −log std   of channel c, over all pixels of the first minibatch (2)  glow.start
    z_hw = W·x_hw,  W: (C, C)                          log |det J| = H·W·log |det W|    (3)  glow.conv1x1
    W = P·L·(U + diag d)                               log |det W| = Σ_i log |d_i|      (4)  glow.lu

A step is (1), (3) and an affine coupling of the halves of the channels (realnvp.coupling); a scale is a squeeze, K
steps, and half of the channels leave (flow.multiscale).  Before all that, flow.logit.  (1) does what batch
normalisation would, with nothing that depends on the batch after (2) has given every activation mean 0 and variance 1.
(3) is a shuffle of the channels that is learnt: a permutation is one such W.  All the pixels' Jacobians are W, in
blocks, hence H·W.  It starts as a random rotation, log |det W| = 0.  In (4) P, a permutation, and the signs of d stay
what they are; L has a unit diagonal, U is strictly upper; so the determinant takes C steps instead of C³.

What leaves at a scale is N(μ(h), σ(h)²) given what stays, the paper's learnt prior, in the form of one more coupling.
The networks are RealNVP's, which normalise their features; those of the paper are three plain convolutions.

Everywhere: images (B, H, W, C); log-determinants (B,), in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import Array, backend_of
from scratchgen.models.flows import dequantise
from scratchgen.models.flows.change import Chain, Flow, Forward
from scratchgen.models.flows.coupling import Coupling, network
from scratchgen.models.flows.density import Density
from scratchgen.models.flows.images import Logit, Scales, Squeeze, squeezed
from scratchgen.models.system import Player
from scratchgen.nn import Conv2d
from scratchgen.nn.layers import constants
from scratchgen.nn.module import Module
from scratchgen.nn.settings import at_least_one
from scratchgen.random import Generator


@dataclass(frozen=True)
class GlowConfig:
    """shape, levels: of the images.  steps: K, at each of `scales` scales.  hidden: channels of the couplings'
    networks.  blocks: their residual blocks.  lu: eq. (4), or W as it is.  alpha: of flow.logit.
    Raises ValueError for numbers that make no flow.
    """

    shape: tuple[int, ...] = (8, 8, 1)
    levels: int = 17
    scales: int = 2
    steps: int = 6
    hidden: int = 32
    blocks: int = 1
    lu: bool = True
    alpha: float = 0.05

    def __post_init__(self) -> None:
        at_least_one(self, "scales", "steps", "hidden", "blocks")
        squeezed(self.shape, self.scales)


def _pixels(x: Array, log_det: Array) -> Array:
    """The log-determinant of what is done to every pixel alike: (B,)."""
    return ops.broadcast_to(log_det * (x.shape[1] * x.shape[2]), x.shape[:1])


class ActNorm(Module):
    """A scale and a shift for each channel, eq. (1), that the first minibatch decides, eq. (2)."""

    def __init__(self, channels: int) -> None:
        self.b: Any = constants(channels)
        self.s: Any = constants(channels)

    def start(self, x: Array) -> None:
        """Eq. (2).  A channel whose numbers are all the same, but for rounding, is shifted only."""
        values: Any = value_of(x)
        xp = backend_of(values)
        mean, var = xp.mean(values, axis=(0, 1, 2)), xp.var(values, axis=(0, 1, 2))
        self.b.assign(-mean)
        self.s.assign(-0.5 * xp.log(xp.where(var > 1e-10 * mean**2, var, xp.ones_like(var))))

    def forward_and_log_det(self, x: Array) -> Forward:
        return Forward((x + self.b) * ops.exp(self.s), _pixels(x, ops.sum(self.s)))

    def inverse(self, z: Array) -> Array:
        return z * ops.exp(-self.s) - self.b


def rotation(n: int, rng: Generator) -> Array:
    """A rotation or reflection (n, n), all equally likely: the polar factor of a matrix of normal numbers."""
    left, _, right = ops.linalg.svd(rng.standard_normal((n, n), "float64"))
    return ops.matmul(left, right)


class PLU(NamedTuple):
    """W = P·L·(U + diag d): a permutation, a unit lower triangle, a strict upper one, the pivots."""

    P: Array
    L: Array
    U: Array
    d: Array


def _exchange(rows: list[Any], i: int, j: int) -> None:
    rows[i], rows[j] = rows[j], rows[i]


def factorise(W: Array) -> PLU:
    """Eq. (4), by elimination with the largest pivot of each column.  W: a plain array (C, C), invertible."""
    xp, n = backend_of(W), W.shape[0]
    order: list[int] = list(range(n))  # rows of W, exchanged as we go
    rest: list[Any] = [W[i] for i in range(n)]  # and reduced
    multipliers: list[list[Any]] = [[] for _ in range(n)]
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(float(rest[i][k])))
        for rows in (order, rest, multipliers):
            _exchange(rows, k, pivot)
        for i in range(k + 1, n):
            multipliers[i].append(rest[i][k] / rest[k][k])
            rest[i] = rest[i] - multipliers[i][k] * rest[k]
    eye, upper = xp.eye(n, dtype=W.dtype), xp.stack(rest)
    P = xp.stack([eye[order.index(i)] for i in range(n)])
    L = xp.stack([sum((m * eye[j] for j, m in enumerate(multipliers[i])), eye[i]) for i in range(n)])
    return PLU(P, L, xp.triu(upper, 1), xp.diagonal(upper))


class Conv1x1(Module):
    """Every pixel's channels times one matrix, eq. (3).  W: where it starts, a plain array (C, C).  lu: eq. (4)."""

    def __init__(self, W: Array, lu: bool = True) -> None:
        self.lu = lu
        if not lu:
            self.W = Tensor(W)
            return
        P, L, U, d = factorise(W)
        xp = backend_of(W)
        self.P, self.sign = Tensor(P), Tensor(xp.sign(d))  # these stay
        self.L, self.U, self.log_d = Tensor(L), Tensor(U), Tensor(xp.log(xp.absolute(d)))

    def matrix(self) -> Array:
        """W."""
        if not self.lu:
            return self.W
        eye = backend_of(value_of(self.L)).eye(self.L.shape[0], dtype=self.L.dtype)
        upper = ops.triu(self.U, 1) + eye * (self.sign * ops.exp(self.log_d))
        return ops.matmul(self.P, ops.matmul(ops.tril(self.L, -1) + eye, upper))

    def log_abs_det(self) -> Array:
        """log |det W|."""
        return ops.sum(self.log_d) if self.lu else ops.linalg.slogdet(self.W).logabsdet

    def forward_and_log_det(self, x: Array) -> Forward:
        return Forward(ops.matmul(x, ops.transpose(self.matrix())), _pixels(x, self.log_abs_det()))

    def inverse(self, z: Array) -> Array:
        return ops.matmul(z, ops.transpose(ops.linalg.inv(self.matrix())))


class Glow(Density):
    """The system: images (B, H, W, C) in [−1, 1] of so many grey levels."""

    def __init__(self, config: GlowConfig, *, rng: Generator) -> None:
        self.config = config
        self.shape, self.levels = config.shape, config.levels
        self.noise = (config.shape[0] * config.shape[1] * config.shape[2],)
        channels = [c for _, _, c in squeezed(config.shape, config.scales)]
        scales = [scale(config, c, s + 1 == len(channels), rng) for s, c in enumerate(channels)]
        self.flow = Chain([Logit(config.levels, config.alpha), Scales(config.shape, scales)])

    def start(self, batch: Array, rng: Generator) -> None:
        """Eq. (2), from the first map to the last."""
        self.flow.start(dequantise.spread(batch, rng.random(batch.shape, batch.dtype), self.config.levels))

    def players(self) -> list[Player]:
        """One; P and the signs of d are no parameters of it."""
        learnt = {k: x for k, x in self.named_parameters() if not k.endswith((".P", ".sign"))}
        return [Player("model", learnt, self.loss)]


def scale(config: GlowConfig, c: int, last: bool, rng: Generator) -> Chain:
    """A squeeze to c channels, K steps, and, but for the last scale, the prior of the half that leaves."""
    flows: list[Flow] = [Squeeze()]
    for _ in range(config.steps):
        W = rotation(c, rng).astype("float32")
        net = network(c // 2, c, config.hidden, config.blocks, rng)
        flows += [ActNorm(c), Conv1x1(W, config.lu), Coupling(net, c // 2, c // 2)]
    if not last:
        flows.append(Coupling(Conv2d(c // 2, c, rng=rng, gain=0.0), c // 2, c // 2))
    return Chain(flows)
