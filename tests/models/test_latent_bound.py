"""The evidence lower bound where the evidence is exact: linear-Gaussian models, discrete latents, quadrature."""

import math

import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted
from hypothesis import given
from hypothesis import strategies as st
from latent_tools import FEW, SOME, floats, noises, normal, repeated, seeds, steps_down, steps_up
from scipy import stats

import scratchgen as sg
from reference import latent as oracle
from reference.distributions import kl_enumerate
from reference.quadrature import panel_nodes, spread_edges
from scratchgen.distributions import categorical, gaussian, gaussian_full
from scratchgen.models.latent import bound

L, Q, F, C = lifted(bound), lifted(gaussian), lifted(gaussian_full), lifted(categorical)
sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))  # of x and z

# Sums of a few dozen terms of order 10, conditioned by systems with condition numbers below 10³: 10⁴ roundings at most.
TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def tables(seed, Z):
    """p(z), p(x|z) at the x that is seen, and q(z|x), as rows."""
    noise = np.random.default_rng(seed)
    prior, q = noise.dirichlet(np.ones(Z)) + 0.02, noise.dirichlet(np.ones(Z)) + 0.02
    return prior / prior.sum(), noise.uniform(0.01, 1, Z), q / q.sum()


class Model:
    """x from one latent vector, both Gaussian, and some Gaussian q."""

    def __init__(self, seed, sizes):
        self.down, self.up = steps_down(seed, sizes), steps_up(seed + 1, sizes)
        self.x = normal(seed + 2, sizes[0])
        (self.W, self.c, self.v), (V, b, self.q_var) = self.down[0], self.up[0]
        self.q_mean = V @ self.x + b

    def log_lik(self, z):
        """log p(x|z), by the library, for z (n, d)."""
        return Q.log_prob(repeated(self.x, len(z)), z @ self.W.T + self.c, np.log(self.v)[None])

    def log_joint(self, z):
        return self.log_lik(z) + Q.log_prob(z, 0.0, 0.0)

    def samples(self):
        """z ~ q at Gauss–Hermite nodes, and the weights that make sums over them expectations."""
        (eps,), weights = noises(len(self.q_mean))
        return self.q_mean + np.sqrt(self.q_var) * eps, weights

    def log_q(self, z):
        return Q.log_prob(z, self.q_mean[None], np.log(self.q_var)[None])


models = st.builds(Model, st.integers(0, 2**31), sizes)


@pytest.mark.equation("elbo.evidence")
@SOME
@given(models)
def test_the_bound_and_its_gap_make_the_evidence(model):
    z, w = model.samples()
    kl = Q.kl_standard(model.q_mean[None], np.log(model.q_var)[None])
    found = L.elbo(np.array([w @ model.log_lik(z)]), kl)
    agree(found, oracle.elbo(model.x, model.up, model.down), **TIGHT)
    evidence, gap = oracle.evidence(model.x, model.down), oracle.gap(model.x, model.up, model.down)
    agree(found + gap, evidence, **TIGHT)
    at_most(found - evidence, 1e-11)
    apart(L.elbo(-np.array([w @ model.log_lik(z)]), kl), found, 1e-3)


@pytest.mark.equation("elbo.evidence")
@FEW
@given(seeds, floats(-2, 2), floats(-2, 2), floats(-1.5, 0.7))
def test_the_gap_is_the_divergence_from_the_posterior_by_quadrature(seed, x, mu, log_sigma):
    """x ~ N(sin 2z + z²/4, ½²): the posterior has no closed form, and often two modes."""
    sigma = math.exp(log_sigma)
    z, w = panel_nodes(spread_edges(mu, sigma, panels=60))
    w = w * stats.norm.pdf(z, mu, sigma)
    mean = lambda z: np.sin(2 * z) + z**2 / 4  # noqa: E731
    n = len(z)
    log_lik = Q.log_prob(np.full((n, 1), x), mean(z)[:, None], math.log(0.25))
    kl = Q.kl_standard(np.array([[mu]]), np.array([[2 * log_sigma]]))
    found = L.elbo(np.array([w @ log_lik]), kl)
    exact = lambda z: stats.norm.logpdf(x, mean(z), 0.5)  # noqa: E731
    # log-densities down to −10³ where z²/4 is far off, weighed and summed: 1e-10
    agree(found, oracle.elbo_quad(exact, mu, sigma), 1e-10, 1e-10)
    agree(found + oracle.gap_quad(exact, mu, sigma), oracle.evidence_quad(exact), 1e-10, 1e-10)


@pytest.mark.equation("elbo.evidence")
@SOME
@given(seeds, st.integers(2, 6))
def test_discrete_latents_by_enumeration(seed, Z):
    prior, likelihood, q = tables(seed, Z)
    kl = C.kl(np.log(q)[None], np.log(prior)[None])
    found = L.elbo(np.array([q @ np.log(likelihood)]), kl)
    agree(found, oracle.importance_bound(prior, likelihood, q, 1), **TIGHT)
    posterior = oracle.discrete_posterior(prior, likelihood)
    agree(found + kl_enumerate(q, posterior), oracle.discrete_evidence(prior, likelihood), **TIGHT)
    best = L.elbo(np.array([posterior @ np.log(likelihood)]), C.kl(np.log(posterior)[None], np.log(prior)[None]))
    agree(best, oracle.discrete_evidence(prior, likelihood), **TIGHT)
    at_most(found - best, 1e-13)


@pytest.mark.equation("elbo.evidence", "elbo.sampled")
@SOME
@given(models)
def test_both_forms_have_one_mean(model):
    z, w = model.samples()
    kl = Q.kl_standard(model.q_mean[None], np.log(model.q_var)[None])
    found = w @ L.elbo_sampled(model.log_joint(z), model.log_q(z))
    agree(found, L.elbo(np.array([w @ model.log_lik(z)]), kl)[0], **TIGHT)
    agree(found, oracle.elbo(model.x, model.up, model.down), **TIGHT)


@pytest.mark.equation("elbo.sampled")
@SOME
@given(models, seeds)
def test_every_sample_is_the_evidence_at_the_posterior(model, seed):
    """log p(x, z) − log p(z|x) = log p(x) for whichever z: no variance at the optimum."""
    mean, cov = oracle.posterior(model.x, model.down)
    z = 2 * normal(seed, 4, len(mean))
    log_q = F.log_prob(z, mean[None], cov)
    found = L.elbo_sampled(model.log_joint(z), log_q)
    # log-densities of order 10², each through the posterior's covariance: 1e-10
    agree(found, np.full(4, oracle.evidence(model.x, model.down)), 1e-10, 1e-10)
    apart(L.elbo_sampled(model.log_joint(z), F.log_prob(z, mean[None], 1.5 * cov)), found, 1e-3)


@pytest.mark.equation("elbo.importance")
@SOME
@given(seeds, st.integers(2, 4), st.integers(1, 3))
def test_every_tuple_of_samples(seed, Z, K):
    """All K-tuples of a discrete latent against rational arithmetic; their mean weight is p(x), exactly."""
    prior, likelihood, q = tables(seed, Z)
    drawn, probability, logs = oracle.importance_table(prior, likelihood, q, K)
    log_joint, log_q = np.log(prior * likelihood)[drawn.T], np.log(q)[drawn.T]  # (K, n)
    found = L.elbo_importance(log_joint, log_q)
    agree(found, logs, **TIGHT)
    # unbiased before the logarithm, whatever q is
    agree(probability @ np.exp(found), math.exp(oracle.discrete_evidence(prior, likelihood)), **TIGHT)
    agree(probability @ found, oracle.importance_bound(prior, likelihood, q, K), **TIGHT)
    agree(L.elbo_importance(log_joint[:1], log_q[:1]), L.elbo_sampled(log_joint[0], log_q[0]), **TIGHT)


@pytest.mark.equation("elbo.importance")
@FEW
@given(seeds, st.integers(2, 3))
def test_more_samples_tighten_the_bound(seed, Z):
    prior, likelihood, q = tables(seed, Z)
    bounds = []
    for K in range(1, 6):
        drawn, probability, _ = oracle.importance_table(prior, likelihood, q, K)
        found = L.elbo_importance(np.log(prior * likelihood)[drawn.T], np.log(q)[drawn.T])
        bounds.append(probability @ found)
    evidence = oracle.discrete_evidence(prior, likelihood)
    at_most(np.array(bounds) - [*bounds[1:], evidence], 1e-13)  # sums of 3⁵ terms below 10
    assert bounds[4] > bounds[0]
    posterior = oracle.discrete_posterior(prior, likelihood)
    drawn, _, _ = oracle.importance_table(prior, likelihood, q, 3)
    best = L.elbo_importance(np.log(prior * likelihood)[drawn.T], np.log(posterior)[drawn.T])
    agree(best, np.full(len(drawn), evidence), **TIGHT)


@pytest.mark.equation("elbo.importance")
@pytest.mark.parametrize("level", [-1e4, 1e4])
def test_weights_that_no_float_holds(level):
    log_w = normal(1, 3, 2)
    agree(L.elbo_importance(log_w + level, np.zeros((3, 2))) - level, np.log(np.exp(log_w).mean(axis=0)), 0, 1e-11)
    agree(L.elbo_importance(np.zeros((3, 2)), log_w + level) + level, np.log(np.exp(-log_w).mean(axis=0)), 0, 1e-11)


@pytest.mark.equation("elbo.importance")
def test_the_gradient_weighs_the_samples_by_how_well_they_explain():
    """∂L_K/∂log p(x, z_k) = w_k/Σ_j w_j, here exact fractions of small integers."""
    weights = np.array([[1.0, 8.0], [3.0, 4.0], [4.0, 4.0]])
    slopes = sg.grad(lambda p: bound.elbo_importance(p, np.zeros((3, 2))).sum())(np.log(weights))
    agree(slopes, [[1 / 8, 1 / 2], [3 / 8, 1 / 4], [4 / 8, 1 / 4]], **TIGHT)


@pytest.mark.equation("elbo.evidence", "elbo.sampled", "elbo.importance")
def test_gradients():
    a, b = normal(2, 2, 4, 3)
    sg.check_grads(bound.elbo, (a[0], b[0]), order=2)
    sg.check_grads(bound.elbo_sampled, (a, b), order=2)
    sg.check_grads(bound.elbo_importance, (a, b), order=2)


@pytest.mark.equation("elbo.evidence", "elbo.sampled", "elbo.importance")
def test_single_precision():
    a, b = normal(3, 2, 4, 3)
    for f in (L.elbo, L.elbo_sampled, L.elbo_importance):
        found = f(a.astype("f"), b.astype("f"))
        assert found.dtype == np.float32
        agree(found, f(a, b), 1e-5, 1e-5)


def test_misfits_are_refused():
    a, b = np.zeros(3), np.zeros((3, 1))
    with pytest.raises(ValueError, match=r"elbo: kl \(3, 1\) should have the shape of log_lik, \(3,\)"):
        bound.elbo(a, b)
    with pytest.raises(ValueError, match=r"elbo_sampled: log_q \(3, 1\)"):
        bound.elbo_sampled(a, b)
    for shape in ((3,), (3, 2, 1)):
        with pytest.raises(ValueError, match="elbo_importance: log_joint .* should be"):
            bound.elbo_importance(np.zeros(shape), np.zeros(shape))
    with pytest.raises(ValueError, match=r"elbo_importance: log_joint \(0, 2\)"):
        bound.elbo_importance(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"log_q \(2, 2\)"):
        bound.elbo_importance(np.zeros((3, 2)), np.zeros((2, 2)))
    with pytest.raises(TypeError, match="float32"):
        bound.elbo(a, a.astype("f"))
