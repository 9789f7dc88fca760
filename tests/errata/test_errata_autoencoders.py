"""Misprints about autoencoders: the loss of a VAE, a score of disentanglement, tangents of a manifold."""

from math import exp, log

import numpy as np
from evidence import lifted
from hypothesis import strategies as st
from scipy import stats
from slips import Forms, slip

import scratchgen as sg
from reference import disentanglement as oracle
from reference.derivatives import directional
from reference.distributions import kl_gaussian_hermite
from scratchgen import ops
from scratchgen.distributions import gaussian as gaussian_module
from scratchgen.metrics import disentanglement as disentanglement_module
from scratchgen.models.latent import tangents as tangents_module
from scratchgen.models.latent import vae as vae_module

gaussian, tangents, vae = map(lifted, (gaussian_module, tangents_module, vae_module))
disentanglement = lifted(disentanglement_module)

SMALL = st.integers(-3, 3)
LOG_VARIANCES = st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0])


@slip("slip.vae_deviation", mu=SMALL, sigma=st.sampled_from([1.0, 2.0, 0.5]))
def vae_deviation(mu, sigma):
    """KL(N(μ, σ²) ‖ N(0, 1)): in e^σ − (1 + σ) the letter stands for log σ².  The missing ½ is granted."""
    printed = 0.5 * (exp(sigma) - (1 + sigma) + mu**2)
    holds = gaussian.kl_standard(np.array([float(mu)]), np.array([2 * log(sigma)]))[0]
    return Forms(printed, holds, kl_gaussian_hermite([mu], [[sigma**2]], [0], [[1]]))


@slip("slip.vae_half", codes=st.lists(st.tuples(SMALL, LOG_VARIANCES), min_size=1, max_size=3))
def vae_half(codes):
    """KL(N(μ, σ²) ‖ N(0, I)) in nats: half the printed sum, even with log σ² in the place of σ."""
    printed = sum(exp(log_var) - (1 + log_var) + mu**2 for mu, log_var in codes)
    holds = gaussian.kl_standard(*np.array(codes, float).T[:, None])[0]
    truth = sum(kl_gaussian_hermite([mu], [[exp(log_var)]], [0], [[1]]) for mu, log_var in codes)
    return Forms(printed, holds, truth)


@slip("slip.reconstruction_sign", x=SMALL, g=SMALL, sigma=st.sampled_from([1.0, 2.0, 0.5]))
def reconstruction_sign(x, g, sigma):
    """log p(x | z) − log p(x | z′) for decoded means g and x itself: the farther off, the smaller."""
    held = [
        vae.gaussian_decoder(np.array([float(x)]), vae_module.Gaussian(np.array([float(m)]), 2 * log(sigma)))[0]
        for m in (g, x)
    ]
    truth = stats.norm(g, sigma).logpdf(x) - stats.norm(x, sigma).logpdf(x)
    return Forms(printed=(x - g) ** 2 / (2 * sigma**2), holds=held[0] - held[1], truth=truth)


@st.composite
def codes_of_factors(draw):
    """(levels of each factor, scale of each coordinate of a disentangled code, the shared factor k)."""
    K = draw(st.integers(2, 3))
    levels = draw(st.lists(st.integers(2, 3), min_size=K, max_size=K))
    scales = draw(st.lists(st.sampled_from([1, 2, -1]), min_size=K, max_size=K))
    return levels, scales, draw(st.integers(0, K - 1))


@slip("slip.beta_vae_score", code=codes_of_factors())
def beta_vae_score(code):
    """How E|z_1 − z_2| changes, coordinate by coordinate, when v_1 and v_2 come to share factor k.

    Averaging over a batch, here over all pairs, leaves the expectation as it is; what falls, to 0, is coordinate k.
    Of a change, the sign: printed −1 for the others, by whatever amount.  The truth: counted, in fractions.
    """
    levels, scales, k = code

    def z(v):
        return [scale * value for scale, value in zip(scales, v, strict=True)]

    def batch(shared):
        pairs = oracle.pairs(levels, shared)
        return disentanglement.difference(*(np.array([z(pair[i]) for pair in pairs], float)[None] for i in (0, 1)))[0]

    at_k = np.arange(len(levels)) == k
    return Forms(
        printed=np.where(at_k, 0.0, -1.0), holds=np.sign(np.round(batch(k) - batch(None), 12)),
        truth=np.sign(oracle.expected_difference(z, levels, k) - oracle.expected_difference(z, levels, None)),
    )  # fmt: skip


def longitude_and_latitude(x):
    """A code of points of space that is a coordinate on every sphere around 0."""
    return ops.stack([ops.arctan2(x[1], x[0]), ops.arctan2(x[2], ops.hypot(x[0], x[1]))])


@slip("slip.tangent_rows", x=st.sampled_from([1, -1, 2]), y=st.integers(-2, 2), z=st.sampled_from([1, -1, 2]))
def tangent_rows(x, y, z):
    """The projection onto the tangent plane of a sphere, from J = UDVᵀ of its coordinates.

    The directions that change the code most are columns of V.  The truth: all that is orthogonal to the radius.
    """
    point = np.array([x, y, z], float)
    J = lifted(sg.jacobian(longitude_and_latitude))(point)
    V = np.linalg.svd(J)[2].T  # all of it, (3, 3): in the thin V, (3, 2), rows are no directions of x at all
    (rows,) = tangents.vectors(J[None], 2)  # of Vᵀ
    truth = np.eye(3) - np.outer(point, point) / (point @ point)
    return Forms(printed=V[:2].T @ V[:2], holds=rows.T @ rows, truth=truth)


@slip("slip.tangent_prop", slopes=st.lists(st.sampled_from([0, 1, -1, 2]), min_size=1, max_size=3))
def tangent_prop(slopes):
    """The penalty Σ_j of how much f changes along v_j: without the square, a rise pays for a fall.

    f(x) = sin(slopes·x) at x = 0, the tangents are the axes.  The truth: differences of f, squared.
    """
    w = np.array(slopes, float)
    slope, axes = lifted(sg.grad(lambda x, w: ops.sin(ops.sum(w * x))))(np.zeros(len(w)), w), np.eye(len(w))
    truth = sum(directional(lambda x: np.sin(w @ x), np.zeros(len(w)), v) ** 2 for v in axes)
    holds = tangents.tangent_prop(slope[None, None], axes[None])[0]
    return Forms(printed=(axes @ slope).sum(), holds=holds, truth=truth)
