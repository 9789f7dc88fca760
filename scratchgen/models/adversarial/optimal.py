"""The best discriminator of two known laws.  Goodfellow et al. (2014), Proposition 1 and Theorem 1.

The equations are those of `gan`: here p_g is no network's law but a Gaussian, and stays as it is, so that a
discriminator which goes on learning comes as near to the best one as its network can:

    V(D) = E_{x~p_r} log D(x) + E_{x~p_g} log(1 − D(x))  →  2·JS(p_r, p_g) − log 4      (1)  gan.best_value
    D(x) = 1/(1 + e^−l(x))  →  p_r(x)/(p_r(x) + p_g(x)),  so  l → log p_r − log p_g     (2)  gan.optimal

So it has learnt the ratio of two densities from their draws alone; draws of p_g, weighed by e^l, are draws of p_r.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.backend import active
from scratchgen.distributions import gaussian
from scratchgen.models.adversarial import gan
from scratchgen.models.exact import Mixture
from scratchgen.models.latent.predictive import reweight
from scratchgen.models.system import System
from scratchgen.nn.mlp import MLP
from scratchgen.random import Generator


@dataclass(frozen=True)
class OptimalConfig:
    """weights, means, variances: p_r, a mixture on the line.  mean, variance: p_g, a Gaussian.  width, depth: of the
    discriminator.  Raises ValueError for a variance that is not positive.
    """

    weights: tuple[float, ...] = (0.6, 0.4)
    means: tuple[float, ...] = (-1.5, 1.5)
    variances: tuple[float, ...] = (0.25, 0.2)
    mean: float = 0.5
    variance: float = 1.5
    width: int = 64
    depth: int = 2

    def __post_init__(self) -> None:
        if min(*self.variances, self.variance) <= 0:
            raise ValueError("OptimalConfig: a variance is not positive")


class Loss(NamedTuple):
    """Per example: −V."""

    loss: Any


class OptimalDiscriminator(System):
    """The system: a discriminator on the line.  The data are draws of p_r; those of p_g are made on the way."""

    def __init__(self, config: OptimalConfig, *, rng: Generator) -> None:
        self.config = config
        self.net = MLP(1, *[config.width] * config.depth, 1, rng=rng)

    def p_r(self, dtype: Any = "float64") -> Mixture:
        """The law of the data, as it is known."""
        c = self.config
        return self._mixture(c.weights, c.means, c.variances, dtype)

    def p_g(self, dtype: Any = "float64") -> Mixture:
        """The law that stands for a generator's."""
        return self._mixture((1.0,), (self.config.mean,), (self.config.variance,), dtype)

    def _mixture(self, weights: Any, means: Any, variances: Any, dtype: Any) -> Mixture:
        xp = active()
        w, m, v = (xp.constant(part, dtype) for part in (weights, means, variances))
        return Mixture(w, m[:, None], v[:, None, None])

    def logit(self, x: Any) -> Any:
        """l(x): D = σ(l).  x: (B, 1).  Returns (B,)."""
        return self.net(x)[:, 0]

    def generated(self, eps: Any) -> Any:
        """Draws of p_g.  eps ~ N(0, I): (B, 1).  Returns (B, 1)."""
        c = self.config
        mean = active().full(eps.shape, c.mean, eps.dtype)
        return gaussian.sample(None, mean, log(c.variance), eps)

    def loss(self, x: Any, rng: Generator) -> Loss:
        """−V, gan.value."""
        made = self.generated(rng.standard_normal(x.shape, x.dtype))
        return Loss(-gan.value(self.logit(x), self.logit(made)))

    def sample(self, n: int, rng: Generator, tries: int = 50) -> Any:
        """n points (n, 1) of p_r as the discriminator has it: n·tries draws of p_g, of which n are drawn again, each
        as likely as D/(1 − D) = e^l says."""
        x = self.generated(rng.standard_normal((n * tries, 1), self.net.layers[0].w.dtype))
        log_w = reweight(ops.expand_dims(self.frozen().logit(x), 0))[0].astype("float64")
        w = ops.exp(log_w)
        return x[rng.choice(n * tries, (n,), p=active().to_numpy(w / ops.sum(w)))]
