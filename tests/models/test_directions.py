"""The two directions of KL: estimates and their gradients against integrals, and what each makes of two modes."""

from dataclasses import replace

import numpy as np
import pytest
from closed_forms import seeds, seldom
from evidence import agree, apart, at_most, host, up
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg
from reference import denoisers
from reference import divergence as oracle
from reference.derivatives import directional
from reference.quadrature import gaussian_nodes
from scratchgen.data import toys
from scratchgen.models import directions as module
from scratchgen.models.directions import Directions, DirectionsConfig, Normal
from scratchgen.models.exact import Mixture
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

NODES = oracle.plane((-9, -9), (9, 9), (90, 90))


def normal(seed, d=2):
    """A Gaussian in float64, by any numbers at all, and those numbers: μ, and L by its logarithms."""
    noise = np.random.default_rng(seed)
    mu, root = noise.uniform(-1, 1, d), noise.uniform(-0.6, 0.4, (d, d))
    q = Normal([0.0] * d).astype(np.float64)
    q.mu.assign(up(mu))
    q.root.assign(up(root))
    return q, mu, root


def factor_of(root):
    """L, from its parameters, entry by entry."""
    return np.array([[0.0 if j > i else np.exp(x) if i == j else x for j, x in enumerate(row)]
                     for i, row in enumerate(root)])  # fmt: skip


def log_q(mu, root):
    L = factor_of(root)
    return stats.multivariate_normal(mu, L @ L.T).logpdf


def mixture(seed):
    """A smooth p: two Gaussians that overlap."""
    noise = np.random.default_rng(seed)
    root = noise.uniform(-0.4, 0.4, (2, 2, 2))
    weight = noise.uniform(0.3, 0.7)
    data = denoisers.Mixture(np.array([weight, 1 - weight]), noise.uniform(-1, 1, (2, 2)),
                             root @ np.swapaxes(root, -1, -2) + 0.8 * np.eye(2))  # fmt: skip
    return data, Mixture(*(up(part) for part in data))


# --- the Gaussian -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("directions.normal")
@given(seed=seeds, d=st.integers(1, 4))
def test_any_numbers_are_a_gaussian(seed, d):
    q, mu, root = normal(seed, d)
    x = np.random.default_rng(seed + 1).normal(size=(5, d))
    L = factor_of(root)
    agree(q.factor(), L, rtol=1e-14)
    agree(q.log_prob(up(x)), np.reshape(log_q(mu, root)(x), -1), rtol=1e-10, atol=1e-10)
    agree(q.cov(), L @ L.T, rtol=1e-13, atol=1e-14)
    at_most(1e-300, np.linalg.eigvalsh(host(q.cov())))


@pytest.mark.equation("directions.normal")
@seldom
@given(seed=seeds, d=st.integers(1, 3))
def test_noise_is_carried_to_the_gaussian(seed, d):
    """Gauss–Hermite nodes, carried over, have its mean and covariance; and L·ε is no ε·L."""
    q, mu, _ = normal(seed, d)
    eps, weights = gaussian_nodes(np.zeros(d), np.eye(d), 4)
    x = host(q.transport(up(eps)))
    agree(weights @ x, mu, rtol=1e-12, atol=1e-12)
    agree((weights[:, None] * (x - mu)).T @ (x - mu), q.cov(), rtol=1e-11, atol=1e-12)


@pytest.mark.equation("directions.normal")
def test_it_begins_round_and_where_it_is_told(xp):
    q = Normal((1.0, -2.0), 0.5)
    agree(q.mu, np.array([1, -2], np.float32))
    agree(q.cov(), np.array([[0.25, 0], [0, 0.25]], np.float32), rtol=1e-6)
    assert {str(x.dtype) for x in q.parameters()} == {"float32"}


# --- the estimates ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("directions.forward")
@seldom
@given(seeds, seeds)
def test_forward_is_an_integral_over_p(one, other):
    """Its terms on the nodes of a plane, weighed by p: the oracle's KL(p‖q), which has its own densities."""
    data, p = mixture(one)
    q, mu, root = normal(other)
    mass = np.exp(denoisers.log_prob(data, NODES.points)) * NODES.weights
    want = oracle.kl(lambda x: denoisers.log_prob(data, x), log_q(mu, root), NODES)
    agree(mass @ host(module.forward(p, q, up(NODES.points))), want, rtol=1e-9, atol=1e-10)
    at_most(-want, 1e-12)


@pytest.mark.equation("directions.forward")
@seldom
@given(seeds, seeds)
def test_forward_pulls_as_the_integral_does(one, other):
    data, p = mixture(one)
    q, mu, root = normal(other)
    mass = up(np.exp(denoisers.log_prob(data, NODES.points)) * NODES.weights)
    found = sg.gradients((mass * module.forward(p, q, up(NODES.points))).sum(), [q.mu, q.root])
    check_pull(found, mu, root, lambda q: oracle.kl(lambda x: denoisers.log_prob(data, x), q, NODES), other)


def check_pull(found, mu, root, divergence, seed):
    """Gradients in μ and L's parameters, against differences of an integral, in a random direction of each."""
    noise = np.random.default_rng(seed)
    v, w = noise.normal(size=mu.shape), np.tril(noise.normal(size=root.shape))
    agree((host(found[0]) * v).sum(), directional(lambda m: divergence(log_q(m, root)), mu, v, 2e-2), 1e-6, 1e-6)
    agree((host(found[1]) * w).sum(), directional(lambda r: divergence(log_q(mu, r)), root, w, 2e-2), 1e-6, 1e-6)
    agree(np.triu(host(found[1]), 1), np.zeros(root.shape))


def hermite(p, q, order=40):
    """eq. (2) on Gauss–Hermite nodes: an integral over ε.  The mixture overlaps: it is smooth where q is."""
    eps, weights = gaussian_nodes(np.zeros(2), np.eye(2), order)
    return (up(weights) * module.reverse(p, q, up(eps))).sum()


@pytest.mark.equation("directions.reverse")
@seldom
@given(seeds, seeds)
def test_reverse_is_an_integral_over_q(one, other):
    data, p = mixture(one)
    q, mu, root = normal(other)
    want = oracle.kl(log_q(mu, root), lambda x: denoisers.log_prob(data, x), NODES)
    agree(hermite(p, q), want, rtol=1e-6, atol=1e-6)
    at_most(-want, 1e-12)


@pytest.mark.equation("directions.reverse")
@seldom
@given(seeds, seeds)
def test_reverse_pulls_as_the_integral_does(one, other):
    """Through the draws: they move with μ and L."""
    data, p = mixture(one)
    q, mu, root = normal(other)
    found = sg.gradients(hermite(p, q), [q.mu, q.root])
    check_pull(found, mu, root, lambda q: oracle.kl(q, lambda x: denoisers.log_prob(data, x), NODES), other)


@pytest.mark.equation("directions.forward", "directions.reverse")
def test_the_directions_differ_and_are_nothing_for_the_same():
    data, p = mixture(3)
    q, *_ = normal(4)
    mass = np.exp(denoisers.log_prob(data, NODES.points)) * NODES.weights
    apart(mass @ host(module.forward(p, q, up(NODES.points))), hermite(p, q), by=0.01)
    eps = np.random.default_rng(0).normal(size=(6, 2))
    agree(module.reverse(q, q, up(eps)), np.zeros(6), atol=1e-13)
    agree(module.forward(q, q, up(eps)), np.zeros(6), atol=1e-13)


# --- the system -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    """The defaults, trained for less long, on draws of p."""
    system = Directions(DirectionsConfig(), rng=Generator(0))
    x = toys.toy("two_gaussians").train
    config = TrainConfig(steps=300, batch_size=200, lr=4e-2, final_lr=0.0, ema_decay=0.95)
    result = train(system, x, config, progress=False)
    return system.frozen(result.average), x.astype(float)


def test_forward_finds_the_moments_of_its_data(fitted):
    """The likeliest Gaussian, of 10,000 draws; minibatches leave a hundredth."""
    system, x = fitted
    agree(system.forward.mu, x.mean(axis=0), atol=0.03)
    agree(system.forward.cov(), np.cov(x.T), atol=0.06)


def test_each_reverse_one_sits_on_its_mode(fitted):
    """Where the integral is least: found by another search, from the other side of the mode."""
    system, _ = fitted
    nodes = oracle.plane((-6, -5), (6, 5), (90, 75))
    data = denoisers.Mixture(toys.PAIR_WEIGHTS, toys.PAIR_MEANS, toys.PAIR_COVS)
    known = denoisers.log_prob(data, nodes.points)
    for k, q in enumerate(system.reverse):
        best = oracle.fit(lambda q: oracle.kl(q, lambda _: known, nodes), toys.PAIR_MEANS[k] + 0.2, 0.4 * np.eye(2))
        agree(q.mu, best.mu, atol=0.03)
        agree(q.cov(), best.cov, atol=0.04)
        agree(q.mu, toys.PAIR_MEANS[k], atol=0.05)
        apart(q.mu, toys.PAIR_MEANS[1 - k], by=1)


def test_the_mixture_is_that_of_the_data(xp):
    x = toys.toy("two_gaussians", 50).train.astype(float)
    p = Directions(DirectionsConfig(), rng=Generator(0)).p("float64")
    agree(p.log_prob(up(x)), toys.log_density_two_gaussians(x), rtol=1e-12, atol=1e-12)


def test_each_player_moves_its_own_gaussian():
    system = Directions(DirectionsConfig(), rng=Generator(0))
    players = system.players()
    assert [player.name for player in players] == ["forward", "reverse_1", "reverse_2"]
    names = [name for player in players for name in player.parameters]
    assert sorted(names) == sorted(name for name, _ in system.named_parameters())
    x = up(toys.toy("two_gaussians", 8).train)
    for player in players:
        loss = player.loss(x, Generator(1)).loss
        assert loss.shape == (8,)
        for other in players:
            slopes = [np.abs(host(g)).max() for g in sg.gradients(loss.sum(), list(other.parameters.values()))]
            assert (min(slopes) > 0) == (other is player)


@pytest.mark.parametrize("shards", [1, 2])
def test_replay_changes_no_bit(shards):
    x = toys.toy("two_gaussians", 200).train
    config = TrainConfig(steps=5, batch_size=20, shards=shards, lr=0.02, ema_decay=0.9)
    ends = []
    for replay in (True, False):
        system = Directions(DirectionsConfig(), rng=Generator(0))
        train(system, x, replace(config, replay=replay), progress=False)
        ends.append(system.state_dict())
    assert all(np.array_equal(ends[0][name], value) for name, value in ends[1].items())


def test_samples_are_the_forward_gaussians(xp):
    system = Directions(DirectionsConfig(), rng=Generator(0))
    x = host(system.sample(20_000, Generator(1)))
    assert x.shape == (20_000, 2)
    assert x.dtype == np.float32
    # at first N(0, ½²·I): means within 6 of their errors, 0.5/√20,000
    agree(x.mean(axis=0), np.zeros(2), atol=0.021)
    agree(np.cov(x.T), 0.25 * np.eye(2), atol=0.016)
    agree(system.log_prob(up(x[:3])), stats.multivariate_normal([0, 0], 0.25).logpdf(x[:3]), rtol=1e-5, atol=1e-5)


def test_a_start_is_needed():
    with pytest.raises(ValueError, match="there is no start"):
        DirectionsConfig(starts=())
