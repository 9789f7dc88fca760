"""The contractive autoencoder: its Jacobian and penalty by differences and by a closed form, and what it learns."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, lifted, up
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import scratchgen as sg
from reference import autoencoder as oracle
from reference.derivatives import directional, gradient
from scratchgen import ops, optim
from scratchgen.models.latent import contractive as module
from scratchgen.models.latent.contractive import Contractive, ContractiveConfig
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

contractive = lifted(module)
TINY = ContractiveConfig(shape=(2, 2, 1), code=3, contraction=0.7)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 3)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def make(dtype="float64", **changes):
    made = Contractive(replace(TINY, **changes), rng=Generator(0))
    made.b.assign(up(0.5 * normal(1, made.config.code).astype("f")))
    made.a.assign(up(0.5 * normal(2, int(np.prod(made.config.shape))).astype("f")))
    return made.astype(np.dtype(dtype))


def bent(w):
    """A code of two layers, as the library and as NumPy compute it: (B, h, w) ↦ (B, d)."""
    return (lambda x: ops.tanh(ops.sin(ops.reshape(x, (x.shape[0], -1)) @ up(w[0])) @ up(w[1])),
            lambda x: np.tanh(np.sin(x.reshape(-1) @ w[0]) @ w[1]))  # fmt: skip


# --- the Jacobian and its norm --------------------------------------------------------------------------------------


@pytest.mark.equation("autoencoder.jacobian")
@given(seed=seeds, B=sizes, d=sizes, shape=st.sampled_from([(1,), (3,), (2, 2)]))
def test_the_jacobian_of_each_code_by_differences(seed, B, d, shape):
    """Extrapolated differences of an analytic function are good to 1e-10."""
    w = normal(seed, int(np.prod(shape)), 4), normal(seed + 1, 4, d)
    encode, plain = bent(w)
    x = normal(seed + 2, B, *shape)
    found = lifted(lambda x: module.code_jacobian(encode, x))(x)
    agree(found, np.stack([oracle.code_jacobian(plain, row) for row in x]), rtol=1e-8, atol=1e-9)


@pytest.mark.equation("autoencoder.contraction")
@given(seed=seeds, B=sizes, d=sizes, n=st.integers(1, 4))
def test_the_penalty_is_how_much_the_code_changes_in_all_directions(seed, B, d, n):
    """Along any orthonormal basis, here one that is not the axes'."""
    w = normal(seed, n, 4), normal(seed + 1, 4, d)
    encode, plain = bent(w)
    x = normal(seed + 2, B, n)
    found = lifted(lambda x: module.contraction(module.code_jacobian(encode, x)))(x)
    agree(found, [oracle.expected_stretch(plain, row) for row in x], rtol=1e-8, atol=1e-9)
    at_most(-found, 0)


@pytest.mark.equation("autoencoder.contraction", "autoencoder.jacobian")
@given(seed=seeds, scale=st.sampled_from([0.3, 1.0, 5.0]))
def test_the_penalty_of_a_sigmoid_layer_in_closed_form(seed, scale):
    system = make()
    system.w.assign(up(scale * normal(seed, 4, 3)))
    x = normal(seed + 1, 3, 2, 2, 1)
    found = module.contraction(system.jacobian(up(x)))
    w, b = system.w.numpy(), system.b.numpy()
    agree(found, [oracle.sigmoid_contraction(w, b, row.reshape(-1)) for row in x], rtol=1e-12, atol=1e-300)


@pytest.mark.equation("autoencoder.walk")
@given(seed=seeds, d=sizes, n=st.integers(1, 4))
def test_a_step_of_the_walk_goes_up_the_code_that_the_noise_asks_for(seed, d, n):
    """JJᵀε is how c changes when x moves along ∇⟨c(x), ε⟩; numerically, twice, right to 1e-7."""
    w = normal(seed, n, 4), normal(seed + 1, 4, d)
    encode, plain = bent(w)
    x, eps = normal(seed + 2, 1, n), normal(seed + 3, 1, d)
    c = np.stack([plain(row) for row in x])
    J = lifted(lambda x: module.code_jacobian(encode, x))(x)
    uphill = gradient(lambda x: plain(x) @ eps[0], x[0])
    agree(contractive.step(c, J, eps), c + directional(plain, x[0], uphill), rtol=1e-6, atol=1e-7)


@pytest.mark.equation("autoencoder.walk")
def test_steps_of_several_examples_are_steps_of_each():
    c, J, eps = normal(0, 3, 2), normal(1, 3, 2, 4), normal(2, 3, 2)
    found = contractive.step(c, J, eps)
    for b in range(3):
        agree(found[b : b + 1], contractive.step(c[b : b + 1], J[b : b + 1], eps[b : b + 1]), rtol=1e-13)
    cov = np.cov((contractive.step(np.zeros((40_000, 2)), np.tile(J[0], (40_000, 1, 1)), normal(3, 40_000, 2))).T)
    JJ = J[0] @ J[0].T
    agree(cov / np.abs(JJ @ JJ).max(), JJ @ JJ / np.abs(JJ @ JJ).max(), atol=0.06)  # eight errors, √(2/40,000) each


def test_gradients_of_first_and_second_order():
    w = normal(0, 3, 2)
    penalty = lambda w, x: module.contraction(module.code_jacobian(lambda x: ops.tanh(x @ w), x))  # noqa: E731
    sg.check_grads(penalty, (w, normal(1, 2, 3)), order=2)
    sg.check_grads(module.step, (normal(2, 2, 2), normal(3, 2, 2, 3), normal(4, 2, 2)), order=2)


@pytest.mark.equation("autoencoder.jacobian", "autoencoder.contraction", "autoencoder.walk")
def test_float32_stays_float32(xp):
    system = make("float32")
    x = up(normal(0, 2, 2, 2, 1).astype("f"))
    J = system.jacobian(x)
    c = system.encode(x)
    assert J.dtype == module.contraction(J).dtype == module.step(c, J, c).dtype == np.float32
    assert J.shape == (2, 3, 4)


# --- the system -----------------------------------------------------------------------------------------------------


def sigmoid(x):
    return stats.logistic.cdf(x)


@pytest.mark.equation("autoencoder.loss", "autoencoder.contraction")
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_loss_by_sums_and_in_closed_form(weight, xp):
    system, x = make(contraction=weight), normal(5, 3, 2, 2, 1)
    w, b, a = (p.numpy() for p in (system.w, system.b, system.a))
    c = sigmoid(x.reshape(3, 4) @ w + b)
    found = system.loss(up(x), None)
    omega = np.array([oracle.sigmoid_contraction(w, b, row.reshape(-1)) for row in x])
    agree(found.error, oracle.squared_error(x.reshape(3, 4), c @ w.T + a), rtol=1e-11)
    agree(found.contraction, omega if weight else 0, rtol=1e-11)
    agree(found.loss, host(found.error) + weight * omega, rtol=1e-12)
    agree(system.error(up(x)), found.error, rtol=1e-12)


@pytest.mark.equation("autoencoder.contraction")
def test_the_gradient_goes_through_the_jacobian_to_all_weights():
    system, x = make(), normal(6, 3, 2, 2, 1)
    named = dict(system.named_parameters())
    flat = optim.Flat(named)
    loss = lambda: ops.mean(system.loss(up(x), None).loss)  # noqa: E731
    gradients = sg.gradients(loss(), list(named.values()))
    assert min(np.abs(host(g)).max() for g in gradients) > 0
    g, v = host(flat.gather(gradients)), normal(7, flat.size)
    start = host(flat.buffer).copy()

    def along(theta):
        flat.write(up(theta))
        return float(loss())

    agree(g @ v, directional(along, start, v), rtol=1e-7, atol=1e-8)


def test_what_makes_no_network_is_refused():
    for wrong in ({"code": 0}, {"shape": (0, 2)}, {"contraction": -1.0}):
        with pytest.raises(ValueError, match="must be positive, contraction not negative"):
            ContractiveConfig(**wrong)


@pytest.mark.parametrize("shards", [1, 2])
def test_replay_changes_no_bit(shards, capsys):
    """Nor does the second derivative in it."""
    x, ends = normal(8, 12, 2, 2, 1).astype("f"), []
    for replay in (True, False):
        system = make("float32")
        config = TrainConfig(steps=4, batch_size=4, lr=1e-2, ema_decay=0.9, log_every=2, shards=shards, replay=replay)
        ends.append((train(system, x, config), system.state_dict()))
    assert "without replay" not in capsys.readouterr().err
    assert ends[0][0].losses == ends[1][0].losses
    assert all(np.array_equal(ends[0][1][name], value) for name, value in ends[1][1].items())


@pytest.mark.equation("autoencoder.walk")
def test_a_walk_is_its_steps(xp):
    system, x = make(), normal(9, 3, 2, 2, 1)
    state = Generator(1).state()
    found = [host(one) for one in system.walk(up(x), Generator.from_state(state), 2, shake=0.3)]
    rng = Generator.from_state(state)
    w, b, a = (p.numpy() for p in (system.w, system.b, system.a))
    for one in found:
        c = sigmoid(x.reshape(3, 4) @ w + b)
        J = (c * (1 - c))[:, :, None] * w.T
        eps = 0.3 * host(rng.standard_normal((3, 3), np.float64))
        x = ((c + np.einsum("bij,bkj,bk->bi", J, J, eps)) @ w.T + a).reshape(x.shape)
        agree(one, x, rtol=1e-10, atol=1e-12)
    agree(system.sample(up(normal(9, 3, 2, 2, 1)), Generator.from_state(state), 2, 0.3), found[-1])


def test_the_tangents_of_a_circle_are_found():
    """The mean |cos| of the angle to the circle's tangent; of random directions it is 2/π, across it is 0."""
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    along = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    system = Contractive(ContractiveConfig(shape=(2,), code=8, contraction=0.1), rng=Generator(0))
    train(system, x, TrainConfig(steps=300, batch_size=100, lr=3e-2, final_lr=0.05), progress=False)
    cosine = np.abs((host(system.tangents(up(x), 1))[:, 0] * along).sum(axis=1))
    at_most(0.9, cosine.mean())
    apart(cosine.mean(), 2 / np.pi, by=0.2)
