"""The denoising autoencoder: its loss by sums and in closed form, its minimiser, the score it learns, its walk."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, lowered, up
from hypothesis import given
from hypothesis import strategies as st
from system_tools import perceptron

import scratchgen as sg
from reference import autoencoder as oracle
from reference import denoisers
from reference.quadrature import gaussian_nodes
from scratchgen import ops
from scratchgen.models.latent import denoising as module
from scratchgen.models.latent.denoising import Denoising, DenoisingConfig
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

denoising = lifted(module)
LOSS = pytest.mark.equation("autoencoder.denoising")
TINY = DenoisingConfig(shape=(2,), latent=5, widths=(6,), sigma=0.4)
seeds = st.integers(0, 2**32 - 1)
sigmas = st.sampled_from([0.1, 0.5, 1.7])


def make(dtype="float64", **changes):
    made = Denoising(replace(TINY, **changes), rng=Generator(0))
    noise = np.random.default_rng(1)
    for name, p in made.named_parameters():
        if name.endswith(".b"):
            p.assign(up(0.3 * noise.standard_normal(p.shape).astype("f")))
    return made.astype(np.dtype(dtype))


@LOSS
@given(seed=seeds, sigma=sigmas, shape=st.sampled_from([(1,), (3,), (2, 2)]))
def test_the_loss_by_sums(seed, sigma, shape):
    x, eps = np.random.default_rng(seed).standard_normal((2, 3, *shape))
    found = denoising.denoising(lowered(np.sin), x, eps, sigma, 0.25)
    expected = np.array(oracle.squared_error(x, np.sin(x + sigma * eps)))
    agree(found.error, expected, rtol=1e-13, atol=1e-15)
    agree(found.loss, expected + 0.25, rtol=1e-13)


@LOSS
@given(seed=seeds, sigma=sigmas, d=st.integers(1, 3))
def test_the_mean_loss_of_an_affine_map_of_gaussian_data(seed, sigma, d):
    """Gauss–Hermite over data and noise is exact for what is quadratic in both."""
    rng = np.random.default_rng(seed)
    A, b, mean, root = rng.standard_normal((d, d)), *rng.standard_normal((2, d)), rng.standard_normal((d, d))
    z, weights = gaussian_nodes(np.zeros(2 * d), np.eye(2 * d), 3)
    x, eps = mean + z[:, :d] @ root.T, z[:, d:]
    found = denoising.denoising(lowered(lambda xt: xt @ A.T + b), x, np.ascontiguousarray(eps), sigma).loss
    agree(weights @ found, oracle.affine_denoising(A, b, mean, root @ root.T, sigma), rtol=1e-11)


@LOSS
def test_no_map_loses_less_than_the_conditional_mean():
    """For a mixture in one dimension: E L(r) − E L(r*) = E(r − r*)², with r* by conditioning.

    In each component x and the noise are Gaussian: 14 nodes for each converge to 1e-5, σ being wide.
    """
    sigma, data = 0.8, denoisers.Mixture(np.array([0.3, 0.7]), np.array([[-1.0], [0.6]]), np.array([[[0.5]], [[0.3]]]))
    other = lambda xt: 0.7 * xt + 0.1 * np.sin(xt)  # noqa: E731
    z, w = gaussian_nodes(np.zeros(2), np.eye(2), 14)
    excess = distance = 0.0
    for weight, mean, cov in zip(*data, strict=True):
        x, eps = mean + np.sqrt(cov[0]) * z[:, :1], z[:, 1:].copy()
        xt = x + sigma * eps
        best = np.stack([denoisers.denoiser(row, data, 1.0, sigma) for row in xt])
        losses = [denoising.denoising(lowered(r), x, eps, sigma).loss for r in (other, lambda _, best=best: best)]
        excess += weight * w @ (losses[0] - losses[1])
        distance += weight * w @ np.square(other(xt) - best)[:, 0]
    agree(excess, distance, rtol=1e-3)
    apart(excess, 0, by=1e-3)


def test_gradients():
    x, eps = np.random.default_rng(0).standard_normal((2, 3, 2))
    w = np.random.default_rng(1).standard_normal((2, 2))
    loss = lambda w, x, eps: module.denoising(lambda xt: ops.tanh(xt @ w), x, eps, 0.3).loss  # noqa: E731
    sg.check_grads(loss, (w, x, eps), order=2)


@LOSS
def test_float32_stays_float32_and_misfits_are_refused():
    x = np.ones((2, 3), "f")
    assert denoising.denoising(lowered(np.sin), x, x, 0.5).loss.dtype == np.float32
    with pytest.raises(ValueError, match=r"denoising: eps \(2, 1\) should have the shape of x"):
        denoising.denoising(lowered(np.sin), x, x[:, :1], 0.5)
    with pytest.raises(ValueError, match="sigma must be positive, not 0"):
        DenoisingConfig(sigma=0.0)


# --- the system -----------------------------------------------------------------------------------------------------


@LOSS
def test_the_systems_loss_with_its_noise_replayed(xp):
    system, x = make(decay=0.01), np.random.default_rng(3).standard_normal((4, 2))
    rng = Generator(3)
    state = rng.state()
    found = system.loss(up(x), rng)
    again = Generator.from_state(state)
    xt = x + 0.4 * host(again.standard_normal((4, 2), np.float64))
    assert rng.state() == again.state()  # nothing else was drawn
    rebuilt = perceptron(system.decoder.mlp, perceptron(system.encoder.mlp, xt))
    agree(found.error, oracle.squared_error(x, rebuilt), rtol=1e-11)
    agree(found.loss, host(found.error) + 0.01 * sum((p.numpy() ** 2).sum() for p in system.parameters()), rtol=1e-11)
    agree(system.score(up(xt)), (rebuilt - xt) / 0.16, rtol=1e-10)
    gradients = sg.gradients(ops.mean(found.loss), system.parameters())
    assert min(np.abs(host(g)).max() for g in gradients) > 0


def test_a_walk_is_langevins(xp):
    system = make()
    state, x = Generator(5).state(), np.random.default_rng(4).standard_normal((3, 2))
    found = [host(one) for one in system.walk(up(x), Generator.from_state(state), 2, 0.5)]
    rng = Generator.from_state(state)
    for one in found:
        score = (perceptron(system.decoder.mlp, perceptron(system.encoder.mlp, x)) - x) / 0.16
        x = x + 0.08 * score + 0.4 * host(rng.standard_normal((3, 2), np.float64))
        agree(one, x, rtol=1e-10)
    a, b = (host(make("float32").sample(3, Generator(1), steps=2)) for _ in range(2))
    assert a.shape == (3, 2)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)


@pytest.mark.parametrize("shards", [1, 2])
def test_replay_changes_no_bit(shards, capsys):
    x, ends = np.random.default_rng(8).standard_normal((12, 2)).astype("f"), []
    for replay in (True, False):
        system = make("float32")
        config = TrainConfig(steps=4, batch_size=4, lr=1e-2, ema_decay=0.9, log_every=2, shards=shards, replay=replay)
        ends.append((train(system, x, config), system.state_dict()))
    assert "without replay" not in capsys.readouterr().err
    assert ends[0][0].losses == ends[1][0].losses
    assert all(np.array_equal(ends[0][1][name], value) for name, value in ends[1][1].items())


@LOSS
def test_the_score_of_a_noised_mixture_is_learnt():
    """Two Gaussians on a line: of E‖score‖² a twentieth is missed; a quarter by the best straight line."""
    rng = np.random.default_rng(0)
    data = denoisers.Mixture(np.array([0.5, 0.5]), np.array([[-1.2], [1.2]]), np.full((2, 1, 1), 0.09))
    x = (rng.choice([-1.2, 1.2], (4000, 1)) + 0.3 * rng.standard_normal((4000, 1))).astype(np.float32)
    system = Denoising(DenoisingConfig(shape=(1,), latent=8, widths=(32,), sigma=0.5), rng=Generator(0))
    result = train(system, x, TrainConfig(steps=500, batch_size=250, lr=1e-2, final_lr=0.02, ema_decay=0.97),
                   progress=False)  # fmt: skip
    grid = np.linspace(-2.5, 2.5, 101)[:, None]
    p = np.exp(denoisers.log_prob(denoisers.noisy(data, 1.0, 0.5), grid))
    exact = np.stack([denoisers.score(row, data, 1.0, 0.5) for row in grid])[:, 0]
    found = host(system.frozen(result.average).score(up(grid.astype("f"))))[:, 0]
    line = -grid[:, 0] / (1.44 + 0.09 + 0.25)
    missed = lambda s: p @ (s - exact) ** 2 / (p @ exact**2)  # noqa: E731
    at_most(missed(found), 0.05)
    apart(missed(line), 0.05, by=0.2)
