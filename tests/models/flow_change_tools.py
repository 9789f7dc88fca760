"""Flows of every kind, small ones."""

import numpy as np
from evidence import up
from hypothesis import strategies as st

from scratchgen import ops
from scratchgen.distributions import gaussian
from scratchgen.models.flows import change

dimensions = st.integers(1, 4)


def log_normal(z):
    return gaussian.log_prob(z, 0.0, 0.0)


def signed(noise, *shape):
    """From 0.4 to 2, to either side of 0: at a Jacobian's diagonal, nothing to lose digits on."""
    return noise.uniform(0.4, 2, shape) * noise.choice([-1.0, 1.0], shape)


def on(dtype, *arrays):
    return up([a.astype(dtype) for a in arrays])


def diagonal(seed, D, dtype="float64"):
    noise = np.random.default_rng(seed)
    return change.Diagonal(*on(dtype, signed(noise, D), noise.normal(size=D)))


def triangular(seed, D, dtype="float64"):
    """With numbers above the diagonal, which are not to be read."""
    noise = np.random.default_rng(seed)
    L = noise.uniform(-1, 1, (D, D))
    L[np.diag_indices(D)] = signed(noise, D)
    return change.Triangular(*on(dtype, L, noise.normal(size=D)))


def permutation(seed, D, dtype="float64"):
    return change.Permutation(np.random.default_rng(seed).permutation(D).tolist())


def conditioner(A, B, c):
    """s = 0.8·tanh(x_a·A + c), t = (x_a·B)²: a scale and a shift that bend."""
    return lambda a: change.Affine(0.8 * ops.tanh(ops.matmul(a, A) + c), ops.square(ops.matmul(a, B)))


def coupling(seed, D, dtype="float64", k=None):
    noise = np.random.default_rng(seed)
    k = k or int(noise.integers(1, D))
    A, B, c = noise.normal(size=(k, D - k)), 0.6 * noise.normal(size=(k, D - k)), noise.normal(size=D - k)
    return change.Coupling(conditioner(*on(dtype, A, B, c)), k)


def deep(seed, D, dtype="float64"):
    """Couplings of both halves, and affine maps between them."""
    return [coupling(seed, D, dtype, 1), permutation(seed, D), triangular(seed + 1, D, dtype),
            coupling(seed + 2, D, dtype, D - 1), diagonal(seed + 3, D, dtype),
            change.Permutation(list(reversed(range(D)))), coupling(seed + 4, D, dtype, 1)]  # fmt: skip


def composed(seed, D, dtype="float64"):
    return change.Compose(deep(seed, D, dtype))


KINDS = {"diagonal": diagonal, "triangular": triangular, "permutation": permutation, "coupling": coupling,
         "compose": composed}  # fmt: skip
