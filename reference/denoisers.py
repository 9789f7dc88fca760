"""The exact noise, score and denoiser when the data is a Gaussian, a mixture of them, or any 1-D density.

The noisy variable is x_t = a·x₀ + σ·ε with a = √ᾱ_t, σ² = 1 − ᾱ_t (or any other a and σ). The perfect
denoiser is E[x₀ | x_t] and the perfect noise prediction E[ε | x_t]. Three routes that do not use one another:

    denoiser   condition the joint Gaussian of (x₀, x_t), component by component
    noise      condition the joint Gaussian of (ε, x_t), component by component
    score      differentiate the log-density of x_t numerically

so that Tweedie's formula and its relatives (score = −ε/σ, x_t = a·x̂₀ + σ·ε̂) are results to be tested, not
ingredients. In one dimension `expectation_given` integrates over x₀ for any density.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from reference.derivatives import gradient
from reference.gaussian import condition, regression
from reference.quadrature import gaussian_nodes, panel_nodes


class Mixture(NamedTuple):
    """Σ_k weights_k · N(means_k, covs_k); shapes (K,), (K, d), (K, d, d)."""
    weights: np.ndarray
    means: np.ndarray
    covs: np.ndarray


def gaussian(mean, cov) -> Mixture:
    """One Gaussian, as a mixture of one component."""
    mean = np.atleast_1d(np.asarray(mean, dtype=np.float64))
    return Mixture(np.ones(1), mean[None], np.asarray(cov, dtype=np.float64).reshape(1, mean.size, mean.size))


def noisy(data: Mixture, a: float, sigma: float) -> Mixture:
    """The mixture of x_t = a·x₀ + σ·ε: each component is scaled and widened."""
    d = data.means.shape[1]
    return Mixture(data.weights, a * data.means, a**2 * data.covs + sigma**2 * np.eye(d))


def noisy_density(x, log_prior: Callable, a: float, sigma: float, order: int = 100) -> float:
    """p(x_t) at one point x (d,), for any density of x₀, by Gauss–Hermite over the noise that was added.

        p_t(x) = E p((x − σ·ε)/a)/a^d,   ε ~ N(0, I)

    log_prior takes points (n, d). The rule has order^d nodes, and wants a·(the prior's narrowest feature) not
    much below σ.
    """
    x = np.atleast_1d(np.asarray(x, dtype=np.float64))
    eps, w = gaussian_nodes(np.zeros(x.size), np.eye(x.size), order)
    return float(w @ np.exp(log_prior((x - sigma * eps) / a))) / a**x.size


def log_prob(data: Mixture, x) -> np.ndarray:
    """Log-density of the mixture at points x (…, d); returns (…)."""
    return special.logsumexp(_component_logs(data, x), axis=0)


def _component_logs(data: Mixture, x) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    return np.stack([math.log(weight) + stats.multivariate_normal.logpdf(x, mean, cov).reshape(x.shape[:-1])
                     for weight, mean, cov in zip(data.weights, data.means, data.covs, strict=True)])


def responsibilities(data: Mixture, x) -> np.ndarray:
    """p(component | x), (K, …), for points x (…, d), by Bayes' rule."""
    logs = _component_logs(data, x)
    return np.exp(logs - special.logsumexp(logs, axis=0))


def _conditional_mean(xt, data: Mixture, a: float, sigma: float, joint: Callable) -> np.ndarray:
    """Σ_k p(k | x_t)·E[u | x_t, k]; joint(mean, cov) gives the joint Gaussian of (u, x_t) in a component."""
    xt = np.atleast_1d(np.asarray(xt, dtype=np.float64))
    d = xt.size
    means = [condition(*joint(mean, cov), list(range(d, 2 * d)), xt)[0]
             for mean, cov in zip(data.means, data.covs, strict=True)]
    return responsibilities(noisy(data, a, sigma), xt) @ np.stack(means)


def denoiser(xt, data: Mixture, a: float, sigma: float) -> np.ndarray:
    """E[x₀ | x_t] at one point x_t (d,), from the joint covariance [[C, aC], [aC, a²C + σ²I]]."""
    def joint(mean, cov):
        return (np.concatenate([mean, a * mean]),
                np.block([[cov, a * cov], [a * cov, a**2 * cov + sigma**2 * np.eye(len(mean))]]))
    return _conditional_mean(xt, data, a, sigma, joint)


def noise(xt, data: Mixture, a: float, sigma: float) -> np.ndarray:
    """E[ε | x_t], the perfect ε_θ, at one point x_t (d,); joint covariance [[I, σI], [σI, a²C + σ²I]]."""
    def joint(mean, cov):
        eye = np.eye(len(mean))
        return (np.concatenate([np.zeros(len(mean)), a * mean]),
                np.block([[eye, sigma * eye], [sigma * eye, a**2 * cov + sigma**2 * eye]]))
    return _conditional_mean(xt, data, a, sigma, joint)


def score(xt, data: Mixture, a: float, sigma: float, h: float = 1e-2) -> np.ndarray:
    """∇ log p(x_t) at one point x_t (d,), by extrapolated central differences of the log-density.

    h is the first displacement in units of the narrowest deviation of x_t; about 10⁻¹⁰ accurate.
    """
    marginal = noisy(data, a, sigma)
    narrowest = np.sqrt(np.linalg.eigvalsh(marginal.covs).min())
    return gradient(lambda x: log_prob(marginal, x), np.atleast_1d(xt), h=h * narrowest)


def linear_noise(mean, cov, a: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """E (d, d) and e (d,) with E[ε | x_t] = E x_t + e, for data N(mean, cov): the regression of ε on x_t.

    The network of a diffusion on Gaussian data, were it perfect: the sampler's steps become affine maps.
    """
    mean = np.atleast_1d(np.asarray(mean, dtype=np.float64))
    cov = np.asarray(cov, dtype=np.float64).reshape(mean.size, mean.size)
    eye = np.eye(mean.size)
    joint = np.block([[eye, sigma * eye], [sigma * eye, a**2 * cov + sigma**2 * eye]])
    gain, _ = regression(joint, list(range(mean.size, 2 * mean.size)))
    return gain, -gain @ (a * mean)


def expectation_given(f: Callable, xt: float, log_prior: Callable, a: float, sigma: float, low: float,
                      high: float, panels: int = 400) -> float:
    """E[f(x₀) | x_t] in one dimension, for any density of x₀, by integrating over x₀ in [low, high].

        ∫ f(x₀) p(x₀) N(x_t; a x₀, σ²) dx₀  /  ∫ p(x₀) N(x_t; a x₀, σ²) dx₀

    f and log_prior take arrays. f(x₀) = x₀ gives the denoiser, f(x₀) = (x_t − a x₀)/σ the noise. The panels,
    of 24 nodes each, must be no wider than the narrower of the prior's features and σ/a.
    """
    x0, w = panel_nodes(np.linspace(low, high, panels + 1))
    logs = log_prior(x0) + stats.norm.logpdf(xt, a * x0, sigma)
    posterior = w * np.exp(logs - logs.max())
    return float(posterior @ f(x0) / posterior.sum())
