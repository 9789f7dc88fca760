"""A classifier that is told in which directions an example stays what it is.  Simard, Victorri, LeCun & Denker (1992).

    Ω[f] = Σ_j ‖(∂f/∂x)·v_j‖²                                                             (1)  tangents.prop
    L    = −log p(y|x) + λ·Ω[f],   p(·|x) = softmax f(x)

A label says what f should be at one point; tangents v_j say that it should not change from there along them, so that
f is right of examples that it has not seen: those that are moved a little.  Tangents may be known, as of an image that
is shifted or turned, or be those of a code (tangents.vectors); but where a code's directions lead from one class to
another, (1) teaches what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.models.latent.contractive import code_jacobian
from scratchgen.models.latent.tangents import tangent_prop
from scratchgen.models.system import System
from scratchgen.nn.mlp import MLP
from scratchgen.random import Generator


@dataclass(frozen=True)
class TangentConfig:
    """shape: of one x.  classes: K.  width: of the perceptron's hidden layer.  weight: λ.
    Raises ValueError for what makes no classifier."""

    shape: tuple[int, ...] = (8, 8, 1)
    classes: int = 10
    width: int = 64
    weight: float = 0.1

    def __post_init__(self) -> None:
        if min(self.classes, self.width, *self.shape) < 1 or self.weight < 0:
            raise ValueError(f"TangentConfig: classes, width and shape must be positive, weight not negative: {self}")


class Loss(NamedTuple):
    """Per example (B,): the loss that is minimised, −log p(y|x) in nats, and Ω, where λ asks for it."""

    loss: Any
    surprise: Any
    change: Any


class TangentClassifier(System):
    """The system; its minibatches are (x, labels, tangents): (B, …), (B,) and (B, r, D)."""

    def __init__(self, config: TangentConfig, *, rng: Generator) -> None:
        self.config = config
        self.net = MLP(prod(config.shape), config.width, config.classes, rng=rng)

    def logits(self, x: Any) -> Any:
        """f(x), (B, K).  x: (B, …)."""
        return self.net(ops.reshape(x, (x.shape[0], -1)))

    def loss(self, batch: Any, rng: Generator) -> Loss:
        """−log p(y|x) + λ·Ω.  Nothing in it is drawn."""
        x, labels, v = batch
        surprise = F.cross_entropy(self.logits(x), labels)
        if not self.config.weight:
            return Loss(surprise, surprise, 0 * surprise)
        change = tangent_prop(code_jacobian(self.logits, x), v)
        return Loss(surprise + self.config.weight * change, surprise, change)

    def classify(self, x: Any) -> Any:
        """The likeliest class of each, (B,) integers.  x: (B, …)."""
        return self.frozen().logits(x).argmax(axis=1)
