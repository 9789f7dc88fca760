"""The hierarchical variational autoencoder as a system: its bound with the noise replayed, linear chains, replay.

A generator that hands out Gauss–Hermite nodes in place of draws makes the mean over examples an exact expectation.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from diffusion_tools import schedule_of
from evidence import agree, apart, at_most, host, up
from latent_tools import noises, normal, repeated, steps_down, steps_up
from scipy import special, stats
from system_tools import check_gradient, perceptron

from reference import distributions as R
from reference import latent as oracle
from scratchgen.models.diffusion import bound as diffusion_bound
from scratchgen.models.latent.hierarchical import HVAE, HVAEConfig
from scratchgen.models.latent.vae import VAE, VAEConfig
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

TINY = {"shape": (2, 3, 1), "latents": (3, 2, 2), "widths": (5, 4)}
GREY = (np.random.default_rng(7).integers(0, 17, (40, 2, 3, 1)) / 8 - 1).astype(np.float32)
BOUND = pytest.mark.equation("hvae.elbo_neighbours", "hvae.elbo", "hvae.joint", "hvae.posterior")


def make(decoder="gaussian", dtype="float64", **settings):
    return HVAE(HVAEConfig(**{**TINY, "decoder": decoder, **settings}), rng=Generator(0)).astype(np.dtype(dtype))


def grey(n=4):
    return up(GREY[:n].astype(np.float64))


def step(net, z):
    """Mean and deviation."""
    mu, log_var = np.split(perceptron(net, z), 2, axis=1)
    return mu, np.exp(log_var / 2)


def seen(system, x, rng):
    """What is to be explained, from the noise that the system will draw: numbers in their bins, or coins."""
    u = host(rng.random(x.shape, np.float64))
    return np.where(u < (x + 1) / 2, 1.0, 0.0) if system.config.decoder == "bernoulli" else x - 1 / 16 + u / 8


def climbed(system, x, rng):
    """z_1 … z_T from the noise that the system will draw, and log q of each given the one below, (B,)."""
    zs, log_q, z = [], [], x
    for net in system.up:
        mu, sigma = step(net, z)
        z = mu + sigma * host(rng.standard_normal(mu.shape, np.float64))
        zs.append(z)
        log_q.append(stats.norm.logpdf(z, mu, sigma).sum(axis=1))
    return zs, log_q


def explained(system, x, zs):
    """log p(x|z_1), then log p of each latent given the one above, the last from the prior, (B,)."""
    h, flat = perceptron(system.down[0], zs[0]), x.reshape(len(x), -1)
    if system.config.decoder == "bernoulli":
        found = [stats.logistic.logcdf((2 * flat - 1) * h).sum(axis=1)]
    else:
        found = [stats.norm.logpdf(flat, h, np.exp(system.pixels.log_var.numpy() * 8 / 2)).sum(axis=1)]
    for net, (low, high) in zip(system.down[1:], itertools.pairwise(zs), strict=True):
        found.append(stats.norm.logpdf(low, *step(net, high)).sum(axis=1))
    return [*found, stats.norm.logpdf(zs[-1]).sum(axis=1)]


# --- the loss, the noise replayed -----------------------------------------------------------------------------------


@BOUND
@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("latents", [(3,), (3, 2), (2, 4, 1)])
def test_the_loss_is_what_the_equations_say(decoder, latents, xp):
    """Term by term by scipy's densities; the top's divergence over nodes."""
    system, rng = make(decoder, latents=latents), Generator(3)
    state = rng.state()
    found = system.loss(grey(), rng)
    again = Generator.from_state(state)
    x = seen(system, host(grey()), again)
    zs, log_q = climbed(system, x, again)
    assert rng.state() == again.state()  # nothing else was drawn
    log_p = explained(system, x, zs)
    top = [R.kl_gaussian_hermite(m, np.diag(s**2), np.zeros(len(m)), np.eye(len(m)))
           for m, s in zip(*step(system.up[-1], zs[-2] if len(zs) > 1 else x), strict=True)]  # fmt: skip
    ratios = sum((q - p for q, p in zip(log_q[:-1], log_p[1:-1], strict=True)), np.zeros(4))
    agree(found.reconstruction, -log_p[0], rtol=1e-11)
    agree(found.transitions, ratios, rtol=1e-10, atol=1e-10)
    agree(found.prior, top, rtol=1e-10)
    agree(found.loss, -log_p[0] + ratios + top, rtol=1e-10)


@BOUND
def test_weights_of_many_chains(xp):
    """In groups: log p(x, z) and log q(z|x), all steps together; the bound of all is the logarithm of their mean."""
    system = make("bernoulli")
    x = up((GREY[:4] > 0).astype(np.float64))
    log_joint, log_q = system.weighed(x, Generator(6), 5, at_once=3)
    rng, rows = Generator(6), []
    for n in (3, 2):
        xs = np.tile(host(x), (n, 1, 1, 1))
        zs, q = climbed(system, xs, rng)
        rows.append((sum(explained(system, xs, zs)).reshape(n, 4), sum(q).reshape(n, 4)))
    want = [np.concatenate(part) for part in zip(*rows, strict=True)]
    agree(log_joint, want[0], rtol=1e-10)
    agree(log_q, want[1], rtol=1e-10)
    zs, q = climbed(system, np.tile(host(x), (5, 1, 1, 1)), Generator(6))
    log_w = (sum(explained(system, np.tile(host(x), (5, 1, 1, 1)), zs)) - sum(q)).reshape(5, 4)
    agree(system.iwae(x, Generator(6), 5), special.logsumexp(log_w, axis=0, b=1 / 5), rtol=1e-10)


@BOUND
@pytest.mark.equation("vae.loss")
@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli"])
def test_one_level_is_a_variational_autoencoder(decoder):
    """The same weights, hence the same loss and the same samples."""
    one = make(decoder, latents=(3,))
    config = VAEConfig(shape=(2, 3, 1), latent=3, widths=(5, 4), decoder=decoder)
    other = VAE(config, rng=Generator(0)).astype(np.dtype("float64"))
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        mine.assign(its.value)
    found, want = (system.loss(grey(), Generator(2)) for system in (one, other))
    agree(found.loss, host(want.loss), rtol=1e-13)
    agree(found.prior, host(want.kl), rtol=1e-13)
    agree(found.transitions, np.zeros(4))
    agree(one.sample(3, Generator(1)), host(other.sample(3, Generator(1))), rtol=1e-13)


# --- linear chains, whose evidence is known -------------------------------------------------------------------------


class Nodes:
    """A generator that hands out these numbers for noise, one array after the other."""

    def __init__(self, *eps):
        self.eps = list(eps)

    def standard_normal(self, shape, dtype=None):
        assert self.eps[0].shape == tuple(shape)
        return up(self.eps.pop(0))


def linear(n, latents, steps_up, steps_down):
    """A hierarchy of affine steps (W, c, v) both ways, as `reference.latent` writes them."""
    system = make(shape=(n,), latents=latents, widths=(), levels=None)
    nets = [*zip(system.up, steps_up, strict=True), *zip(system.down[1:], steps_down[1:], strict=True)]
    for net, (W, c, v) in nets:
        W = np.asarray(W).T
        net.layers[0].w.assign(up(np.hstack([W, np.zeros_like(W)])))
        net.layers[0].b.assign(up(np.concatenate([c, np.log(v)])))
    W, c, v = steps_down[0]
    system.down[0].layers[0].w.assign(up(np.ascontiguousarray(np.asarray(W).T)))
    system.down[0].layers[0].b.assign(up(np.asarray(c)))
    system.pixels.log_var.assign(up(np.log(v) / 8))
    return system


@BOUND
@pytest.mark.parametrize("sizes", [(2, 1), (3, 2, 1), (2, 1, 2, 1)])
def test_a_linear_systems_bound_is_exact(sizes, xp):
    """The expectation of the bound by linear algebra on the whole vector; it stays below the exact evidence."""
    n, *latents = sizes
    down, climb, x = steps_down(1, sizes), steps_up(2, sizes), normal(3, n)
    system = linear(n, tuple(latents), climb, down)
    eps, weights = noises(*latents)
    many = up(repeated(x, len(weights)))
    found = weights @ host(system.elbo(many, Nodes(*eps)))
    evidence = oracle.evidence(x, down)
    agree(found, oracle.elbo(x, climb, down), rtol=1e-10, atol=1e-10)
    agree(found + oracle.gap(x, climb, down), evidence, rtol=1e-10, atol=1e-10)
    at_most(found, evidence)
    agree(-weights @ host(system.loss(many, Nodes(*eps)).loss), found, rtol=1e-12)
    one = weights @ host(system.iwae(many, Nodes(*eps), 1))
    agree(one, found, rtol=1e-10, atol=1e-10)


@BOUND
@pytest.mark.parametrize("T", [1, 2, 3])
def test_at_the_posterior_every_chain_gives_the_evidence(T, xp):
    """ELBO = the bound of any number of chains = log p(x); and with another q, in this order."""
    sizes = [3] + [1] * T
    down, x = steps_down(4, sizes), normal(5, 3)
    evidence = oracle.evidence(x, down)
    many = up(repeated(x, 6))
    best = linear(3, tuple(sizes[1:]), oracle.exact_up(x, down), down)
    for K in (1, 3):
        agree(best.iwae(many, Generator(1), K), np.full(6, evidence), rtol=1e-10)
    eps, weights = noises(*sizes[1:])
    agree(weights @ host(best.elbo(up(repeated(x, len(weights))), Nodes(*eps))), evidence, rtol=1e-10)
    off = [(np.asarray(W), c + 0.6, 2 * v) for W, c, v in oracle.exact_up(x, down)]
    worse = linear(3, tuple(sizes[1:]), off, down)
    one, more = (host(worse.iwae(up(repeated(x, 2000)), Generator(2), K)) for K in (1, 16))
    apart(one.mean(), evidence, by=0.2)
    at_most(one.mean() - more.mean(), 0.0)
    at_most(more.mean() - evidence, 6 * more.std() / math.sqrt(2000))


@pytest.mark.equation("hvae.diffusion", "hvae.elbo_neighbours", "hvae.elbo")
@pytest.mark.parametrize("T", [1, 2, 3])
def test_with_fixed_noise_for_encoders_the_bound_is_a_diffusions(T, xp):
    """q(z_t|z_{t−1}) = N(√α_t·z, β_t), and p from a linear ε_θ: the very terms of the diffusion's own bound."""
    beta, d, noise = np.array([0.1, 0.3, 0.2])[:T], 3, np.random.default_rng(8)
    schedule = schedule_of(beta)
    var = host(diffusion_bound.reverse_variance(schedule, "beta"))
    e, f = 0.4 * noise.standard_normal((2, T + 1))
    eps_theta = lambda z, t: e[t] * z + f[t]  # noqa: E731
    alpha_bar = np.cumprod(1 - beta)
    climb = [(math.sqrt(1 - b) * np.eye(d), np.zeros(d), np.full(d, b)) for b in beta]
    # x_{t−1} = (x_t − β·ε_θ/√(1−ᾱ))/√α, from x_t = √ᾱ·x_0 + √(1−ᾱ)·ε put into the posterior's mean
    down = []
    for t in range(1, T + 1):
        k = beta[t - 1] / math.sqrt(1 - alpha_bar[t - 1])
        root = math.sqrt(1 - beta[t - 1])
        down.append(((1 - k * e[t]) / root * np.eye(d), np.full(d, -k * f[t] / root), np.full(d, var[t])))
    system = linear(d, (d,) * T, climb, down)
    x, eps = normal(9, 4, d), [normal([9, t], 4, d) for t in range(T)]
    found = system.bound(up(x), Nodes(*eps))
    chain = [x]
    for b, noise in zip(beta, eps, strict=True):
        chain.append(math.sqrt(1 - b) * chain[-1] + math.sqrt(b) * noise)
    at = [up(z) for z in chain]
    first = diffusion_bound.reconstruction_term(schedule, at[0], at[1], up(eps_theta(chain[1], 1)), up(var), None)
    last = diffusion_bound.last_step_term(schedule, at[-2])
    inner = [host(diffusion_bound.neighbour_term(schedule, at[t - 1], at[t], at[t + 1],
                                                 up(eps_theta(chain[t + 1], t + 1)), t, up(var)))
             for t in range(1, T)]  # fmt: skip
    agree(found.reconstruction, host(first), rtol=1e-10, atol=1e-10)
    agree(found.prior, host(last), rtol=1e-10, atol=1e-10)
    agree(found.transitions, np.reshape(inner, (T - 1, 4)).T, rtol=1e-10, atol=1e-10)
    agree(found.elbo, -(host(first) + host(last) + sum(inner, np.zeros(4))), rtol=1e-10, atol=1e-10)


# --- gradients ------------------------------------------------------------------------------------------------------


@BOUND
@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli"])
def test_the_gradient_is_that_of_the_loss(decoder):
    """Along a random direction of all weights, by differences, the noise replayed; and it reaches every one."""
    check_gradient(make(decoder), grey())


# --- training -------------------------------------------------------------------------------------------------------

SHORT = TrainConfig(steps=4, batch_size=8, lr=1e-3, ema_decay=0.9, log_every=2)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("decoder, settings", [
    ("gaussian", {}), ("bernoulli", {"latents": (3,)}), ("gaussian", {"levels": None, "latents": (2, 3)}),
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


def test_a_linear_hierarchy_learns_the_law_of_its_data():
    """x = W·z + noise in three dimensions: the bound comes near the entropy of the data, which none can pass."""
    rng = np.random.default_rng(1)
    W = np.array([[1.0, 0.3], [-0.5, 1.0], [0.8, 0.0]])
    x = (rng.standard_normal((4000, 2)) @ W.T + 0.3 * rng.standard_normal((4000, 3))).astype(np.float32)
    settings = {"shape": (3,), "latents": (2, 1), "widths": (), "levels": None}
    system = make("gaussian", "float32", **settings)
    start = float(np.mean(host(system.elbo(up(x), Generator(2)))))
    config = TrainConfig(steps=600, batch_size=100, lr=1e-2, warmup=50, final_lr=0.0, ema_decay=0.98)
    result = train(system, x, config, progress=False)
    law = stats.multivariate_normal(np.zeros(3), W @ W.T + 0.09 * np.eye(3))
    bound = float(np.mean(host(system.frozen(result.average).elbo(up(x), Generator(2)))))
    agree(bound, law.logpdf(x).mean(), atol=0.1)
    apart(start, law.logpdf(x).mean(), by=0.5)


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("hvae.joint")
@pytest.mark.parametrize("sizes", [(2, 1), (3, 2, 1), (2, 1, 2, 2)])
def test_samples_of_a_linear_hierarchy_have_the_models_moments(sizes, xp):
    """Noise at nodes: mean and covariance of E[x|z_1] are those of x in the joint, less the pixels' own noise."""
    n, *latents = sizes
    down = steps_down(6, sizes)
    system = linear(n, tuple(latents), steps_up(7, sizes), down)
    eps, weights = noises(*latents[::-1])
    found = host(system.sample(len(weights), Nodes(*eps)))
    mean, cov, _ = oracle.joint(down)
    agree(weights @ found, mean[:n], rtol=1e-10, atol=1e-10)
    want = cov[:n, :n] - np.diag(down[0][2])
    agree((weights * (found - mean[:n]).T) @ (found - mean[:n]), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli"])
def test_samples_follow_from_the_seed(decoder, xp):
    system = make(decoder, "float32")
    a, b, c = (host(system.sample(3, Generator(s))) for s in (1, 1, 2))
    assert a.shape == (3, 2, 3, 1)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    rng = Generator(1)
    z = host(rng.standard_normal((3, 2)))
    for net in system.down[:0:-1]:
        mu, sigma = step(net, z)
        z = mu + sigma * host(rng.standard_normal(mu.shape))
    mean = perceptron(system.down[0], z).reshape(a.shape)
    agree(a, 2 * stats.logistic.cdf(mean) - 1 if decoder == "bernoulli" else mean, rtol=1e-4, atol=1e-5)


def test_what_a_level_keeps(xp):
    system = make()
    means = [host(grey())]
    for net in system.up:
        means.append(step(net, means[-1])[0])
    for t in (1, 2, 3):
        z = means[t]
        for net in system.down[t - 1:0:-1]:
            z = step(net, z)[0]
        agree(system.reconstruct(grey(), t), perceptron(system.down[0], z).reshape(4, 2, 3, 1), rtol=1e-10)


def test_settings_that_make_no_model_are_refused():
    for settings in ({"latents": ()}, {"latents": (3, 0)}, {"widths": (0,)}, {"shape": (0, 2)}):
        with pytest.raises(ValueError, match="there must be latents"):
            make(**settings)
    with pytest.raises(ValueError, match="is neither"):
        make("ink")
