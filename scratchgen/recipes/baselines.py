"""Models of images without a network, whose likelihood is exact: what a latent variable model has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.distributions import bernoulli, gaussian, gaussian_full
from scratchgen.random import Generator
from scratchgen.recipes.quality import rounded
from scratchgen.recipes.recipe import on_host


def likelihoods(config: Any, seen: np.ndarray, labels: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """log p(x) (B,), in nats, by model, the weakest first.  seen, labels: what they are fitted to."""
    seen, x = (a.reshape(len(a), -1).astype(np.float64) for a in (seen, x))
    return gaussians(seen, x, config.latent) if config.decoder == "gaussian" else coins(seen, labels, x)


def gaussians(seen: np.ndarray, x: np.ndarray, latent: int) -> dict[str, np.ndarray]:
    """A Gaussian for each pixel; the linear model of as many latents; a Gaussian of any covariance."""
    from sklearn.decomposition import FactorAnalysis

    mean, cov = seen.mean(axis=0)[None], np.cov(seen.T)
    linear = FactorAnalysis(min(latent, seen.shape[1] - 1), max_iter=5000, svd_method="lapack").fit(seen)
    up = active().asarray
    full = [on_host(gaussian_full.log_prob(up(x), up(m[None]), up(c)))
            for m, c in ((linear.mean_, linear.get_covariance()), (mean[0], cov))]  # fmt: skip
    return {
        "a Gaussian for each pixel": on_host(gaussian.log_prob(up(x), up(mean), up(np.log(np.diag(cov))[None]))),
        f"factor analysis: linear, {latent} latents": full[0],
        "a Gaussian of any covariance": full[1],
    }


def coins(seen: np.ndarray, labels: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """A coin for each pixel; one for each pixel and class, the classes mixed."""
    up = active().asarray

    def log_prob(flips: np.ndarray) -> np.ndarray:
        p = (flips.sum(axis=0) + 0.5) / (len(flips) + 1)  # none is sure of what it has not seen
        return on_host(bernoulli.log_prob(up(x), up(np.log(p / (1 - p))[None])))

    classes, counts = np.unique(labels, return_counts=True)
    parts = [log_prob(seen[labels == c]) + np.log(n / len(labels)) for c, n in zip(classes, counts, strict=True)]
    return {
        "a coin for each pixel": log_prob(seen),
        f"the same for each of {len(classes)} classes, mixed": np.logaddexp.reduce(parts),
    }


def gaussian_images(data: Dataset, n: int, rng: Generator) -> np.ndarray:
    """n images of a Gaussian with the data's mean and covariance, at the data's grey levels."""
    flat = data.train.reshape(len(data.train), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    noise = on_host(rng.standard_normal((n, flat.shape[1]), "float64"))
    drawn = flat.mean(axis=0) + noise * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return rounded(drawn.reshape(n, *data.shape).clip(-1, 1).astype(np.float32), data.levels)
