"""Products of experts: on a few states by fractions, in the plane by quadrature; their chains, and the system."""

import math
from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
from reference import denoisers
from reference import experts as oracle
from reference.derivatives import gradient
from reference.divergence import plane
from scratchgen import ops
from scratchgen.metrics.clouds import energy_distance
from scratchgen.models.energy import ExpertsConfig, ProductOfExperts, ais, densities, experts
from scratchgen.models.exact import Mixture
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

SOME = settings(max_examples=max(6, settings.default.max_examples // 3), deadline=None)
seeds = st.integers(0, 2**32 - 1)
library = lifted(experts)
NODES = plane((-9, -9), (9, 9), (150, 150))  # cells of 0.12, below half the least deviation there is here


def spread(rng, *shape):
    """Covariances whose deviations lie between 0.4 and 1.3."""
    angle, s = rng.uniform(0, np.pi, shape), rng.uniform(0.4, 1.3, (*shape, 2))
    R = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2)
    return (R * s[..., None, :] ** 2) @ np.swapaxes(R, -1, -2)


def mixture(rng, K):
    w = rng.uniform(0.2, 1, K)
    return denoisers.Mixture(w / w.sum(), rng.uniform(-1.5, 1.5, (K, 2)), spread(rng, K))


def lift(p, dtype=np.float64):
    return Mixture(*(up(part.astype(dtype)) for part in p))


def said(p):
    """The oracle's log-density of a mixture."""
    return lambda x: denoisers.log_prob(p, x)


class Table:
    """An expert over a few states: x (B, 1) counts them."""

    def __init__(self, weights):
        self.weights = np.asarray(weights, float)

    def log_prob(self, x):
        with np.errstate(divide="ignore"):
            return up(np.log(self.weights)[host(x)[:, 0].astype(int)])


# --- the formulas -------------------------------------------------------------------------------------------


@pytest.mark.equation("experts.product")
@given(st.integers(1, 4), st.integers(1, 6), seeds)
def test_the_product_is_multiplied_and_normalised_and_a_zero_of_any_expert_is_a_zero(K, n, seed):
    """Tables of whole numbers, many of them 0, against fractions."""
    weights = np.random.default_rng(seed).integers(0, 5, (K, n))
    weights[:, 0] = np.maximum(weights[:, 0], 1)  # a state that all allow
    x = up(np.arange(n, dtype=float)[:, None])
    found = experts.product([Table(row) for row in weights], x)
    p = np.exp(host(densities.normalise(found)))
    # logarithms of at most 4 small numbers
    agree(p, [float(fraction) for fraction in oracle.table(weights)], rtol=1e-14, atol=1e-15)
    assert (p[(weights == 0).any(axis=0)] == 0).all()
    assert (p[(weights > 0).all(axis=0)] > 0).all()


@pytest.mark.equation("experts.product")
@SOME
@given(st.integers(1, 3), seeds)
def test_the_product_in_the_plane(K, seed):
    """Against the oracle's densities multiplied; its volume on the oracle's grid is the oracle's."""
    rng = np.random.default_rng(seed)
    parts = [mixture(rng, 2) for _ in range(K)]
    x = rng.uniform(-3, 3, (5, 2))
    found = host(experts.product([lift(p) for p in parts], up(x)))
    agree(np.exp(found), np.prod([np.exp(said(p)(x)) for p in parts], axis=0), rtol=1e-11)
    logs = host(experts.product([lift(p) for p in parts], up(NODES.points)))
    Z = oracle.moments([said(p) for p in parts], NODES).Z
    agree(np.exp(host(densities.log_Z(up(logs), float(NODES.weights[0])))), Z, rtol=1e-11)
    with pytest.raises(ValueError, match="there is no expert"):
        experts.product([], up(x))


@pytest.mark.equation("experts.score")
@SOME
@given(st.integers(1, 3), seeds)
def test_scores_add_up(K, seed):
    """Against numeric slopes of the oracle's product."""
    rng = np.random.default_rng(seed)
    parts = [mixture(rng, 2) for _ in range(K)]
    x = rng.uniform(-2, 2, (2, 2))
    found = host(experts.score([lift(p) for p in parts], up(x)))
    moments = oracle.moments([said(p) for p in parts], NODES)
    for k in range(2):
        log_p = lambda v: sum(said(p)(v[None])[0] for p in parts) - math.log(moments.Z)  # noqa: E731
        agree(found[k], gradient(log_p, x[k], h=5e-2), atol=1e-6)


@pytest.mark.equation("experts.gaussians")
@SOME
@given(st.integers(1, 3), seeds)
def test_the_product_of_gaussians(K, seed):
    """Constant, mean and covariance are integrals; for two products at once."""
    rng = np.random.default_rng(seed)
    mu, cov = rng.uniform(-1.2, 1.2, (2, K, 2)), spread(rng, 2, K)
    found = library.gaussians(mu, cov)
    for b in range(2):
        parts = [said(denoisers.gaussian(mu[b, k], cov[b, k])) for k in range(K)]
        nodes = plane((-11, -11), (11, 11), (220, 220))  # from eight of the widest deviations to half the narrowest
        want = oracle.moments(parts, nodes)
        # the even grid's error falls faster than any power; what is left is rounding
        agree(np.exp(found.log_Z[b]), want.Z, rtol=1e-10)
        agree(found.mu[b], want.mean, atol=1e-10)
        agree(found.cov[b], want.cov, atol=1e-10)


@pytest.mark.equation("experts.gaussians")
def test_gaussians_by_hand():
    """Of N(0, 1) and N(3, 1/2): precisions 1 + 2; mean (0 + 2·3)/3; Z = N(3; 0, 3/2).  Two equal ones halve."""
    mu, cov = np.array([[[0.0], [3.0]]]), np.array([[[[1.0]], [[0.5]]]])
    found = library.gaussians(mu, cov)
    agree(found.mu, [[2.0]], rtol=1e-15)
    agree(found.cov, [[[1 / 3]]], rtol=1e-15)
    agree(found.log_Z, [-0.5 * (9 / 1.5 + math.log(2 * math.pi * 1.5))], rtol=1e-14)
    cov = spread(np.random.default_rng(0), 1, 1)
    twice = library.gaussians(np.zeros((1, 2, 2)), np.repeat(cov, 2, axis=1))
    agree(twice.cov, cov[:, 0] / 2, rtol=1e-13)
    want = oracle.moments([said(denoisers.gaussian([0, 0], cov[0, 0]))] * 2, NODES)
    agree(np.exp(twice.log_Z), [want.Z], rtol=1e-11)
    with pytest.raises(ValueError, match=r"mu \(2,\), cov \(2, 2\) should be"):
        library.gaussians(np.zeros(2), np.eye(2))


@pytest.mark.equation("experts.mixtures")
@SOME
@given(st.integers(1, 3), st.integers(1, 3), seeds)
def test_the_product_of_mixtures(K, L, seed):
    rng = np.random.default_rng(seed)
    p, q = mixture(rng, K), mixture(rng, L)
    product = experts.mixtures(lift(p), lift(q))
    want = oracle.moments([said(p), said(q)], NODES)
    agree(np.exp(host(product.log_Z)), want.Z, rtol=1e-10)
    w, means, covs = (host(x) for x in (product.p.weights, product.p.means, product.p.covs))
    assert w.shape == (K * L,)
    agree(w.sum(), 1.0, rtol=1e-13)
    agree(w @ means, want.mean, atol=1e-9)
    centred = means - w @ means
    agree(np.einsum("k,kij->ij", w, covs) + np.einsum("k,ki,kj->ij", w, centred, centred), want.cov, atol=1e-9)
    x = rng.uniform(-2, 2, (5, 2))
    agree(np.exp(host(product.p.log_prob(up(x)))), np.exp(said(p)(x) + said(q)(x)) / want.Z, rtol=1e-9)


@pytest.mark.equation("experts.mixtures")
def test_a_part_that_meets_no_other_has_no_share():
    """An AND: of modes at −3 and 3, and at 3 and 9, the one at 3 is left; a mixture would keep them all."""
    cov = np.repeat(0.09 * np.eye(2)[None], 2, axis=0)
    p = denoisers.Mixture(np.array([0.9, 0.1]), np.array([[-3.0, 0.0], [3.0, 0.0]]), cov)
    q = denoisers.Mixture(np.array([0.1, 0.9]), np.array([[3.0, 0.0], [9.0, 0.0]]), cov)
    found = experts.mixtures(lift(p), lift(q))
    agree(found.p.weights, [0, 0, 1, 0], atol=1e-12)
    want = oracle.moments([said(p), said(q)], plane((-5, -3), (11, 3), (320, 120)))
    agree(host(found.p.means)[2], want.mean, atol=1e-8)
    agree(np.exp(host(found.log_Z)), want.Z, rtol=1e-9)


# --- the system ---------------------------------------------------------------------------------------------


def tiny(K=2, dtype="float32"):
    """Two experts far from their start: crossing bars."""
    model = ProductOfExperts(ExpertsConfig(components=K, scale=0.4))
    noise = np.random.default_rng(3)
    for k, expert in enumerate(model.experts):
        expert.means.assign(up(noise.uniform(-0.8, 0.8, (K, 2)).astype("float32")))
        expert.logits.assign(up(noise.uniform(-0.5, 0.5, K).astype("float32")))
        root = np.array([[0.0, 0.0], [0.3, -0.9]] if k else [[-0.9, 0.0], [0.1, 0.0]], "float32")
        expert.root.assign(up(np.repeat(root[None], K, axis=0)))
    return model.astype(dtype)


def exact_moments(model):
    parts = [denoisers.Mixture(*(host(x).astype(float) for x in (m.weights, m.means, m.covs))) for m in model.parts()]
    return oracle.moments([said(p) for p in parts], NODES), parts


def test_the_exact_product_of_the_system(xp):
    model = tiny()
    want, parts = exact_moments(model)
    found = model.exact()
    # weights in float32 add up to 1 within 1e-7
    agree(np.exp(host(found.log_Z)), want.Z, rtol=1e-6)
    agree(host(found.p.weights) @ host(found.p.means), want.mean, atol=1e-6)
    for p, expert in zip(parts, model.experts, strict=True):
        root = host(expert.root.array).astype(float)
        for k in range(2):
            L = np.array([[math.exp(root[k, 0, 0]), 0], [root[k, 1, 0], math.exp(root[k, 1, 1])]])
            agree(p.covs[k], L @ L.T, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["langevin", "metropolis", "mala", "sample"])
def test_chains_come_to_the_product(method):
    """700 of them: mean and second moments within 5.5 standard errors of the integrals (Langevin: and its bias)."""
    model = tiny().frozen()
    want, _ = exact_moments(model)
    rng, n = Generator(4), 700
    start = model.parts()[0].sample(rng, n)
    if method == "langevin":
        x = model.langevin(start, rng, 120, 0.006)
    elif method == "sample":
        x = model.sample(n, rng, 50, 0.03)
    else:
        *_, last = getattr(model, method)(start, rng, 80, 0.35 if method == "metropolis" else 0.03)
        x = last.x
        assert 0.2 < float(last.accepted.mean()) < 1
    x = host(x).astype(float)
    deviation = np.sqrt(np.diag(want.cov))
    width = 5.5 / math.sqrt(n if method != "sample" else n / 4)
    at_most(np.abs(x.mean(axis=0) - want.mean), width * deviation)
    # fourth moments of what is nearly Gaussian: the variance's relative error is √2 times as large
    at_most(np.abs(np.diag(np.cov(x.T)) / np.diag(want.cov) - 1), 1.6 * width + (0.05 if method == "langevin" else 0))
    truth = host(model.exact().p.sample(Generator(5), 2000))
    at_most(energy_distance(x, truth), 0.02)
    at_most(0.05, energy_distance(host(start), truth))


def test_annealing_finds_the_constant():
    """Within 5.5 standard errors of the integral, and not that of the first expert alone, 0."""
    model = tiny().frozen()
    want, _ = exact_moments(model)
    log_w, _ = model.anneal(1000, Generator(1), 30, 0.03)
    w = np.exp(host(log_w).astype(float))
    error = w.std() / w.mean() / math.sqrt(len(w))
    at_most(abs(float(ais.log_Z(log_w, 0.0)) - math.log(want.Z)), 5.5 * error)
    apart(math.log(want.Z), 0.0, by=20 * error)


def test_each_expert_learns_its_own_points(xp):
    model = tiny(dtype="float64")
    x = np.random.default_rng(0).uniform(-1, 1, (6, 2))
    players = model.players()
    assert [player.name for player in players] == ["upright", "turned"]
    _, parts = exact_moments(model)
    for k, player in enumerate(players):
        own = np.stack([-x[:, 1], x[:, 0]], axis=1) if k else x
        found = player.loss(up(x), Generator(0)).loss
        agree(found, -said(parts[k])(own), atol=1e-11)
        names = {name.split(".")[1] for name in player.parameters}
        assert names == {str(k)} and len(player.parameters) == 3
        slopes = sg.gradients(ops.mean(found), [*player.parameters.values()])
        assert all(np.abs(host(g)).max() > 0 for g in slopes)


CONFIG = TrainConfig(steps=8, batch_size=20, lr=0.02, log_every=4)


def test_replay_gives_the_same_bits():
    x = np.random.default_rng(1).standard_normal((100, 2)).astype(np.float32)
    models = [ProductOfExperts(ExpertsConfig(components=3)) for _ in range(2)]
    for model, replay in zip(models, (True, False), strict=True):
        train(model, x, replace(CONFIG, replay=replay), progress=False)
    one, two = (model.state_dict() for model in models)
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert np.abs(one["experts.0.means"] - one["experts.1.means"]).max() > 0.1


def test_what_cannot_be():
    with pytest.raises(ValueError, match="0 components of scale 0.2 should be positive"):
        ExpertsConfig(components=0)
    with pytest.raises(ValueError, match="2 points are too few to start 3 components at"):
        ProductOfExperts(ExpertsConfig(components=3)).start(up(np.zeros((2, 2), np.float32)), Generator(0))


# --- precision and gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept(dtype):
    rng = np.random.default_rng(0)
    p, q = (lift(mixture(rng, 2), dtype) for _ in range(2))
    x = up(rng.standard_normal((3, 2)).astype(dtype))
    product = experts.mixtures(p, q)
    for found in (experts.product([p, q], x), experts.score([p, q], x), product.log_Z, product.p.means):
        assert found.dtype == dtype


def test_gradients():
    rng = np.random.default_rng(1)
    mu, cov = rng.standard_normal((1, 2, 2)), spread(rng, 1, 2)
    symmetric = lambda c: (c + ops.swapaxes(c, -1, -2)) / 2  # noqa: E731
    sg.check_grads(lambda m, c: experts.gaussians(m, symmetric(c)).log_Z, (mu, cov), order=2)
    sg.check_grads(lambda m, c: experts.gaussians(m, symmetric(c)).mu, (mu, cov), order=1)
