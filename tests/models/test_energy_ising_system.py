"""The Ising model as a system: draws, descents, training."""

import math
from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, up
from ising_tools import fields, library

import scratchgen as sg
from reference import boltzmann, lattice, mcmc
from scratchgen import ops
from scratchgen.autograd import Tensor
from scratchgen.models.energy import Ising, IsingConfig, ising
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

# --- the system ---------------------------------------------------------------------------------------------


def tiny(rows=3, columns=3, local=True, seed=0):
    model = Ising(IsingConfig(rows, columns, local))
    noise = np.random.default_rng(seed)
    model.h.assign(up(noise.uniform(-0.5, 0.5, model.h.shape).astype("float32")))
    model.beta.assign(up(np.float32(0.4) * np.ones((), "float32")))
    return model


def test_draws_of_the_posterior_come_to_its_marginals(xp):
    """3×3: 4,000 sweeps of 60 chains, beside the table; the draws themselves, and the mean of tanh m_i.

    A sweep's draw of a pixel has a deviation of at most 1, and the chain forgets in a few sweeps: 240,000 draws that
    count as at least 20,000 are within 5.5/√20000 = 0.039 but for once in 10⁷; the means, which vary less, likewise.
    """
    model, rho = tiny().frozen(), 0.2
    y = np.where(np.random.default_rng(3).random((1, 3, 3)) < 0.5, 1.0, -1.0).astype("float32")
    f = host(ising.posterior(model.h, up(y), rho)).astype(float)
    want = np.tensordot(boltzmann.table(lattice.logs(f[0], float(model.beta))), lattice.spins(3, 3), 1)
    many = up(np.repeat(y, 60, axis=0))
    sweeps = 4000 if xp.name == "numpy" else 300
    found = host(model.restore(many, rho, Generator(1), sweeps, 20)).mean(axis=0)
    width = 5.5 / math.sqrt(sweeps * 5)
    at_most(np.abs(found - want), width)
    apart(found, host(model.restore(many, 0.45, Generator(1), 300, 20)).mean(axis=0), by=2 * width)


def test_samples_have_the_laws_means():
    """Of 3,000 chains after 60 sweeps; 5.5 deviations of a mean of ±1."""
    model = tiny().frozen()
    h = host(model.h).astype(float)
    want = np.tensordot(boltzmann.table(lattice.logs(h, float(model.beta))), lattice.spins(3, 3), 1)
    x = host(model.sample(3000, Generator(2), 60))
    assert set(np.unique(x)) == {-1, 1}
    at_most(np.abs(x.mean(axis=0) - want), 5.5 / math.sqrt(3000))
    logs = lattice.logs(h, float(model.beta))
    found = host(model.log_prob(up(lattice.spins(3, 3).astype("float32"))))
    # float32 parameters, taken up to float64
    agree(found, logs - boltzmann.log_total(logs), atol=1e-12)


def test_a_descent_ends_where_nothing_changes(xp):
    model = tiny(6, 7).frozen()
    y = up(np.where(np.random.default_rng(5).random((20, 6, 7)) < 0.5, 1.0, -1.0).astype("float32"))
    steps = [host(x) for x in model.descend(y, 0.3)]
    assert len(steps) > 2
    agree(steps[-1], steps[-2])
    apart(steps[-2], steps[-3], by=1.0)
    f = ising.posterior(model.h, y, 0.3)
    energies = [host(ising.energy(f, model.beta, up(x))) for x in [host(y), *steps]]
    # float32 sums of 113 terms below 2
    at_most(np.diff(energies, axis=0), 2e-5)
    lowest = host(ising.ground(f.astype("float64"), model.beta.astype("float64")))
    at_most(lowest, energies[-1] + 2e-5)


def test_the_loss_is_minus_the_pseudo_likelihood(xp):
    """Its gradients in h, one or one for each pixel, and in β are those of the table's conditionals."""
    for local in (True, False):
        model = tiny(2, 3, local).astype("float64")
        x = lattice.spins(2, 3)[[3, 17, 40]]
        found = model.loss(up(x), Generator(0)).loss
        h, beta = host(model.h), float(model.beta.array)

        def want(h, beta, x=x):
            p = boltzmann.table(lattice.logs(np.broadcast_to(h, (2, 3)), beta))
            return -boltzmann.pixel_given_rest(p, 6)[mcmc.place((x.reshape(-1, 6) + 1) / 2)].sum(axis=1)

        agree(found, want(h, beta), atol=1e-12)
        (player,) = model.players()
        assert set(player.parameters) == {"h", "beta"}
        gh, gb = sg.gradients(ops.mean(found), [model.h, model.beta])
        step, along = 1e-6, np.random.default_rng(1).standard_normal(h.shape)
        slope = (want(h + step * along, beta).mean() - want(h - step * along, beta).mean()) / (2 * step)
        agree((host(gh) * along).sum(), slope, atol=1e-8)  # central differences
        agree(gb, (want(h, beta + step).mean() - want(h, beta - step).mean()) / (2 * step), atol=1e-8)


CONFIG = TrainConfig(steps=12, batch_size=20, lr=0.05, log_every=4)


@pytest.mark.parametrize("local", [True, False])
def test_replay_gives_the_same_bits(local):
    x = np.where(np.random.default_rng(1).random((100, 4, 4)) < 0.3, 1, -1).astype(np.float32)
    models = [Ising(IsingConfig(4, 4, local)) for _ in range(2)]
    for model, replay in zip(models, (True, False), strict=True):
        train(model, x, replace(CONFIG, replay=replay), progress=False)
    one, two = (model.state_dict() for model in models)
    assert all(np.array_equal(one[key], two[key]) for key in one)
    # it began at independent pixels, a third of which are on
    assert one["h"].mean() < -0.2


def test_training_finds_the_law_that_the_pictures_have():
    """4,000 pictures of a known model, exactly drawn from its table: h and β come back; 5.5 deviations or so."""
    truth = tiny(3, 3, seed=9)
    logs = lattice.logs(host(truth.h).astype(float), float(truth.beta.array))
    drawn = np.random.default_rng(0).choice(512, 4000, p=boltzmann.table(logs))
    with sg.backend("numpy"):
        model = Ising(IsingConfig(3, 3))
        config = TrainConfig(steps=300, batch_size=400, lr=0.03, final_lr=0.02)
        train(model, lattice.spins(3, 3)[drawn].astype(np.float32), config, progress=False)
    at_most(np.abs(host(model.beta.array) - host(truth.beta.array)), 0.06)
    at_most(np.abs(host(model.h.array) - host(truth.h.array)), 0.15)
    with pytest.raises(ValueError, match="0 × 3 is no grid"):
        IsingConfig(0, 3)


# --- precision and gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept(dtype):
    f, x, u = fields((2, 3), 0).astype(dtype), np.ones((4, 2, 3), dtype), np.full((4, 2, 3), 0.5, dtype)
    for found in (
        library.energy(f, 0.5, x), library.posterior(f, x, 0.1), library.field(f, 0.5, x),
        library.conditional(f, 0.5, x), library.gibbs(f, 0.5, x, u), library.icm(f, 0.5, x),
        library.pseudo_log_likelihood(f, 0.5, x), library.log_Z(f[None], 0.5), library.ground(f[None], 0.5),
        library.marginals(f[None], 0.5),
    ):  # fmt: skip
        assert found.dtype == dtype


def test_gradients():
    f, x = fields((2, 3), 1), lattice.spins(2, 3)[[5, 20]]
    beta = np.array(0.6)
    for function in (lambda f, b: ising.energy(f, b, x), lambda f, b: ising.pseudo_log_likelihood(f, b, x),
                     lambda f, b: ising.log_Z(ops.expand_dims(f, 0), b),
                     lambda f, b: ising.posterior(f, x, 0.1) * b, lambda f, b: ising.conditional(f, b, x)):
        sg.check_grads(function, (f, beta), order=2)
    found = ising.gibbs(Tensor(f), Tensor(beta), x, np.full(x.shape, 0.5))
    assert not isinstance(found, Tensor)
