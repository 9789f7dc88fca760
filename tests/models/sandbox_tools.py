"""Mixtures as the oracles and as the library hold them, fields to try, densities carried through a sampler's steps."""

import types

import numpy as np
from evidence import lifted, up
from hypothesis import settings
from hypothesis import strategies as st

from reference import denoisers as E
from reference.gaussian import affine_map
from scratchgen import ops
from scratchgen.models import exact

SOME = settings(max_examples=max(10, settings.default.max_examples // 2))
FEW = settings(max_examples=max(5, settings.default.max_examples // 6))

seeds = st.integers(0, 2**32 - 1)


def floats(low, high):
    return st.floats(low, high, allow_subnormal=False)


def covariances(noise, *shape):
    """(…, d, d), with eigenvalues from 0.2 to about 4."""
    root = noise.uniform(-1, 1, (*shape, shape[-1]))
    return root @ np.swapaxes(root, -1, -2) + 0.2 * np.eye(shape[-1])


def mixture(seed, K, d):
    """K components in d dimensions, within ±2 of 0, of weights above 1/4K."""
    noise = np.random.default_rng(seed)
    return E.Mixture(0.75 * noise.dirichlet(np.ones(K)) + 0.25 / K, noise.uniform(-2, 2, (K, d)),
                     covariances(noise, K, d))  # fmt: skip


mixtures = st.builds(mixture, seeds, st.integers(1, 3), st.integers(1, 3))
gaussians = st.builds(mixture, seeds, st.just(1), st.just(2))

BIMODAL = E.Mixture(np.array([0.3, 0.7]), np.array([[-1.2], [1.0]]), np.array([[[0.06]], [[0.15]]]))
MEAN, COV = np.array([0.4, -0.3]), np.array([[0.5, 0.2], [0.2, 0.3]])
NORMAL = E.gaussian(MEAN, COV)


def points(seed, n, d, reach=3.0):
    return np.random.default_rng(seed).uniform(-reach, reach, (n, d))


def methods(target):
    """An object of the library whose methods take and give NumPy arrays, and compute on the active backend."""
    names = [name for name in dir(target) if not name.startswith("_") and callable(getattr(target, name))]
    return types.SimpleNamespace(**{name: lifted(getattr(target, name)) for name in names})


def on_backend(data, dtype="float64"):
    """The library's mixture, on the active backend."""
    return exact.Mixture(*up([part.astype(dtype) for part in data]))


def library(data, dtype="float64"):
    """The library's mixture, as NumPy sees it."""
    return methods(on_backend(data, dtype))


def field(seed, d, width=5):
    """A random smooth field in d dimensions: as the library calls it (with gradients), and on NumPy."""
    noise = np.random.default_rng(seed)
    A, b, C = noise.normal(size=(d, width)), noise.normal(size=width), noise.normal(size=(width, d))
    A_, b_, C_ = up([A, b, C])
    return (lambda x: ops.matmul(ops.tanh(ops.matmul(x, A_) + b_), C_) - 0.5 * x,
            lambda x: np.tanh(x @ A + b) @ C - 0.5 * x)  # fmt: skip


def as_map(step, d):
    """(A, B, Q) of a step (x, z) ↦ y on (1, d), affine in both: y = A·x + B + N(0, Q)."""
    zero = np.zeros((1, d))
    A, B = affine_map(lambda x: step(x[None], zero)[0], d)
    gain = np.stack([step(zero, e[None])[0] - B for e in np.eye(d)], axis=1)
    return A, B, gain @ gain.T


def slope(sizes, errors):
    """The order at which errors shrink with the step: the slope of log error over log size."""
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


class Line:
    """A density on an even grid of the real line, carried through steps x ↦ N(mean(x), std²) without sampling.

    The trapezoid rule's error is e^(−2π²(std/spacing)²): nothing, where std ≥ 1.5 spacings.
    """

    def __init__(self, low, high, n):
        self.x = np.linspace(low, high, n)
        self.spacing = self.x[1] - self.x[0]

    def kernel(self, mean, std):
        """The matrix that carries masses at the nodes to masses at the nodes; mean: of each node, (n,)."""
        assert std > 1.5 * self.spacing
        z = (self.x[:, None] - mean) / std
        return np.exp(-0.5 * z * z) * (self.spacing / (std * np.sqrt(2 * np.pi)))

    def masses(self, data):
        """Of a one-dimensional mixture."""
        return np.exp(E.log_prob(data, self.x[:, None])) * self.spacing
