"""The noise-conditional score network.  Song & Ermon (2019), arXiv:1907.05600; (2020), arXiv:2006.09011.

One network learns the scores of the data blurred by L levels of noise, from one so wide that a walk gets everywhere to
one so narrow that it is hardly seen; the walk goes down them, each level starting where the last one ended.

    σ_i = σ_1·(σ_L/σ_1)^((i−1)/(L−1))                                                   (1)  ncsn.levels
    L = E_i σ_i²·½‖s_θ(x̃, σ_i) − (x − x̃)/σ_i²‖²,   x̃ = x + σ_i·ε,  i ~ U{1 … L}         (2)  score.denoising
    x ← x + α_i/2·s_θ(x, σ_i) + √α_i·z,   α_i = ε·σ_i²/σ_L²,   T times at each level    (3)  langevin.annealed
    x ← x + σ_L²·s_θ(x, σ_L),   at the end                                              (4)  ncsn.denoise
    x ← m⊙(y + σ_i·z_i) + (1−m)⊙x,   after each step, to inpaint                        (5)  ncsn.inpaint

Without levels a walk does not know how much weight a mode has that is far from the others: between them hardly any data
are, and the score is learnt where there are data.  (4) is the mean of the data given x, score.denoiser: what is left of
the noise goes.  In (5) the known pixels, m = 1, of an image y are blurred to the level of the walk, one noise z_i for
all its T steps, which then walks in what p_σi says of the others, given them.

The network stands in the frame score.network, with a = 1.  The code divides the loss by the number of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.backend import active, backend_of, float64
from scratchgen.distributions.events import alike
from scratchgen.models.energy import langevin
from scratchgen.models.levels import meet
from scratchgen.models.score import network
from scratchgen.models.score.denoising import denoising
from scratchgen.models.system import System
from scratchgen.nn.unet import UNetConfig
from scratchgen.random import Generator


@dataclass(frozen=True)
class NCSNConfig:
    """sigma_max, sigma_min, levels: σ_1, σ_L and L.  T: steps at each level.  step: ε/σ_L², so that α_i = step·σ_i².
    shape: of one example, an image or a point.  unet: the network of images; width: of the layers of the network of
    points.  Raises ValueError for numbers that make no levels.
    """

    sigma_max: float = 8.0
    sigma_min: float = 0.05
    levels: int = 20
    T: int = 5
    step: float = 0.4
    shape: tuple[int, ...] = (8, 8, 1)
    unet: UNetConfig = field(default_factory=UNetConfig)
    width: int = 96

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"NCSNConfig: sigma_min {self.sigma_min} and sigma_max {self.sigma_max}, not 0 < <")
        if self.levels < 2 or self.T < 1:
            raise ValueError(f"NCSNConfig: {self.levels} levels of {self.T} steps; at least 2 of 1 are needed")


class Loss(NamedTuple):
    """Per example: the loss that is minimised, half the mean squared error of the noise."""

    loss: Any


def levels(sigma_max: float, sigma_min: float, L: int) -> Any:
    """σ_1 … σ_L, eq. (1), float64 (L,) on the active backend: the first and the last, and one ratio in between."""
    ratio = sigma_min / sigma_max
    return sigma_max * ratio ** (active().arange(L, dtype=float64) / (L - 1))


def denoise(x: Any, s: Any, sigma: Any) -> Any:
    """x + σ²·s, eq. (4): the mean of the clean data given x.  s: the score at x, like x.  sigma: a number or (B,)."""
    return x + meet(sigma, x) ** 2 * s


def inpaint(x: Any, y: Any, mask: Any, sigma: Any, z: Any) -> Any:
    """m⊙(y + σ·z) + (1−m)⊙x, eq. (5).  y: what is known, where mask is 1.  z ~ N(0, I).  All like x.

    Raises ValueError if the shapes differ, TypeError if the precisions do.
    """
    alike("ncsn.inpaint", "x", x, y=y, mask=mask, z=z)
    return mask * (y + meet(sigma, x) * z) + (1 - mask) * x


class NCSN(System):
    """The system, on images (B, H, W, C) in [−1, 1], or on points (B, d)."""

    def __init__(self, config: NCSNConfig, *, rng: Generator) -> None:
        self.config = config
        self.dims = prod(config.shape)
        self.net = network.network(config.shape, config.unet, config.width, rng)
        self.sigma = levels(config.sigma_max, config.sigma_min, config.levels)

    def score(self, x: Any, sigma: Any) -> Any:
        """s_θ(x, σ), of the data blurred by N(0, σ²).  sigma: a number, or one per example (B,)."""
        return network.score(self.net, x, 1.0, sigma)

    def loss(self, x0: Any, rng: Generator) -> Loss:
        """Eq. (2), per pixel."""
        sigma = ops.take(self.sigma, rng.integers(0, self.config.levels, (x0.shape[0],)))
        eps = rng.standard_normal(x0.shape, x0.dtype)
        return Loss(denoising(self.score, x0, eps, sigma) / self.dims)

    def prior(self, n: int, rng: Generator) -> Any:
        """x ~ N(0, (1 + σ_1²)·I), about where the data are at the first level, in the network's precision."""
        width = (1 + self.config.sigma_max**2) ** 0.5
        return width * rng.standard_normal((n, *self.config.shape), self.precision())

    def walk(
        self, x: Any, rng: Generator, T: int | None = None, after: Any = None, score: Any = None
    ) -> Iterator[Any]:
        """x after each of the L·T steps of (3), and once more after (4).

        T: the config's by default.  after: as of `langevin.annealed`.  score: (x, σ) ↦ another than the network's.
        """
        score, last = score or self.frozen().score, self.config.sigma_min
        epsilon = self.config.step * last**2

        def noise(shape: Any) -> Any:
            return rng.standard_normal(shape, x.dtype)

        end = x
        for end in langevin.annealed(score, x, self.sigma, epsilon, T or self.config.T, noise, after):
            yield end
        yield denoise(end, score(end, last), last)

    def sample(self, n: int, rng: Generator, T: int | None = None) -> Any:
        """n examples (n, …), by (3) and (4)."""
        *_, x = self.walk(self.prior(n, rng), rng, T)
        return x

    def inpaint(self, y: Any, mask: Any, rng: Generator, T: int | None = None) -> Any:
        """Examples like y (B, …) that are y where mask, like it, is 1, and drawn given that where it is 0."""
        blurred = rng.standard_normal((self.config.levels, *y.shape), y.dtype)
        sigma = self.sigma.tolist()
        after = lambda x, i: inpaint(x, y, mask, sigma[i], blurred[i])  # noqa: E731
        *_, x = self.walk(self.prior(y.shape[0], rng), rng, T, after)
        return backend_of(x).where(mask > 0, y, x)
