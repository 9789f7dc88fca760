"""Score-based generative modelling through stochastic differential equations.  Song et al. (2021), arXiv:2011.13456.

Noise is added in continuous time by an equation with nothing to learn (`sde`); a network learns the score of the noisy
data at all times at once, and with it time runs backwards.

    x_t = a_t·x_0 + σ_t·ε,   t ~ U[t_0, 1],  ε ~ N(0, I)              VP, VE, sub-VP: (1)–(3) of `sde`
    L = E w_t·½‖σ_t·s_θ(x_t, t) + ε‖²,   w_t = 1                                        (1)  score.denoising
                                    or   w_t ∝ g_t²/σ_t², with which L limits −log p    (2)  sde.likelihood_weight
    x_1 ~ N(0, c_1²·I),  c_t² = a_t² + σ_t²;   then back to t_0 by one of the `samplers`
    log p_{t_0}(x) along the probability flow                                           (3)  sde.log_likelihood
    bits per dimension of grey levels, by noise in their bins                           (4)  dequantise.bound

With w = 1 all times count alike, which makes good pictures; (2) counts them as the likelihood does (Song, Durkan,
Murray & Ermon 2021, arXiv:2101.09258, theorem 1).  t_0 is the time with σ = `smallest`: at 0 data on grey levels have
no score.  Images are dequantised in training too, so that p_{t_0} is a density of the same numbers.  VP and sub-VP run
on a clock t² (sde.clock), which lets their noise grow evenly.  The code divides the loss by the number of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log, prod
from typing import Any, NamedTuple

from scratchgen.backend import active, float64
from scratchgen.distributions import gaussian
from scratchgen.models.flows import dequantise
from scratchgen.models.levels import meet
from scratchgen.models.score import network, samplers, sde
from scratchgen.models.score.denoising import denoising
from scratchgen.models.score.solvers import rk4
from scratchgen.models.system import System
from scratchgen.nn.unet import UNetConfig
from scratchgen.random import Generator


@dataclass(frozen=True)
class ScoreSDEConfig:
    """sde: "vp" or "subvp", with beta_min and beta_max; or "ve", with sigma_min and sigma_max.  smallest: σ at t_0.
    likelihood: eq. (2) for w = 1.  ratio: r of the corrector.  levels: grey levels of the data, None if they are
    continuous.  shape: of one example, an image or a point.  unet: the network of images; width: of the layers of the
    network of points.
    """

    sde: str = "vp"
    beta_min: float = 0.1
    beta_max: float = 20.0
    sigma_min: float = 0.01
    sigma_max: float = 10.0
    smallest: float = 0.01
    likelihood: bool = False
    ratio: float = 0.16
    levels: int | None = 17
    shape: tuple[int, ...] = (8, 8, 1)
    unet: UNetConfig = field(default_factory=UNetConfig)
    width: int = 96


class Loss(NamedTuple):
    """Per example: the loss that is minimised, and the mean squared error of the noise."""

    loss: Any
    mse: Any


def equation(config: ScoreSDEConfig) -> sde.Clock:
    """The config's SDE on its clock.  Raises ValueError for a name that is none, or numbers that make no noise."""
    if config.sde == "vp":
        return sde.Clock(sde.VP(config.beta_min, config.beta_max), 2.0)
    if config.sde == "subvp":
        return sde.Clock(sde.SubVP(config.beta_min, config.beta_max), 2.0)
    if config.sde == "ve":
        return sde.Clock(sde.VE(config.sigma_min, config.sigma_max), 1.0)
    raise ValueError(f"ScoreSDE: sde {config.sde!r} is not one of vp, ve, subvp")


class ScoreSDE(System):
    """The system, on images (B, H, W, C) in [−1, 1], or on points (B, d)."""

    def __init__(self, config: ScoreSDEConfig, *, rng: Generator) -> None:
        self.config = config
        self.sde = equation(config)
        self.t0 = sde.time_of(self.sde, config.smallest)
        self.dims = prod(config.shape)
        self.net = network.network(config.shape, config.unet, config.width, rng)

    def score(self, x: Any, t: Any) -> Any:
        """s_θ(x, t).  t: a number, or one per example (B,)."""
        return network.score(self.net, x, *self.sde.marginal(t))

    def loss(self, x0: Any, rng: Generator) -> Loss:
        """Eq. (1), or (2), per pixel."""
        B = x0.shape[0]
        if self.config.levels is not None:
            x0 = dequantise.spread(x0, rng.random(x0.shape, x0.dtype), self.config.levels)
        u = rng.random((1,), float64) + active().arange(B, dtype=float64) / B  # spread evenly, each of them uniform
        t = self.t0 + (1 - self.t0) * (u % 1.0)
        eps = rng.standard_normal(x0.shape, x0.dtype)
        a, sigma = self.sde.marginal(t)
        half = denoising(lambda xt, _: self.score(xt, t), meet(a, x0) * x0, eps, sigma) / self.dims
        if not self.config.likelihood:
            return Loss(half, 2 * half)
        return Loss(half * sde.likelihood_weight(self.sde, t).astype(half.dtype), 2 * half)

    def width(self, t: float) -> float:
        """c_t, the deviation of x_t for data of deviation 1: for VP always 1."""
        a, sigma = self.sde.marginal(t)
        return float((a**2 + sigma**2) ** 0.5)

    def prior(self, n: int, rng: Generator) -> Any:
        """x_1 ~ N(0, c_1²·I) for n examples, in the network's precision."""
        z = rng.standard_normal((n, *self.config.shape), self.precision())
        a, sigma = self.sde.marginal(1.0)
        return meet((a**2 + sigma**2) ** 0.5, z) * z

    def walk(self, solver: str, steps: int, rng: Generator, x1: Any) -> Iterator[Any]:
        """x at the `steps` times after t = 1, by a solver of `samplers.CALLS`.  ValueError for one of another name."""
        score, t0 = self.frozen().score, self.t0
        if solver in samplers.STEPS:
            return samplers.flow(self.sde, score, x1, steps, t0, samplers.STEPS[solver])

        def noise(shape: Any) -> Any:
            return rng.standard_normal(shape, x1.dtype)

        if solver == "em":
            return samplers.backwards(self.sde, score, x1, steps, t0, noise)
        if solver == "pc":
            return samplers.predictor_corrector(self.sde, score, x1, steps, t0, noise, self.config.ratio)
        raise ValueError(f"ScoreSDE: the solver {solver!r} is not one of {', '.join(samplers.CALLS)}")

    def jump(self, solver: str, x1: Any, tolerance: float = 1e-3) -> samplers.Solution:
        """x at t_0 by a solver of `samplers.ADAPTIVE`, along the probability flow, and the calls it took."""
        return samplers.flow_adaptive(
            self.sde, self.frozen().score, x1, self.t0, samplers.ADAPTIVE[solver], tolerance
        )

    def sample(self, n: int, rng: Generator, solver: str = "pc", steps: int = 50) -> Any:
        """n examples (n, …), by any of `samplers.SOLVERS`; those that choose their steps do not read `steps`."""
        x1 = self.prior(n, rng)
        if solver in samplers.ADAPTIVE:
            return self.jump(solver, x1).x
        *_, x = self.walk(solver, steps, rng, x1)
        return x

    def log_prior(self, x1: Any) -> Any:
        """log N(x_1; 0, c_1²·I).  Returns (B,), in nats."""
        return gaussian.log_prob(x1, 0.0, 2 * log(self.width(1.0)))

    def log_prob(self, x: Any, steps: int = 20, probe: Any = None, solve: Any = None) -> Any:
        """log p_{t_0}(x), eq. (3), the density of what the probability flow makes of the prior.  Returns (B,), in nats.

        steps: of Runge and Kutta's.  probe: noise like x for Hutchinson's estimate of the trace, without bias; None:
        the trace itself.  solve: as in `sde.log_likelihood`.
        """
        return sde.log_likelihood(
            self.sde, self.frozen().score, x, self.log_prior, steps, self.t0, 1.0, rk4, probe, solve
        )

    def code(self, x0: Any, u: Any, steps: int = 20, probe: Any = None) -> dequantise.Code:
        """What lies below log P(x0), eq. (4), in nats.  u: uniform noise (K, B, …).  probe: as in `log_prob`."""
        assert self.config.levels is not None
        return dequantise.code(lambda x: self.log_prob(x, steps, probe), x0, self.config.levels, u)
