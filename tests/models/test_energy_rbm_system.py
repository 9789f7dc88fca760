"""The restricted Boltzmann machine as a system: contrastive divergence, annealing, draws."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host
from rbm_tools import library, weights

import scratchgen as sg
from reference import boltzmann as oracle
from reference import mcmc
from scratchgen import ops
from scratchgen.autograd import Tensor
from scratchgen.backend import active
from scratchgen.data import digits
from scratchgen.models.energy import RBM, RBMConfig, ais, rbm
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

# --- the system ---------------------------------------------------------------------------------------------


def tiny(dtype="float32", **settings):
    config = RBMConfig(**{"pixels": 4, "hidden": 3, "k": 2, "chains": 50, **settings})
    return RBM(config, rng=Generator(0)).astype(dtype)


def on(x):
    return active().asarray(x)


def test_the_loss_is_contrastive_divergence(xp):
    """CD with the noise replayed; PCD likewise, from the memory, which then holds where the chains are."""
    x = on(np.random.default_rng(0).integers(0, 2, (6, 4)).astype(np.float64))
    for method in ("cd", "pcd"):
        model = tiny(np.float64, method=method)
        model.start(x, Generator(5))
        model.W.assign(on(weights(4, 3, 8).W))  # so large that where a chain was matters to where it goes
        w = rbm.Weights(*map(host, model.frozen().weights))
        begin = np.array(host(x if method == "cd" else model.chain))  # a copy: the memory is written to
        rng = Generator(1)
        again = Generator.from_state(rng.state())
        found = model.loss(x, rng)
        chain = begin
        for _ in range(2):
            u = [host(again.random((len(chain), k), np.float64)) for k in (3, 4)]
            chain = library.gibbs(w, chain, *u)
        i = again.integers(0, 4, (6,))
        assert rng.state() == again.state()
        at_data, at_chain = library.free_energy(w, host(x)), library.free_energy(w, chain)
        agree(found.loss, at_data - at_chain.mean(), atol=1e-12)
        agree(found.pseudo, library.pseudo_log_likelihood(w, host(x), host(i)), atol=1e-12)
        agree(model.chain, chain if method == "pcd" else host(tiny_start(x, method).chain))
        assert type(found.loss) is Tensor and not isinstance(found.pseudo, Tensor)
        (player,) = model.players()
        assert list(player.parameters) == ["W", "b", "c"]
        assert all(np.abs(host(g)).max() > 0 for g in sg.gradients(ops.mean(found.loss), [*player.parameters.values()]))


def tiny_start(x, method):
    model = tiny(np.float64, method=method)
    model.start(x, Generator(5))
    return model


CONFIG = TrainConfig(steps=12, batch_size=20, lr=0.05, log_every=4)


@pytest.mark.parametrize("method", ["cd", "pcd"])
def test_replay_gives_the_same_bits(method):
    data = np.random.default_rng(1).integers(0, 2, (100, 4)).astype(np.float32)
    models = [tiny(method=method), tiny(method=method)]
    for model, replay in zip(models, (True, False), strict=True):
        train(model, data, replace(CONFIG, replay=replay), progress=False)
    one, two = (model.state_dict() for model in models)
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert np.abs(one["W"]).max() > 0.1


def test_training_reaches_the_data():
    """Patterns 0011, 1100 and 1111 only: log p of the best model is −log 3; independent pixels come to −2.5."""
    patterns = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]], np.float32)
    with sg.backend("numpy"):
        model = tiny(hidden=8, k=10, chains=100)
        config = TrainConfig(steps=400, batch_size=50, lr=0.05, final_lr=0.02)
        train(model, np.repeat(patterns, 50, axis=0), config, progress=False)
        net = model.frozen()
        found = float(net.log_prob(patterns, rbm.log_Z(net.weights)).mean())
    assert -np.log(3) - 0.25 < found < -np.log(3)


def test_samples_have_the_machines_law():
    """4,000 chains of 100 steps: a chi-square of 15 degrees exceeds 56.5 with probability 10⁻⁶.

    Negative control: as many chains that have just begun.
    """
    with sg.backend("numpy"):
        model = tiny()
        for x, w in zip((model.W, model.b, model.c), weights(4, 3, 2), strict=True):
            x.assign(w.astype(np.float32))
        ends = [mcmc.place(host(model.sample(4000, Generator(1), k))) for k in (100, 0)]
        drawn, new = (np.bincount(places, minlength=16) for places in ends)
        expected = 4000 * oracle.table(oracle.machine(*model.frozen().weights)).sum(axis=1)
    at_most(((drawn - expected) ** 2 / expected).sum(), 56.5)
    assert ((new - expected) ** 2 / expected).sum() > 56.5


@pytest.mark.equation("ais.log_z", "rbm.bridge")
def test_annealing_comes_to_the_counted_constant_of_a_trained_machine():
    """Ten hidden units on real digits: within 0.1 nat, which is over ten standard errors of 100 walks."""
    data = (digits().train.reshape(-1, 64) > 0).astype(np.float32)
    with sg.backend("numpy"):
        model = RBM(RBMConfig(hidden=10, k=1), rng=Generator(0))
        train(model, data, TrainConfig(steps=300, batch_size=100, lr=0.03), progress=False)
        base = np.log((data.sum(axis=0) + 1) / (len(data) - data.sum(axis=0) + 1)).astype(np.float32)
        log_w, log_Z0 = model.anneal(100, Generator(1), 1000, base)
        exact = float(rbm.log_Z(model.frozen().weights))
        at_most(abs(float(ais.log_Z(log_w, float(log_Z0))) - exact), 0.1)
        apart(float(log_Z0), exact, by=1)  # negative control: where annealing began


def test_restoring_gives_the_posterior_mean():
    """2,000 chains of 50 counted steps for one noisy image, against Bayes' rule on the table: to 0.01.

    A mean of 100,000 numbers in [0, 1], in groups of 50 that may all be alike: 0.5/√2000 = 0.011 at the very worst, but
    of probabilities given z, drawn from a chain that forgets in a few steps.
    """
    y = np.array([[1, 0, 0, 1]], np.float32)
    with sg.backend("numpy"):
        model = tiny()
        for x, w in zip((model.W, model.b, model.c), weights(4, 3, 2), strict=True):
            x.assign(w.astype(np.float32))
        found = model.restore(np.repeat(y, 2000, axis=0), 0.2, Generator(3), 60, 10).mean(axis=0)
        p = oracle.table(oracle.machine(*model.frozen().weights)).sum(axis=1)
    want = oracle.flipped(p, y[0], 0.2) @ mcmc.binary_states(4)
    agree(found, want, atol=0.01)
    apart(want, p @ mcmc.binary_states(4), by=0.1)  # negative control: with no image given


def test_misfits_are_refused():
    w = weights(3, 2, 0)
    with pytest.raises(ValueError, match=r"x \(1, 2\) should be \(B, 3\)"):
        library.hidden_logits(w, np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"z \(2,\) should be \(B, 2\)"):
        library.visible_logits(w, np.zeros(2))
    for wrong in ({"hidden": 0}, {"k": 0}, {"chains": 0}, {"pixels": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            RBMConfig(**wrong)
    with pytest.raises(ValueError, match="'pcd' or 'cd'"):
        RBMConfig(method="ml")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision(dtype):
    w = rbm.Weights(*(x.astype(dtype) for x in weights(3, 2, 0)))
    x, z, u = np.ones((4, 3), dtype), np.ones((4, 2), dtype), np.full((4, 3), 0.5, dtype)
    for found in (
        library.energy(w, x, z), library.hidden_logits(w, x), library.visible_logits(w, z), library.free_energy(w, x),
        library.log_Z(w), library.pseudo_log_likelihood(w, x, np.zeros(4, int)), library.posterior(w, x, 0.1).b,
        library.bridge(w, x[0], 0.3).W, library.gibbs(w, x, u[:, :2], u), library.base_log_Z(w, x[0]),
    ):  # fmt: skip
        assert found.dtype == dtype


def test_gradients():
    w, x = weights(3, 2, 1), np.random.default_rng(1).integers(0, 2, (4, 3)).astype(float)
    i = np.array([0, 1, 2, 0])
    for f in (lambda W, b, c: rbm.free_energy(rbm.Weights(W, b, c), x),
              lambda W, b, c: rbm.pseudo_log_likelihood(rbm.Weights(W, b, c), x, i),
              lambda W, b, c: rbm.log_Z(rbm.Weights(W, b, c))):
        sg.check_grads(f, tuple(w), order=2)
