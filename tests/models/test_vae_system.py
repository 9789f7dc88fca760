"""The variational autoencoder as a system: losses with the noise replayed, bounds in order, replay, and what is learnt.

Noise comes out of a generator; where one hands out Gauss–Hermite nodes for draws, means over examples are exact.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, up
from latent_tools import noises, normal, repeated, steps_down
from scipy import special, stats
from system_tools import check_gradient, perceptron

from reference import distributions as R
from reference import latent as oracle
from reference.quadrature import panel_nodes, spread_edges
from scratchgen.models.latent.vae import VAE, VAEConfig
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

TINY = {"shape": (2, 3, 1), "latent": 2, "widths": (5, 4)}
GREY = (np.random.default_rng(7).integers(0, 17, (40, 2, 3, 1)) / 8 - 1).astype(np.float32)
LOSS = pytest.mark.equation("vae.loss", "vae.latent", "vae.beta", "elbo.importance")


def make(decoder="gaussian", dtype="float64", **settings):
    return VAE(VAEConfig(**{**TINY, "decoder": decoder, **settings}), rng=Generator(0)).astype(np.dtype(dtype))


def grey(n=4):
    return up(GREY[:n].astype(np.float64))


def seen(system, x, rng):
    """What is to be explained, from the noise that the system will draw: numbers in their bins, or coins."""
    u = host(rng.random(x.shape, np.float64))
    if system.config.decoder == "bernoulli":
        return np.where(u < (x + 1) / 2, 1.0, 0.0)
    return x if system.config.levels is None else x - 1 / 16 + u / 8  # 17 levels are an eighth apart


def log_densities(system, x, z, mu, sigma):
    """log p(x|z), log p(z), log q(z|x), (B,) each, by scipy."""
    h, x = perceptron(system.decoder, z), x.reshape(len(x), -1)
    if system.config.decoder == "bernoulli":
        log_lik = stats.logistic.logcdf((2 * x - 1) * h)
    else:
        log_lik = stats.norm.logpdf(x, h, np.exp(system.pixels.log_var.numpy() * 8 / 2))
    return [a.sum(axis=1) for a in (log_lik, stats.norm.logpdf(z), stats.norm.logpdf(z, mu, sigma))]


def encoded(system, x):
    mu, log_var = np.split(perceptron(system.encoder, x), 2, axis=1)
    return mu, np.exp(log_var / 2)


# --- losses and bounds, the noise replayed --------------------------------------------------------------------------


@LOSS
@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_the_loss_is_what_the_equations_say(decoder, beta, xp):
    system, rng = make(decoder, beta=beta), Generator(3)
    if decoder == "gaussian":
        system.pixels.log_var.assign(up(normal(1, 6) / 8))
    state = rng.state()
    found = system.loss(grey(), rng)
    again = Generator.from_state(state)
    x = seen(system, host(grey()), again)
    mu, sigma = encoded(system, x)
    z = mu + sigma * host(again.standard_normal(mu.shape, np.float64))
    assert rng.state() == again.state()  # nothing else was drawn
    log_lik, _, _ = log_densities(system, x, z, mu, sigma)
    kl = [R.kl_gaussian_hermite(m, np.diag(s**2), np.zeros(2), np.eye(2)) for m, s in zip(mu, sigma, strict=True)]
    agree(found.reconstruction, -log_lik, rtol=1e-11)
    agree(found.kl, kl, rtol=1e-10)
    agree(found.loss, -log_lik + beta * np.array(kl), rtol=1e-10)


@LOSS
@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli"])
def test_the_loss_of_several_codes(decoder, xp):
    """scipy's densities and logsumexp over three codes of each picture; the terms reported are means."""
    system, rng = make(decoder, samples=3), Generator(4)
    state = rng.state()
    found = system.loss(grey(), rng)
    again = Generator.from_state(state)
    x = seen(system, host(grey()), again)
    mu, sigma = encoded(system, x)
    eps = host(again.standard_normal((12, 2), np.float64)).reshape(3, 4, 2)
    assert rng.state() == again.state()
    rows = [log_densities(system, x, mu + sigma * e, mu, sigma) for e in eps]
    log_w = np.array([a + b - c for a, b, c in rows])
    agree(found.loss, -special.logsumexp(log_w, axis=0, b=1 / 3), rtol=1e-10)
    agree(found.reconstruction, -np.mean([a for a, _, _ in rows], axis=0), rtol=1e-10)


@LOSS
def test_bounds_of_a_trained_system_are_those_of_its_loss(xp):
    """elbo is minus the loss at the same code; iwae, in groups, is the one of all codes at once."""
    system = make("bernoulli", beta=2.5)
    x = up((GREY[:4] > 0).astype(np.float64))
    mu, sigma = encoded(system, host(x))
    found = host(system.elbo(x, Generator(5)))
    z = mu + sigma * host(Generator(5).standard_normal((4, 2), np.float64))
    kl = [R.kl_gaussian_hermite(m, np.diag(s**2), np.zeros(2), np.eye(2)) for m, s in zip(mu, sigma, strict=True)]
    agree(found, log_densities(system, host(x), z, mu, sigma)[0] - kl, rtol=1e-10)  # whatever β was trained with
    rng = Generator(6)
    eps = [host(rng.standard_normal((n * 4, 2), np.float64)).reshape(n, 4, 2) for n in (3, 3, 1)]
    rows = [log_densities(system, host(x), mu + sigma * e, mu, sigma) for e in np.concatenate(eps)]
    log_joint, log_q = system.weighed(x, Generator(6), 7, at_once=3)
    agree(log_joint, np.array([a + b for a, b, _ in rows]), rtol=1e-10)
    agree(log_q, np.array([c for _, _, c in rows]), rtol=1e-10)
    whole = system.iwae(x, Generator(6), 7)
    rows = [log_densities(system, host(x), mu + sigma * e, mu, sigma)
            for e in host(Generator(6).standard_normal((28, 2), np.float64)).reshape(7, 4, 2)]  # fmt: skip
    agree(whole, special.logsumexp([a + b - c for a, b, c in rows], axis=0, b=1 / 7), rtol=1e-10)


# --- the linear-Gaussian case, whose evidence is known --------------------------------------------------------------


class Nodes:
    """A generator that hands out these numbers for noise."""

    def __init__(self, eps):
        self.eps = eps

    def standard_normal(self, shape, dtype=None):
        assert self.eps.shape == tuple(shape)
        return up(self.eps)


def linear(n, m, x, seed, exact):
    """A VAE whose maps are affine, its decoder as `steps_down` has it; exact: its encoder gives the posterior of x."""
    ((W, c, v),) = down = steps_down(seed, [n, m])
    system = make(shape=(n,), latent=m, widths=(), levels=None)
    weights = normal([seed, 1], n, m), 0.3 * normal([seed, 2], m), np.full(m, -1.0)
    if exact:
        mean, cov = oracle.posterior(x, down)
        weights = np.zeros((n, m)), mean, np.log(np.diag(cov))
    decoder, encoder = system.decoder.layers[0], system.encoder.layers[0]
    given = [(decoder.w, W.T), (decoder.b, c), (system.pixels.log_var, np.log(v) / 8),
             (encoder.w, np.hstack([weights[0], np.zeros((n, m))])), (encoder.b, np.hstack(weights[1:]))]  # fmt: skip
    for tensor, value in given:
        tensor.assign(up(np.asarray(value)))
    step = (weights[0].T, weights[1], np.exp(weights[2]))
    return system, [step], down


@LOSS
@pytest.mark.parametrize("n, m, seed", [(1, 1, 1), (3, 2, 2), (4, 2, 3)])
def test_a_linear_systems_bound_is_exact(n, m, seed, xp):
    """Nodes of ε in place of draws, so that the mean of `elbo` is the expectation: linear algebra's bound."""
    x = normal([seed, 3], n)
    system, steps, down = linear(n, m, x, seed, exact=False)
    (eps,), weights = noises(m)
    many = up(repeated(x, len(eps)))
    found = weights @ host(system.elbo(many, Nodes(eps)))
    agree(found, oracle.elbo(x, steps, down), rtol=1e-10, atol=1e-10)
    agree(-weights @ host(system.loss(many, Nodes(eps)).loss), found, rtol=1e-12)
    at_most(found, oracle.evidence(x, down))
    apart(found, oracle.evidence(x, down), by=1e-2)


@LOSS
def test_bounds_in_their_order(xp):
    """ELBO = L_1 < L_2 < log p(x): both in the mean over all noise, L_2 against a quadrature of scipy's densities."""
    x = normal(5, 3)
    system, ((V, b, q),), down = linear(3, 1, x, 5, exact=False)
    (a, c), weights = noises(1, 1, order=40)
    many = up(repeated(x, len(a)))
    two = weights @ host(system.iwae(many, Nodes(np.concatenate([a, c])), 2))
    one = weights @ host(system.iwae(many, Nodes(a), 1))
    elbo, evidence = weights @ host(system.elbo(many, Nodes(a))), oracle.evidence(x, down)
    # the same two by Gauss–Legendre panels over both noises
    u, w = panel_nodes(spread_edges(0.0, 1.0, reach=9.0, panels=18), order=12)
    w = w * stats.norm.pdf(u)
    z, ((W, d, v),) = (V @ x + b)[0] + math.sqrt(q[0]) * u, down
    log_w = stats.norm.logpdf(x, z[:, None] * W[:, 0] + d, np.sqrt(v)).sum(axis=1)
    log_w += stats.norm.logpdf(z) - stats.norm.logpdf(z, (V @ x + b)[0], math.sqrt(q[0]))
    agree(one, w @ log_w, rtol=1e-9)
    # smooth but no polynomial: 40 nodes leave 1e-6 of it
    agree(two, w @ (np.logaddexp(log_w[:, None], log_w) - math.log(2)) @ w, rtol=1e-5)
    agree(elbo, one, rtol=1e-10)
    at_most([one - two, two - evidence], -1e-3)


@LOSS
def test_at_the_posterior_every_code_gives_the_evidence(xp):
    """One latent: q can be the posterior, and then ELBO = L_K = log p(x), whatever is drawn."""
    x = normal(6, 3)
    system, _, down = linear(3, 1, x, 6, exact=True)
    evidence = oracle.evidence(x, down)
    many = up(repeated(x, 5))
    for K in (1, 4):
        agree(system.iwae(many, Generator(1), K), np.full(5, evidence), rtol=1e-10)
    (eps,), weights = noises(1)
    agree(weights @ host(system.elbo(up(repeated(x, len(eps))), Nodes(eps))), evidence, rtol=1e-10)


# --- gradients ------------------------------------------------------------------------------------------------------


@LOSS
@pytest.mark.parametrize("decoder, settings", [
    ("gaussian", {}), ("bernoulli", {"beta": 4.0}), ("gaussian", {"samples": 3}), ("bernoulli", {"samples": 2}),
])  # fmt: skip
def test_the_gradient_is_that_of_the_loss(decoder, settings):
    """Along a random direction of all weights, by differences, the noise replayed; and it reaches every one."""
    check_gradient(make(decoder, **settings), grey())


# --- training -------------------------------------------------------------------------------------------------------

SHORT = TrainConfig(steps=4, batch_size=8, lr=1e-3, ema_decay=0.9, log_every=2)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("decoder, settings", [
    ("gaussian", {}), ("bernoulli", {"beta": 4.0}), ("gaussian", {"samples": 3}), ("gaussian", {"levels": None}),
])  # fmt: skip
def test_replay_changes_no_bit(decoder, settings, shards, capsys):
    ends = []
    for replayed in (True, False):
        system = make(decoder, "float32", **settings)
        result = train(system, GREY, replace(SHORT, shards=shards, replay=replayed), progress=True)
        ends.append((system.state_dict(), result))
    assert "without replay" not in capsys.readouterr().err
    assert all(np.array_equal(ends[0][0][name], value) for name, value in ends[1][0].items())
    assert ends[0][1].losses == ends[1][1].losses


def test_a_pixels_variance_begins_where_the_data_has_it(xp):
    system = make(levels=None)
    system.start(grey(20), Generator(1))
    agree(np.exp(8 * system.pixels.log_var.numpy()), host(grey(20)).reshape(20, 6).var(axis=0), rtol=1e-5)
    coins = make("bernoulli")
    before = coins.state_dict()
    coins.start(grey(20), Generator(1))
    assert all(np.array_equal(before[name], value) for name, value in coins.state_dict().items())


@pytest.mark.equation("vae.loss")
def test_a_linear_one_learns_the_law_of_its_data():
    """x = W·z + noise in three dimensions: its bound comes near the entropy of the data, which none can pass."""
    rng = np.random.default_rng(1)
    W = np.array([[1.0], [-0.5], [0.8]])
    x = (rng.standard_normal((4000, 1)) @ W.T + 0.3 * rng.standard_normal((4000, 3))).astype(np.float32)
    system = make("gaussian", "float32", shape=(3,), latent=1, widths=(), levels=None)
    config = TrainConfig(steps=400, batch_size=100, lr=2e-2, final_lr=0.0, ema_decay=0.98)
    result = train(system, x, config, progress=False)
    law = stats.multivariate_normal(np.zeros(3), W @ W.T + 0.09 * np.eye(3))
    model = system.frozen(result.average)
    bound = float(np.mean(host(model.elbo(up(x), Generator(2)))))
    start = float(np.mean(host(make("gaussian", "float32", shape=(3,), latent=1, widths=(), levels=None)
                               .elbo(up(x), Generator(2)))))  # fmt: skip
    agree(bound, law.logpdf(x).mean(), atol=0.05)
    apart(start, law.logpdf(x).mean(), by=0.5)


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli"])
def test_samples_follow_from_the_seed(decoder, xp):
    system = make(decoder, "float32")
    a, b, c = (host(system.sample(3, Generator(s))) for s in (1, 1, 2))
    assert a.shape == (3, 2, 3, 1)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    mean = perceptron(system.decoder, host(Generator(1).standard_normal((3, 2)))).reshape(a.shape)
    agree(a, 2 * stats.logistic.cdf(mean) - 1 if decoder == "bernoulli" else mean, rtol=1e-4, atol=1e-5)


def test_a_reconstruction_is_the_mean_at_the_mean(xp):
    system = make("bernoulli")
    x = up((GREY[:4] > 0).astype(np.float64))
    mu, _ = encoded(system, host(x))
    agree(system.reconstruct(x), 2 * stats.logistic.cdf(perceptron(system.decoder, mu)).reshape(x.shape) - 1, 1e-10)


def test_settings_that_make_no_model_are_refused():
    for settings, said in (({"latent": 0}, "must be positive"), ({"widths": (4, 0)}, "must be positive"),
                           ({"samples": 2, "beta": 2.0}, "does not fit"), ({"decoder": "ink"}, "is neither")):
        with pytest.raises(ValueError, match=said):
            make(**{"decoder": "gaussian", **settings})
