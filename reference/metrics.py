"""Sample-quality figures from their definitions: a matrix square root and plain loops."""

import math

import numpy as np
from scipy import linalg


def frechet_distance(mu1, cov1, mu2, cov2) -> float:
    """Squared Fréchet (2-Wasserstein) distance between N(mu1, cov1) and N(mu2, cov2).

        ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁C₂)^{1/2})          (Dowson & Landau 1982; Heusel et al. 2017)

    The root is scipy.linalg.sqrtm's Schur method on the product itself. C₁C₂ is not symmetric but similar to
    a positive semi-definite matrix, so an imaginary part is rounding; one above 10⁻³ raises ValueError.
    Well-conditioned covariances please: the root of a singular matrix loses half the digits.
    """
    mu1, mu2 = np.asarray(mu1, dtype=np.float64), np.asarray(mu2, dtype=np.float64)
    cov1, cov2 = np.atleast_2d(np.asarray(cov1, np.float64)), np.atleast_2d(np.asarray(cov2, np.float64))
    root = linalg.sqrtm(cov1 @ cov2)
    if np.abs(np.imag(root)).max() > 1e-3:
        raise ValueError("the product of the covariances has no real square root")
    return float(np.sum((mu1 - mu2) ** 2) + np.trace(cov1 + cov2 - 2 * np.real(root)))


def frechet_from_samples(x, y) -> float:
    """Fréchet distance of the Gaussians fitted to x (n, d) and y (m, d), covariances divided by n − 1."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return frechet_distance(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))


def _distance(a, b) -> float:
    return math.sqrt(math.fsum((float(u) - float(v)) ** 2 for u, v in zip(a, b, strict=True)))


def neighbour_radii(points, k: int) -> list[float]:
    """Distance from each point to its k-th nearest neighbour among the others; itself does not count."""
    radii = []
    for i, a in enumerate(points):
        others = sorted(_distance(a, b) for j, b in enumerate(points) if j != i)
        radii.append(others[k - 1])
    return radii


def share_inside(points, centres, k: int) -> float:
    """Share of `points` lying in the ball of at least one centre, its radius being `neighbour_radii`."""
    radii = neighbour_radii(centres, k)
    inside = 0
    for point in points:
        if any(_distance(point, centre) <= radius for centre, radius in zip(centres, radii, strict=True)):
            inside += 1
    return inside / len(points)


def precision_recall(real, fake, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eqs. 1 and 2), by brute force.

    Precision: the share of fake points within the real points' k-nearest-neighbour balls. Recall: the same
    with the roles exchanged.
    """
    return share_inside(fake, real, k), share_inside(real, fake, k)


def classifier_score(probabilities) -> float:
    """exp of the mean KL(p(y|x) ‖ p(y)), from class probabilities (n, K) (Salimans et al. 2016).

    p(y) is the mean over the n samples. Between 1 (all alike) and K (sure of each, classes balanced).
    """
    rows = [[float(p) for p in row] for row in probabilities]
    n, classes = len(rows), len(rows[0])
    marginal = [math.fsum(row[c] for row in rows) / n for c in range(classes)]
    divergences = [math.fsum(p * math.log(p / m) for p, m in zip(row, marginal, strict=True) if p > 0)
                   for row in rows]
    return math.exp(math.fsum(divergences) / n)
