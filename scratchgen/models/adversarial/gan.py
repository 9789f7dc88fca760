"""Generative adversarial networks.  Goodfellow et al. (2014), arXiv:1406.2661.

A generator G makes examples out of noise, x = G(z); a discriminator D guesses of each example whether it is real.
Each learns from the other's mistakes.  With D = σ(l), l the network's logit, and p_g the law of G(z):

    V(D, G) = E_{x~p_r} log D(x) + E_z log(1 − D(G(z)))                                 (1)  gan.value
    max_D V:    D*(x) = p_r(x)/(p_r(x) + p_g(x)),   l* = log p_r(x) − log p_g(x)        (2)  gan.optimal
                V(D*, G) = 2·JS(p_r, p_g) − log 4                                       (3)  gan.best_value
    min_G V:    G descends  log(1 − D(G(z))),   of slope −D in the logit                (4)  gan.minimax
    or rather:  G descends  −log D(G(z)),       of slope −(1 − D)                       (5)  gan.non_saturating

Point by point, p_r·log D + p_g·log(1 − D) is largest at (2).  There V is (3), least where p_g = p_r: then D* = ½
everywhere, and V = −log 4.  But a discriminator that is sure of itself, D(G(z)) ≈ 0, leaves (4) no slope just when the
generator has most to learn: (4) saturates.  (5) wants the same, and its slope is largest there.

A turn is Algorithm 1: k minibatches for the discriminator, then one for the generator.  There is no log p(x) to be had:
p_g is only ever sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, log, pi, prod, sin
from typing import Any, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.transforms import stop_gradient
from scratchgen.backend import Array
from scratchgen.distributions import divergence
from scratchgen.distributions.events import alike
from scratchgen.models.system import Player, System
from scratchgen.nn.mlp import MLP
from scratchgen.nn.settings import at_least_one
from scratchgen.random import Generator


def value(real: Array, fake: Array) -> Array:
    """log D(x) + log(1 − D(G(z))), whose mean is V, eq. (1).

    real, fake: the logits of D on real and on generated examples, (B,) each.  Returns (B,), in nats, at most 0.
    Raises ValueError if the shapes differ.
    """
    alike("gan.value", "real", real, fake=fake)
    return F.log_sigmoid(real) + F.log_sigmoid(-fake)


def optimal(log_p_r: Array, log_p_g: Array) -> Array:
    """The logit of D*, eq. (2): what the best discriminator knows of two laws is the ratio of their densities.

    log_p_r, log_p_g: log-densities at the same points, (…).  Returns (…); D* is its sigmoid.
    Raises ValueError if the shapes differ.
    """
    alike("gan.optimal", "log_p_r", log_p_r, log_p_g=log_p_g)
    return log_p_r - log_p_g


def best_value(log_p_r: Array, log_p_g: Array, weights: Array = 1.0) -> Array:
    """V(D*, G), eq. (3): from −log 4, for equal laws, to 0, for those that share no point.

    log_p_r, log_p_g: (…, N), at points whose weights are those of `divergence`.  Returns (…), in nats.
    Raises ValueError if the shapes do not fit.
    """
    return 2 * divergence.js(log_p_r, log_p_g, weights) - log(4)


def minimax(fake: Array) -> Array:
    """log(1 − D(G(z))), which the generator of eq. (4) descends.  fake: logits (B,).  Returns (B,), in nats."""
    return F.log_sigmoid(-fake)


def non_saturating(fake: Array) -> Array:
    """−log D(G(z)), which the generator of eq. (5) descends.  fake: logits (B,).  Returns (B,), in nats."""
    return -F.log_sigmoid(fake)


@dataclass(frozen=True)
class AdversarialConfig:
    """shape: of one example.  latent: numbers in z.  width, depth: of both perceptrons.  k: minibatches of the
    discriminator a turn.  noise: the deviation of what is added to all that the discriminator sees.  bounded: examples
    lie in [−1, 1].  levels: grey levels of the data, None if it is continuous.
    Raises ValueError for numbers that make no game.
    """

    shape: tuple[int, ...] = (8, 8, 1)
    latent: int = 32
    width: int = 256
    depth: int = 3
    k: int = 1
    noise: float = 0.5
    bounded: bool = True
    levels: int | None = 17

    def __post_init__(self) -> None:
        at_least_one(self, "latent", "width", "depth", "k")
        if self.noise < 0:
            raise ValueError(f"{type(self).__name__}: noise must not be negative, not {self.noise}")


class Adversarial(System):
    """Two perceptrons: a generator G from noise to examples, and a discriminator from examples to one number."""

    opponent = "discriminator"
    """What the generator's opponent is called in the log."""

    def __init__(self, config: Any, *, rng: Generator) -> None:
        self.config = config
        size, hidden = prod(config.shape), [config.width] * config.depth
        self.generator = MLP(config.latent, *hidden, size, rng=rng)
        self.discriminator = MLP(size, *hidden, 1, rng=rng)

    def generate(self, z: Any) -> Any:
        """G(z).  z: (B, latent).  Returns (B, …), in (−1, 1) where the data is bounded."""
        x = self.generator(z)
        x = ops.tanh(x) if self.config.bounded else x
        return ops.reshape(x, (z.shape[0], *self.config.shape))

    def score(self, x: Any) -> Any:
        """What the discriminator says of x, the larger the more real: a GAN's logit.  x: (B, …).  Returns (B,)."""
        return self.discriminator(ops.reshape(x, (x.shape[0], -1)))[:, 0]

    def prior(self, n: int, rng: Generator) -> Any:
        """z ~ N(0, I), n of them, in the network's precision."""
        return rng.standard_normal((n, self.config.latent), self.generator.layers[0].w.dtype)

    def blurred(self, x: Any, rng: Generator) -> Any:
        """x with noise on it, as the discriminator sees everything while it is trained."""
        return x + self.config.noise * rng.standard_normal(x.shape, x.dtype) if self.config.noise else x

    def discriminator_loss(self, x: Any, rng: Generator) -> Any:
        """What the discriminator descends, for a fixed generator."""
        raise NotImplementedError

    def generator_loss(self, x: Any, rng: Generator) -> Any:
        """What the generator descends, for a fixed discriminator; of x only the number of examples is looked at."""
        raise NotImplementedError

    def after(self, x: Any, rng: Generator) -> None:
        """What follows a step of the discriminator; by default nothing."""

    def players(self) -> list[Player]:
        """The discriminator, for k minibatches, and the generator, for one."""
        own = {side: {name: x for name, x in self.named_parameters() if name.startswith(side)}
               for side in ("discriminator.", "generator.")}  # fmt: skip
        k = self.config.k
        return [
            Player(self.opponent, own["discriminator."], self.discriminator_loss, k, self.after),
            Player("generator", own["generator."], self.generator_loss),
        ]

    def sample(self, n: int, rng: Generator) -> Any:
        """n examples (n, …): one pass through the generator."""
        return self.frozen().generate(self.prior(n, rng))

    def between(self, z0: Any, z1: Any, n: int) -> Iterator[Any]:
        """G(cos φ·z_0 + sin φ·z_1) at n angles φ from 0 to π/2.

        If z_0 and z_1 are independent and ~ N(0, I), so is every point of this way; the straight one between them
        leads past the places where z hardly ever is.
        """
        net = self.frozen()
        for i in range(n):
            phi = pi / 2 * i / max(n - 1, 1)
            yield net.generate(cos(phi) * z0 + sin(phi) * z1)


@dataclass(frozen=True)
class GANConfig(AdversarialConfig):
    """saturating: eq. (4) for (5).

    Without the noise the discriminator would tell real images by their few grey levels, and learn them by heart
    (Arjovsky & Bottou 2017, arXiv:1701.04862, §3).
    """

    saturating: bool = False


class DiscriminatorLoss(NamedTuple):
    """Per example: −V, and what the discriminator thinks of a real example, D(x), and of a generated one, D(G(z))."""

    loss: Any
    real: Any
    fake: Any


class GeneratorLoss(NamedTuple):
    """Per example: eq. (5), or (4)."""

    loss: Any


class GAN(Adversarial):
    """The system of Algorithm 1."""

    def discriminator_loss(self, x: Any, rng: Generator) -> DiscriminatorLoss:
        """−V, eq. (1)."""
        made = stop_gradient(self.generate(self.prior(x.shape[0], rng)))
        real, fake = self.score(self.blurred(x, rng)), self.score(self.blurred(made, rng))
        return DiscriminatorLoss(-value(real, fake), F.sigmoid(real), F.sigmoid(fake))

    def generator_loss(self, x: Any, rng: Generator) -> GeneratorLoss:
        """Eq. (5), or (4)."""
        fake = self.score(self.blurred(self.generate(self.prior(x.shape[0], rng)), rng))
        return GeneratorLoss((minimax if self.config.saturating else non_saturating)(fake))
