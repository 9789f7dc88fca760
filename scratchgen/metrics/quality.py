"""The quality figures of generated images, always between their floor and their ceiling.

    floor      real images held out, against the real images of training: as good as can be
    ceiling    noise, against the same: as bad as can be

A figure alone says little, since all of them depend on how many images there are: the Fréchet distance is
biased upwards by about 1/n, the balls of precision and recall shrink with n, the score rises with n.  So
every row of a table is made of groups of the same n images, n being the number held out, against the same
training images; where there are more samples than n, the row is the mean over disjoint groups and its
spread.  The floor is a strict one for the digits: they are held out class by class, so their classes have
just the training frequencies.  360 training images drawn at random, whose classes are not so even, are
nearly twice as far from the training set as the held-out ones, and no generator can be expected nearer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from scratchgen.backend import active
from scratchgen.metrics.classifier import Classifier, classifier_score
from scratchgen.metrics.frechet import distance, moments
from scratchgen.metrics.neighbours import radii, share_inside
from scratchgen.random import Generator

K = 3  # of the k-nearest-neighbour balls, as in Kynkäänniemi et al. (2019)
FLOOR, NORMAL, UNIFORM = "real, held out", "noise, normal", "noise, uniform"


class Quality(NamedTuple):
    """frechet ≥ 0, the smaller the better; precision and recall in [0, 1]; score in [1, classes]."""

    frechet: float
    precision: float
    recall: float
    score: float


class Row(NamedTuple):
    """A row of the table: the mean over `groups` groups of n images.

    spread: the standard deviation between the groups; None where there is only one.
    """

    name: str
    mean: Quality
    spread: Quality | None
    groups: int
    n: int


class Reference:
    """Real images as the classifier sees them, worked out once for all the samples held against them.

    images: (N, H, W, C) in [−1, 1], more of them than the classifier has features.
    """

    def __init__(self, images: np.ndarray, classifier: Classifier, k: int = K) -> None:
        self.classifier, self.k = classifier, k
        self.features = self._enough(images, classifier.features(images))
        self.moments = moments(self.features)
        self.radii = radii(self.features, k)

    def quality(self, samples: Any) -> Quality:
        """The figures of samples (n, H, W, C), on the host or on the classifier's backend.

        Raises ValueError for samples that are not finite, of another shape, or too few: with no more
        than features, or than k, the figures would say nothing.
        """
        features, probabilities = self.classifier.see(samples)
        self._enough(samples, features)
        return Quality(
            distance(moments(features), self.moments),
            share_inside(features, self.features, self.radii),
            share_inside(self.features, features, radii(features, self.k)),
            classifier_score(probabilities),
        )

    def row(self, name: str, samples: Any, n: int) -> Row:
        """The figures of disjoint groups of n samples, in their order; a rest smaller than n is left out."""
        groups = len(samples) // n
        if not groups:
            raise ValueError(f"{name}: {len(samples)} images are too few for figures of n = {n}")
        found = np.array([self.quality(samples[i * n : (i + 1) * n]) for i in range(groups)])
        spread = Quality(*found.std(axis=0, ddof=1).tolist()) if groups > 1 else None
        return Row(name, Quality(*found.mean(axis=0).tolist()), spread, groups, n)

    def _enough(self, images: Any, features: np.ndarray) -> np.ndarray:
        least = max(features.shape[1], self.k) + 1
        if len(images) < least:
            raise ValueError(f"{len(images)} images are too few for quality figures, which need {least}")
        return features


def quality(samples: Any, reference_images: np.ndarray, classifier: Classifier, k: int = K) -> Quality:
    """The figures of one set of samples (n, H, W, C) against real images; see `Reference.quality`."""
    return Reference(reference_images, classifier, k).quality(samples)


def table(
    samples: Mapping[str, Any], train: np.ndarray, heldout: np.ndarray, classifier: Classifier, *,
    rng: Generator, k: int = K,
) -> list[Row]:  # fmt: skip
    """The floor, a row for each set of samples, and two ceilings; all with n = len(heldout), against `train`.

    samples: sets of images (≥ n, H, W, C) by name.  Ceilings: N(0, 1) clipped to [−1, 1], and U[−1, 1).
    Raises ValueError as `Reference.quality` does, or for a set smaller than n.
    """
    reference, n = Reference(train, classifier, k), len(heldout)
    normal = active().clip(rng.standard_normal(heldout.shape), -1, 1)
    uniform = 2 * rng.random(heldout.shape) - 1
    rows = {FLOOR: heldout, **samples, NORMAL: normal, UNIFORM: uniform}
    return [reference.row(name, images, n) for name, images in rows.items()]
