"""Wasserstein GANs.  Arjovsky, Chintala & Bottou (2017), arXiv:1701.07875; Gulrajani et al. (2017), arXiv:1704.00028.

How much earth must be moved, times how far, to turn one law into the other?  Unlike JS, that distance has a slope even
where two laws share no point.  By duality it is the most by which a function of slope at most 1 can tell them apart:

    W(p_r, p_g) = max_{‖f‖_L ≤ 1} E_{x~p_r} f(x) − E_z f(G(z))                          (1)  wgan.dual
    clipping:   w ← min(max(w, −c), c) after every step of f                            (2)  wgan.clip
                ‖f‖_L ≤ Π_l ‖W_l‖₂·s^{L−1},   s the largest slope of the activation     (3)  wgan.lipschitz
    or penalty: x̂ = u·x + (1−u)·G(z),   u ~ U(0, 1), one for each example               (4)  wgan.interpolate
                L = E f(G(z)) − E f(x) + λ·E (‖∇f(x̂)‖ − 1)²                             (5)  wgan.penalty

f, the critic, ascends (1) and G descends it.  It is no discriminator: f(x) is any number, and neither is a probability.
Clipped weights (2) bound the slope by (3), for some bound that is hardly ever 1: the critic then finds a multiple of W
at best.  The best f has slope 1 along the lines on which earth is moved, almost everywhere; so (5) asks for that on the
lines between real and generated examples, and its gradient in the weights is a derivative of a derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd.transforms import grad, stop_gradient
from scratchgen.backend import Array
from scratchgen.distributions.events import alike, same_shape
from scratchgen.models.adversarial.gan import Adversarial, AdversarialConfig
from scratchgen.random import Generator


def dual(real: Array, fake: Array) -> Array:
    """f(x) − f(G(z)), whose mean is what the critic ascends, eq. (1): at most W where f has slope at most 1.

    real, fake: the critic's values, (B,) each.  Returns (B,), in the units of x.  Raises ValueError if shapes differ.
    """
    alike("wgan.dual", "real", real, fake=fake)
    return real - fake


def clip(w: Array, c: float) -> Array:
    """A weight, or an array of them, brought into [−c, c], eq. (2)."""
    return ops.clip(w, -c, c)


def lipschitz(matrices: Sequence[Array], slope: float = 1.0) -> Array:
    """A bound on how steep a perceptron can be, eq. (3): the product of its matrices' largest singular values.

    matrices: W_1 … W_L, (n, m) each.  slope: the largest of the activation between them, in absolute value.
    """
    bound: Any = slope ** (len(matrices) - 1)
    for w in matrices:
        bound = bound * ops.linalg.norm(w, 2)
    return bound


def interpolate(real: Array, fake: Array, u: Array) -> Array:
    """x̂, points on the lines between pairs, eq. (4).

    real, fake: (B, …).  u: (B,), in [0, 1].  Returns (B, …).  Raises ValueError if the shapes do not fit.
    """
    alike("wgan.interpolate", "real", real, fake=fake)
    same_shape("wgan.interpolate", "the batch", real.shape[:1], u=u)
    u = ops.reshape(u, (-1,) + (1,) * (real.ndim - 1))
    return u * real + (1 - u) * fake


def slopes(f: Callable[[Any], Any], x: Array) -> Array:
    """‖∇f(x)‖ for each example by itself, (B,), eq. (5).  f: (B, …) ↦ (B,), each from its own example.  x: (B, …)."""
    gradient = grad(lambda points: ops.sum(f(points)))(x)
    return ops.linalg.norm(ops.reshape(gradient, (x.shape[0], -1)), axis=1)


def penalty(f: Callable[[Any], Any], x: Array) -> Array:
    """(‖∇f(x)‖ − 1)² for each example, (B,), eq. (5); to be differentiated in f's weights."""
    return ops.square(slopes(f, x) - 1)


@dataclass(frozen=True)
class WGANConfig(AdversarialConfig):
    """penalty: λ of eq. (5); None: clipping, eq. (2), to `clip`.  Raises ValueError for numbers that make no game."""

    width: int = 192
    k: int = 2
    noise: float = 0.2
    penalty: float | None = 10.0
    clip: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip <= 0:
            raise ValueError(f"WGANConfig: clip must be positive, not {self.clip}")
        if self.penalty is not None and self.penalty < 0:
            raise ValueError(f"WGANConfig: penalty must not be negative, not {self.penalty}")


class CriticLoss(NamedTuple):
    """Per example: what the critic descends, and f(x) − f(G(z)), whose mean estimates W."""

    loss: Any
    distance: Any


class GeneratorLoss(NamedTuple):
    """Per example: −f(G(z))."""

    loss: Any


class WGAN(Adversarial):
    """The system: f is the discriminator's number itself."""

    opponent = "critic"

    def discriminator_loss(self, x: Any, rng: Generator) -> CriticLoss:
        """−(1), with the penalty of eq. (5) if there is one."""
        made = stop_gradient(self.generate(self.prior(x.shape[0], rng)))
        x, made = self.blurred(x, rng), self.blurred(made, rng)
        distance = dual(self.score(x), self.score(made))
        if self.config.penalty is None:
            return CriticLoss(-distance, distance)
        between = interpolate(x, made, rng.random(x.shape[:1], x.dtype))
        return CriticLoss(self.config.penalty * penalty(self.score, between) - distance, distance)

    def generator_loss(self, x: Any, rng: Generator) -> GeneratorLoss:
        """−f(G(z)): what of eq. (1) the generator can change."""
        return GeneratorLoss(-self.score(self.blurred(self.generate(self.prior(x.shape[0], rng)), rng)))

    def after(self, x: Any, rng: Generator) -> None:
        """Eq. (2), where there is no penalty."""
        if self.config.penalty is None:
            for w in self.discriminator.parameters():
                w.assign(clip(w.array, self.config.clip))
