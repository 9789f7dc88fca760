"""Random linear-Gaussian chains of latents, as the oracles take them and as the library does."""

import itertools

import numpy as np
from evidence import lowered
from hypothesis import settings
from hypothesis import strategies as st

from reference.quadrature import gaussian_nodes
from scratchgen.models.latent.vae import Gaussian

SOME = settings(max_examples=max(8, settings.default.max_examples // 3), deadline=None)
FEW = settings(max_examples=max(5, settings.default.max_examples // 6), deadline=None)

seeds = st.integers(0, 2**32 - 1)


def floats(low, high):
    return st.floats(low, high, allow_subnormal=False)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def steps_down(seed, sizes):
    """(W, c, v) for z_{t−1} = W z_t + c + N(0, diag v); sizes: of x, z_1, …, z_T."""
    noise = np.random.default_rng(seed)
    return [(0.8 * noise.standard_normal((n, m)), 0.5 * noise.standard_normal(n), np.exp(noise.uniform(-1, 1, n)))
            for n, m in itertools.pairwise(sizes)]  # fmt: skip


def steps_up(seed, sizes):
    """(W, c, v) for z_t = W z_{t−1} + c + N(0, diag v)."""
    down = steps_down(seed, list(sizes)[::-1])
    return down[::-1]


def affine_steps(seed, d, T):
    """The same with diagonal W: what `hierarchical.Affine` is.  Scales of either sign."""
    noise = np.random.default_rng(seed)
    return [(np.diag(noise.uniform(0.3, 1.2, d) * noise.choice([-1, 1], d)), 0.5 * noise.standard_normal(d),
             np.exp(noise.uniform(-1, 1, d))) for _ in range(T)]  # fmt: skip


def kernel(step):
    """A step as a network of the library: z (B, m) ↦ N(W z + c, v)."""
    W, c, v = step
    return lowered(lambda z: Gaussian(z @ np.asarray(W).T + c, np.log(v)[None]))


def noises(*sizes, order=3):
    """Gauss–Hermite nodes (n, size) of standard normals of these sizes, all independent, and their weights (n,).

    As injected noise they make the mean over n samples an exact expectation, where what is averaged is a polynomial of
    degree below 2·order.
    """
    total = sum(sizes)
    nodes, weights = gaussian_nodes(np.zeros(total), np.eye(total), order)
    return np.split(nodes, np.cumsum(sizes)[:-1], axis=1), weights


def repeated(x, n):
    """One example n times, (n, d)."""
    return np.tile(np.atleast_1d(x), (n, 1))
