"""Autoencoders: the loss by sums, the best linear one by eigenvalues, networks by loops, and what they learn."""

from dataclasses import replace

import numpy as np
import pytest
from autoencoder_tools import decoded, encoded
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, optimize
from system_tools import perceptron

import scratchgen as sg
from reference import autoencoder as oracle
from reference.derivatives import directional
from scratchgen import ops, optim
from scratchgen.models.latent import autoencoder as module
from scratchgen.models.latent.autoencoder import Autoencoder, AutoencoderConfig
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

autoencoder = lifted(module)
LOSS = pytest.mark.equation("autoencoder.loss")
TINY = {
    "dense": AutoencoderConfig(shape=(2, 3, 1), latent=2, widths=(5, 4)),
    "linear": AutoencoderConfig(shape=(5,), latent=2, widths=()),
    "upsample": AutoencoderConfig(shape=(8, 4, 1), latent=3, network="upsample", base=2),
    "deconvolution": AutoencoderConfig(shape=(8, 4, 2), latent=3, network="deconvolution", base=2),
}
KINDS = pytest.mark.parametrize("kind", TINY)
seeds = st.integers(0, 2**32 - 1)


def make(kind, dtype="float64", **changes):
    """A small one, with offsets that are not 0."""
    made = Autoencoder(replace(TINY[kind], **changes), rng=Generator(0))
    noise = np.random.default_rng(1)
    for name, p in made.named_parameters():
        if name.endswith(".b"):
            p.assign(up(0.3 * noise.standard_normal(p.shape).astype("f")))
    return made.astype(np.dtype(dtype))


def examples(system, n=3):
    return np.random.default_rng(2).uniform(-1, 1, (n, *system.config.shape))


# --- the loss -------------------------------------------------------------------------------------------------------


@LOSS
@given(seed=seeds, shape=st.sampled_from([(1, 1), (3, 2), (2, 2, 3, 1)]), penalty=st.sampled_from([0.0, 0.5, 1.3]))
def test_the_loss_by_sums(seed, shape, penalty):
    """At most a dozen squares are added: a few roundings of numbers that are all positive."""
    x, rebuilt = np.random.default_rng(seed).standard_normal((2, *shape))
    found = autoencoder.loss(x, rebuilt, penalty)
    expected = np.array(oracle.squared_error(x, rebuilt))
    agree(found.error, expected, rtol=1e-14)
    agree(found.loss, expected + penalty, rtol=1e-14)
    apart(autoencoder.loss(x, rebuilt + 0.1).error, expected, by=1e-4)


def test_gradients_of_the_loss():
    x, rebuilt = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    sg.check_grads(lambda x, rebuilt, R: module.loss(x, rebuilt, R).loss, (x, rebuilt, np.array(0.3)), order=2)


@LOSS
def test_float32_stays_float32():
    x = np.full((2, 3), 0.5, "f")
    found = autoencoder.loss(x, 0 * x)
    assert found.loss.dtype == np.float32
    agree(found.loss, 0.75, rtol=1e-6)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"rebuilt \(2, 4\) should have the shape of x, \(2, 3\)"):
        autoencoder.loss(np.zeros((2, 3)), np.zeros((2, 4)))


@pytest.mark.parametrize("changes, said", [
    ({"network": "deep"}, "network 'deep' is not dense, upsample or deconvolution"),
    ({"network": "upsample", "shape": (4,)}, r"convolutions need pictures \(H, W, C\), not \(4,\)"),
    ({"latent": 0}, "must be positive"), ({"decay": -1.0}, "decay not negative"), ({"widths": (3, 0)}, "positive"),
])  # fmt: skip
def test_what_makes_no_network_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        AutoencoderConfig(**changes)


@LOSS
@KINDS
def test_the_systems_loss_by_loops(kind, xp):
    """Networks of a few hundred products; R is the sum of all weights squared, offsets too."""
    system = make(kind, decay=0.01)
    x = examples(system)
    if kind in ("dense", "linear"):
        c = perceptron(system.encoder.mlp, x)
        rebuilt = perceptron(system.decoder.mlp, c).reshape(x.shape)
    else:
        c = encoded(system.encoder, x)
        rebuilt = decoded(system.decoder, c)
    assert c.shape == (3, system.config.latent)
    weights = sum((p.numpy() ** 2).sum() for p in system.parameters())
    found = system.loss(up(x), None)
    agree(system.encode(up(x)), c, rtol=1e-10, atol=1e-12)
    agree(found.error, oracle.squared_error(x, rebuilt), rtol=1e-10)
    agree(found.loss, host(found.error) + 0.01 * weights, rtol=1e-12)
    agree(system.error(up(x)), found.error, rtol=1e-12)
    free = make(kind)
    agree(free.loss(up(x), None).loss, free.loss(up(x), None).error)


@LOSS
@KINDS
def test_the_gradient_reaches_every_weight(kind):
    system = make(kind, decay=0.01)
    x, named = examples(system), dict(system.named_parameters())
    flat = optim.Flat(named)
    loss = lambda: ops.mean(system.loss(up(x), None).loss)  # noqa: E731
    gradients = sg.gradients(loss(), list(named.values()))
    assert min(np.abs(host(g)).max() for g in gradients) > 0
    g, v = host(flat.gather(gradients)), np.random.default_rng(0).normal(size=flat.size)
    start = host(flat.buffer).copy()

    def along(theta):
        flat.write(up(theta))
        return float(loss())

    agree(g @ v, directional(along, start, v / np.linalg.norm(v)) * np.linalg.norm(v), rtol=1e-6, atol=1e-7)


# --- the linear one is PCA ------------------------------------------------------------------------------------------


def descended(system, x):
    """The least mean loss that a descent finds, all examples at once."""
    named = dict(system.named_parameters())
    flat = optim.Flat(named)

    def value_and_slope(theta):
        flat.write(up(theta))
        mean = ops.mean(system.loss(up(x), None).loss)
        return float(mean), host(flat.gather(sg.gradients(mean, list(named.values()))))

    found = optimize.minimize(value_and_slope, host(flat.buffer).copy(), jac=True, method="L-BFGS-B",
                              options={"maxiter": 3000, "maxfun": 3000, "ftol": 0, "gtol": 1e-9})  # fmt: skip
    flat.write(up(found.x))
    return found.fun


@LOSS
@settings(max_examples=5)
@given(seed=st.integers(0, 99), d=st.integers(1, 3))
def test_a_linear_autoencoder_spans_the_directions_of_pca(seed, d):
    """Deviations 5, 4, 3, 2, 1 about a mean that is not 0: the eigenvalues lie apart, so the plane is unique.

    A gradient of 1e-9 is an excess of its square; the angles are first order in it, over gaps of at least 3.
    """
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    drawn = rng.standard_normal((40, 5))
    white = np.linalg.qr(drawn - drawn.mean(axis=0))[0] * np.sqrt(40)  # of covariance I, exactly
    x = (white * [5, 4, 3, 2, 1]) @ turn.T + rng.standard_normal(5)
    system = make("linear", latent=d)
    least = descended(system, x)
    expected, projection = oracle.best_affine(x, d)
    agree(expected, sum(k**2 for k in range(1, 6 - d)), rtol=1e-12)
    agree(least, expected, rtol=1e-8)
    columns = linalg.orth(system.decoder.mlp.layers[0].w.numpy().T)
    agree(columns @ columns.T, projection, atol=1e-5)
    agree(system.decode(system.encode(up(x))), x.mean(axis=0) + (x - x.mean(axis=0)) @ projection, atol=1e-4)


@LOSS
def test_a_bent_one_does_better_than_any_plane():
    """Three quarters of a circle by one number: of the least that a line loses a twentieth is left."""
    angle = np.linspace(0, 1.5 * np.pi, 200)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    system = Autoencoder(AutoencoderConfig(shape=(2,), latent=1, widths=(16, 16)), rng=Generator(0))
    train(system, x, TrainConfig(steps=400, batch_size=100, lr=1e-2, final_lr=0.02), progress=False)
    at_most(host(system.error(up(x))).mean(), oracle.best_affine(x, 1)[0] / 20)


# --- convolutions ---------------------------------------------------------------------------------------------------


@given(seed=seeds, size=st.tuples(st.integers(1, 3), st.integers(1, 3)), channels=st.integers(1, 2))
def test_a_deconvolution_is_the_adjoint_of_a_convolution(seed, size, channels):
    """⟨A·x, y⟩ = ⟨x, Aᵀ·y⟩, and a picture is halved by A and doubled by Aᵀ."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 2 * size[0], 2 * size[1], channels))
    y, w = rng.standard_normal((2, *size, 3)), rng.standard_normal((4, 4, channels, 3))
    down, back = lifted(ops.conv2d)(x, w, 2, 1), lifted(ops.conv2d_transpose)(y, w, 2, 1)
    assert down.shape == y.shape
    assert back.shape == x.shape
    agree((down * y).sum(), (x * back).sum(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("network", ["upsample", "deconvolution"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (4, 4, 2), (7, 7, 1), (28, 28, 1), (12, 8, 3), (1, 1, 1)])
def test_pictures_come_back_in_their_shape(network, shape):
    system = Autoencoder(AutoencoderConfig(shape=shape, latent=2, network=network, base=2), rng=Generator(0))
    x = up(np.zeros((2, *shape), "f"))
    assert host(system.encode(x)).shape == (2, 2)
    assert host(system.decode(system.encode(x))).shape == (2, *shape)


# --- training, samples ----------------------------------------------------------------------------------------------

SHORT = TrainConfig(steps=4, batch_size=4, lr=1e-2, ema_decay=0.9, log_every=2)


@KINDS
@pytest.mark.parametrize("shards", [1, 2])
def test_replay_changes_no_bit(kind, shards, capsys):
    ends = []
    for replay in (True, False):
        system = make(kind, "float32", decay=1e-3)
        result = train(system, examples(system, 12).astype("f"), replace(SHORT, shards=shards, replay=replay))
        ends.append((system.state_dict(), result))
    assert "without replay" not in capsys.readouterr().err
    assert all(np.array_equal(ends[0][0][name], value) for name, value in ends[1][0].items())
    assert ends[0][1].losses == ends[1][1].losses


def test_samples_are_decoded_gaussian_codes(xp):
    """Of any mean and covariance: through a decoder that changes nothing they have both."""
    system = make("dense", "float32")
    a, b, c = (host(system.sample(3, Generator(s))) for s in (1, 1, 2))
    assert a.shape == (3, 2, 3, 1)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    z = host(Generator(1).standard_normal((3, 2)))
    agree(a, perceptron(system.decoder.mlp, z).reshape(a.shape), rtol=1e-4, atol=1e-6)
    plain = Autoencoder(AutoencoderConfig(shape=(2,), latent=2, widths=()), rng=Generator(0)).astype(np.float64)
    plain.decoder.mlp.layers[0].w.assign(up(np.eye(2)))
    mean, cov = np.array([1.0, -2]), np.array([[1, 0.6], [0.6, 2]])
    x = host(plain.sample(20_000, Generator(1), up(mean), up(cov)))
    agree(x.mean(axis=0), mean, atol=0.06)  # five errors of a mean of 20,000 numbers of variance 2
    agree(np.cov(x.T), cov, atol=0.15)  # and of their covariances
