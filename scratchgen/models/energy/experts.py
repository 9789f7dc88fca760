"""Products of experts: several densities of one x, multiplied.  Hinton (2002); composed concepts, Du et al. (2020).

    p(x) = Π_k p_k(x)/Z,      log p(x) + log Z = Σ_k log p_k(x)                         (1)  experts.product
    ∇log p(x) = Σ_k ∇log p_k(x)                                                         (2)  experts.score
    Π_k N(x; μ_k, C_k) = Z·N(x; μ, C),   C⁻¹ = Σ_k C_k⁻¹,   C⁻¹·μ = Σ_k C_k⁻¹·μ_k       (3)  experts.gaussians
    (Σ_i w_i·N_i)·(Σ_j v_j·N_j) = Σ_ij w_i·v_j·Z_ij·N_ij,      Z = Σ_ij w_i·v_j·Z_ij    (4)  experts.mixtures

Each expert may say no: where one p_k is 0, so is p.  A mixture is an OR of its parts, a product is an AND.  It is
sharper than any of its experts: precisions add up, as in (3).  What it costs is Z: for energy models energies add up,
f = Σ f_k, and again nothing but f and its gradient (2) is known.  They are all that Langevin dynamics and Metropolis's
rule need: experts that were trained apart, on different data even, are sampled together.

Gaussians are an exception.  (3) completes the square of a sum of squares; with (4), of two mixtures of K and L parts,
the product is a mixture again, of K·L parts, with a known Z: where two parts do not meet, Z_ij is next to nothing.

Everywhere: x (B, d); logarithms in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.tensor import tensor, value_of
from scratchgen.backend import active, backend_of, float64
from scratchgen.distributions import gaussian_full
from scratchgen.distributions.events import same_shape
from scratchgen.models.energy import ais, langevin, metropolis
from scratchgen.models.energy.metropolis import State
from scratchgen.models.exact import Mixture
from scratchgen.models.system import Player, System
from scratchgen.nn.module import Module
from scratchgen.random import Generator

CANDIDATES = 16  # draws of the first expert, for each one of the product


def product(parts: Sequence[Any], x: Any) -> Any:
    """Σ_k log p_k(x), eq. (1): log p(x) but for log Z, −∞ where any part is.  x: (B, d).  Returns (B,).

    parts: have `log_prob`, each up to a constant of its own.  Raises ValueError if there are none, or shapes differ.
    """
    return _total("experts.product", [part.log_prob(x) for part in parts])


def score(parts: Sequence[Any], x: Any) -> Any:
    """∇log p(x), eq. (2).  parts: have `score`.  Returns x's shape.  Raises ValueError as `product`."""
    return _total("experts.score", [part.score(x) for part in parts])


def _total(function: str, found: list[Any]) -> Any:
    if not found:
        raise ValueError(f"{function}: there is no expert")
    total, *others = found
    for other in others:
        same_shape(function, "the first expert", total.shape, another=other)
        total = total + other
    return total


class Gaussians(NamedTuple):
    """Z·N(μ, C) for each of a batch: mu (B, d), cov (B, d, d), log_Z (B,)."""

    mu: Any
    cov: Any
    log_Z: Any


def gaussians(mu: Any, cov: Any) -> Gaussians:
    """The product of K Gaussians, eq. (3), for each of a batch.  mu: (B, K, d).  cov: (B, K, d, d).

    Z is Π_k N(x; μ_k, C_k)/N(x; μ, C) at any x; at μ.  Raises ValueError if the shapes do not fit.
    """
    if mu.ndim != 3 or cov.shape != (*mu.shape, mu.shape[-1]):
        raise ValueError(f"experts.gaussians: mu {mu.shape}, cov {cov.shape} should be (B, K, d) and (B, K, d, d)")
    precisions = ops.linalg.inv(cov)
    C = ops.linalg.inv(ops.sum(precisions, axis=1))
    pulled = ops.sum(_apply(precisions, mu), axis=1)
    mean = _apply(C, pulled)
    log_Z = -gaussian_full.log_prob(mean, mean, C)
    for k in range(mu.shape[1]):
        log_Z = log_Z + gaussian_full.log_prob(mean, mu[:, k], cov[:, k])
    return Gaussians(mean, C, log_Z)


class Product(NamedTuple):
    """A normalised product, a mixture, and log Z, ()."""

    p: Mixture
    log_Z: Any


def mixtures(p: Mixture, q: Mixture) -> Product:
    """The product of two mixtures, eq. (4), of as many parts as there are pairs.  Raises ValueError as `gaussians`."""
    K, L, d = p.means.shape[0], q.means.shape[0], p.means.shape[1]

    def pairs(a: Any, b: Any) -> Any:
        """All pairs of a (K, …) and b (L, …), (K·L, 2, …), the second the faster."""
        a, b = ops.repeat(a, L, axis=0), ops.concatenate([b] * K, axis=0)
        return ops.stack([a, b], axis=1)

    mu, cov, log_Z = gaussians(pairs(p.means, q.means), pairs(p.covs, q.covs))
    logs = ops.sum(pairs(ops.log(p.weights), ops.log(q.weights)), axis=1) + log_Z
    total = ops.logsumexp(logs, axis=0)
    return Product(Mixture(ops.exp(logs - total), ops.reshape(mu, (K * L, d)), cov), total)


def _apply(A: Any, v: Any) -> Any:
    return ops.sum(A * ops.expand_dims(v, -2), axis=-1)


# --- the system ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExpertsConfig:
    """components: of each expert, a mixture.  scale: their deviation at first.  Raises ValueError for numbers that are
    not positive.
    """

    components: int = 16
    scale: float = 0.2

    def __post_init__(self) -> None:
        if self.components < 1 or not self.scale > 0:
            raise ValueError(f"ExpertsConfig: {self.components} components of scale {self.scale} should be positive")


class Expert(Module):
    """A mixture of Gaussians of the plane, w = softmax(logits), C_k = L_k·L_kᵀ: any numbers are a mixture."""

    def __init__(self, config: ExpertsConfig) -> None:
        xp, K = active(), config.components
        self.logits = tensor(xp.zeros(K, "float32"))
        self.means = tensor(xp.zeros((K, 2), "float32"))
        self.root = tensor(xp.full((K, 2, 2), log(config.scale), "float32") * xp.eye(2, dtype="float32"))

    def mixture(self) -> Mixture:
        """What the expert says."""
        eye = backend_of(value_of(self.root)).eye(2, dtype=self.root.dtype)
        L = ops.tril(self.root, -1) + eye * ops.exp(self.root)
        return Mixture(F.softmax(self.logits, axis=0), self.means, ops.matmul(L, ops.swapaxes(L, -1, -2)))


class Loss(NamedTuple):
    """Per example: −log p_k(x), in nats."""

    loss: Any


class ProductOfExperts(System):
    """Two experts, each fitted by itself: one to the points, the other to the same points after a quarter turn.

    No data of the product are ever seen.
    """

    def __init__(self, config: ExpertsConfig) -> None:
        self.config = config
        self.experts = [Expert(config), Expert(config)]

    @staticmethod
    def turned(x: Any) -> Any:
        """x after a quarter turn, (−x_2, x_1): (B, 2)."""
        return ops.stack([-x[:, 1], x[:, 0]], axis=1)

    def start(self, batch: Any, rng: Generator) -> None:
        """Means at the first points of the first minibatch.  Raises ValueError if it has too few."""
        K = self.config.components
        if batch.shape[0] < K:
            raise ValueError(f"ProductOfExperts: {batch.shape[0]} points are too few to start {K} components at")
        for expert, x in zip(self.experts, (batch, self.turned(batch)), strict=True):
            expert.means.assign(x[:K].astype(expert.means.dtype))

    def players(self) -> list[Player]:
        own = dict(self.named_parameters())
        names = ("upright", "turned")
        return [Player(name, {k: v for k, v in own.items() if k.startswith(f"experts.{i}.")}, self._loss(i))
                for i, name in enumerate(names)]  # fmt: skip

    def _loss(self, i: int) -> Callable[[Any, Any], Loss]:
        return lambda x, rng: Loss(-self.experts[i].mixture().log_prob(self.turned(x) if i else x))

    def parts(self) -> list[Mixture]:
        """The experts' densities."""
        return [expert.mixture() for expert in self.frozen().experts]

    def exact(self) -> Product:
        """The product itself, in float64."""
        p, q = (Mixture(*(value_of(x).astype(float64) for x in (m.weights, m.means, m.covs))) for m in self.parts())
        return mixtures(p, q)

    def langevin(self, x: Any, rng: Generator, steps: int, epsilon: float) -> Any:
        """x after so many steps of (langevin.step), with the sum of the experts' scores: its error is the step's."""
        parts = self.parts()
        for _ in range(steps):
            x = langevin.step(x, score(parts, x), epsilon, rng.standard_normal(x.shape, x.dtype))
        return x

    def metropolis(self, x: Any, rng: Generator, steps: int, sigma: float) -> Iterator[State]:
        """States of a random walk (mcmc.step): no score is asked for, and every expert may say no."""
        parts = self.parts()
        return metropolis.random_walk(lambda x: product(parts, x), x, sigma, steps, rng)

    def mala(self, x: Any, rng: Generator, steps: int, epsilon: float) -> Iterator[State]:
        """States of the Metropolis-adjusted walk (langevin.mala)."""
        parts = self.parts()
        log_p, slope = (lambda x: product(parts, x)), (lambda x: score(parts, x))
        state = metropolis.start(log_p, x)
        for _ in range(steps):
            z = rng.standard_normal(x.shape, x.dtype)
            state = langevin.mala(log_p, slope, state, epsilon, z, rng.random((x.shape[0],), x.dtype))
            yield state

    def anneal(self, n: int, rng: Generator, steps: int, epsilon: float) -> tuple[Any, Any]:
        """log w (n,) and x (n, 2) of walks (ais.weight) from draws of the first expert, p_1·p_2^β with β from 0 to 1.

        With the weights w, x is a sample of the product; the mean of w estimates Z.
        """
        first, second = self.parts()

        def log_g(x: Any, beta: float) -> Any:
            return first.log_prob(x) + beta * second.log_prob(x)

        def step(x: Any, beta: float) -> Any:
            slope = lambda x: first.score(x) + beta * second.score(x)  # noqa: E731
            here = metropolis.start(lambda x: log_g(x, beta), x)
            z = rng.standard_normal(x.shape, x.dtype)
            u = rng.random((x.shape[0],), x.dtype)
            return langevin.mala(lambda x: log_g(x, beta), slope, here, epsilon, z, u).x

        return ais.anneal(log_g, step, first.sample(rng, n), [k / steps for k in range(steps + 1)])

    def sample(self, n: int, rng: Generator, steps: int = 60, epsilon: float = 0.003) -> Any:
        """n points of the product, (n, 2): of sixteen times as many draws of the first expert, each taken as often as
        the second says, and then moved apart by so many steps of MALA.
        """
        log_w, x = self.anneal(CANDIDATES * n, rng, 1, epsilon)
        below = active().cumsum(F.softmax(log_w.astype(float64), axis=0))
        u = (active().arange(n).astype(float64) + rng.random((1,), float64)) / n  # evenly spread
        x = x[active().minimum(active().searchsorted(below, u, side="right"), log_w.shape[0] - 1)]
        for state in self.mala(x, rng, steps, epsilon):
            x = state.x
        return x
