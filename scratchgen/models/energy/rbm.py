"""The restricted Boltzmann machine.  Smolensky (1986); Hinton (2002); its constant: Salakhutdinov & Murray (2008).

Pixels x ∈ {0, 1}ⁿ and hidden units z ∈ {0, 1}ᵐ.  Restricted: each x_i is coupled to each z_j, and to no other x; given
one side, the units of the other are independent, and that is all that makes the machine tractable.

    E(x, z) = −xᵀWz − b·x − c·z,      p(x, z) = e^−E/Z                                  (1)  rbm.energy
    p(z_j = 1 | x) = σ(c_j + Σ_i x_i·w_ij)                                              (2)  rbm.hidden
    p(x_i = 1 | z) = σ(b_i + Σ_j w_ij·z_j)                                              (3)  rbm.visible
    z ~ p(z | x),   x' ~ p(x | z):  all units of a side at once                         (4)  rbm.gibbs
    F(x) = −log Σ_z e^−E(x, z) = −b·x − Σ_j log(1 + e^(c_j + Σ_i x_i·w_ij))             (5)  rbm.free_energy
    Z = Σ_x e^−F(x) = Σ_z e^(c·z)·Π_i (1 + e^(b_i + Σ_j w_ij·z_j))                      (6)  rbm.log_z
    Σ_i log p(x_i | all others) ≈ n·log σ(F(x̃) − F(x)),   x̃: x with one pixel flipped   (7)  rbm.pseudo
    W_β = β·W,   c_β = β·c,   b_β = (1−β)·b_0 + β·b                                     (8)  rbm.bridge
    p(x | y) ∝ p(x)·e^(Σ_i h·(2y_i−1)·x_i),   h = log((1−ρ)/ρ)                          (9)  rbm.posterior

p(x) = e^−F(x)/Z is an energy model with f = −F, fitted by contrastive divergence, where (4) is the chain.  With 2ᵐ
states of the smaller side, (6) is an exact Z for m ≤ 20 or so; beyond, annealing leads to Z along the machines (8),
from one of independent pixels, whose Z_0 = 2ᵐ·Π(1 + e^b_0) is known.  (7) needs no Z; its mean over i ~ U{1 … n} is the
pseudo-likelihood (Besag 1975), which training logs.  (9): y is x with each pixel flipped with probability ρ; what x was
is again a question to an RBM, with other biases b.

Everywhere: x (B, n) and z (B, m) of 0 and 1, floats; logarithms in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import log
from typing import Any, Literal, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import active, backend_of, float64
from scratchgen.distributions import bernoulli
from scratchgen.models.energy import ais, contrastive
from scratchgen.models.system import Player, System
from scratchgen.nn.layers import constants
from scratchgen.nn.settings import at_least_one
from scratchgen.random import Generator

ENUMERABLE = 20  # units of a side whose states can be counted


class Weights(NamedTuple):
    """W: (n, m), couplings.  b: (n,), of the pixels, or one row per example, (B, n).  c: (m,), of the hidden units."""

    W: Any
    b: Any
    c: Any


def energy(weights: Weights, x: Any, z: Any) -> Any:
    """E(x, z), eq. (1).  x: (B, n).  z: (B, m).  Returns (B,).  Raises ValueError if the shapes do not fit."""
    _fits(weights, x, z)
    return -(_rows(ops.matmul(x, weights.W) * z) + _rows(weights.b * x) + _rows(weights.c * z))


def hidden_logits(weights: Weights, x: Any) -> Any:
    """log p(z_j = 1 | x)/p(z_j = 0 | x), eq. (2).  x: (B, n), also grey.  Returns (B, m)."""
    _fits(weights, x)
    return ops.matmul(x, weights.W) + weights.c


def visible_logits(weights: Weights, z: Any) -> Any:
    """log p(x_i = 1 | z)/p(x_i = 0 | z), eq. (3).  z: (B, m), also grey.  Returns (B, n)."""
    _fits(weights, None, z)
    return ops.matmul(z, ops.transpose(weights.W)) + weights.b


def gibbs(weights: Weights, x: Any, u_z: Any, u_x: Any) -> Any:
    """x' by one step of block Gibbs sampling, eq. (4).  u_z: U[0, 1), (B, m).  u_x: U[0, 1), (B, n).  A plain array."""
    z = bernoulli.sample(None, hidden_logits(weights, x), u_z)
    return bernoulli.sample(None, visible_logits(weights, z), u_x)


def free_energy(weights: Weights, x: Any) -> Any:
    """F(x), eq. (5): the energy with the hidden units summed out.  x: (B, n).  Returns (B,)."""
    return -(_rows(weights.b * x) + _rows(F.softplus(hidden_logits(weights, x))))


def log_Z(weights: Weights) -> Any:
    """log Z, eq. (6), exactly: a sum over all states of the smaller side.  Returns a number's array, ().

    b: (n,).  Raises ValueError where both sides have more than 20 units.
    """
    W, b, c = weights
    if W.shape[0] < W.shape[1]:
        W, b, c = ops.transpose(W), c, b  # the sides change places
    if W.shape[1] > ENUMERABLE:
        raise ValueError(f"rbm.log_Z: 2^{W.shape[1]} states are too many to count; use annealing")
    z = states(W.shape[1], W)
    return ops.logsumexp(ops.matmul(z, c) + _rows(F.softplus(ops.matmul(z, ops.transpose(W)) + b)), axis=0)


def states(m: int, like: Any) -> Any:
    """All 2ᵐ states of m units, (2ᵐ, m), 0 and 1 in the precision of an array."""
    xp, dtype = backend_of(value_of(like)), like.dtype
    return (xp.arange(2**m)[:, None] // 2 ** xp.arange(m) % 2).astype(dtype)


def pseudo_log_likelihood(weights: Weights, x: Any, i: Any) -> Any:
    """n·log p(x_i | all other pixels), eq. (7).  x: (B, n).  i: plain integers (B,), one pixel each.  Returns (B,)."""
    n = x.shape[1]
    flipped = ops.absolute(x - F.one_hot(i, n, x.dtype))
    return n * F.log_sigmoid(free_energy(weights, flipped) - free_energy(weights, x))


def bridge(weights: Weights, base: Any, beta: float) -> Weights:
    """The machine at β on the way from independent pixels, β = 0, eq. (8).  base: b_0, (n,)."""
    W, b, c = weights
    return Weights(beta * W, (1 - beta) * base + beta * b, beta * c)


def base_log_Z(weights: Weights, base: Any) -> Any:
    """log Z_0 of the machine at β = 0, eq. (8): m hidden units that nothing hangs on, n pixels with biases b_0."""
    return weights.c.shape[0] * log(2) + ops.sum(F.softplus(base))


def posterior(weights: Weights, y: Any, rho: Any) -> Weights:
    """The machine of p(x | y), eq. (9), with biases (B, n).  y: (B, n), noisy.

    rho: ρ, in (0, 1), how often a pixel is flipped: a number, or one for each pixel, (n,); ½ says nothing of x_i.
    Raises ValueError for a number outside.
    """
    if type(rho) is float and not 0 < rho < 1:
        raise ValueError(f"rbm.posterior: rho = {rho} should lie between 0 and 1")
    h = log((1 - rho) / rho) if type(rho) is float else ops.log((1 - rho) / rho)
    return weights._replace(b=weights.b + h * (2 * y - 1))


def _rows(x: Any) -> Any:
    return ops.sum(x, axis=-1)


def _fits(weights: Weights, x: Any = None, z: Any = None) -> None:
    n, m = weights.W.shape
    for name, units, width in (("x", x, n), ("z", z, m)):
        if units is not None and (units.ndim != 2 or units.shape[1] != width):
            raise ValueError(f"rbm: {name} {units.shape} should be (B, {width})")


# --- the system ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RBMConfig:
    """pixels: n.  hidden: m.  method: "pcd", chains that go on from update to update, or "cd", which start at the data
    each time.  k: Gibbs steps of an update.  chains: of "pcd".  Raises ValueError for a number below 1.
    """

    pixels: int = 64
    hidden: int = 128
    method: Literal["pcd", "cd"] = "pcd"
    k: int = 5
    chains: int = 100

    def __post_init__(self) -> None:
        at_least_one(self, "pixels", "hidden", "k", "chains")
        if self.method not in ("pcd", "cd"):
            raise ValueError(f"RBMConfig: method is 'pcd' or 'cd', not {self.method!r}")


class Loss(NamedTuple):
    """Per example: the loss that is descended, whose value means nothing, and the pseudo-likelihood in nats."""

    loss: Any
    pseudo: Any


class RBM(System):
    """The system.  Its data are rows of pixels, (B, n), of 0 and 1.  Its memory is the state of the chains."""

    def __init__(self, config: RBMConfig, *, rng: Generator) -> None:
        self.config = config
        n, m = config.pixels, config.hidden
        self.W = Tensor(0.01 * rng.standard_normal((n, m)))
        self.b, self.c = constants(n), constants(m)
        self.chain = Tensor(active().zeros((config.chains, n), "float32"))

    @property
    def weights(self) -> Weights:
        return Weights(self.W, self.b, self.c)

    def players(self) -> list[Player]:
        return [Player("model", {"W": self.W, "b": self.b, "c": self.c}, self.loss)]

    def start(self, batch: Any, rng: Generator) -> None:
        """Independent pixels, as often 1 as in the first minibatch (Hinton 2012, §8), in weights and chains."""
        share = (ops.sum(batch, axis=0) + 1) / (batch.shape[0] + 2)
        self.b.assign((ops.log(share) - ops.log(1 - share)).astype(self.b.dtype))
        self.chain.assign(self.prior(self.config.chains, rng, self.b.array))

    def loss(self, x: Any, rng: Generator) -> Loss:
        """Contrastive divergence (contrastive.cd, contrastive.persistent) with f = −F."""
        now = self.frozen()
        if self.config.method == "cd":
            found = contrastive.cd(self.f, x, lambda v: now.step(v, rng), self.config.k)
        else:
            found, chain = contrastive.persistent(self.f, x, now.chain, lambda v: now.step(v, rng), self.config.k)
            self.chain.assign(chain)
        i = rng.integers(0, self.config.pixels, (x.shape[0],))
        return Loss(found.loss, pseudo_log_likelihood(now.weights, x, i))

    def f(self, x: Any) -> Any:
        """f = −F, log p(x) + log Z.  x: (B, n).  Returns (B,)."""
        return -free_energy(self.weights, x)

    def step(self, x: Any, rng: Generator, weights: Weights | None = None) -> Any:
        """One step of block Gibbs sampling, for these weights or others."""
        u_z = rng.random((x.shape[0], self.config.hidden), x.dtype)
        return gibbs(self.weights if weights is None else weights, x, u_z, rng.random(x.shape, x.dtype))

    def prior(self, n: int, rng: Generator, base: Any) -> Any:
        """n rows of independent pixels with biases `base`, (n, pixels)."""
        logits = ops.broadcast_to(base, (n, self.config.pixels))
        return bernoulli.sample(rng, logits)

    def chains(self, x: Any, rng: Generator, steps: int, weights: Weights | None = None) -> Iterator[Any]:
        """x after 1, 2, …, `steps` steps of block Gibbs sampling; with the weights of (9), denoising."""
        net = self.frozen()
        for _ in range(steps):
            x = net.step(x, rng, weights)
            yield x

    def sample(self, n: int, rng: Generator, steps: int = 1000) -> Any:
        """Where n chains are after so many steps that begin as independent pixels: (n, pixels)."""
        x = self.prior(n, rng, self.frozen().b)
        for after in self.chains(x, rng, steps):
            x = after
        return x

    def restore(self, y: Any, rho: Any, rng: Generator, steps: int, burn: int) -> Any:
        """E[x | y], (B, n): the mean of p(x_i = 1 | z) over the steps of the chain after the first `burn`, eq. (9).

        y: (B, n), noisy.  rho: as in `posterior`.
        """
        weights = posterior(self.frozen().weights, y, rho)
        total: Any = 0.0
        for x in islice(self.chains(y, rng, steps, weights), burn, None):
            z = bernoulli.sample(rng, hidden_logits(weights, x))
            total = total + F.sigmoid(visible_logits(weights, z))
        return total / (steps - burn)

    def anneal(self, n: int, rng: Generator, steps: int, base: Any) -> tuple[Any, Any]:
        """log w, (n,) float64, of n annealed walks of so many steps from independent pixels, and log Z_0.

        base: b_0, (pixels,).
        """
        net = self.frozen()
        weights = net.weights

        def log_g(x: Any, beta: float) -> Any:
            return -free_energy(bridge(weights, base, beta), x)

        def step(x: Any, beta: float) -> Any:
            return net.step(x, rng, bridge(weights, base, beta))

        betas = [k / steps for k in range(steps + 1)]
        log_w, _ = ais.anneal(log_g, step, self.prior(n, rng, base), betas)
        return log_w.astype(float64), base_log_Z(weights, base)

    def log_prob(self, x: Any, log_Z: Any) -> Any:
        """log p(x) = −F(x) − log Z, (B,), given log Z: exact, or annealing's estimate."""
        return self.f(x) - log_Z
