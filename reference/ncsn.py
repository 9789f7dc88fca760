"""Inpainting by annealed Langevin dynamics on a Gaussian, as one linear-Gaussian chain, pixel by pixel.

On N(mean, cov) the blurred score is linear, and so is a whole walk; its mean and covariance follow from `moments`, with
steps that are tangents of the process in continuous time (`tangent_step`).  What it should end at is a conditional of
the Gaussian (`condition`), which knows of no walk.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from reference.gaussian import affine_map, moments
from reference.langevin import tangent_step


def held(x, y, mask, spread, z) -> np.ndarray:
    """The pixels of x, one after the other: where the mask is 1 a draw around y, from z by the normal's quantiles."""
    pixels = [
        stats.norm.ppf(stats.norm.cdf(z_), loc=y_, scale=s_) if m_ == 1 else x_
        for x_, y_, m_, s_, z_ in zip(*(np.ravel(v) for v in np.broadcast_arrays(x, y, mask, spread, z)), strict=True)
    ]
    return np.reshape(pixels, np.shape(x))


def walk(mean, cov, start, sigma: Sequence[float], alpha: Sequence[float], T: int, known: Sequence[int], y):
    """Mean and covariance of x after the walk's last step, x ~ N(0, start²·I) before the first.

    T steps of Langevin's, of length α_i/2, at every level, on N(mean, cov + σ_i²·I); after each of them the `known`
    coordinates are y + σ_i·z_i.  The state is (x, z_i): z_i is drawn where a level begins and stays for its T steps.
    """
    d = len(mean)
    rest = [i for i in range(d) if i not in set(known)]
    steps = []
    for s, a in zip(sigma, alpha, strict=True):
        blurred = np.asarray(cov) + s**2 * np.eye(d)
        A, B = affine_map(lambda x, c=blurred, a=a: tangent_step(mean, c, x, a / 2)[0], d)
        Q = tangent_step(mean, blurred, np.zeros(d), a / 2)[1]
        fresh = np.zeros((2 * d, 2 * d))
        fresh[:d, :d] = np.eye(d)
        drawn = np.zeros((2 * d, 2 * d))
        drawn[d:, d:] = np.eye(d)
        steps.append((fresh, np.zeros(2 * d), drawn))
        move, shift, noise = np.zeros((2 * d, 2 * d)), np.zeros(2 * d), np.zeros((2 * d, 2 * d))
        move[np.ix_(rest, range(d))], shift[rest], noise[np.ix_(rest, rest)] = A[rest], B[rest], Q[np.ix_(rest, rest)]
        for i, value in zip(known, y, strict=True):
            move[i, d + i], shift[i] = s, value
        move[d:, d:] = np.eye(d)
        steps += T * [(move, shift, noise)]
    begin = np.zeros((2 * d, 2 * d))
    begin[:d, :d] = start**2 * np.eye(d)
    means, covs = moments(np.zeros(2 * d), begin, steps)
    return means[-1][:d], covs[-1][:d, :d]
