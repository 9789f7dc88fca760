"""Score matching on points, by three objectives side by side.  Hyvärinen (2005); Song, Garg, Shi & Ermon (2019).

Networks of one shape, from the same initial weights, learn ∇log p.  The first is told it; the others have points alone,
and objectives that differ from the first by a constant, in the mean:

    told          ½‖∇log p(x) − s(x)‖²                                                  (1)  score.fisher
    exact         ½‖s(x)‖² + tr ∇s(x)                                                   (2)  score.implicit
    hutchinson    ½‖s(x)‖² + vᵀ∇s(x)v,         v of signs ±1                            (3)  score.sliced_vr
    sliced        ½(vᵀs(x))² + vᵀ∇s(x)v,       v ~ N(0, I)                              (4)  score.sliced

(1) is what score matching cannot have, and here the yardstick: what such a network can learn at all.  (2) walks back
through the network once per dimension, (3) and (4) once; all three train by the gradient of a loss that has derivatives
in it.  The constant is ½E‖∇log p‖².  Samples come from a walk along one of the scores, at no level of noise:

    x ← x + ε·s(x) + √(2ε)·z                                                            (5)  langevin.step

A network is s(x) = F(x) − x, the score of N(0, I) and what is to be learnt, with F bounded (its bends are tanh): far
from the data, where nothing was learnt, a walk turns back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.backend import active
from scratchgen.models.energy import langevin
from scratchgen.models.exact import Mixture
from scratchgen.models.score import matching
from scratchgen.models.system import Player, System
from scratchgen.nn.mlp import MLP
from scratchgen.random import Generator

OBJECTIVES = ("told", "exact", "hutchinson", "sliced")


@dataclass(frozen=True)
class ScoreMatchingConfig:
    """weights, means, covs: p, a mixture, for (1) alone.  width: of the networks' three layers.  step: ε of (5).
    start: the deviation of x before it.  Raises ValueError for a width, a step or a start that is not positive.
    """

    weights: tuple[float, ...] = (0.6, 0.4)
    means: tuple[tuple[float, ...], ...] = ((-1.5, -0.6), (1.5, 0.7))
    covs: tuple[tuple[tuple[float, ...], ...], ...] = (((0.25, 0.12), (0.12, 0.2)), ((0.2, -0.1), (-0.1, 0.3)))
    width: int = 48
    step: float = 0.005
    start: float = 2.0

    def __post_init__(self) -> None:
        for name in ("width", "step", "start"):
            if not getattr(self, name) > 0:
                raise ValueError(f"ScoreMatchingConfig: {name} must be positive, not {getattr(self, name)}")


class Loss(NamedTuple):
    """Per example: the objective; but for (1), it is below 0 where s is good."""

    loss: Any


class ScoreMatching(System):
    """The system, on points (B, d): a network and a player for each objective."""

    def __init__(self, config: ScoreMatchingConfig, *, rng: Generator) -> None:
        self.config = config
        d, width, state = len(config.means[0]), config.width, rng.state()

        def net() -> MLP:
            rng.restore(state)
            return MLP(d, width, width, width, d, rng=rng, activation=ops.tanh)

        self.nets = {name: net() for name in OBJECTIVES}

    def p(self, dtype: Any = "float32") -> Mixture:
        """The mixture whose score is to be learnt."""
        xp, c = active(), self.config
        return Mixture(*(xp.constant(part, dtype) for part in (c.weights, c.means, c.covs)))

    def score(self, x: Any, name: str = "exact") -> Any:
        """s(x), as the objective of that name has it.  Raises ValueError for a name that none has."""
        if name not in self.nets:
            raise ValueError(f"ScoreMatching: {name!r} is not one of {', '.join(OBJECTIVES)}")
        return self.nets[name](x) - x

    def objective(self, name: str, x: Any, rng: Generator) -> Loss:
        """One of (1)–(4).  x: (B, d)."""
        field: Callable[[Any], Any] = partial(self.score, name=name)
        if name == "told":
            return Loss(matching.fisher(self.p(x.dtype).score(x), field(x)))
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
        return self.config.start * rng.standard_normal((n, len(self.config.means[0])), self.precision())

    def walk(self, score: Callable[[Any], Any], x: Any, steps: int, rng: Generator) -> Iterator[Any]:
        """x after each step of (5)."""
        for _ in range(steps):
            x = langevin.step(x, score(x), self.config.step, rng.standard_normal(x.shape, x.dtype))
            yield x

    def sample(self, n: int, rng: Generator, steps: int = 400, name: str = "exact") -> Any:
        """n points (n, d), by `steps` steps of (5) along the score of that objective."""
        x, net = self.prior(n, rng), self.frozen()
        *_, x = self.walk(partial(net.score, name=name), x, steps, rng)
        return x
