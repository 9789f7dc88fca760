"""Deep energy models against densities whose constant is an integral on a grid, and their system."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, lowered, up
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg
from reference import denoisers
from reference import langevin as lines
from reference import potentials as oracle
from reference.derivatives import directional, gradient
from reference.quadrature import gaussian_expectation
from scratchgen import ops
from scratchgen.models.energy import EBM, EBMConfig, contrastive, deep
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

SOME = settings(max_examples=max(8, settings.default.max_examples // 3), deadline=None)
seeds = st.integers(0, 2**32 - 1)
spreads = st.floats(0.6, 1.5, allow_subnormal=False)
library = lifted(deep)
PAIR = ([0.3, 0.7], [-1.0, 1.2], [0.4, 0.3])
"""Weights, means and variances of a mixture on the line."""


def make(dtype="float64", seed=0, **settings):
    """A small model whose network says something from the start."""
    model = EBM(EBMConfig(**{"shape": (2,), "width": 6, "buffer": 12, "chains": 8, "k": 2, **settings}),
                rng=Generator(seed)).astype(np.dtype(dtype))
    for name, x in model.named_parameters():
        if name.startswith("net"):
            x.assign((1.5 * x.array).astype(dtype) if name.endswith(".w") else x.array + 0.1)
    last = model.net.layers[-1].w
    last.assign(last.array * 10)
    return model


def f_of(model):
    """f by loops over the perceptron's layers, in NumPy."""
    layers = [(host(layer.w), host(layer.b)) for layer in model.net.layers]
    s = model.config.s
    return lambda x: oracle.perceptron(layers, x)[:, 0] + stats.norm.logpdf(x, 0, s).sum(axis=1) - np.shape(x)[1] * (
        stats.norm.logpdf(0, 0, s)
    )


# --- the formulas -------------------------------------------------------------------------------------------


@pytest.mark.equation("ebm.potential")
@SOME
@given(st.integers(1, 2), spreads, seeds)
def test_the_volume_is_the_gaussians_mean_of_the_network(dims, s, seed):
    """On panels, and as (2πs²)^(d/2)·E e^g by Gauss and Hermite: smooth g, both right to 1e-10."""
    noise = np.random.default_rng(seed)
    w, a = noise.uniform(-1, 1, dims), noise.uniform(-1, 1)
    g = lambda x: a * np.sin(x @ w) + 0.3 * x @ w  # noqa: E731
    found = oracle.volume(lambda x: library.potential(g(x), x, s), dims)
    mean = gaussian_expectation(lambda x: np.exp(g(x)), np.zeros(dims), s**2 * np.eye(dims), 40)
    # cut off at 10, six and a half deviations at least: 1e-10
    agree(found, (2 * np.pi * s**2) ** (dims / 2) * mean, rtol=1e-9)


@pytest.mark.equation("ebm.potential")
def test_with_no_network_it_is_a_gaussian():
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 1))
    found = library.potential(np.zeros(3), x, 0.7)
    want = stats.norm.logpdf(x, 0, 0.7).sum(axis=(1, 2, 3)) - 4 * stats.norm.logpdf(0, 0, 0.7)
    agree(found, want, atol=1e-13)


@pytest.mark.equation("ebm.ratio")
@given(seeds, st.floats(-50, 50))
def test_the_constant_does_not_matter_to_a_ratio(seed, constant):
    """Of a mixture's density, times any number: as its own, normalised, logarithms differ."""
    x, y = np.random.default_rng(seed).uniform(-3, 3, (2, 4, 1))
    log_p = lines.mixture_log_density(*PAIR)
    f = lambda x: constant + log_p(x[:, 0])  # noqa: E731
    agree(library.log_ratio(lowered(f), x, y), log_p(x[:, 0]) - log_p(y[:, 0]), atol=1e-11)


@pytest.mark.equation("ebm.ratio", "ebm.score")
@pytest.mark.parametrize("seed", range(3))
def test_a_model_without_its_constant_says_what_it_says_with_it(seed):
    """Ratios and slopes of log p whose Z is an integral on a grid; and p is a density."""
    model = make(seed=seed)
    log_p = oracle.log_density(f_of(model), 2)
    agree(oracle.volume(log_p, 2), 1, rtol=1e-12)
    x, y = np.random.default_rng(seed).uniform(-2, 2, (2, 5, 2))
    agree(deep.log_ratio(model.f, up(x), up(y)), log_p(x) - log_p(y), atol=1e-11)
    want = np.array([gradient(lambda v: log_p(v[None])[0], row) for row in x])
    agree(model.score(up(x)), want, rtol=1e-8, atol=1e-8)  # differences, right to 1e-9
    agree(model.energy(up(x)), -f_of(model)(x), atol=1e-12)


@pytest.mark.equation("ebm.score")
def test_the_score_of_images():
    """Row by row: what one image is does not matter to another's slope."""
    model = make(shape=(3, 4, 1), width=4)
    x = np.random.default_rng(1).standard_normal((3, 3, 4, 1))
    found = host(model.score(up(x)))
    for row, slope in zip(x, found, strict=True):
        want = gradient(lambda v: host(model.f(up(v[None])))[0], row)
        agree(slope, want, rtol=1e-8, atol=1e-8)
    assert found.shape == x.shape


@pytest.mark.equation("ebm.posterior_score")
@SOME
@given(st.floats(-3, 3), st.floats(0.2, 1.5), seeds)
def test_the_slope_of_the_posterior(y, sigma, seed):
    """By complex steps through Bayes' rule, its evidence an integral; and its mean over the posterior is 0."""
    log_p = lines.mixture_log_density(*PAIR)
    x = np.random.default_rng(seed).uniform(-3, 3, (6, 1))
    posterior = oracle.log_posterior(log_p, y, sigma)
    found = library.posterior_score(lines.slope(log_p, x), x, np.full_like(x, y), sigma)
    agree(found, lines.slope(posterior, x), rtol=1e-11, atol=1e-11)
    grid, w = oracle.nodes(1, panels=80)
    s = library.posterior_score(lines.slope(log_p, grid), grid, np.full_like(grid, y), sigma)
    # a sum of numbers up to 10/σ² = 250, times their chances
    agree((w * np.exp(posterior(grid[:, 0]))) @ s[:, 0], 0, atol=1e-9)


@pytest.mark.equation("ebm.denoiser")
@SOME
@given(st.integers(1, 2), st.floats(0.1, 1.5), seeds)
def test_the_mean_of_what_it_was(dims, sigma, seed):
    """For mixtures, by conditioning joint Gaussians; the score of the noisy law by differences, right to 1e-9."""
    noise = np.random.default_rng(seed)
    data = denoisers.Mixture(np.array([0.4, 0.6]), noise.uniform(-1, 1, (2, dims)),
                             np.array([np.eye(dims) * v for v in noise.uniform(0.2, 1, 2)]))
    y = noise.uniform(-2, 2, (3, dims))
    scores = np.array([denoisers.score(row, data, 1.0, sigma) for row in y])
    want = [denoisers.denoiser(row, data, 1.0, sigma) for row in y]
    agree(library.denoiser(y, scores, sigma), want, atol=1e-8)


@pytest.mark.equation("ebm.denoiser", "ebm.posterior_score")
def test_by_hand():
    """p = N(0, 1), σ² = 3: half the way to the prior would be ½·y; here a quarter stays."""
    y = np.array([[8.0]])
    agree(library.denoiser(y, -y / 4, 3**0.5), [[2.0]], rtol=1e-15)
    agree(library.posterior_score(-np.array([[2.0]]), np.array([[2.0]]), y, 3**0.5), [[0.0]], atol=1e-15)


# --- the likelihood -----------------------------------------------------------------------------------------


@pytest.mark.equation("contrastive.likelihood_gradient")
def test_the_gradient_of_the_exact_likelihood():
    """Of a network's f: with all points of a grid as samples, weighted by p, against differences of log p itself."""
    model = make(seed=4)
    data = np.random.default_rng(0).uniform(-2, 2, (5, 2))
    grid, w = oracle.nodes(2, panels=10, order=10)
    p = w * np.exp(oracle.log_density(f_of(model), 2)(grid))
    p = p / p.sum()
    (player,) = model.players()
    names, learnt = list(player.parameters), list(player.parameters.values())
    assert "buffer" not in names and len(names) == 8
    loss = ops.mean(contrastive.surrogate(model.f, up(data), up(grid), up(p)).loss)
    found = [host(g) for g in sg.gradients(loss, learnt)]
    noise = np.random.default_rng(1)
    along = [noise.standard_normal(x.shape) for x in found]
    layers = [(host(layer.w), host(layer.b)) for layer in model.net.layers]
    order = {f"net.layers.{i}.{part}": (i, j) for i in range(4) for j, part in enumerate("wb")}
    quadratic = lambda x: -(x**2).sum(axis=1) / (2 * model.config.s**2)  # noqa: E731

    def log_likelihood(t):
        moved = [list(layer) for layer in layers]
        for name, v in zip(names, along, strict=True):
            i, j = order[name]
            moved[i][j] = moved[i][j] + t * v
        f = lambda x: oracle.perceptron(moved, x)[:, 0] + quadratic(x)  # noqa: E731
        return oracle.log_density(f, 2, panels=10, order=10)(data).mean()

    want = directional(log_likelihood, 0.0, 1.0, h=1e-3)
    agree(-sum((g * v).sum() for g, v in zip(found, along, strict=True)), want, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dims", [1, 2])
def test_a_small_law_is_learnt(dims):
    """Two modes of unequal weight; KL(p‖q) by quadrature, below a thirtieth of what N(0, s²I) begins at."""
    noise = np.random.default_rng(0)
    modes = noise.choice([-1.5, 1.5], 3000, p=[0.3, 0.7])
    data = (modes[:, None] * (np.arange(dims) == 0) + 0.5 * noise.standard_normal((3000, dims))).astype(np.float32)
    mix = lines.mixture_log_density([0.3, 0.7], [-1.5, 1.5], [0.25, 0.25])
    log_p = lambda x: mix(x[:, 0]) + stats.norm.logpdf(x[:, 1:], 0, 0.5).sum(axis=1)  # noqa: E731
    config = TrainConfig(steps=300, batch_size=100, lr=1e-2, final_lr=0.05, beta1=0.5, ema_decay=0.98)
    with sg.backend("numpy"):
        model = EBM(EBMConfig(shape=(dims,), width=16, chains=100, buffer=300, k=3, epsilon=0.05), rng=Generator(0))
        average = train(model, data, config, progress=False).average
    x, w = oracle.nodes(dims)
    p = w * np.exp(log_p(x))

    def kl(net):
        return p @ (log_p(x) - oracle.log_density(lambda x: host(net.f(x.astype(np.float32))).astype(float), dims)(x))

    with sg.backend("numpy"):
        begin = kl(EBM(model.config, rng=Generator(0)))
        found = kl(model.frozen({**{name: x.array for name, x in model.named_parameters()}, **average}))
    at_most(found, begin / 30)
    at_most(-found, 1e-4)


# --- the system ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {"kernel": "langevin", "jump": False, "decay": 0.1},
    {"noise": 0.3, "restart": 0.5},
    {"kernel": "langevin", "jump": True, "buffer": 8},
])  # fmt: skip
def test_the_loss_and_the_buffer(settings, xp):
    """The noise replayed: on the data, then who begins anew and where, then the steps; who has moved queues up last."""
    model = make(**settings)
    x = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    model.start(up(x), Generator(9))
    before, config = np.array(host(model.buffer)), model.config  # a copy: the memory is written to
    agree(before, config.s * host(Generator(9).standard_normal(before.shape, np.float64)), rtol=1e-15)
    rng = Generator(1)
    again = Generator.from_state(rng.state())
    found = model.loss(up(x), rng)
    if config.noise:
        x = x + config.noise * host(again.standard_normal(x.shape, np.float64))
    chain = before[:8]
    if config.restart:
        anew = host(again.random((8,), np.float64)) < config.restart
        assert 0 < anew.sum() < 8
        chain = np.where(anew[:, None], config.s * host(again.standard_normal((8, 2), np.float64)), chain)
    chain = up(chain)
    for _ in range(config.k):
        chain = model.frozen().step(chain, again)
    assert rng.state() == again.state()
    chain = host(chain)
    f = f_of(model)
    want = f(chain).mean() - f(x) + config.decay * (f(x) ** 2 + (f(chain) ** 2).mean())
    agree(found.loss, want, atol=1e-11)
    agree(found.data, f(x), atol=1e-11)
    agree(found.chains, f(chain).mean(), atol=1e-11)
    agree(model.buffer, np.concatenate([before[8:], chain]))
    (player,) = model.players()
    assert sorted([*player.parameters, "buffer"]) == sorted(name for name, _ in model.named_parameters())
    # the last bias alone has no say: it is added to both, unless f itself is held small
    reached = [np.abs(host(g)).max() > 1e-12 for g in
               sg.gradients(ops.mean(found.loss), [*player.parameters.values()])]  # fmt: skip
    assert sum(reached) == len(reached) - (not config.decay)


@pytest.mark.parametrize("settings", [
    {"noise": 0.1, "restart": 0.2}, {"shape": (4, 4, 1), "kernel": "langevin", "jump": False, "decay": 0.01},
])  # fmt: skip
def test_replay_gives_the_same_bits(settings):
    models = [make("float32", **settings) for _ in range(2)]
    data = np.random.default_rng(1).uniform(-1, 1, (100, *models[0].config.shape)).astype(np.float32)
    config = TrainConfig(steps=8, batch_size=20, lr=0.01, log_every=4)
    for model, replay in zip(models, (True, False), strict=True):
        train(model, data, replace(config, replay=replay), progress=False)
    one, two = (model.state_dict() for model in models)
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert np.abs(one["buffer"]).max() > 0


@pytest.mark.parametrize("kernel", ["mala", "jump", "metropolis"])
def test_the_chains_law_is_the_models(kernel):
    """4,000 chains on the line, 80 steps: Kolmogorov and Smirnov's distance exceeds 2.69/√4000 with probability 10⁻⁶.

    Negative control: steps of the same length that nothing is refused of.
    """
    with sg.backend("numpy"):
        model = make(shape=(1,), epsilon=0.7, s=1.0)
        begin = model.prior(4000, Generator(3))
        far = {}
        for way in (kernel, "langevin"):
            for state in model.walk(begin, Generator(4), 80, way):
                x = host(state.x)
            far[way] = stats.ks_1samp(x[:, 0], lambda e: oracle.cdf_at(f_of(model), e)).statistic
    at_most(far[kernel], 2.69 / 4000**0.5)
    assert far["langevin"] > 2.69 / 4000**0.5


def test_what_a_noisy_point_was():
    """4,000 draws given one y: mean and variance of the posterior, by quadrature, within 5 of their errors.

    Langevin's steps of 0.02 against a posterior variance of about 0.2: 5 % of the variance is theirs.
    """
    with sg.backend("numpy"):
        model = make(shape=(1,), s=1.0, epsilon=0.01)
        f = f_of(model)
        mean, var = oracle.posterior_moments(lambda x: f(x[:, None]), 1.0, 0.5)
        found = host(model.restore(np.full((4000, 1), 1.0), 0.5, Generator(5), 150))
    agree(found.mean(), mean, atol=5 * (var / 4000) ** 0.5)
    agree(found.var(), var, rtol=0.05 + 5 * (2 / 4000) ** 0.5)
    apart(mean, 1.0, by=0.1)


def test_samples_follow_from_the_seed(xp):
    model = make("float32", noise=0.2)
    a, b, c = (host(model.sample(3, Generator(s), 4)) for s in (1, 1, 2))
    assert a.shape == (3, 2) and a.dtype == np.float32
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    raw = make("float32")
    for x, y in zip(raw.parameters(), model.parameters(), strict=True):
        x.assign(y.array)
    y = raw.sample(3, Generator(1), 4)
    agree(a, host(y) + 0.04 * host(raw.score(y)), atol=1e-5)  # cleaned by what the model says


@pytest.mark.parametrize("wrong, said", [
    ({"shape": (2, 2)}, r"\(2, 2\) is neither"), ({"width": 0}, "width must be at least 1"),
    ({"k": 0}, "k must be at least 1"), ({"restart": 1.5}, r"restart in \[0, 1\]"), ({"epsilon": 0.0}, "positive"),
    ({"buffer": 4, "chains": 5}, "must hold the chains"), ({"kernel": "hmc"}, "'mala' or 'langevin'"),
])  # fmt: skip
def test_misfits_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        EBMConfig(**wrong)


def test_other_misfits_are_refused():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="posterior_score"):
        library.posterior_score(x, x, x[:1], 1.0)
    with pytest.raises(ValueError, match="denoiser"):
        library.denoiser(x, x[:, :1], 1.0)
    model = make()
    with pytest.raises(ValueError, match="'hmc' is not one of langevin, mala, jump, metropolis"):
        next(iter(model.walk(model.prior(2, Generator(0)), Generator(1), 3, "hmc")))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision(dtype):
    model = make(dtype)
    x = up(np.ones((3, 2), dtype))
    for found in (model.f(x), model.score(x), deep.denoiser(x, model.score(x), 0.3), model.step(x, Generator(0)),
                  deep.posterior_score(model.score(x), x, x, 0.3), model.prior(2, Generator(1))):
        assert found.dtype == dtype


def test_gradients():
    x, g = np.random.default_rng(1).uniform(-1, 1, (3, 2)), np.array([0.3, -0.2, 0.5])
    sg.check_grads(lambda g, x: deep.potential(g, x, 0.8), (g, x), order=2)
    sg.check_grads(lambda x, s: deep.posterior_score(s, x, 2 * x, 0.8), (x, x**2), order=2)
    sg.check_grads(lambda x, s: deep.denoiser(x, s, 0.8), (x, x**2), order=2)
