"""A classifier of small images: the eye through which the quality figures look at samples.

    h(x) = silu(W·[silu ∘ conv ∘ … ∘ silu ∘ conv](x) + b)        the features, (B, width)
    p(y|x) = softmax(V·h(x) + c)                                 the class probabilities, (B, K)

Fréchet distance, precision and recall are taken between features, the classifier score from probabilities.
The Inception network of published figures has never seen an 8 × 8 digit.  A network trained on the data
themselves sees what matters in them, but figures from two networks do not compare: not even from two seeds.
The features are few, so that 360 images determine their covariance, and smooth, so that none is constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from scipy.special import rel_entr, softmax

from scratchgen import functional as F
from scratchgen import nn, ops
from scratchgen.autograd import stop_gradient
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import backend_of
from scratchgen.models.system import System
from scratchgen.random import Generator

BLOCK = 512  # images that the frozen network looks at together, which bounds the memory


@dataclass(frozen=True)
class ClassifierConfig:
    """shape: (H, W, C) of an image.  classes: K.  base: channels of the first convolution, doubled with every
    halving of the image.  width: of the features.  shift: training moves each image by up to so many pixels.
    """

    shape: tuple[int, ...] = (8, 8, 1)
    classes: int = 10
    base: int = 16
    width: int = 32
    shift: int = 1


class Loss(NamedTuple):
    """Per example: the cross entropy in nats, and 1 where the likeliest class is wrong."""

    loss: Any
    error: Any


class Seen(NamedTuple):
    """What the classifier makes of n images: features (n, width) and probabilities (n, K), float64."""

    features: np.ndarray
    probabilities: np.ndarray


class Classifier(System):
    """p(y|x) for images (B, H, W, C) in [−1, 1].

    Convolutions of stride 2 halve the image until it is at most 4 pixels high and wide.
    Raises ValueError for a shape that is no image.
    """

    def __init__(self, config: ClassifierConfig, *, rng: Generator) -> None:
        if len(config.shape) != 3 or min(config.shape) < 1:
            raise ValueError(f"Classifier: {config.shape} is not the shape (H, W, C) of an image")
        self.config = config
        h, w, c = config.shape
        self.convs = [nn.Conv2d(c, config.base, rng=rng)]
        c = config.base
        while max(h, w) > 4:
            self.convs.append(nn.Conv2d(c, 2 * c, rng=rng, stride=2))
            h, w, c = (h + 1) // 2, (w + 1) // 2, 2 * c
        self.dense = nn.Linear(h * w * c, config.width, rng=rng)
        self.last = nn.Linear(config.width, config.classes, rng=rng)

    def embed(self, x: Any) -> Any:
        """h(x), (B, width), differentiable."""
        for conv in self.convs:
            x = F.silu(conv(x))
        return F.silu(self.dense(ops.reshape(x, (x.shape[0], prod(x.shape[1:])))))

    def __call__(self, x: Any) -> Any:
        """The logits (B, K)."""
        return self.last(self.embed(x))

    def loss(self, batch: Any, rng: Generator) -> Loss:
        """Cross entropy of a batch (images, labels), each image moved at random."""
        images, labels = batch
        logits = self(shifted(images, self.config.shift, rng))
        error = stop_gradient(logits).argmax(axis=-1) != labels
        return Loss(F.cross_entropy(logits, labels), error.astype(images.dtype))

    def see(self, images: Any) -> Seen:
        """Features and probabilities of images (n, H, W, C), on the host or on the classifier's backend.

        Raises ValueError for images of another shape, or with a pixel that is not finite.
        """
        host = backend_of(images).to_numpy(images)
        if host.shape[1:] != tuple(self.config.shape):
            raise ValueError(f"images {host.shape} are not (n, {', '.join(map(str, self.config.shape))})")
        if not np.isfinite(host).all():
            raise ValueError("images with pixels that are not finite")
        frozen, w = self.frozen(), value_of(self.last.w)
        xp, features, logits = backend_of(w), [], []
        for start in range(0, max(len(host), 1), BLOCK):
            h = frozen.embed(xp.asarray(host[start : start + BLOCK].astype(w.dtype)))
            features.append(xp.to_numpy(h).astype(np.float64))
            logits.append(xp.to_numpy(frozen.last(h)).astype(np.float64))
        return Seen(np.concatenate(features), softmax(np.concatenate(logits), axis=1))

    def features(self, images: Any) -> np.ndarray:
        """h(x), (n, width) float64, of images as `see` takes them."""
        return self.see(images).features

    def probabilities(self, images: Any) -> np.ndarray:
        """p(y|x), (n, K) float64, of images as `see` takes them."""
        return self.see(images).probabilities

    def accuracy(self, images: Any, labels: np.ndarray) -> float:
        """The share of images whose likeliest class is their label, labels (n,) on the host."""
        likeliest = self.probabilities(images).argmax(axis=1)
        if likeliest.shape != labels.shape or not len(labels):
            raise ValueError(f"{likeliest.shape} images and {labels.shape} labels do not pair")
        return float(np.mean(likeliest == labels))


def shifted(images: Any, most: int, rng: Generator) -> Any:
    """Each image moved by whole pixels, drawn from {−most … most}²; −1, no ink, comes in at the rim."""
    xp, (b, h, w, _) = backend_of(images), images.shape
    frame = ((0, 0), (most, most), (most, most), (0, 0))
    wide = xp.pad(images, frame, constant_values=-1.0)
    rows = rng.integers(0, 2 * most + 1, (b, 1, 1)) + xp.arange(h)[None, :, None]
    columns = rng.integers(0, 2 * most + 1, (b, 1, 1)) + xp.arange(w)[None, None, :]
    return wide[xp.arange(b)[:, None, None], rows, columns]


def classifier_score(probabilities: np.ndarray) -> float:
    """exp( (1/n) Σ_i KL(p(y|x_i) ‖ p(y)) ),  p(y) = (1/n) Σ_i p(y|x_i), from p(y|x), (n, K).

    From 1, all images alike to the classifier, to K: sure of each, and of every class as many.
    Salimans et al. (2016, §4), who call it the Inception score.  Biased downwards for small n.
    Raises ValueError if the rows are no probabilities.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not p.size or not (p >= 0).all() or not (abs(p.sum(axis=1) - 1) < 1e-6).all():
        raise ValueError("the rows of (n, K) probabilities must be non-negative and sum to 1")
    return float(np.exp(rel_entr(p, p.mean(axis=0)).sum(axis=1).mean()))
