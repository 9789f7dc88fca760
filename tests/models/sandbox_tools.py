"""Mixtures as the oracles and as the library hold them, fields to try, densities carried through a sampler's steps."""

import math
import types

import numpy as np
from evidence import host, lifted, up
from hypothesis import settings
from hypothesis import strategies as st

from reference import denoisers as E
from scratchgen import ops
from scratchgen.models import exact
from scratchgen.models.diffusion import bound, process

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
    """(A, B, Q) of a step (x, z) ↦ y of (n, d), affine in both: y = A·x + B + N(0, Q).  Probed in one call.

    Raises ValueError when a further probe shows that the step is not affine.
    """
    probe, eye, zero = np.linspace(-1.7, 2.3, d)[None], np.eye(d), np.zeros((d, d))
    y = step(np.concatenate([0 * probe, eye, zero, probe]), np.concatenate([0 * probe, zero, eye, -probe]))
    B, A, gain = y[0], (y[1 : d + 1] - y[0]).T, (y[d + 1 : 2 * d + 1] - y[0]).T
    if not np.allclose(y[-1], (A - gain) @ probe[0] + B, rtol=1e-9, atol=1e-9):
        raise ValueError("the step is not affine")
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


def by_ancestors(data, schedule, eps_theta, line):
    """`statistics` of DDPM's x_0, σ² = β, by carrying the density of x_T, the true one; the last step has no noise.

    eps_theta: takes and gives NumPy arrays.
    """
    ab = float(schedule.alpha_bar[schedule.T])
    std, x = np.sqrt(host(bound.reverse_variance(schedule, "beta"))), line.x[:, None]
    masses = line.masses(E.noisy(data, math.sqrt(ab), math.sqrt(1 - ab)))
    for t in range(schedule.T, 0, -1):
        mean = lifted(process.mean_from_eps)(schedule, x, eps_theta(x, t), t)[:, 0]
        if t > 1:
            masses = line.kernel(mean, std[t]) @ masses
    return statistics(data, mean, masses)


def statistics(data, x, masses):
    """Share of the first component, mean and second moment of masses at points x of the real line.

    The share is E r_1(x), the mean probability of having come from the first component: its weight, if x ~ data.
    """
    return np.array([E.responsibilities(data, x[:, None])[0], x, x * x]) @ masses


def expected(data):
    """What `statistics` should be."""
    mean = data.means[:, 0]
    return np.array([data.weights[0], data.weights @ mean, data.weights @ (mean**2 + data.covs[:, 0, 0])])
