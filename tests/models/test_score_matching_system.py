"""Score matching as a system: each objective with its noise replayed, who moves what, replay, and what is learnt."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, up

import scratchgen as sg
from reference import denoisers as E
from reference import gaussian
from reference import langevin as L
from reference import score as oracle
from scratchgen import ops, optim
from scratchgen.models.score import matching
from scratchgen.models.score.score_matching import OBJECTIVES, ScoreMatching, ScoreMatchingConfig
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

CONFIG = ScoreMatchingConfig(width=6)
DATA = E.Mixture(*(np.array(part) for part in (CONFIG.weights, CONFIG.means, CONFIG.covs)))
X = np.random.default_rng(7).normal(size=(40, 2)).astype(np.float32)


def make(dtype="float64", **settings):
    return ScoreMatching(replace(CONFIG, **settings), rng=Generator(0)).astype(np.dtype(dtype))


def batch(n=4):
    return up(X[:n].astype(np.float64))


def field(model, name):
    """s at one point, by loops over the network's layers, in NumPy."""
    layers = [(layer.w.numpy(), layer.b.numpy()) for layer in model.nets[name].layers]

    def s(x):
        h = np.asarray(x, dtype=float)
        for w, b in layers[:-1]:
            h = np.tanh(h @ w + b)
        return h @ layers[-1][0] + layers[-1][1] - x

    return s


def player(model, name):
    return next(p for p in model.players() if p.name == name)


# --- the objectives -----------------------------------------------------------------------------------------------


@pytest.mark.equation("score.fisher")
def test_told_is_fishers_divergence(xp):
    """The score by differences of the log-density, right to 1e-8."""
    model, rng = make(), Generator(1)
    state = rng.state()
    found = player(model, "told").loss(batch(), rng).loss
    assert rng.state() == state  # it draws nothing
    s = field(model, "told")
    want = [((E.score(x, DATA, 1.0, 0.0) - s(x)) ** 2).sum() / 2 for x in host(batch())]
    agree(found, want, rtol=1e-6, atol=1e-7)


@pytest.mark.equation("score.implicit")
def test_exact_has_the_trace_of_the_jacobian(xp):
    model = make()
    found = player(model, "exact").loss(batch(), Generator(1)).loss
    s = field(model, "exact")
    agree(found, [(s(x) ** 2).sum() / 2 + oracle.trace(s, x) for x in host(batch())], rtol=1e-7, atol=1e-7)


@pytest.mark.equation("score.sliced_vr", "score.hutchinson")
def test_hutchinson_looks_along_signs(xp):
    model, rng = make(), Generator(2)
    state = rng.state()
    found = player(model, "hutchinson").loss(batch(), rng).loss
    again = Generator.from_state(state)
    v = np.where(host(again.random((4, 2), np.float64)) < 0.5, -1.0, 1.0)
    assert rng.state() == again.state()
    s = field(model, "hutchinson")
    want = [(s(x) ** 2).sum() / 2 + oracle.quadratic_form(s, x, w) for x, w in zip(host(batch()), v, strict=True)]
    agree(found, want, rtol=1e-7, atol=1e-7)


@pytest.mark.equation("score.sliced")
def test_sliced_looks_along_normal_directions(xp):
    model, rng = make(), Generator(3)
    state = rng.state()
    found = player(model, "sliced").loss(batch(), rng).loss
    again = Generator.from_state(state)
    v = host(again.standard_normal((4, 2), np.float64))
    assert rng.state() == again.state()
    s = field(model, "sliced")
    want = [(w @ s(x)) ** 2 / 2 + oracle.quadratic_form(s, x, w) for x, w in zip(host(batch()), v, strict=True)]
    agree(found, want, rtol=1e-7, atol=1e-7)


@pytest.mark.equation("score.hutchinson")
def test_signs_are_fair_and_alone(xp):
    """n = 20,000 in each of two places, and their product: 0 within 5.3 deviations, 0.0375."""
    v = host(matching.signs(up(np.zeros((20_000, 2), np.float32)), Generator(0)))
    assert v.dtype == np.float32
    assert set(np.unique(v)) == {-1.0, 1.0}
    agree([*v.mean(axis=0), (v[:, 0] * v[:, 1]).mean()], 0.0, atol=0.0375)


# --- the players ----------------------------------------------------------------------------------------------------


def test_all_begin_alike_and_each_moves_its_own_network():
    model = make()
    players = {p.name: p for p in model.players()}
    assert tuple(players) == OBJECTIVES
    assert sorted(name for p in players.values() for name in p.parameters) == sorted(dict(model.named_parameters()))
    first = [host(p.value) for p in players["told"].parameters.values()]
    for p in players.values():
        assert all(np.array_equal(a, host(b.value)) for a, b in zip(first, p.parameters.values(), strict=True))
        loss = ops.sum(p.loss(batch(), Generator(1)).loss)
        for other in players.values():
            slopes = [np.abs(host(g)).max() for g in sg.gradients(loss, list(other.parameters.values()))]
            assert (min(slopes) > 0) if other is p else (max(slopes) == 0)


@pytest.mark.equation("score.implicit", "score.sliced", "score.sliced_vr")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_of_an_objective_by_differences(name):
    """Derivatives of derivatives: along a random direction of all weights, the noise replayed."""
    model = make()
    one, state = player(model, name), Generator(5).state()
    flat = optim.Flat(one.parameters)
    loss = lambda: ops.mean(one.loss(batch(), Generator.from_state(state)).loss)  # noqa: E731
    g = host(flat.gather(sg.gradients(loss(), list(one.parameters.values()))))
    v = np.random.default_rng(6).normal(size=flat.size)
    v /= np.linalg.norm(v)
    start, h, ends = host(flat.buffer).copy(), 1e-4, []
    for sign in (1, -1):
        flat.write(up(start + sign * h * v))
        ends.append(float(loss()))
    agree(g @ v, (ends[0] - ends[1]) / (2 * h), 1e-5, 1e-7)


@pytest.mark.parametrize("shards", [1, 2])
def test_replay_changes_no_bit(shards, capsys):
    ends = []
    for play in (True, False):
        model = make("float32")
        config = TrainConfig(steps=4, batch_size=8, lr=1e-3, ema_decay=0.9, log_every=2, shards=shards)
        ends.append((model, train(model, X, replace(config, replay=play), progress=True)))
    assert "without replay" not in capsys.readouterr().err
    known = ends[1][0].state_dict()
    assert all(np.array_equal(known[name], value) for name, value in ends[0][0].state_dict().items())
    assert ends[0][1].losses == ends[1][1].losses


@pytest.mark.equation("score.implicit", "score.sliced", "score.sliced_vr", "score.fisher")
def test_a_normals_score_is_learnt_from_points_alone():
    """N(m, C), whose score is −C⁻¹(x − m): each comes to a tenth of Fisher's divergence at the start; to 0 at best."""
    mean, cov = np.array([0.5, -0.3]), np.array([[0.6, 0.2], [0.2, 0.4]])
    x = np.random.default_rng(0).multivariate_normal(mean, cov, 3000).astype(np.float32)
    settings = {"weights": (1.0,), "means": (tuple(mean),), "covs": (tuple(map(tuple, cov)),), "width": 16}
    model = make("float32", **settings)
    config = TrainConfig(steps=250, batch_size=200, lr=1e-2, final_lr=0.0, ema_decay=0.97)
    new = model.astype("float32").frozen()
    learnt = model.frozen(train(model, x, config, progress=False).average)
    exact = -np.linalg.solve(cov, (x - mean).T).T
    for name in OBJECTIVES:
        off = [((host(net.score(up(x), name)) - exact) ** 2).sum(axis=1).mean() / 2 for net in (learnt, new)]
        at_most(off[0], 0.1 * off[1])


# --- walks --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("langevin.step")
def test_a_walk_along_an_exact_score():
    """On a Gaussian, after k steps: mean and covariance of n = 4,000 walks, by the oracle's chain of tangent steps."""
    mean, cov = np.array([0.5, -0.3]), np.array([[0.6, 0.2], [0.2, 0.4]])
    model = make(step=0.05)
    score = lambda x: up(-np.linalg.solve(cov, (host(x) - mean).T).T)  # noqa: E731
    frames = [host(x) for x in model.walk(score, model.prior(4000, Generator(0)), 30, Generator(1))]
    assert len(frames) == 30
    A, B = gaussian.affine_map(lambda x: L.tangent_step(mean, cov, x, 0.05)[0], 2)
    Q = L.tangent_step(mean, cov, np.zeros(2), 0.05)[1]
    means, covs = gaussian.moments(np.zeros(2), 4 * np.eye(2), 30 * [(A, B, Q)])
    for k in (0, 9, 29):  # 5.3 deviations of a mean, and of a variance
        agree(frames[k].mean(axis=0), means[k + 1], atol=5.3 * np.sqrt(covs[k + 1].max() / 4000))
        agree(np.cov(frames[k].T), covs[k + 1], atol=5.3 * np.sqrt(2 / 4000) * covs[k + 1].max())
    apart(covs[1], covs[30], 0.5)


def test_samples_follow_from_the_seed(xp):
    model = make("float32")
    a, b, c = (host(model.sample(3, Generator(s), steps=5)) for s in (1, 1, 2))
    assert a.shape == (3, 2)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    far = host(model.sample(50, Generator(1), steps=400, name="sliced"))
    at_most(np.abs(far), 20.0)  # what is not learnt leads back: s = F − x, F bounded


def test_what_makes_no_sense_is_refused():
    for name in ("width", "step", "start"):
        with pytest.raises(ValueError, match=f"ScoreMatchingConfig: {name} must be positive"):
            ScoreMatchingConfig(**{name: 0})
    with pytest.raises(ValueError, match="'implicit' is not one of told, exact, hutchinson, sliced"):
        make().score(batch(), "implicit")
