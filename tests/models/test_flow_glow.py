"""Glow's maps pixel by pixel, as one matrix of all pixels, and against scipy; the system; where it starts."""

import numpy as np
import pytest
from evidence import agree, apart, host, lifted, lowered, up
from flow_tools import flat_map, images, levels_of, randomised
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, methods, seeds
from scipy import stats

import scratchgen as sg
from reference import flows as oracle
from scratchgen import ops
from scratchgen.models.flows import Glow, GlowConfig, glow
from scratchgen.models.flows.dequantise import spread
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

on_backend = lifted(glow)
SMALL = {"shape": (4, 4, 1), "levels": 5, "steps": 2, "hidden": 6}
FIXED = (".P", ".sign")
channels = st.integers(1, 5)


def square(seed, n):
    """Invertible, far from singular, and no two of its numbers alike."""
    noise = np.random.default_rng(seed)
    return noise.normal(size=(n, n)) + 2 * np.diag(noise.choice([-1.0, 1.0], n))[noise.permutation(n)]


def system(seed=0, dtype=np.float64, **settings):
    model = Glow(GlowConfig(**{**SMALL, **settings}), rng=Generator(seed)).astype(dtype)
    return randomised(model, seed, 0.2, FIXED)


def norm(seed, c):
    return randomised(glow.ActNorm(c).astype(np.float64), seed).frozen()


# --- (1) and (2): actnorm ---------------------------------------------------------------------------------------


@pytest.mark.equation("glow.actnorm")
@SOME
@given(seeds, st.integers(1, 2), st.integers(1, 3), st.integers(1, 2))
def test_actnorm_is_a_scale_and_a_shift_of_every_pixel(seed, h, w, c):
    flow, x = norm(seed, c), images(seed, 2, h, w, c)
    z, log_det = methods(flow).forward_and_log_det(x)
    s, b = host(flow.s), host(flow.b)
    agree(z, oracle.each_pixel(np.diag(np.exp(s)), x + b), rtol=1e-13, atol=1e-13)
    agree(log_det, np.full(2, oracle.block_log_abs_det(np.diag(np.exp(s)), h, w)), atol=1e-12)
    agree(log_det, [oracle.log_abs_det(flat_map(flow, (h, w, c)), p.ravel()) for p in x], atol=1e-8)
    agree(methods(flow).inverse(z), x, rtol=1e-12, atol=1e-12)


@pytest.mark.equation("glow.start")
@SOME
@given(seeds, st.integers(1, 4), st.integers(1, 4), channels)
def test_the_first_minibatch_has_mean_0_and_variance_1(seed, h, w, c):
    noise = np.random.default_rng(seed)
    x = noise.normal(noise.uniform(-5, 5, c), np.exp(noise.uniform(-2, 2, c)), (7, h, w, c))
    flow = glow.ActNorm(c).astype(np.float64)
    methods(flow).start(x)
    z, log_det = methods(flow.frozen()).forward_and_log_det(x)
    mean, var = oracle.channel_moments(z)
    agree(mean, np.zeros(c), atol=1e-10)
    agree(var, np.ones(c), rtol=1e-10)
    _, before = oracle.channel_moments(x)
    agree(log_det, np.full(7, -0.5 * h * w * np.log(before).sum()), rtol=1e-9, atol=1e-9)


@pytest.mark.equation("glow.start")
def test_a_channel_of_one_number_is_shifted_only():
    x = images(0, 5, 2, 2, 3)
    x[..., 1] = 0.7
    flow = glow.ActNorm(3).astype(np.float64)
    methods(flow).start(x)
    mean, var = oracle.channel_moments(methods(flow.frozen()).forward_and_log_det(x).z)
    agree(mean, np.zeros(3), atol=1e-12)
    agree(var, [1.0, 0.0, 1.0], atol=1e-12)
    agree(host(flow.s)[1], 0.0)


@pytest.mark.equation("glow.start")
@pytest.mark.parametrize("lu", [True, False])
def test_every_actnorm_of_a_new_system_is_started(lu):
    """Each on what reaches it: after `start`, the first minibatch has mean 0 and variance 1 behind all of them."""
    model = Glow(GlowConfig(**{**SMALL, "lu": lu}), rng=Generator(1)).astype(np.float64)
    batch, rng = up(levels_of(4, (30, 4, 4, 1), 5)), Generator(3)
    model.start(batch, rng)
    logit, scales = model.frozen().flow.flows
    x = logit.forward_and_log_det(spread(batch, Generator(3).random(batch.shape, "float64"), 5)).z
    seen = 0
    for scale in scales.flows:
        for flow in scale.flows:
            x = flow.forward_and_log_det(x).z
            if isinstance(flow, glow.ActNorm):
                mean, var = oracle.channel_moments(host(x))
                agree(mean, np.zeros(len(mean)), atol=1e-9)
                agree(var, np.ones(len(var)), rtol=1e-9)
                seen += 1
        x = x[..., : x.shape[3] // 2]
    assert seen == 4


# --- (3) and (4): the convolution -------------------------------------------------------------------------------


@pytest.mark.equation("glow.conv1x1")
@pytest.mark.parametrize("lu", [True, False])
@SOME
@given(seed=seeds, h=st.integers(1, 3), w=st.integers(1, 3), c=channels)
def test_a_convolution_is_one_matrix_for_each_pixel(lu, seed, h, w, c):
    """H·W blocks W: the determinant of the whole matrix, H·W·C long."""
    W, x = square(seed, c), images(seed, 2, h, w, c)
    flow = glow.Conv1x1(up(W), lu).frozen()
    z, log_det = methods(flow).forward_and_log_det(x)
    agree(z, oracle.each_pixel(W, x), rtol=1e-11, atol=1e-11)
    agree(log_det, np.full(2, oracle.block_log_abs_det(W, h, w)), rtol=1e-10, atol=1e-10)
    agree(methods(flow).inverse(z), x, rtol=1e-9, atol=1e-9)


@pytest.mark.equation("glow.conv1x1")
def test_the_convolutions_jacobian():
    """Numeric, of 12 numbers.  Negative controls: one pixel's determinant alone, and z = Wᵀ·x."""
    W, x = square(5, 3), images(5, 1, 2, 2, 3)
    flow = glow.Conv1x1(up(W), False).frozen()
    found = methods(flow).forward_and_log_det(x)
    agree(found.log_det, [oracle.log_abs_det(flat_map(flow, (2, 2, 3)), x.ravel())], atol=1e-9)
    apart(found.log_det, oracle.block_log_abs_det(W, 1, 1), by=0.1)
    apart(found.z, oracle.each_pixel(W.T, x), by=0.1)


@pytest.mark.equation("glow.lu")
@SOME
@given(seeds, st.integers(1, 6))
def test_factors_are_scipys(seed, n):
    W = square(seed, n)
    P, L, U = oracle.elimination(W)
    found = on_backend.factorise(W)
    agree(found.P, P)
    agree(found.L, L, rtol=1e-10, atol=1e-12)
    agree(found.U, np.triu(U, 1), rtol=1e-10, atol=1e-12)
    agree(found.d, np.diag(U), rtol=1e-10, atol=1e-12)


@pytest.mark.equation("glow.lu", "glow.conv1x1")
@SOME
@given(seeds, st.integers(1, 6))
def test_factors_and_the_plain_matrix_are_one_map(seed, n):
    """Also with what is not to be read, above and below the triangles, filled in."""
    W = square(seed, n)
    plain, lu = glow.Conv1x1(up(W), False), glow.Conv1x1(up(W), True)
    noise = np.random.default_rng(seed)
    lu.L.assign(up(host(lu.L.value) + np.triu(noise.normal(size=(n, n)))))
    lu.U.assign(up(host(lu.U.value) + np.tril(noise.normal(size=(n, n)))))
    x = images(seed, 2, 2, 1, n)
    one, two = (methods(flow.frozen()).forward_and_log_det(x) for flow in (plain, lu))
    agree(two.z, one.z, rtol=1e-11, atol=1e-11)
    agree(two.log_det, one.log_det, rtol=1e-10, atol=1e-10)
    agree(lifted(lu.frozen().matrix)(), W, rtol=1e-11, atol=1e-11)
    _, _, U = oracle.elimination(W)
    agree(lifted(lu.frozen().log_abs_det)(), np.log(np.abs(np.diag(U))).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.equation("glow.conv1x1", "glow.lu")
@FEW
@given(seeds, st.integers(1, 5))
def test_it_starts_as_a_rotation(seed, n):
    W = host(glow.rotation(n, Generator(seed)))
    agree(W @ W.T, np.eye(n), atol=1e-12)
    agree(oracle.block_log_abs_det(W, 2, 2), 0.0, atol=1e-11)
    for lu in (True, False):
        flow = glow.Conv1x1(up(W), lu).frozen()
        agree(methods(flow).forward_and_log_det(images(seed, 1, 2, 2, n)).log_det, [0.0], atol=1e-10)


def test_rotations_are_no_fixed_one():
    """The mean of 400 random rotations of 3 numbers is 0: every entry has mean 0 and variance 1/3; 6 deviations."""
    rng = Generator(0)
    mean = np.mean([host(glow.rotation(3, rng)) for _ in range(400)], axis=0)
    assert np.abs(mean).max() < 6 * np.sqrt(1 / 3 / 400)


# --- the system -------------------------------------------------------------------------------------------------


@pytest.mark.equation("glow.actnorm", "glow.conv1x1", "glow.lu", "flow.likelihood", "flow.multiscale")
@pytest.mark.parametrize("lu", [True, False])
def test_the_density_is_the_numeric_one(lu):
    """scipy's normal of z, and the numeric Jacobian of all 16 pixels; there and back."""
    model = system(3, lu=lu).frozen()
    x = images(3, 2)
    map_ = flat_map(model.flow, (4, 4, 1))
    expected = [stats.norm.logpdf(map_(p.ravel())).sum() + oracle.log_abs_det(map_, p.ravel(), h=1e-3) for p in x]
    agree(methods(model).log_prob(x), expected, atol=1e-6)
    agree(methods(model).decode(methods(model).encode(x)), x, atol=1e-9)


def test_float32_comes_back():
    """A started system of 8×8 images, in float32: within 10⁻⁴ of where it was."""
    model = Glow(GlowConfig(steps=4, hidden=8), rng=Generator(0))
    batch = up(levels_of(1, (40, 8, 8, 1)).astype(np.float32))
    model.start(batch, Generator(0))
    model = randomised(model, 1, 0.02, FIXED).frozen()
    z = model.encode(batch)
    assert z.dtype == np.float32
    assert np.abs(host(model.decode(z)) - host(batch)).max() < 1e-4
    assert model.sample(3, Generator(0), 0.7).shape == (3, 8, 8, 1)


@pytest.mark.parametrize("lu", [True, False])
def test_gradients_reach_all_but_what_stays(lu):
    """In random directions; P and the signs of d belong to no player."""
    model = system(1, lu=lu)
    x = up(levels_of(2, (3, 4, 4, 1), 5))
    (player,) = model.players()
    assert {name for name, _ in model.named_parameters()} - set(player.parameters) == {
        name for name, _ in model.named_parameters() if name.endswith(FIXED)
    }
    assert any(name.endswith(".P") for name, _ in model.named_parameters()) == lu
    found = sg.gradients(ops.mean(model.loss(x, Generator(0)).loss), list(player.parameters.values()))
    noise = np.random.default_rng(0)
    for (name, p), g in zip(player.parameters.items(), found, strict=True):
        v, value = noise.standard_normal(p.shape), host(p.value).copy()
        ends = []
        for h in (1e-5, -1e-5):
            p.assign(up(value + h * v))
            ends.append(float(host(ops.mean(model.loss(x, Generator(0)).loss))))
        p.assign(up(value))
        numeric = (ends[0] - ends[1]) / 2e-5
        assert abs(numeric - np.vdot(host(g), v)) <= 1e-6 * max(1.0, abs(numeric)), name


def test_replay_gives_the_same_bits():
    data = levels_of(1, (40, 4, 4, 1), 5).astype(np.float32)
    weights = []
    for replay in (True, False):
        with sg.backend("numpy"):
            model = Glow(GlowConfig(**SMALL), rng=Generator(0))
            train(model, data, TrainConfig(steps=6, batch_size=8, replay=replay), progress=False)
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        assert np.array_equal(value, weights[1][name]), name
    with sg.backend("numpy"):
        fresh = Glow(GlowConfig(**SMALL), rng=Generator(0)).state_dict()
    assert all(np.array_equal(fresh[name], weights[0][name]) for name in fresh if name.endswith(FIXED))


def test_misfits_are_refused():
    for settings in ({"steps": 0}, {"hidden": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            GlowConfig(**settings)
    for settings in ({"shape": (6, 6, 1)}, {"shape": (8, 8)}, {"scales": 4}):
        with pytest.raises(ValueError, match="cannot be halved"):
            GlowConfig(**settings)
    assert callable(lowered(lambda x: x))
