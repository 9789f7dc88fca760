"""The variational autoencoder's formulas: a linear-Gaussian one is exact, a binary one enumerated, both integrated.

Injected noise at Gauss–Hermite nodes makes every expectation over ε a sum that is exact for polynomials: no test here
draws a sample.
"""

import math
from functools import partial

import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted
from hypothesis import given
from hypothesis import strategies as st
from latent_tools import FEW, SOME, floats, noises, normal, repeated, seeds
from latent_vae_tools import TIGHT, Linear, V
from scipy import stats

import scratchgen as sg
from reference import distributions as R
from reference import latent as oracle
from reference.derivatives import gradient
from reference.quadrature import panel_nodes, spread_edges
from scratchgen import ops
from scratchgen.distributions import gaussian
from scratchgen.models.latent import vae
from scratchgen.models.latent.vae import Gaussian
from scratchgen.random import Generator

# Sums of a few dozen terms of order 10, conditioned by systems with condition numbers below 10³: 10⁴ roundings at most.
shapes = st.lists(st.integers(1, 3), min_size=2, max_size=3).map(tuple)


def uniform(seed, shape, *ranges):
    noise = np.random.default_rng(seed)
    return [noise.uniform(low, high, shape) for low, high in ranges]


linears = st.builds(Linear, st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 2))


# --- the latent ---------------------------------------------------------------------------------------------


@pytest.mark.equation("vae.latent")
@SOME
@given(shapes, seeds)
def test_the_latent_has_the_encoders_mean_and_deviation(shape, seed):
    """Injected nodes of ε, so that the moments are sums; the deviation is that of scipy's normal."""
    mu, log_var = uniform(seed, shape, (-3, 3), (-4, 2))
    (nodes,), weights = noises(1)
    z = np.stack([V.latent(None, Gaussian(mu, log_var), np.full(shape, e)) for e in nodes[:, 0]])
    mean = np.tensordot(weights, z, 1)
    agree(mean, mu, 1e-14, 1e-14)
    deviation = np.sqrt(np.tensordot(weights, (z - mean) ** 2, 1))
    # z − μ loses what μ and σ differ by: 3/e⁻² of them
    agree(deviation, stats.norm(mu, np.sqrt(np.exp(log_var))).std(), 1e-13)
    eps = normal(seed, *shape)
    want = stats.norm(mu, np.sqrt(np.exp(log_var))).ppf(stats.norm.cdf(eps))
    agree(V.latent(None, Gaussian(mu, log_var), eps), want, 1e-10, 1e-10)


@pytest.mark.equation("vae.latent")
@FEW
@given(floats(-2, 2), floats(-2, 1), floats(-1.5, 1.5))
def test_the_pathwise_gradient_is_the_gradient_of_the_expectation(mu, log_var, k):
    """d/d(μ, log σ²) of E_q sin(kz)·z, which quadrature integrates: differences of integrals against E_ε of slopes."""
    (eps,), w = noises(1, order=40)
    n = len(w)

    def estimate(p):
        q = Gaussian(np.zeros((n, 1)) + p[:1], np.zeros((n, 1)) + p[1:])
        z = vae.latent(None, q, eps)
        return ops.sum(w * (ops.sin(k * z) * z)[:, 0])

    def exact(p):
        z, w = panel_nodes(spread_edges(p[0], math.exp(p[1] / 2)))
        return w @ (stats.norm.pdf(z, p[0], math.exp(p[1] / 2)) * np.sin(k * z) * z)

    at = np.array([mu, log_var])
    # 40 nodes integrate sin(1.5·1.65·u) to rounding; the extrapolated differences of a quadrature keep 1e-8
    agree(sg.grad(estimate)(at), gradient(exact, at, levels=3), 1e-7, 1e-7)


@pytest.mark.equation("vae.latent")
def test_noise_is_drawn_when_none_is_given():
    mu, log_var = uniform(5, (3, 4), (-2, 2), (-2, 2))
    drawn = V.latent(Generator(3), Gaussian(mu, log_var))
    agree(drawn, V.latent(None, Gaussian(mu, log_var), lifted(Generator(3).standard_normal)((3, 4), "float64")))
    apart(drawn, V.latent(Generator(4), Gaussian(mu, log_var)), 0.1)
    single = V.latent(Generator(3), Gaussian(mu.astype("f"), log_var.astype("f")))
    assert single.dtype == np.float32


# --- decoders -----------------------------------------------------------------------------------------------


@pytest.mark.equation("vae.gaussian_decoder")
@SOME
@given(shapes, seeds)
def test_the_gaussian_decoder_is_scipys_normal(shape, seed):
    """With a variance for each pixel, shared by all, and fixed."""
    x, mu, log_var = uniform(seed, shape, (-3, 3), (-3, 3), (-3, 2))
    for given_var in (log_var, log_var[:1], float(log_var.flat[0])):
        found = V.gaussian_decoder(x, Gaussian(mu, given_var))
        want = R.normal_log_prob(x, mu, np.sqrt(np.exp(given_var))).reshape(len(x), -1).sum(axis=1)
        agree(found, want, 1e-13, 1e-12)


@pytest.mark.equation("vae.gaussian_decoder")
@FEW
@given(seeds, floats(-2, 2))
def test_a_fixed_variance_leaves_the_squared_error(seed, log_var):
    """log p(x|z) − log p(x|z') = −(‖x − m‖² − ‖x − m'‖²)/2s²; and p integrates to 1."""
    x, m, other = normal(seed, 3, 2, 4)
    decoder = lambda m: V.gaussian_decoder(x, Gaussian(m, log_var))  # noqa: E731
    errors = [np.linalg.norm(x - guess, axis=1) ** 2 for guess in (m, other)]
    agree(decoder(m) - decoder(other), (errors[1] - errors[0]) / math.exp(log_var) / 2, **TIGHT)
    apart(decoder(m) - decoder(other), (errors[0] - errors[1]) / math.exp(log_var) / 2, 1e-3)
    u, w = panel_nodes(spread_edges(0.5, math.exp(log_var / 2)))
    total = w @ np.exp(V.gaussian_decoder(u[:, None], Gaussian(np.full((len(u), 1), 0.5), log_var)))
    agree(total, 1.0, 1e-12)


@pytest.mark.equation("vae.gaussian_decoder")
@FEW
@given(seeds)
def test_a_learnt_variance_is_best_at_the_mean_squared_error(seed):
    x, m = normal(seed, 2, 4, 3)
    best = np.log(np.mean((x - m) ** 2))
    total = lambda v: vae.gaussian_decoder(x, Gaussian(m, v.reshape((1, 1)))).sum()  # noqa: E731
    agree(sg.grad(total)(np.array([best])), [0.0], 0, 1e-12)
    at_most([total(np.array([best + step])) - total(np.array([best])) for step in (-0.1, 0.1)], 0.0)


@pytest.mark.equation("vae.bernoulli_decoder")
@SOME
@given(st.integers(1, 6), seeds)
def test_the_binary_decoder_over_all_pictures(d, seed):
    """The probabilities of all 2^d binary pictures: one by one, and their sum."""
    (logits,) = uniform(seed, (d,), (-6, 6))
    pictures = np.array(list(np.ndindex(*(2,) * d)), dtype=float)
    found = V.bernoulli_decoder(pictures, repeated(logits, len(pictures)))
    p = np.exp(stats.logistic.logcdf(logits))
    agree(np.exp(found), R.bernoulli_table(p), 1e-12)
    agree(np.exp(found).sum(), 1.0, 1e-12)
    want = R.bernoulli_log_prob(pictures, p).sum(axis=1)
    agree(found, want, 1e-11, 1e-11)


# --- the loss -----------------------------------------------------------------------------------------------


@pytest.mark.equation("vae.loss")
@SOME
@given(linears)
def test_a_linear_autoencoders_loss_is_exact(model):
    """Against E_q[log p(x, z) − log q] of two whole Gaussian vectors; the divergence against its own nodes."""
    row = model.parameters
    loss, reconstruction, kl = model.expected(row)
    up, down = model.steps(row)
    agree(loss, -model.exact(row), **TIGHT)
    at_most(-loss - oracle.evidence(model.x, down), 1e-11)
    mean, cov = oracle.encoded(model.x, up)
    agree(kl, R.kl_gaussian_hermite(mean, cov, np.zeros(model.m), np.eye(model.m)), **TIGHT)
    agree(loss - reconstruction, kl, **TIGHT)


@pytest.mark.equation("vae.loss", "vae.latent")
@FEW
@given(linears)
def test_its_pathwise_gradient_is_that_of_the_exact_bound(model):
    """Every parameter of encoder and decoder: E_ε of the library's gradient against differences of linear algebra."""
    found = sg.grad(lambda row: ops.sum(model.weights * model.loss(row).loss))(model.parameters)
    # extrapolated differences of a function of order 10² keep 1e-9
    agree(found, -gradient(model.exact, model.parameters, levels=3), 1e-7, 1e-7)


@pytest.mark.equation("vae.loss")
@FEW
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_it_is_the_evidence_at_the_true_posterior(seed, n):
    """One latent number: its posterior is a Gaussian that q can be."""
    model = Linear(seed, n, 1)
    _, down = model.steps(model.parameters)
    mean, cov = oracle.posterior(model.x, down)
    exact = [np.zeros((1, n)), mean, np.log(np.diag(cov)), down[0][0], down[0][1], np.log(down[0][2])]
    row = np.concatenate([p.ravel() for p in exact])
    agree(model.expected(row)[0], -oracle.evidence(model.x, down), **TIGHT)
    # and there nothing of the encoder is worth changing
    encoder = slice(n, n + 2)
    slopes = sg.grad(lambda row: ops.sum(model.weights * model.loss(row).loss))(row)[encoder]
    agree(slopes, np.zeros(2), 0, 1e-11)


class Binary:
    """d pixels whose logits are affine in one latent number."""

    def __init__(self, seed, d, mu, log_var):
        self.d, self.mu, self.log_var = d, mu, log_var
        self.w, self.c = 2 * normal(seed, 2, d)

    def log_lik(self, x, z):
        """log p(x|z) for z of any shape: a logistic variable below l, or above, 1 and 0; no p rounds to either."""
        return stats.logistic.logcdf((2 * x - 1) * (np.multiply.outer(z, self.w) + self.c)).sum(axis=-1)

    def expected(self, x, beta=1.0):
        """E_ε of the library's terms, by quadrature over ε."""
        eps, weights = panel_nodes(spread_edges(0.0, 1.0, panels=60))
        weights = weights * stats.norm.pdf(eps)
        mu, log_var = np.full((len(eps), 1), self.mu), np.full((len(eps), 1), self.log_var)
        z = V.latent(None, Gaussian(mu, log_var), eps[:, None])
        terms = V.negative_elbo(repeated(x, len(eps)), z * self.w + self.c, mu, log_var, vae.bernoulli_decoder, beta)
        return [weights @ term for term in terms]


@pytest.mark.equation("vae.loss", "vae.bernoulli_decoder")
@FEW
@given(seeds, st.integers(1, 3), floats(-1.5, 1.5), floats(-2, 1))
def test_a_binary_autoencoders_loss_by_quadrature(seed, d, mu, log_var):
    """Every picture: −loss is the integral that defines the bound; over all pictures, Σ exp(−loss) ≤ Σ p(x) = 1."""
    model, total, evidence = Binary(seed, d, mu, log_var), 0.0, 0.0
    for x in np.ndindex(*(2,) * d):
        log_lik = partial(model.log_lik, np.array(x))
        loss = model.expected(np.array(x, float))[0]
        agree(-loss, oracle.elbo_quad(log_lik, mu, math.exp(log_var / 2)), 1e-11, 1e-11)
        agree(-loss + oracle.gap_quad(log_lik, mu, math.exp(log_var / 2)), oracle.evidence_quad(log_lik), 1e-11, 1e-11)
        total, evidence = total + math.exp(-loss), evidence + math.exp(oracle.evidence_quad(log_lik))
    agree(evidence, 1.0, 1e-12)
    at_most(total - 1, 1e-12)


@pytest.mark.equation("vae.loss")
def test_without_a_beta_it_is_the_bound():
    """Densities by scipy, divergences by Gauss–Hermite, example by example."""
    x, mean, mu, log_var = normal(5, 4, 5, 3)
    found = V.negative_elbo(x, Gaussian(mean, 0.0), mu, log_var, vae.gaussian_decoder)
    standard = np.zeros(3), np.eye(3)
    kl = [R.kl_gaussian_hermite(m, np.diag(np.exp(v)), *standard) for m, v in zip(mu, log_var, strict=True)]
    agree(found.loss, -stats.norm.logpdf(x, mean).sum(axis=1) + kl, **TIGHT)


# --- β ------------------------------------------------------------------------------------------------------


@pytest.mark.equation("vae.beta")
@SOME
@given(linears, floats(0, 8))
def test_beta_weighs_the_divergence_alone(model, beta):
    row = model.parameters
    up, down = model.steps(row)
    mean, cov = oracle.encoded(model.x, up)
    kl = R.kl_gaussian_hermite(mean, cov, np.zeros(model.m), np.eye(model.m))
    loss, reconstruction, reported = model.expected(row, beta)
    agree(loss, -(oracle.elbo(model.x, up, down) + kl) + beta * kl, **TIGHT)
    agree(reported, kl, **TIGHT)      # the terms are reported as they are, whatever their weight
    agree(model.expected(row, 1.0), model.expected(row))
    at, one, two = (model.expected(row, b)[0] for b in (0.0, 1.0, 2.0))
    agree(one - at, two - one, **TIGHT)
    agree(at, reconstruction, **TIGHT)


@pytest.mark.equation("vae.beta")
@FEW
@given(st.integers(0, 2**31), floats(0.3, 5), seeds)
def test_the_best_code_is_that_of_a_tempered_likelihood(seed, beta, other):
    """−L_β ≥ −β·log ∫ p(z) p(x|z)^(1/β) dz, with equality where q ∝ p(z) p(x|z)^(1/β): noise of variance βs²."""
    model = Linear(seed, 2, 1)
    _, ((W, c, v),) = model.steps(model.parameters)
    mean, cov = oracle.posterior(model.x, [(W, c, beta * v)])

    def tempered(z):
        return sum(stats.norm.logpdf(model.x[i], W[i, 0] * z + c[i], math.sqrt(v[i])) for i in range(2)) / beta

    limit = -beta * oracle.evidence_quad(tempered)
    best = np.concatenate([np.zeros(2), mean, np.log(cov[0]), W.ravel(), c, np.log(v)])
    # integrals over panels an eighth of the narrowest posterior wide
    agree(model.expected(best, beta)[0], limit, 1e-10, 1e-10)
    worse = best.copy()
    worse[2:4] += normal(other, 2)
    at_most(limit - model.expected(worse, beta)[0], 1e-10)


# --- gradients, precision, shapes ---------------------------------------------------------------------------


@pytest.mark.equation("vae.latent", "vae.gaussian_decoder", "vae.bernoulli_decoder", "vae.loss", "vae.beta")
def test_gradients():
    x, mean, mu, log_var, eps = normal(6, 5, 2, 3)
    log_s = normal(7, 1, 1)
    sg.check_grads(lambda m, v: vae.latent(None, Gaussian(m, v), eps), (mu, log_var), order=2)
    sg.check_grads(lambda *d: vae.gaussian_decoder(x, Gaussian(*d)), (mean, log_s), order=2)
    sg.check_grads(lambda logits: vae.bernoulli_decoder((x > 0) * 1.0, logits), (mean,), order=2)
    for beta in (1.0, 2.5):
        sg.check_grads(
            lambda m, s, mu, v, beta=beta: vae.negative_elbo(
                x, Gaussian(m, s), mu, v, vae.gaussian_decoder, beta
            ).loss, (mean, log_s, mu, log_var), order=2,
        )  # fmt: skip


@pytest.mark.equation("vae.latent", "vae.gaussian_decoder", "vae.bernoulli_decoder", "vae.loss", "vae.beta")
def test_single_precision():
    x, mean, mu, log_var, eps = normal(8, 5, 2, 3)
    x = (x > 0) * 1.0
    single = [a.astype("f") for a in (x, mean, mu, log_var, eps)]

    def everything(x, mean, mu, log_var, eps):
        return [
            V.latent(None, Gaussian(mu, log_var), eps), V.gaussian_decoder(x, Gaussian(mean, -1.5)),
            V.bernoulli_decoder(x, mean), *V.negative_elbo(x, mean, mu, log_var, vae.bernoulli_decoder, 2.5),
        ]  # fmt: skip

    for low, exact in zip(everything(*single), everything(x, mean, mu, log_var, eps), strict=True):
        assert low.dtype == np.float32
        agree(low, exact, 1e-5, 1e-5)


def test_misfits_are_refused():
    a, row, column = np.zeros((4, 3)), np.zeros(3), np.zeros((4, 1))
    with pytest.raises(ValueError, match=r"eps \(4, 1\)"):
        vae.latent(None, Gaussian(a, a), column)
    with pytest.raises(ValueError, match=r"mu \(3,\) does not fit x \(4, 3\)"):
        vae.gaussian_decoder(a, Gaussian(row, 0.0))
    with pytest.raises(ValueError, match=r"logits \(3,\) does not fit x \(4, 3\)"):
        vae.bernoulli_decoder(a, row)
    with pytest.raises(ValueError, match=r"log_var \(4, 1\) should have the shape of mu"):
        vae.negative_elbo(a, a, a, column, vae.bernoulli_decoder)
    with pytest.raises(ValueError, match=r"elbo: kl \(2,\) should have the shape of log_lik, \(4,\)"):
        vae.negative_elbo(a, a, a[:2], a[:2], vae.bernoulli_decoder)


def test_the_latent_is_the_distributions_sample():
    """One formula, one place."""
    mu, log_var, eps = normal(9, 3, 2, 3)
    agree(vae.latent(None, Gaussian(mu, log_var), eps), gaussian.sample(None, mu, log_var, eps))
