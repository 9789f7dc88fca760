"""Data whose noise, score and denoiser are known: a mixture of Gaussians, wherever a network would stand.

    p(x)   = Σ_k w_k·N(x; μ_k, C_k)                                                     (1)  exact.log_prob
    x_t    = a·x_0 + σ·ε   has   p_t(x) = Σ_k w_k·N(x; a·μ_k, a²·C_k + σ²·I)            (2)  exact.noisy
    ∇log p(x)    = −Σ_k r_k(x)·C_k⁻¹(x − μ_k)                                           (3)  exact.score
    E[x_0 | x_t] = Σ_k r_k(x_t)·(μ_k + a·C_k·S_k⁻¹(x_t − a·μ_k)),   S_k = a²·C_k + σ²·I (4)  exact.denoiser
    E[ε | x_t]   = −σ·∇log p_t(x_t)                                                     (5)  exact.eps

r_k(x) ∝ w_k·N(x; μ_k, C_k) is the probability that x came from component k; in (4) it is that of the noisy
mixture.  (4) conditions the joint Gaussian of (x_0, x_t) in every component; (5) is Tweedie's formula (Robbins
1956; Efron 2011).  A network that has learnt to predict the noise perfectly predicts (5): with it, what is left
of a sampler's error is the sampler's own.

A diffusion has a = √ᾱ_t, σ² = 1 − ᾱ_t; "variance exploding" noise has a = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scratchgen import functional, ops
from scratchgen.autograd.tensor import value_of
from scratchgen.autograd.transforms import stop_gradient
from scratchgen.backend import Array, backend_of
from scratchgen.distributions.events import same_precision
from scratchgen.distributions.gaussian import LOG_2PI
from scratchgen.models.diffusion.schedule import Schedule
from scratchgen.models.levels import meet


@dataclass(frozen=True, eq=False)
class Mixture:
    """Σ_k w_k·N(μ_k, C_k), as arrays or tensors of one precision on one backend.

    weights: (K,), positive, of sum 1.  means: (K, d).  covs: (K, d, d), symmetric; positive definite where the
    density is asked, while data in single points, C_k = 0, may still be noised and sampled.
    With one noise level per example (`noisy`) there is one mixture per example: means (B, K, d), covs (B, K, d, d).

    Points are x: (B, d).  Results are tensors where x or a parameter is one.
    Raises ValueError if the shapes do not fit, TypeError if the precisions differ.
    """

    weights: Array
    means: Array
    covs: Array

    def __post_init__(self) -> None:
        w, m, c = self.weights.shape, self.means.shape, self.covs.shape
        if len(w) != 1 or len(m) not in (2, 3) or m[-2] != w[0] or c != (*m, m[-1]):
            raise ValueError(f"Mixture: weights {w}, means {m}, covs {c} should be (K,), (K, d) and (K, d, d)")
        same_precision("Mixture", "means", self.means, weights=self.weights, covs=self.covs)

    def log_prob(self, x: Array) -> Array:
        """log p(x), eq. (1).  x: (B, d).  Returns (B,), in nats."""
        logs, _ = self._components(x)
        return ops.logsumexp(logs, axis=-1)

    def noisy(self, a: Any, sigma: Any) -> Mixture:
        """The mixture of x_t = a·x_0 + σ·ε, eq. (2).  a, sigma: numbers, or (B,) for a mixture per example."""
        a, sigma = a + 0 * sigma, sigma + 0 * a  # both are rows where one is
        eye = backend_of(value_of(self.covs)).eye(self.covs.shape[-1], dtype=self.covs.dtype)
        means = meet(a, self.means, 3) * self.means
        covs = meet(a, self.covs, 4) ** 2 * self.covs + meet(sigma, self.covs, 4) ** 2 * eye
        return Mixture(self.weights, means, covs)

    def score(self, x: Array) -> Array:
        """∇log p(x), eq. (3).  x: (B, d).  Returns (B, d)."""
        logs, pulled = self._components(x)
        return -_average(logs, pulled)

    def denoiser(self, xt: Array, a: Any, sigma: Any) -> Array:
        """E[x_0 | x_t], the perfect denoiser, eq. (4).  xt: (B, d).  a, sigma: numbers or (B,)."""
        logs, pulled = self.noisy(a, sigma)._components(xt)
        return _average(logs, self.means + meet(a, self.means, 3) * _apply(self.covs, pulled))

    def eps(self, xt: Array, a: Any, sigma: Any) -> Array:
        """E[ε | x_t], the perfect prediction of the noise, eq. (5).  xt: (B, d).  a, sigma: numbers or (B,)."""
        return -meet(sigma, xt) * self.noisy(a, sigma).score(xt)

    def eps_theta(self, schedule: Schedule) -> Callable[[Array, Any], Array]:
        """ε_θ(x_t, t) of a discrete diffusion.  x_t: (B, d).  t: plain integers (B,), or one for all."""

        def eps_theta(xt: Array, t: Any) -> Array:
            alpha_bar = schedule.alpha_bar[t]
            return self.eps(xt, ops.sqrt(alpha_bar), ops.sqrt(1 - alpha_bar))

        return eps_theta

    def score_theta(self, sde: Any) -> Callable[[Array, Any], Array]:
        """s_θ(x, t) = ∇log p_t(x) in continuous time.  sde.marginal(t) gives a and σ.  t: a number, or (B,)."""
        return lambda x, t: self.noisy(*sde.marginal(t)).score(x)

    def sample(self, rng: Any, n: int) -> Array:
        """n draws (n, d), as plain arrays: a component by its weight, then μ_k + C_k^½·z."""
        if self.means.ndim == 3:
            raise ValueError(f"Mixture.sample: there are {self.means.shape[0]} mixtures, one per example")
        weights, means, covs = (stop_gradient(x) for x in (self.weights, self.means, self.covs))
        xp = backend_of(means)
        u = rng.random((n,), means.dtype)
        k = (u[:, None] >= xp.cumsum(weights)[:-1]).sum(axis=1)
        variance, axes = xp.linalg.eigh(covs)  # not Cholesky, which a single point does not have
        root = axes * xp.sqrt(xp.maximum(variance, 0.0))[:, None, :]
        z = rng.standard_normal((n, means.shape[1]), means.dtype)
        return means[k] + (root[k] * z[:, None, :]).sum(axis=-1)

    def _components(self, x: Array) -> tuple[Array, Array]:
        """log w_k·N(x; μ_k, C_k), (B, K), and C_k⁻¹(x − μ_k), (B, K, d); C = L·Lᵀ."""
        batch, d = self.means.shape[:-2], self.means.shape[-1]
        if x.ndim != 2 or x.shape[1] != d or batch not in ((), (x.shape[0],)):
            raise ValueError(f"Mixture: x {x.shape} does not fit means {self.means.shape}")
        same_precision("Mixture", "x", x, means=self.means)
        L = ops.linalg.cholesky(self.covs)
        inverse = ops.linalg.inv(L)
        z = _apply(inverse, ops.expand_dims(x, 1) - self.means)
        half_log_det = ops.sum(ops.log(ops.diagonal(L, axis1=-2, axis2=-1)), axis=-1)
        square = ops.sum(ops.square(z), axis=-1)
        logs = ops.log(self.weights) - half_log_det - 0.5 * (d * LOG_2PI + square)
        return logs, _apply(ops.swapaxes(inverse, -1, -2), z)


def gaussian(mean: Array, cov: Array) -> Mixture:
    """One Gaussian as a mixture.  mean: (d,).  cov: (d, d)."""
    one = backend_of(value_of(mean)).ones(1, mean.dtype)
    return Mixture(one, ops.expand_dims(mean, 0), ops.expand_dims(cov, 0))


def _apply(A: Array, v: Array) -> Array:
    """A_k·v_k: A (K, d, d) or (B, K, d, d), v (B, K, d)."""
    return ops.sum(A * ops.expand_dims(v, -2), axis=-1)


def _average(logs: Array, v: Array) -> Array:
    """Σ_k r_k·v_k with r = softmax(logs): (B, K), (B, K, d) → (B, d)."""
    return ops.sum(ops.expand_dims(functional.softmax(logs, axis=-1), -1) * v, axis=1)
