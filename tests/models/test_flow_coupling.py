"""NICE and RealNVP against numeric Jacobians, integrals over the plane, exact Gaussians, and NumPy's masks."""

import itertools
import math

import numpy as np
import pytest
from evidence import agree, at_most, down, host, up
from flow_tools import flat_map, levels_of, randomised
from hypothesis import given
from hypothesis import strategies as st
from sandbox_tools import FEW, SOME, floats, methods, points, seeds
from scipy import stats

import scratchgen as sg
from reference import dequantise as bins
from reference import flows as oracle
from reference.divergence import plane
from scratchgen import ops
from scratchgen.models.flows import CouplingConfig, CouplingFlow, change, coupling, density
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

SMALL = {"shape": (4, 4, 1), "levels": 5, "couplings": 1, "hidden": 8, "blocks": 1}


def system(seed=0, dtype=np.float64, scale=0.3, **settings):
    config = CouplingConfig(**{"couplings": 4, "hidden": 16, **settings})
    return randomised(CouplingFlow(config, rng=Generator(seed)).astype(dtype), seed, scale)


def pictures(seed=0, **settings):
    return system(seed, **{**SMALL, **settings})


# --- the maps ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("nice.coupling", "realnvp.coupling")
@SOME
@given(seeds, st.integers(2, 5), st.booleans())
def test_couplings_are_dinhs_with_masks(seed, D, affine):
    """Eq. (9) of RealNVP, b⊙x + (1 − b)⊙(x⊙e^s + t), with s and t asked of the coupling; numeric Jacobian."""
    noise = np.random.default_rng(seed)
    k = int(noise.integers(1, D))
    net = sg.nn.MLP(k, 8, (D - k) * (2 if affine else 1), rng=Generator(seed))
    flow = randomised(coupling.Coupling(net, k, D - k, affine).astype(np.float64), seed).frozen()
    x, b = points(seed, 1, D, 1.5), np.arange(D) < k
    out = down(flow.net(up(x[:, :k])))
    s, t = np.zeros((1, D)), np.zeros((1, D))
    t[:, k:] = out[:, -(D - k) :]
    if affine:
        s[:, k:] = down(flow.c) * np.tanh(out[:, : D - k])
    z, log_det = methods(flow).forward_and_log_det(x)
    agree(z, b * x + (1 - b) * (x * np.exp(s) + t), rtol=1e-13, atol=1e-13)
    agree(log_det, [oracle.log_abs_det(flat_map(flow, (D,)), x[0])], atol=1e-8)
    agree(methods(flow).inverse(z), x, rtol=1e-12, atol=1e-12)
    if not affine:
        agree(log_det, [0.0])


@pytest.mark.equation("nice.scaling")
@SOME
@given(seeds, st.integers(1, 5))
def test_scaling_is_one_factor_a_dimension(seed, D):
    flow = randomised(coupling.Scaling(D).astype(np.float64), seed).frozen()
    x = points(seed, 3, D)
    z, log_det = methods(flow).forward_and_log_det(x)
    agree(z, x * np.exp(down(flow.s)), rtol=1e-13)
    agree(log_det, np.full(3, oracle.log_abs_det(flat_map(flow, (D,)), x[0])), atol=1e-9)
    agree(methods(flow).inverse(z), x, rtol=1e-13, atol=1e-13)


@pytest.mark.equation("realnvp.coupling")
def test_no_scale_leaves_its_limits():
    """However large the network's answer, e^−c ≤ e^s ≤ e^c."""
    flow = coupling.Coupling(lambda a: ops.concatenate([1e3 * a, a], axis=-1), 1, 1).astype(np.float64)
    flow.c.assign(up(np.array([0.7])))
    s = host(flow.conditioner(up(points(0, 50, 1))).s)
    at_most(np.abs(s), 0.7)
    assert np.abs(s).max() > 0.69


@pytest.mark.equation("nice.coupling", "realnvp.coupling", "nice.scaling")
@pytest.mark.parametrize("affine", [True, False])
def test_a_new_flow_is_the_identity(affine):
    """Of points; of images, a permutation of logits."""
    model = CouplingFlow(CouplingConfig(shape=(4,), affine=affine), rng=Generator(0)).astype(np.float64).frozen()
    x = points(0, 3, 4)
    z, log_det = methods(model.flow).forward_and_log_det(x)
    agree(np.sort(z, axis=1), np.sort(x, axis=1))
    agree(log_det, np.zeros(3))


# --- the density ------------------------------------------------------------------------------------------------


@pytest.mark.equation("flow.likelihood", "realnvp.coupling", "nice.coupling", "nice.scaling")
@pytest.mark.parametrize("affine", [True, False])
def test_the_plane_has_mass_one(affine):
    """∫∫ p over [−12, 12]², by an even sum, which for what is smooth errs by less than 10⁻⁸; beyond, there is less than
    e⁻³⁰ of a flow whose scales are between e⁻¹ and e."""
    model = system(0, scale=0.1, affine=affine).frozen()
    nodes = plane((-12, -12), (12, 12), (300, 300))
    p = np.concatenate([np.exp(methods(model).log_prob(part)) for part in np.array_split(nodes.points, 9)])
    agree(nodes.weights @ p, 1.0, atol=1e-8)


@pytest.mark.equation("flow.likelihood")
@pytest.mark.parametrize("settings", [{"shape": (3,)}, {"shape": (3,), "affine": False}, {"shape": (2,)}])
def test_the_loss_is_minus_the_numeric_density(settings):
    """scipy's normal of z and the numeric Jacobian, of each point."""
    model = system(2, **settings)
    x = points(2, 3, settings["shape"][0], 1.5)
    map_ = flat_map(model.frozen().flow, settings["shape"])
    expected = [stats.norm.logpdf(map_(p)).sum() + oracle.log_abs_det(map_, p) for p in x]
    agree(methods(model.frozen()).log_prob(x), expected, atol=1e-7)
    agree(host(model.loss(up(x), Generator(0)).loss), -np.array(expected), atol=1e-7)


@pytest.mark.equation("flow.likelihood")
@FEW
@given(seeds, st.integers(2, 4))
def test_with_constant_networks_the_density_is_a_gaussian(seed, D):
    """Every network's last bias, and nothing else: an affine map, whose density scipy knows."""
    noise = np.random.default_rng(seed)
    model = CouplingFlow(CouplingConfig(shape=(D,), hidden=4), rng=Generator(seed)).astype(np.float64)
    for name, p in model.named_parameters():
        if name.endswith("layers.2.b"):
            p.assign(up(noise.uniform(-1, 1, p.shape)))
    model = model.frozen()
    x = points(seed, 4, D)
    agree(methods(model).log_prob(x), oracle.image_density(flat_map(model.flow, (D,)), D)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.equation("flow.bits", "flow.likelihood")
def test_bits_of_images():
    """One draw, with the noise replayed: the numeric density of x_u, and the volume of the bins of D pixels."""
    model = pictures(3)
    x = levels_of(3, (2, 4, 4, 1), 5)
    u = host(Generator(7).random((1, *x.shape), "float64"))[0]
    ends = np.array([bins.bin_of(value, 5) for value in x.ravel()]).reshape(*x.shape, 2)
    inside = ends[..., 0] + u * (ends[..., 1] - ends[..., 0])
    map_ = flat_map(model.frozen().flow, (4, 4, 1))
    nats = [stats.norm.logpdf(map_(p.ravel())).sum() + oracle.log_abs_det(map_, p.ravel(), h=1e-3)
            + np.log(bins.volume(q.ravel(), 5)) for p, q in zip(inside, x, strict=True)]  # fmt: skip
    agree(host(model.loss(up(x), Generator(7)).loss), -np.array(nats) / np.log(2) / 16, atol=1e-7)
    agree(methods(model.frozen()).code(x, u[None]).bound, nats, atol=1e-5)


@pytest.mark.equation("flow.bits")
def test_probabilities_of_all_images_do_not_exceed_one():
    """Two levels, 2×2 pixels: Σ over all 16 images of P, each by many draws, is at most 1, and most of it.

    n = 200 draws each; the sum's standard error is measured, and 6 of them allowed (10⁻⁹)."""
    model = pictures(1, shape=(2, 2, 1), scales=1, levels=2, couplings=2).frozen()
    x = np.array(list(itertools.product([-1.0, 1.0], repeat=4))).reshape(16, 2, 2, 1)
    u = np.random.default_rng(1).random((200, *x.shape))
    masses = []
    for draws in np.array_split(u, 20):
        masses.append(np.exp(methods(model).code(x, draws).importance).sum())
    error = np.std(masses, ddof=1) / math.sqrt(len(masses))
    at_most(np.mean(masses), 1 + 6 * error)
    assert np.mean(masses) > 0.3


# --- samples ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("flow.sample")
@FEW
@given(seeds, floats(0.2, 1.5))
def test_temperature_is_that_of_the_density_where_volume_is_constant(seed, temperature):
    """An affine flow: samples at τ are Gaussian with the moments of p^(1/τ²)/Z, which scipy's density agrees with."""
    noise = np.random.default_rng(seed)
    model = CouplingFlow(CouplingConfig(hidden=4), rng=Generator(seed)).astype(np.float64)
    for name, p in model.named_parameters():
        if name.endswith("layers.2.b"):
            p.assign(up(noise.uniform(-1, 1, p.shape)))
    model = model.frozen()
    mean, cov = oracle.image_moments(lambda z: methods(model).decode(z[None])[0], 2, temperature)
    x = points(seed, 5, 2)
    p = methods(model).log_prob(x)
    target = stats.multivariate_normal(mean, cov).logpdf(x)
    agree((target - target[0]) * temperature**2, p - p[0], rtol=1e-9, atol=1e-9)
    z = host(Generator(seed).standard_normal((6, 2), "float64"))
    found = methods(model).sample(6, Generator(seed), temperature)
    agree(found, mean + temperature * (z @ np.linalg.solve(np.eye(2), matrix(model)).T), rtol=1e-10, atol=1e-10)


def matrix(model):
    """Of an affine decoder, column by column."""
    zero = methods(model).decode(np.zeros((1, 2)))
    return (methods(model).decode(np.eye(2)) - zero).T


@pytest.mark.equation("flow.sample")
@pytest.mark.parametrize("make", [system, pictures])
def test_samples_are_decoded_noise(make):
    model = make(4).frozen()
    z = host(Generator(3).standard_normal((4, *model.noise), "float64"))
    agree(methods(model).sample(4, Generator(3)), methods(model).decode(z))
    agree(methods(model).sample(4, Generator(3), 0.5), methods(model).decode(0.5 * z))
    agree(methods(model).encode(methods(model).decode(0.1 * z)), 0.1 * z, atol=1e-9)
    assert methods(model).sample(4, Generator(3)).shape == (4, *model.shape)


# --- training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"affine": False}, SMALL, {**SMALL, "affine": False}])
def test_gradients_reach_every_parameter(settings):
    """A flow whose last layers are not 0, in random directions."""
    model = system(1, **settings)
    x = up(levels_of(2, (3, 4, 4, 1), 5) if model.levels else points(2, 3, 2))
    named = dict(model.named_parameters())
    loss = ops.mean(model.loss(x, Generator(0)).loss)
    found = sg.gradients(loss, list(named.values()))
    noise = np.random.default_rng(0)
    for (name, p), g in zip(named.items(), found, strict=True):
        assert np.abs(host(g)).max() > 0, name
        v, value = noise.standard_normal(p.shape), host(p.value).copy()
        ends = []
        for h in (1e-5, -1e-5):
            p.assign(up(value + h * v))
            ends.append(float(host(ops.mean(model.loss(x, Generator(0)).loss))))
        p.assign(up(value))
        numeric = (ends[0] - ends[1]) / 2e-5
        assert abs(numeric - np.vdot(host(g), v)) <= 1e-6 * max(1.0, abs(numeric)), name


@pytest.mark.parametrize("settings", [{"couplings": 2}, {**SMALL, "levels": 17}])
def test_replay_gives_the_same_bits(settings):
    """And no step of it is refused."""
    data = (levels_of(1, (40, 4, 4, 1)) if "levels" in settings else points(1, 40, 2)).astype(np.float32)
    weights = []
    for replay in (True, False):
        with sg.backend("numpy"):
            model = CouplingFlow(CouplingConfig(**settings), rng=Generator(0))
            train(model, data, TrainConfig(steps=6, batch_size=8, replay=replay), progress=False)
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        assert np.array_equal(value, weights[1][name]), name


def test_training_finds_a_gaussian():
    """300 steps on N(μ, Σ): held-out log-likelihood within 0.05 nats of the entropy, which a NICE flow can reach."""
    cov = np.array([[1.0, 0.8], [0.8, 1.5]])
    draws = np.random.default_rng(0).multivariate_normal([1.0, -1.0], cov, 4000).astype(np.float32)
    entropy = stats.multivariate_normal([1.0, -1.0], cov).entropy()
    for affine in (True, False):
        model = CouplingFlow(CouplingConfig(couplings=4, hidden=16, affine=affine), rng=Generator(0))
        train(model, draws[:2000], TrainConfig(steps=300, batch_size=128, lr=1e-2, final_lr=0.05), progress=False)
        nats = -methods(model.frozen()).log_prob(draws[2000:]).mean()
        assert entropy - 0.05 < nats < entropy + 0.05


def test_misfits_are_refused():
    for settings in ({"couplings": 0}, {"hidden": 0}, {"blocks": 0}, {"scales": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            CouplingConfig(**settings)
    for settings in ({"shape": (2, 2)}, {"shape": (2,), "levels": 17}, {"shape": (4, 4, 1)}):
        with pytest.raises(ValueError, match="no points"):
            CouplingConfig(**settings)
    with pytest.raises(ValueError, match="no halves"):
        CouplingConfig(shape=(1,))
    with pytest.raises(ValueError, match="cannot be halved"):
        CouplingFlow(CouplingConfig(shape=(6, 6, 1), levels=17), rng=Generator(0))
    with pytest.raises(ValueError, match="continuous"):
        system().code(up(points(0, 2, 2)), up(np.zeros((1, 2, 2))))
    assert density.Loss._fields == ("loss",)
    assert isinstance(coupling.shuffle(2, Generator(0)), change.Permutation)
    assert list(coupling.shuffle(2, Generator(0)).order) == [1, 0]
    assert list(coupling.shuffle(5, Generator(0)).order) != [0, 1, 2, 3, 4]
