"""Denoising diffusion probabilistic models.  Ho, Jain & Abbeel (2020), arXiv:2006.11239.

A network learns which noise was added to an image; the image is then got back from noise alone, one small
denoising step after the other.

    x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε,  t ~ U{1 … T},  ε ~ N(0, I)                            (1)  diffusion.forward
    L_simple = E ‖ε − ε_θ(x_t, t)‖²                                                     (2)  ddpm.simple
    L        = E β_t²/(2σ_t²·α_t·(1−ᾱ_t))·‖ε − ε_θ(x_t, t)‖²                            (3)  ddpm.weighted
    x_{t−1}  = (x_t − β_t/√(1−ᾱ_t)·ε_θ(x_t, t))/√α_t + σ_t·z,   z = 0 at t = 1          (4)  ddpm.step

(1) and (2) are Algorithm 1, (4) is Algorithm 2.  For t ≥ 2 (3) is the bound's L_{t−1} up to a constant, averaged
over t instead of summed; (2) drops its weights, which gives the hard, noisy times more to say.  The code divides
‖·‖² by the number of pixels.  The bound itself is in `bound`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.backend import backend_of
from scratchgen.models.diffusion import bound
from scratchgen.models.diffusion.process import clip_eps, mean_from_eps, normals, q_sample, times
from scratchgen.models.diffusion.schedule import SCHEDULES, Schedule, pick
from scratchgen.models.system import System
from scratchgen.nn.settings import at_least_one
from scratchgen.nn.unet import UNet, UNetConfig
from scratchgen.random import Generator

EpsTheta = Callable[[Any, Any], Any]
"""ε_θ(x_t, t): a network, or an exact answer.  x_t (B, …), t plain integers (B,); returns x_t's shape."""


@dataclass(frozen=True)
class DDPMConfig:
    """T: steps.  schedule: "linear" or "cosine".  sigma: σ_t², "beta" or "beta_tilde".  weighted: eq. (3)
    for (2).  clip: samplers keep the predicted clean image in [−1, 1].  levels: grey levels of the data, None if it is
    continuous.  shape: of one image.  unet: the network.  Raises ValueError for T < 1.
    """

    T: int = 120
    schedule: str = "cosine"
    sigma: str = "beta_tilde"
    weighted: bool = False
    clip: bool = True
    levels: int | None = 17
    shape: tuple[int, ...] = (8, 8, 1)
    unet: UNetConfig = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        at_least_one(self, "T")


class Loss(NamedTuple):
    """Per example: the loss that is minimised, and the mean squared error of the noise."""

    loss: Any
    mse: Any


def step(schedule: Schedule, xt: Any, eps: Any, t: int, sigma: Any, z: Any) -> Any:
    """One step of Algorithm 2, eq. (4): x_{t−1} from x_t.  sigma: σ_t by t.  z ~ N(0, I), not read at t = 1."""
    mean = mean_from_eps(schedule, xt, eps, t)
    return mean if t == 1 else mean + pick(sigma, t, xt).astype(xt.dtype) * z


def sample(
    eps_theta: EpsTheta, schedule: Schedule, xT: Any, var: Any, noise: Callable[[Any], Any], clip: bool = False
) -> Iterator[Any]:
    """Algorithm 2: x_{T−1}, …, x_0, one at a time.

    xT: (B, …), pure noise.  var: σ_t² by t.  noise: makes z ~ N(0, I) of a shape.
    """
    sigma, x = backend_of(var).sqrt(var), xT
    for t in range(schedule.T, 0, -1):
        eps = eps_theta(x, times(t, x))
        if clip:
            eps = clip_eps(schedule, x, eps, t)
        x = step(schedule, x, eps, t, sigma, noise(x.shape) if t > 1 else None)
        yield x


class DDPM(System):
    """The system: ε_θ is a U-Net, the data images (B, H, W, C) in [−1, 1]."""

    def __init__(self, config: DDPMConfig, *, rng: Generator) -> None:
        if config.schedule not in SCHEDULES:
            raise ValueError(f"DDPM: schedule {config.schedule!r} is not one of {', '.join(SCHEDULES)}")
        self.config = config
        self.schedule = SCHEDULES[config.schedule](config.T)
        self.var = bound.reverse_variance(self.schedule, config.sigma)  # σ_t² by t
        self.weight = bound.simple_weight(self.schedule, self.var)  # of eq. (3), by t
        self.net = UNet(config.unet, rng=rng)

    def eps_theta(self, xt: Any, t: Any) -> Any:
        """The network's guess of the noise in x_t."""
        return self.net(xt, t)

    def loss(self, x0: Any, rng: Generator) -> Loss:
        """Algorithm 1: L_simple, eq. (2), or L, eq. (3), per pixel."""
        t = rng.integers(1, self.config.T + 1, (x0.shape[0],))
        eps = rng.standard_normal(x0.shape, x0.dtype)
        error = eps - self.eps_theta(q_sample(self.schedule, x0, t, eps), t)
        mse = ops.mean(ops.square(error), axis=tuple(range(1, x0.ndim)))
        if not self.config.weighted:
            return Loss(mse, mse)
        return Loss(mse * pick(self.weight, t, mse).astype(mse.dtype), mse)

    def prior(self, n: int, rng: Generator) -> Any:
        """x_T ~ N(0, I) for n images, in the network's precision."""
        return rng.standard_normal((n, *self.config.shape), self.net.first.w.dtype)

    def denoise(self, n: int, rng: Generator, xT: Any = None) -> Iterator[Any]:
        """x_{T−1}, …, x_0 by Algorithm 2, for n images; xT: the noise to start from, drawn if absent."""
        xT = self.prior(n, rng) if xT is None else xT
        return sample(self.frozen().eps_theta, self.schedule, xT, self.var, normals(rng, xT), self.config.clip)

    def sample(self, n: int, rng: Generator) -> Any:
        """n images (n, H, W, C) by Algorithm 2."""
        for x in self.denoise(n, rng):
            last = x
        return last

    def elbo(self, x0: Any, rng: Generator) -> bound.Bound:
        """The bound on log p(x_0) in nats (diffusion.elbo), all its terms, one noise per term: T network calls.

        It is the bound of the process without clipping: a clipped mean is not Gaussian noise away from ε_θ's.
        """
        net = self.frozen()
        schedule, var, T = self.schedule, self.var, self.config.T
        transitions = []
        for t in range(1, T + 1):
            eps = rng.standard_normal(x0.shape, x0.dtype)
            xt = q_sample(schedule, x0, t, eps)
            guess = net.eps_theta(xt, times(t, x0))
            if t == 1:
                reconstruction = bound.reconstruction_term(schedule, x0, xt, guess, var, self.config.levels)
            else:
                transitions.append(bound.transition_term(schedule, x0, xt, guess, t, var))
        return bound.bound(bound.prior_term(schedule, x0), transitions, reconstruction)
