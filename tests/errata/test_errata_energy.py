"""Misprints about unnormalised densities and their chains.  The truth: every state counted; fixed points of moments."""

import itertools
from math import sqrt

import numpy as np
from evidence import lifted
from hypothesis import strategies as st
from scipy import stats
from slips import Forms, slip

import scratchgen as sg
from reference.derivatives import richardson
from reference.gaussian import affine_map
from reference.quadrature import panel_nodes
from scratchgen import ops
from scratchgen.models.energy import contrastive as contrastive_module
from scratchgen.models.energy import densities as densities_module
from scratchgen.models.energy import langevin as langevin_module
from scratchgen.models.energy import metropolis as metropolis_module

densities, langevin, metropolis = map(lifted, (densities_module, langevin_module, metropolis_module))

WEIGHTS = st.lists(st.integers(1, 5), min_size=2, max_size=3)
"""p of a few states, up to its constant."""


def kernel(accept):
    """The chain that proposes each other state alike and accepts with probability accept[i, j]."""
    n = len(accept)
    K = (1 - np.eye(n)) * accept / (n - 1)
    return K + np.diag(1 - K.sum(1))


def ratios(weights):
    """p(x')/p(x), (n, n): x by row, x′ by column."""
    return np.array(weights, float) / np.array(weights, float)[:, None]


def accepted(weights):
    """a(x → x′) by the library, (n, n)."""
    n = len(weights)
    f = np.log(np.array(weights, float))
    return np.exp(metropolis.log_accept(np.repeat(f, n), np.tile(f, n))).reshape(n, n)


@slip("slip.metropolis_coin", weights=WEIGHTS)
def metropolis_coin(weights):
    """One step from p: it must leave p as it is.  A fair coin is right only for a state half as likely."""
    p = np.array(weights) / sum(weights)
    coin = np.where(ratios(weights) >= 1, 1.0, 0.5)
    return Forms(printed=p @ kernel(coin), holds=p @ kernel(accepted(weights)), truth=p)


@slip("slip.metropolis_ratio", weights=WEIGHTS)
def metropolis_ratio(weights):
    """The same with e^(f(x′) − f(x′)) = 1: everything is accepted, and the chain samples the proposal instead of p."""
    p = np.array(weights) / sum(weights)
    f = np.log(np.array(weights, float))
    always = np.where(ratios(weights) >= 1, 1.0, np.exp(f - f))
    return Forms(printed=p @ kernel(always), holds=p @ kernel(accepted(weights)), truth=p)


@slip("slip.gaussian_volume", mu=st.integers(-2, 2), sigma=st.sampled_from([1.0, 2.0]), reach=st.sampled_from([10, 20]))
def gaussian_volume(mu, sigma, reach):
    """∫ g over μ ± reach·σ, which leaves nothing out of a Gaussian; without the square it grows with the reach.

    The truth: 1/p(μ) of scipy's normal density p = g/Volume, since g(μ) = 1.
    """
    edges = np.linspace(mu - reach * sigma, mu + reach * sigma, 4 * reach + 1)
    x, w = panel_nodes(edges)
    printed = np.exp(-(x - mu) / (2 * sigma**2)) @ w
    holds = np.exp(densities.log_Z(-((x - mu) ** 2) / (2 * sigma**2), w))
    return Forms(printed, holds, truth=1 / stats.norm(mu, sigma).pdf(mu))


@slip("slip.langevin_steps", var=st.sampled_from([1.0, 0.5, 2.0]))
def langevin_steps(var):
    """The variance that a walk on N(0, σ²) settles at, ε → 0: two conventions, and the two ways to mix them.

    v = A²·v + Q, with A and Q read off the step; the limit by extrapolation.  The truth: σ², which p has.
    """

    def drift_and_noise(step, epsilon):
        walk = lambda x, z: step(np.array([x]), np.array([-x / var]), epsilon, np.array([z]))[0]  # noqa: E731
        slope, _ = affine_map(lambda x: np.array([walk(x[0], 0.0)]), 1)
        return slope[0, 0], walk(0.0, 1.0) ** 2

    def settled(drift, noise):
        def variance(root):  # its error is a series in ε = root²
            slope, _ = drift_and_noise(drift, root**2)
            _, added = drift_and_noise(noise, root**2)
            return added / (1 - slope**2)

        return float(richardson(variance, 0.4 * sqrt(var), 6))

    one, other = langevin.step, langevin.step_half
    return Forms(
        printed=[settled(one, other), settled(other, one)], holds=[settled(one, one), settled(other, other)],
        truth=[var, var],
    )  # fmt: skip


@slip("slip.contrastive_divergence", weights=WEIGHTS, k=st.integers(1, 3))
def contrastive_divergence(weights, k):
    """The mean gradient of CD-k in f = log p + constant, a table, for data in the first state.

    Samples of p would give the likelihood's gradient; k steps from the data give another.
    The truth: every path of k steps, counted.
    """
    n, p = len(weights), np.array(weights) / sum(weights)
    K = kernel(np.minimum(1, ratios(weights)))
    truth = np.zeros(n)
    for path in itertools.product(range(n), repeat=k):
        chance = np.prod([K[i, j] for i, j in itertools.pairwise((0, *path))])
        truth += chance * (np.eye(n)[0] - np.eye(n)[path[-1]])
    reached = np.linalg.matrix_power(K, k)[0]

    def loss(f, x, states, weights):
        return ops.mean(contrastive_module.surrogate(lambda s: s @ f, x, states, weights).loss)

    holds = -lifted(sg.grad(loss))(np.log(p), np.eye(n)[:1], np.eye(n), reached)
    return Forms(printed=np.eye(n)[0] - p, holds=holds, truth=truth)
