"""The posterior predictive against conditioned Gaussians: quadrature nodes stand for samples, so nothing is random."""

import functools

import evidence
import numpy as np
import pytest
from evidence import agree, apart, at_most, lifted, lowered
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

import scratchgen as sg
from reference import gaussian
from reference.quadrature import gaussian_nodes
from scratchgen.backend import active
from scratchgen.models.energy import metropolis
from scratchgen.models.latent import predictive
from scratchgen.random import Generator

library = lifted(predictive)
seeds = st.integers(0, 2**32 - 1)


class Linear:
    """z ~ N(0, I_d), x = Az + a + N(0, R), x̂ = Cz + c + N(0, S): all of it is one Gaussian (z, x, x̂)."""

    def __init__(self, seed, d, seen=2, new=2):
        noise = np.random.default_rng(seed)
        self.d, self.seen = d, seen
        self.A, self.C = noise.uniform(-0.5, 0.5, (seen, d)), noise.uniform(-0.5, 0.5, (new, d))
        self.a, self.c = noise.uniform(-1, 1, seen), noise.uniform(-1, 1, new)
        self.R, self.S = np.diag(noise.uniform(1, 2, seen)), np.diag(noise.uniform(1, 2, new))
        load = np.concatenate([np.eye(d), self.A, self.C])
        own = np.zeros((len(load), len(load)))
        own[d : d + seen, d : d + seen], own[d + seen :, d + seen :] = self.R, self.S
        self.mean, self.cov = np.concatenate([np.zeros(d), self.a, self.c]), load @ load.T + own
        self.x, self.new = noise.uniform(-2, 2, (3, seen)), noise.uniform(-2, 2, (3, new))

    def given(self, x):
        """Mean and covariance of (z, x̂), given x."""
        return gaussian.condition(self.mean, self.cov, range(self.d, self.d + self.seen), x)

    def posterior(self, x):
        mean, cov = self.given(x)
        return mean[: self.d], cov[: self.d, : self.d]

    def log_predictive(self):
        """log p(x̂_b | x_b)."""
        laws = [self.given(x) for x in self.x]
        return np.array([stats.multivariate_normal(mean[self.d :], cov[self.d :, self.d :]).logpdf(new)
                         for (mean, cov), new in zip(laws, self.new, strict=True)])

    def log_likelihood(self, z):
        """log p(x_b | z_i), (B, N)."""
        return np.stack([stats.multivariate_normal(self.a, self.R).logpdf(x - z @ self.A.T) for x in self.x])

    def log_new(self, z):
        """log p(x̂_b | z_i), (B, N)."""
        return np.stack([stats.multivariate_normal(self.c, self.S).logpdf(new - z @ self.C.T) for new in self.new])


ORDER = 60
"""Of the Gauss–Hermite rule: its error falls as (τ/(1 + τ))ⁿ, where τ = ‖A‖²/R + ‖C‖²/S ≤ 2 at the very worst."""


@functools.cache
def nodes(d, mean=0.0, var=1.0):
    return gaussian_nodes(np.zeros(d) + mean, np.eye(d) * var, ORDER)


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.equation("predictive.reweight")
@given(seeds, st.integers(1, 2))
def test_reweighted_samples_of_the_prior_are_the_posterior(seed, d):
    """Its mean and covariance, by conditioning.  The prior's samples are its quadrature nodes."""
    model = Linear(seed, d)
    z, w = nodes(d)
    check_moments(model, z, library.reweight(model.log_likelihood(z), np.log(w)[None]))


@pytest.mark.equation("predictive.reweight")
@given(seeds, st.integers(1, 2))
def test_any_samples_will_do_that_cover_the_posterior(seed, d):
    """Nodes of r = N(0.3, 1.1) in place of the prior's, with ρ = p(z)/r(z), up to a constant."""
    model = Linear(seed, d)
    z, w = nodes(d, 0.3, 1.1)
    log_rho = stats.norm.logpdf(z).sum(axis=1) - stats.norm.logpdf(z, 0.3, np.sqrt(1.1)).sum(axis=1) + 5
    check_moments(model, z, library.reweight(model.log_likelihood(z), (log_rho + np.log(w))[None]))


def check_moments(model, z, log_w):
    weights = np.exp(log_w)
    agree(weights.sum(axis=1), np.ones(len(model.x)), rtol=1e-13)
    for x, row in zip(model.x, weights, strict=True):
        mean, cov = model.posterior(x)
        # the rule's own error, (2/3)⁶⁰ ≈ 3e-11 at the very worst, see ORDER
        agree(row @ z, mean, atol=1e-10)
        agree((z.T * row) @ z, cov + np.outer(mean, mean), atol=1e-10)


@pytest.mark.equation("predictive.reweight")
@given(seeds, st.integers(1, 4))
def test_equal_samples_of_the_prior(seed, count):
    """A finite prior, its states equally likely and each standing once among the samples: Bayes' rule by hand."""
    noise = np.random.default_rng(seed)
    likelihood = noise.uniform(0.1, 1, (2, count))
    joint = likelihood / count
    agree(np.exp(library.reweight(np.log(likelihood))), joint / joint.sum(axis=1, keepdims=True), rtol=1e-13)


# --- what comes next ----------------------------------------------------------------------------------------------


@pytest.mark.equation("predictive.posterior_predictive")
@given(seeds, st.integers(1, 2))
def test_the_predictive_density_from_the_prior(seed, d):
    model = Linear(seed, d)
    z, w = nodes(d)
    log_w = library.reweight(model.log_likelihood(z), np.log(w)[None])
    # the rule's own error, see ORDER
    agree(library.posterior_predictive(model.log_new(z), log_w), model.log_predictive(), atol=1e-10)
    unaware = library.posterior_predictive(model.log_new(z), np.log(w)[None])
    apart(unaware, model.log_predictive(), by=1e-5)  # p(x̂), as if x had not been seen


@pytest.mark.equation("predictive.posterior_predictive")
@given(seeds, st.integers(1, 2))
def test_the_predictive_density_from_the_posterior(seed, d):
    """Nodes of the exact posterior of each x, with their own weights."""
    model = Linear(seed, d)
    rules = [gaussian_nodes(*model.posterior(x), ORDER) for x in model.x]
    log_new = np.stack([model.log_new(z)[b] for b, (z, _) in enumerate(rules)])
    log_w = np.log(np.stack([w for _, w in rules]))
    # the rule's own error, smaller here: the posterior is narrower
    agree(library.posterior_predictive(log_new, log_w), model.log_predictive(), atol=1e-10)


@pytest.mark.equation("predictive.posterior_predictive")
@given(seeds, st.integers(1, 6), st.integers(1, 3))
def test_equal_weights_are_the_mean(seed, count, batch):
    """Without weights every sample counts alike: a posterior of finitely many z, each as likely, seen once."""
    log_prob = np.random.default_rng(seed).uniform(-5, 1, (batch, count))
    found = library.posterior_predictive(log_prob)
    agree(np.exp(found), np.mean(np.exp(log_prob), axis=1), rtol=1e-13)
    agree(found, library.posterior_predictive(log_prob, np.full((1, count), -np.log(count))), atol=1e-14)


@pytest.mark.equation("predictive.posterior_predictive")
def test_it_is_a_density():
    """∫ p(x̂ | x) dx̂ = 1 with any weights of sum 1: here over a grid of x̂, from five samples."""
    z = np.random.default_rng(2).standard_normal(5)
    log_w = library.reweight(stats.norm.logpdf(0.4, z, 0.5)[None])
    new = np.linspace(-12, 12, 2001)
    found = library.posterior_predictive(stats.norm.logpdf(new[:, None], z, 1.0), log_w)
    agree(np.trapezoid(np.exp(found), new), 1.0, rtol=1e-12)  # the trapezoid rule is exact for Gaussians this wide


@pytest.mark.equation("predictive.reweight", "predictive.posterior_predictive")
def test_likelihoods_that_no_number_can_hold():
    """e^−1000 is 0 as a number, and no reason for 0/0."""
    log_likelihood, log_new = np.array([[0.0, -1.0, -3.0]]), np.array([[-1.0, -2.0, -0.5]])
    near = library.reweight(log_likelihood)
    agree(library.reweight(log_likelihood - 1000), near, atol=1e-12)
    # a number near 2000 has an ulp of 2e-13
    found, plain = library.posterior_predictive(log_new - 2000, near), library.posterior_predictive(log_new - 2000)
    agree(found + 2000, library.posterior_predictive(log_new, near), atol=1e-12)
    agree(plain + 2000, library.posterior_predictive(log_new), atol=1e-12)
    ruled_out = library.reweight(np.array([[0.0, -np.inf, -1.0]]))
    agree(np.exp(ruled_out), special.softmax([[0.0, -np.inf, -1.0]], axis=1), rtol=1e-14)
    agree(library.posterior_predictive(np.array([[-np.inf, -1.0]])), [-1 - np.log(2)], rtol=1e-15)


# --- with random numbers ------------------------------------------------------------------------------------------


@pytest.mark.equation("predictive.posterior_predictive", "predictive.reweight")
def test_a_bayesian_autoencoder_by_markov_chains():
    """20 000 chains towards p(z | x) ∝ p(x | z)p(z), from the prior; then the mean of p(x̂ | z).  And the same from the
    prior's samples, reweighted."""
    n, x, new = 20_000, 1.4, 0.4
    joint = np.array([[1, 1, 1], [1, 1.1, 1], [1, 1, 1.2]])  # of z, x = z + N(0, 0.1), x̂ = z + N(0, 0.2)
    mean, cov = gaussian.condition(np.zeros(3), joint, [1], [x])
    truth = stats.norm(mean[1], np.sqrt(cov[1, 1])).pdf(new)

    prior = Generator(31).standard_normal((n, 1), "float64")

    def log_likelihood(z):
        return stats.norm.logpdf(x, z, np.sqrt(0.1))[None]

    log_p = lowered(lambda z: stats.norm.logpdf(z[:, 0]) + log_likelihood(z[:, 0])[0])
    *_, last = metropolis.random_walk(log_p, prior, 0.7, 60, Generator(32))
    z, start = evidence.host(last.x)[:, 0], evidence.host(prior)[:, 0]

    def log_new(z):
        return stats.norm.logpdf(new, z, np.sqrt(0.2))[None]

    by_chains = np.exp(library.posterior_predictive(log_new(z)))[0]
    log_w = library.reweight(log_likelihood(start))
    by_weights = np.exp(library.posterior_predictive(log_new(start), log_w))[0]
    # the mean of n values in [0, φ(0)/√0.2]: its deviation, by quadrature; 5.4 of them are α = 1e-7
    at, w = gaussian_nodes(mean[:1], cov[:1, :1], 60)
    p = np.exp(log_new(at[:, 0]))[0]
    spread = np.sqrt((w @ p**2 - truth**2) / n)
    at_most(abs(by_chains - truth), 5.4 * spread)
    # the weights' estimate, by the delta method: E[ω²(p − truth)²] over the prior, ω = posterior/prior
    at, w = gaussian_nodes([0.0], [[1.0]], 120)
    omega = np.exp(stats.norm.logpdf(at[:, 0], mean[0], np.sqrt(cov[0, 0])) - stats.norm.logpdf(at[:, 0]))
    wide = np.sqrt(w @ (omega * (np.exp(log_new(at[:, 0]))[0] - truth)) ** 2 / n)
    at_most(abs(by_weights - truth), 5.4 * wide)
    twice = library.reweight(log_likelihood(z))
    for wrong in (library.posterior_predictive(log_new(start)), library.posterior_predictive(log_new(z), twice)):
        assert abs(np.exp(wrong)[0] - truth) > 5.4 * wide  # not reweighted; reweighted twice


# --- precision, gradients, misfits --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision(dtype):
    log_likelihood, log_new = np.random.default_rng(3).uniform(-3, 0, (2, 4, 5)).astype(dtype)
    log_w = library.reweight(log_likelihood)
    assert log_w.dtype == library.reweight(log_likelihood, log_new).dtype == dtype
    assert library.posterior_predictive(log_new).dtype == library.posterior_predictive(log_new, log_w).dtype == dtype


def test_gradients():
    log_likelihood, log_new, log_rho = np.random.default_rng(3).uniform(-3, 0, (3, 2, 4))
    sg.check_grads(predictive.reweight, (log_likelihood, log_rho), order=2)
    sg.check_grads(predictive.posterior_predictive, (log_new,), order=2)
    sg.check_grads(
        lambda a, b: predictive.posterior_predictive(a, predictive.reweight(b)), (log_new, log_likelihood), order=2
    )


def test_misfits_are_refused():
    a = active().asarray(np.zeros((3, 4)))
    for misfit in (a[0], a[None]):
        with pytest.raises(ValueError, match=r"log_likelihood .* should be \(B, N\)"):
            predictive.reweight(misfit)
    with pytest.raises(ValueError, match=r"log_ratio \(3, 3, 4\) does not fit log_likelihood \(3, 4\)"):
        predictive.reweight(a, active().zeros((3, 3, 4), "float64"))
    with pytest.raises(ValueError, match=r"log_ratio \(3, 4\) does not fit log_likelihood \(3, 1\)"):
        predictive.reweight(a[:, :1], a)
    with pytest.raises(ValueError, match=r"log_prob \(3, 0\) should be"):
        predictive.posterior_predictive(a[:, :0])
    wide, tall = (active().asarray(np.zeros(shape)) for shape in ((3, 5), (4, 4)))
    for misfit in (a[:2], a[:, :1], a[0], a[:, 0], a[None], a[:, :, None], wide, tall):
        with pytest.raises(ValueError, match="does not fit log_prob"):
            predictive.posterior_predictive(a, misfit)
