"""One Gaussian for many, by either direction of the Kullback–Leibler divergence.  Bishop (2006), §10.1.2.

    forward:    KL(p‖q) = E_{x~p} (log p(x) − log q(x))                                 (1)  directions.forward
    reverse:    KL(q‖p) = E_ε (log q(x) − log p(x)),   x = μ + L·ε,   ε ~ N(0, I)       (2)  directions.reverse
    q = N(μ, L·Lᵀ),   L lower triangular, its diagonal positive                         (3)  directions.normal

(1) needs draws of p and no formula for it: what depends on q is −E_p log q, so that this is maximum likelihood.  Its
best q has p's mean and covariance, and covers all of p, with mass where p has none.  (2) needs p's formula and no draws
of it: those are q's own, and follow μ and L as these move.  Its best q sits on one mode, whichever is near, and does
not know of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import Array, active
from scratchgen.distributions import gaussian_full
from scratchgen.models.exact import Mixture
from scratchgen.models.system import Player, System
from scratchgen.nn.module import Module
from scratchgen.random import Generator


class Normal(Module):
    """q = N(μ, L·Lᵀ), eq. (3), with log L_ii and the rest of L as its parameters: any numbers are a Gaussian."""

    def __init__(self, mean: Any, scale: float = 1.0) -> None:
        """N(mean, scale²·I).  mean: d numbers."""
        xp, d = active(), len(mean)
        self.mu = Tensor(xp.asarray(mean, "float32"))
        self.root = Tensor(xp.log(xp.asarray(scale, "float32")) * xp.eye(d, dtype="float32"))

    def factor(self) -> Any:
        """L, (d, d)."""
        return ops.tril(self.root, -1) + ops.diag(ops.exp(ops.diagonal(self.root)))

    def cov(self) -> Any:
        """L·Lᵀ, (d, d)."""
        L = self.factor()
        return ops.matmul(L, ops.transpose(L))

    def log_prob(self, x: Array) -> Any:
        """log q(x).  x: (B, d).  Returns (B,), in nats."""
        return gaussian_full.log_prob(x, ops.expand_dims(self.mu, 0), self.cov())

    def transport(self, eps: Array) -> Any:
        """μ + L·ε, which is ~ q for ε ~ N(0, I).  eps: (B, d).  Returns (B, d)."""
        return self.mu + ops.matmul(eps, ops.transpose(self.factor()))


def forward(p: Any, q: Any, x: Array) -> Array:
    """log p(x) − log q(x), eq. (1): KL(p‖q) in the mean over x ~ p.

    p, q: have `log_prob`.  x: (B, d), draws of p.  Returns (B,), in nats.
    """
    return p.log_prob(x) - q.log_prob(x)


def reverse(p: Any, q: Normal, eps: Array) -> Array:
    """log q(x) − log p(x) at x = μ + L·ε, eq. (2): KL(q‖p) in the mean over ε, and so its gradient in μ and L.

    p: has `log_prob`, up to a constant.  eps: (B, d), draws of N(0, I).  Returns (B,), in nats.
    """
    x = q.transport(eps)
    return q.log_prob(x) - p.log_prob(x)


@dataclass(frozen=True)
class DirectionsConfig:
    """weights, means, covs: p, a mixture.  starts: where the Gaussians of the reverse direction begin, one each; the
    forward one begins between them.  scale: the deviation of all at first.  Raises ValueError if there is no start.
    """

    weights: tuple[float, ...] = (0.6, 0.4)
    means: tuple[tuple[float, ...], ...] = ((-1.5, -0.6), (1.5, 0.7))
    covs: tuple[tuple[tuple[float, ...], ...], ...] = (((0.25, 0.12), (0.12, 0.2)), ((0.2, -0.1), (-0.1, 0.3)))
    starts: tuple[tuple[float, ...], ...] = ((-1.0, 0.5), (1.0, -0.5))
    scale: float = 0.5

    def __post_init__(self) -> None:
        if not self.starts:
            raise ValueError("DirectionsConfig: there is no start")


class Loss(NamedTuple):
    """Per example: eq. (1), or (2)."""

    loss: Any


class Directions(System):
    """The system: a Gaussian for the forward direction, and one for each start of the reverse; the data are p's draws.

    They do not meet: each is a player by itself.
    """

    def __init__(self, config: DirectionsConfig, *, rng: Generator) -> None:
        self.config = config
        n = len(config.starts)
        self.forward = Normal([sum(column) / n for column in zip(*config.starts, strict=True)], config.scale)
        self.reverse = [Normal(start, config.scale) for start in config.starts]

    def p(self, dtype: Any = "float32") -> Mixture:
        """The mixture that is to be approximated."""
        xp, c = active(), self.config
        return Mixture(*(xp.constant(part, dtype) for part in (c.weights, c.means, c.covs)))

    def forward_loss(self, x: Any, rng: Generator) -> Loss:
        """Eq. (1) on the data."""
        return Loss(forward(self.p(x.dtype), self.forward, x))

    def players(self) -> list[Player]:
        """The forward Gaussian, then the reverse ones."""
        def follow(q: Normal) -> Any:
            """Eq. (2) on as many draws of q as there are data."""
            return lambda x, rng: Loss(reverse(self.p(x.dtype), q, rng.standard_normal(x.shape, x.dtype)))

        own = dict(self.named_parameters())
        found = [Player("forward", {k: v for k, v in own.items() if k.startswith("forward.")}, self.forward_loss)]
        for i, q in enumerate(self.reverse):
            mine = {k: v for k, v in own.items() if k.startswith(f"reverse.{i}.")}
            found.append(Player(f"reverse_{i + 1}", mine, follow(q)))
        return found

    def sample(self, n: int, rng: Generator) -> Any:
        """n points of the likeliest Gaussian, the forward one's."""
        q = self.frozen().forward
        return q.transport(rng.standard_normal((n, len(self.config.starts[0])), q.mu.dtype))

    def log_prob(self, x: Any) -> Any:
        """log q(x) of the forward Gaussian.  x: (B, d).  Returns (B,), in nats."""
        return self.forward.log_prob(x)
