"""Denoising autoencoder: noise is added to x, and what comes back is to be x without it.
Vincent, Larochelle, Bengio & Manzagol (2008); Alain & Bengio (2014).

    L = ‖x − r(x̃)‖²,   x̃ = x + σ·ε,  ε ~ N(0, I),  r(x̃) = g_θ(f_φ(x̃))                 (1)  autoencoder.denoising
    min E L:   r*(x̃) = E[x | x̃],   (r*(x̃) − x̃)/σ² = ∇log q(x̃)                         (2)  score.denoiser

q is the law of x̃.  Here no narrow place keeps r from copying its input: the noise does, so that the code may have more
numbers than x.  Of all functions the conditional mean has the least squared error, and what it takes away from x̃ is the
score of the noised data times σ² (Vincent 2011): r points to where data are denser.  What another r loses in addition
is its distance to r*:

    E‖x − r(x̃)‖² = E‖x − r*(x̃)‖² + E‖r(x̃) − r*(x̃)‖²

With a score there is a sampler, Langevin dynamics (langevin.step); its samples are those of q, not of the clean data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from scratchgen.distributions.events import alike
from scratchgen.models.energy import langevin
from scratchgen.models.latent import autoencoder
from scratchgen.models.latent.autoencoder import Autoencoder, AutoencoderConfig, Loss
from scratchgen.models.score.denoising import score_from_denoiser
from scratchgen.random import Generator


def denoising(rebuild: Callable[[Any], Any], x: Any, eps: Any, sigma: float, penalty: Any = 0.0) -> Loss:
    """Eq. (1), with R as for `autoencoder.loss`.  rebuild: r.  x: (B, …), clean.  eps: noise of its shape.  sigma: σ.

    Raises ValueError if the shapes differ.
    """
    alike("denoising", "x", x, eps=eps)
    return autoencoder.loss(x, rebuild(x + sigma * eps), penalty)


@dataclass(frozen=True)
class DenoisingConfig(AutoencoderConfig):
    """sigma: σ.  By default for points of the plane, with a code that is wider than they are.
    Raises ValueError unless σ > 0."""

    shape: tuple[int, ...] = (2,)
    latent: int = 64
    widths: tuple[int, ...] = (128,)
    sigma: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma > 0:
            raise ValueError(f"DenoisingConfig: sigma must be positive, not {self.sigma}")


class Denoising(Autoencoder):
    """The system: an autoencoder that is shown x̃, and judged by x."""

    config: DenoisingConfig

    def rebuild(self, xt: Any) -> Any:
        """r(x̃), in its shape.  xt: (B, …)."""
        return self.decode(self.encode(xt))

    def loss(self, x: Any, rng: Generator) -> Loss:
        """Eq. (1)."""
        eps = rng.standard_normal(x.shape, x.dtype)
        return denoising(self.rebuild, x, eps, self.config.sigma, self.penalty())

    def score(self, xt: Any) -> Any:
        """(r(x̃) − x̃)/σ², eq. (2): the score of the noised data, as far as r has learnt it.  xt: (B, …)."""
        return score_from_denoiser(self.frozen().rebuild(xt), xt, self.config.sigma)

    def walk(self, x: Any, rng: Generator, steps: int, length: float) -> Iterator[Any]:
        """Langevin dynamics (langevin.step) along the score, from x (B, …): one x after another.

        length: of a step, in units of σ².
        """
        epsilon = length * self.config.sigma**2
        for _ in range(steps):
            x = langevin.step(x, self.score(x), epsilon, rng.standard_normal(x.shape, x.dtype))
            yield x

    def sample(self, n: int, rng: Generator, steps: int = 300, length: float = 0.2, spread: float = 2.0) -> Any:
        """n samples of q, (n, …): where walks from N(0, spread²) have come."""
        start = spread * rng.standard_normal((n, *self.config.shape), self.precision())
        return [*self.walk(start, rng, steps, length)][-1]
