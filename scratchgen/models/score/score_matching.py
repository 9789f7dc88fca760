"""Score matching on points, by three objectives at once.  Hyvärinen (2005); Song, Garg, Shi & Ermon (2019).

Three networks of one shape, from the same initial weights, learn ∇log p from the points alone, each by an objective
that differs from Fisher's divergence (score.fisher) by a constant, in the mean:

    exact         ½‖s(x)‖² + tr ∇s(x)                                                   (1)  score.implicit
    hutchinson    ½‖s(x)‖² + vᵀ∇s(x)v,         v of signs ±1                            (2)  score.sliced_vr
    sliced        ½(vᵀs(x))² + vᵀ∇s(x)v,       v ~ N(0, I)                              (3)  score.sliced

(1) walks back through the network once per dimension, (2) and (3) once.  Each trains by the gradient of a loss that has
derivatives in it: derivatives of derivatives.  Samples come from a walk along one of the scores, at no level of noise:

    x ← x + ε·s(x) + √(2ε)·z                                                            (4)  langevin.step
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from scratchgen.models.energy import langevin
from scratchgen.models.score import matching
from scratchgen.models.system import Player, System
from scratchgen.nn.mlp import MLP
from scratchgen.random import Generator

OBJECTIVES = ("exact", "hutchinson", "sliced")


@dataclass(frozen=True)
class ScoreMatchingConfig:
    """d: of the points.  width: of the networks' three layers.  step: ε of (4).  start: the deviation of x before."""

    d: int = 2
    width: int = 64
    step: float = 0.003
    start: float = 2.0


class Loss(NamedTuple):
    """Per example: the objective, which is below 0 where s is good."""

    loss: Any


class ScoreMatching(System):
    """The system, on points (B, d): a network and a player for each objective."""

    def __init__(self, config: ScoreMatchingConfig, *, rng: Generator) -> None:
        self.config = config
        state = rng.state()

        def net() -> MLP:
            rng.restore(state)
            return MLP(config.d, config.width, config.width, config.width, config.d, rng=rng)

        self.nets = {name: net() for name in OBJECTIVES}

    def score(self, x: Any, name: str = "exact") -> Any:
        """s(x), as the objective of that name has it."""
        return self.nets[name](x)

    def objective(self, name: str, x: Any, rng: Generator) -> Loss:
        """(1), (2) or (3).  x: (B, d)."""
        field: Callable[[Any], Any] = self.nets[name]
        if name == "exact":
            return Loss(matching.implicit(field, x))
        if name == "hutchinson":
            return Loss(matching.sliced_vr(field, x, matching.signs(x, rng)))
        return Loss(matching.sliced(field, x, rng.standard_normal(x.shape, x.dtype)))

    def players(self) -> list[Player]:
        """One for each objective; none sees the others."""
        return [
            Player(name, {f"nets.{name}.{key}": p for key, p in net.named_parameters()}, partial(self.objective, name))
            for name, net in self.nets.items()
        ]

    def prior(self, n: int, rng: Generator) -> Any:
        """Where walks begin: N(0, start²·I), in the networks' precision."""
        return self.config.start * rng.standard_normal((n, self.config.d), self.precision())

    def walk(self, score: Callable[[Any], Any], x: Any, steps: int, rng: Generator) -> Iterator[Any]:
        """x after each step of (4)."""
        for _ in range(steps):
            x = langevin.step(x, score(x), self.config.step, rng.standard_normal(x.shape, x.dtype))
            yield x

    def sample(self, n: int, rng: Generator, steps: int = 1000, name: str = "exact") -> Any:
        """n points (n, d), by `steps` steps of (4)."""
        x, net = self.prior(n, rng), self.frozen()
        *_, x = self.walk(lambda x: net.score(x, name), x, steps, rng)
        return x
