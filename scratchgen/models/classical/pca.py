"""Principal component analysis: the few directions along which the data vary most.
Pearson (1901), Hotelling (1933); probabilistic: Tipping & Bishop (1999).

    X − μ = U·S·Vᵀ;   v_1 … v_r: the first rows of Vᵀ,   λ_k = s_k²/(n − 1)             (1)  pca.components
    z = Vᵀ(x − μ),   white: z_k = v_k·(x − μ)/√λ_k                                      (2)  pca.transform
    x̂ = μ + V·z,     (1/(n−1))·Σ_i ‖x_i − x̂_i‖² = Σ_{k>r} λ_k                           (3)  pca.reconstruct
    p(x) = N(μ, C),   C = V(Λ − σ²I)Vᵀ + σ²I,   σ² = mean of λ_{r+1} … λ_D              (4)  pca.covariance

v_1 is the unit vector of the largest variance, v_2 the one orthogonal to it, and so on.  No other r directions
reconstruct the data with a smaller squared error (Eckart & Young 1936).  (4) makes a density of it, the one of the
greatest likelihood among all x = W·z + μ + noise with z ~ N(0, I) and noise of one variance in all directions.

A direction has no sign: here the largest of its entries is positive, as in scikit-learn.

Everywhere: x (n, D), components (r, D).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from scratchgen import ops
from scratchgen.autograd.tensor import tensor, value_of
from scratchgen.backend import active, backend_of
from scratchgen.distributions import gaussian_full
from scratchgen.models.system import System
from scratchgen.random import Generator


class Axes(NamedTuple):
    """mean: μ (D,).  components: all of Vᵀ, (m, D).  variance: λ (m,), the largest first.  m = min(n, D)."""

    mean: Any
    components: Any
    variance: Any


def components(x: Any) -> Axes:
    """All directions and their variances, eq. (1).  Raises ValueError for fewer than two points."""
    if x.ndim != 2 or x.shape[0] < 2:
        raise ValueError(f"pca.components: x {x.shape} should be (n, D), n ≥ 2")
    mean = ops.mean(x, axis=0)
    found = ops.linalg.svd(x - mean)
    plain = value_of(found.Vh)
    xp = backend_of(plain)
    largest = xp.take_along_axis(plain, xp.absolute(plain).argmax(axis=1)[:, None], axis=1)
    return Axes(mean, found.Vh * xp.sign(largest), ops.square(found.S) / (x.shape[0] - 1))


def transform(x: Any, axes: Axes, whiten: bool = False) -> Any:
    """z, eq. (2), (n, r).  axes: those that are kept."""
    z = (x - axes.mean) @ ops.transpose(axes.components)
    return z / ops.sqrt(axes.variance) if whiten else z


def reconstruct(z: Any, axes: Axes, whiten: bool = False) -> Any:
    """x̂, eq. (3), (n, D).  whiten: as z was made."""
    if whiten:
        z = z * ops.sqrt(axes.variance)
    return axes.mean + z @ axes.components


def covariance(axes: Axes, noise: Any) -> Any:
    """C, eq. (4), (D, D).  noise: σ²."""
    V, D = axes.components, axes.components.shape[1]
    eye = backend_of(value_of(V)).eye(D, dtype=V.dtype)
    return ops.transpose(V) @ (ops.expand_dims(axes.variance - noise, 1) * V) + noise * eye


@dataclass(frozen=True)
class PCAConfig:
    """features: D.  rank: r, how many directions are kept.  whiten: give all of them variance 1."""

    features: int = 64
    rank: int = 16
    whiten: bool = False
    dtype: str = "float64"

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= self.features:
            raise ValueError(f"PCAConfig: rank {self.rank} is not between 1 and the {self.features} features")


class PCA(System):
    """μ, the first r directions and their variances, and the variance σ² of what is left: with it, a Gaussian."""

    def __init__(self, config: PCAConfig) -> None:
        self.config = config
        zeros = lambda *shape: tensor(active().zeros(shape, config.dtype))  # noqa: E731
        self.mean, self.components = zeros(config.features), zeros(config.rank, config.features)
        self.variance, self.noise = zeros(config.rank), zeros()

    def fit(self, x: Any) -> Self:
        """The directions of the points x.  Raises ValueError for fewer points than directions."""
        r, x = self.config.rank, x.astype(self.config.dtype)
        found = components(x)
        if found.variance.shape[0] < r:
            raise ValueError(f"PCA: {x.shape[0]} points have no {r} directions")
        xp = backend_of(x)
        self.mean.assign(found.mean)
        self.components.assign(found.components[:r])
        self.variance.assign(found.variance[:r])
        left = xp.asarray(xp.sum(found.variance[r:]) / max(self.config.features - r, 1))
        self.noise.assign(left)
        return self

    def axes(self) -> Axes:
        """What was fitted, as plain arrays."""
        return Axes(*map(value_of, (self.mean, self.components, self.variance)))

    def transform(self, x: Any) -> Any:
        """z (n, r), eq. (2)."""
        return transform(x.astype(self.config.dtype), self.axes(), self.config.whiten)

    def inverse_transform(self, z: Any) -> Any:
        """x̂ (n, D), eq. (3)."""
        return reconstruct(z, self.axes(), self.config.whiten)

    def covariance(self) -> Any:
        """C, eq. (4)."""
        return covariance(self.axes(), value_of(self.noise))

    def log_prob(self, x: Any) -> Any:
        """log N(x; μ, C) (gaussian_full.log_prob), (n,), in nats; σ² must not be 0."""
        return gaussian_full.log_prob(x.astype(self.config.dtype), self.axes().mean[None], self.covariance())

    def sample(self, n: int, rng: Generator) -> Any:
        """n draws of N(μ, C), (n, D)."""
        xp = active()
        mu = xp.broadcast_to(self.axes().mean[None], (n, self.config.features))
        return gaussian_full.sample(rng, mu, self.covariance())
