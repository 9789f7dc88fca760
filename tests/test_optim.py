"""Optimisers against plain loops over Python floats, and their one flat buffer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
from scratchgen import optim
from scratchgen.autograd import Tensor
from scratchgen.backend import active

SHAPES = {"w": (2, 3), "b": (), "empty": (0,), "k": (1, 2, 2)}
N = 11
SOME = settings(max_examples=max(10, settings.default.max_examples // 2), deadline=None)
seeds = st.integers(0, 2**32 - 1)
rates = st.floats(1e-4, 0.5)


def make(seed=0, dtype=np.float64):
    """Parameters of every rank, and the flat buffer they share."""
    noise = np.random.default_rng(seed)
    parameters = {
        n: Tensor(active().asarray(noise.standard_normal(s).astype(dtype))) for n, s in SHAPES.items()
    }
    return parameters, optim.Flat(parameters)


def host(array):
    return np.array(active().to_numpy(array))


def gradients(seed, steps, n=N):
    return list(np.random.default_rng(seed + 100).standard_normal((steps, n)))


def floats(array):
    return [float(v) for v in host(array)]


# --- the buffer ---------------------------------------------------------------------------------------------


def test_parameters_become_views_of_the_buffer(xp):
    noise = np.random.default_rng(0)
    values = {n: noise.standard_normal(s) for n, s in SHAPES.items()}
    parameters = {n: Tensor(xp.asarray(v)) for n, v in values.items()}
    flat = optim.Flat(parameters)
    assert flat.names == list(SHAPES)
    assert flat.size == N
    assert np.array_equal(host(flat.buffer), np.concatenate([v.ravel() for v in values.values()]))
    flat.write(xp.asarray(np.arange(float(N))))
    assert host(parameters["w"].value).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert host(parameters["b"].value) == 6
    assert host(parameters["k"].value).tolist() == [[[7, 8], [9, 10]]]
    parameters["b"].assign(xp.asarray(np.array(-1.0)))
    assert host(flat.buffer)[6] == -1


def test_views_and_gather_are_inverse(xp):
    parameters, flat = make()
    buffer = xp.asarray(np.arange(float(N)))
    views = flat.views(buffer)
    assert {n: v.shape for n, v in views.items()} == SHAPES
    assert np.array_equal(host(flat.gather(list(views.values()))), np.arange(float(N)))
    before = host(flat.buffer)
    gathered = flat.gather([p.value for p in parameters.values()])
    gathered *= 0
    assert np.array_equal(host(flat.buffer), before)
    with pytest.raises(ValueError, match="shorter"):
        flat.gather(list(views.values())[:-1])


@pytest.mark.parametrize("wrong", [(1, 3), (), (3,), (3, 2)])
def test_a_gradient_of_another_shape_is_refused(wrong, xp):
    """Broadcasting would spread it over the parameter without a word."""
    _, flat = make()
    parts = list(flat.views(xp.zeros((N,))).values())
    parts[0] = xp.ones(wrong)
    with pytest.raises(ValueError, match=r"w.*\(2, 3\)"):
        flat.gather(parts)


@pytest.mark.parametrize("wrong", [np.zeros(N - 1), np.zeros((N, 1)), np.zeros(N, np.float32)])
def test_write_refuses_what_does_not_fit(wrong, xp):
    _, flat = make()
    before = host(flat.buffer)
    with pytest.raises(ValueError, match="does not fit"):
        flat.write(xp.asarray(wrong))
    assert np.array_equal(host(flat.buffer), before)


def test_nothing_and_mixed_precisions_are_refused(xp):
    with pytest.raises(ValueError, match="no parameters"):
        optim.Flat({})
    with pytest.raises(ValueError, match="float32 and float64"):
        optim.Flat({"a": sg.tensor([1.0]), "b": sg.tensor([1.0], dtype=np.float64)})


def test_a_step_makes_older_results_stale(xp):
    """A gradient through values that have been overwritten would be wrong without a sign of it."""
    parameters, flat = make()
    y = (parameters["w"] * parameters["w"]).sum()
    sg.gradients(y, [parameters["w"]])
    optim.SGD(flat).step(xp.zeros((N,)))
    with pytest.raises(RuntimeError, match="new value"):
        sg.gradients(y, [parameters["w"]])
    y = (parameters["w"] * parameters["w"]).sum()
    optim.Adam(flat).step(xp.zeros((N,)))
    with pytest.raises(RuntimeError, match="new value"):
        sg.gradients(y, [parameters["w"]])
    y = parameters["w"].sum()
    flat.write(flat.buffer)
    with pytest.raises(RuntimeError, match="new value"):
        sg.gradients(y, [parameters["w"]])


# --- the rules ----------------------------------------------------------------------------------------------


def sgd_by_loops(theta, gs, lr, momentum):
    theta, v = list(theta), [0.0] * len(theta)
    for g in gs:
        for i in range(len(theta)):
            v[i] = momentum * v[i] + float(g[i])
            theta[i] = theta[i] - lr * v[i]
    return theta


def adam_by_loops(theta, gs, lr, beta1, beta2, tiny, decay=0.0, rate=lambda k: 1.0):
    """Kingma & Ba's Algorithm 1 with Loshchilov & Hutter's decay (their Algorithm 2, line 12), one float at a time."""
    theta, m, v = list(theta), [0.0] * len(theta), [0.0] * len(theta)
    for k, g in enumerate(gs, 1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * float(g[i])
            v[i] = beta2 * v[i] + (1 - beta2) * float(g[i]) ** 2
            m_hat, v_hat = m[i] / (1 - beta1**k), v[i] / (1 - beta2**k)
            theta[i] -= lr * rate(k) * (m_hat / (math.sqrt(v_hat) + tiny) + decay * theta[i])
    return theta


@SOME
@given(seeds, rates, st.floats(0, 0.99), st.integers(1, 8))
def test_sgd_with_momentum(seed, lr, momentum, steps):
    _, flat = make(seed)
    start, gs = floats(flat.buffer), gradients(seed, steps)
    optimiser = optim.SGD(flat, lr=lr, momentum=momentum)
    for g in gs:
        optimiser.step(g)
    np.testing.assert_allclose(flat.buffer, sgd_by_loops(start, gs, lr, momentum), rtol=1e-12, atol=1e-12)


@SOME
@given(
    seeds, rates, st.floats(0, 0.99), st.floats(0.5, 0.9999), st.sampled_from([1e-8, 1e-3]), st.integers(1, 8),
    st.sampled_from([0.0, 0.1]),
)  # fmt: skip
def test_adam_and_adamw(seed, lr, beta1, beta2, tiny, steps, decay):
    """The update is bounded by about lr·steps/(1−β₁), so 1e-11 is a thousand roundings of it."""
    _, flat = make(seed)
    start, gs = floats(flat.buffer), gradients(seed, steps)
    optimiser = optim.Adam(flat, lr=lr, beta1=beta1, beta2=beta2, tiny=tiny, weight_decay=decay)
    for g in gs:
        optimiser.step(g)
    expected = adam_by_loops(start, gs, lr, beta1, beta2, tiny, decay)
    np.testing.assert_allclose(flat.buffer, expected, rtol=1e-11, atol=1e-11)


def test_defaults_and_both_backends(xp):
    for maker, loops in (
        (lambda f: optim.SGD(f, momentum=0.9), lambda t, g: sgd_by_loops(t, g, 1e-2, 0.9)),
        (optim.Adam, lambda t, g: adam_by_loops(t, g, 1e-3, 0.9, 0.999, 1e-8)),
        (
            lambda f: optim.Adam(f, weight_decay=0.5),
            lambda t, g: adam_by_loops(t, g, 1e-3, 0.9, 0.999, 1e-8, 0.5),
        ),
    ):
        _, flat = make(3)
        start, gs = floats(flat.buffer), gradients(3, 6)
        optimiser = maker(flat)
        for g in gs:
            optimiser.step(xp.asarray(g))
        np.testing.assert_allclose(host(flat.buffer), loops(start, gs), rtol=1e-12, atol=1e-12)


def test_the_rate_of_one_step_can_be_given():
    _, flat = make(4)
    start, gs = floats(flat.buffer), gradients(4, 4)
    optimiser = optim.Adam(flat, lr=0.1, weight_decay=0.2)
    for k, g in enumerate(gs, 1):
        optimiser.step(g, lr=0.1 / k)
    expected = adam_by_loops(start, gs, 0.1, 0.9, 0.999, 1e-8, 0.2, rate=lambda k: 1 / k)
    np.testing.assert_allclose(flat.buffer, expected, rtol=1e-12)
    _, flat = make(4)
    optim.SGD(flat, lr=0.1).step(gs[0], lr=0.0)
    assert floats(flat.buffer) == start


def test_wrong_rules_would_be_seen():
    """Negative controls: each misreading of Adam moves the loops by far more than the tolerance."""
    start, gs = floats(make(5)[1].buffer), gradients(5, 5)
    right = np.array(adam_by_loops(start, gs, 0.1, 0.9, 0.999, 1e-8, 0.1))

    def wrong(how):
        theta, m, v = list(start), [0.0] * N, [0.0] * N
        for k, g in enumerate(gs, 1):
            for i in range(N):
                slope = float(g[i]) + (0.1 * theta[i] if how == "decay inside" else 0.0)
                m[i], v[i] = 0.9 * m[i] + 0.1 * slope, 0.999 * v[i] + 0.001 * slope**2
                if how == "no correction":
                    step = m[i] / (math.sqrt(v[i]) + 1e-8)
                elif how == "k from 0":
                    step = m[i] / (1 - 0.9 ** (k + 1)) / (math.sqrt(v[i] / (1 - 0.999 ** (k + 1))) + 1e-8)
                else:
                    step = m[i] / (1 - 0.9**k) / (math.sqrt(v[i] / (1 - 0.999**k)) + 1e-8)
                theta[i] -= 0.1 * (step + (0.0 if how == "decay inside" else 0.1 * theta[i]))
        return np.array(theta)

    np.testing.assert_allclose(wrong("nothing"), right, rtol=1e-12)
    for how in ("decay inside", "no correction", "k from 0"):
        assert np.abs(wrong(how) - right).max() > 1e-3, how


def test_the_first_step_of_adam_has_the_length_of_the_rate(xp):
    """|Δθ| = lr for every entry whatever its gradient's size, since m̂ = g and v̂ = g² at k = 1."""
    _, flat = make(6)
    before = host(flat.buffer)
    g = np.array([1e-3, -1e3] * 5 + [1.0])
    optim.Adam(flat, lr=0.25, tiny=0.0).step(xp.asarray(g))
    np.testing.assert_allclose(host(flat.buffer) - before, -0.25 * np.sign(g), rtol=1e-11)


@pytest.mark.parametrize("make_optimiser", [
    lambda f: optim.SGD(f, lr=0.05, momentum=0.8), lambda f: optim.Adam(f, lr=0.1),
])  # fmt: skip
def test_a_quadratic_is_solved(make_optimiser, xp):
    """½(θ−c)ᵀD(θ−c), condition number 10: its minimum is c."""
    parameters, flat = make(7)
    c, curvature = np.linspace(-1, 1, N), np.linspace(1, 10, N)
    centre, scale = flat.views(xp.asarray(c)), flat.views(xp.asarray(curvature))
    optimiser = make_optimiser(flat)
    for k in range(400):
        loss = sum((0.5 * scale[n] * (p - centre[n]) ** 2).sum() for n, p in parameters.items())
        optimiser.step(flat.gather(sg.gradients(loss, flat.parameters)), lr=optimiser.lr * 0.985**k)
    np.testing.assert_allclose(host(flat.buffer), c, atol=2e-3)


def test_float32_stays_float32(xp):
    _, flat = make(8, np.float32)
    g = xp.asarray(gradients(8, 1)[0].astype(np.float32))
    for optimiser in (optim.SGD(flat, momentum=0.9), optim.Adam(flat, weight_decay=0.1)):
        optimiser.step(g)
        assert flat.buffer.dtype == np.float32
        assert all(a.dtype in (np.float32, np.int64) for a in optimiser.state().values())
    ema = optim.EMA(flat)
    ema.update()
    assert ema.buffer.dtype == np.float32


# --- clipping -----------------------------------------------------------------------------------------------


@SOME
@given(seeds, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_clip_by_norm(seed, size, limit):
    g = np.random.default_rng(seed).standard_normal(7) * size
    before, buffer = g.copy(), g
    length = math.sqrt(math.fsum(float(v) ** 2 for v in before))
    assert optim.clip_by_norm(buffer, limit) == pytest.approx(length, rel=1e-13)
    if length <= limit:
        assert np.array_equal(buffer, before)
    else:
        np.testing.assert_allclose(buffer, before * (limit / length), rtol=1e-13)
        assert optim.norm(buffer) == pytest.approx(limit, rel=1e-13)


def test_clip_of_zero_and_on_both_backends(xp):
    buffer = xp.zeros((3,))
    assert optim.clip_by_norm(buffer, 1.0) == 0
    assert host(buffer).tolist() == [0, 0, 0]
    buffer = xp.asarray(np.array([3.0, 4.0]))
    assert optim.clip_by_norm(buffer, 1.0) == 5
    np.testing.assert_allclose(host(buffer), [0.6, 0.8], rtol=1e-15)


def test_without_a_limit_the_norm_is_read_and_nothing_written():
    """On a device that is a pass over all gradients, and six kernels."""
    buffer = np.array([3.0, 4.0, np.inf])
    buffer.flags.writeable = False
    assert optim.clip_by_norm(buffer[:2], math.inf) == 5
    assert optim.clip_by_norm(buffer, math.inf) == math.inf


# --- averages -----------------------------------------------------------------------------------------------


@SOME
@given(seeds, st.floats(0, 0.9999), st.integers(1, 12))
def test_ema_is_its_closed_sum(seed, decay, steps):
    """θ̄_n = Σ_k (1−d_k)(Π_{j>k} d_j)·θ_k + (Π d_j)·θ_0 with d_k = min(decay, (1+k)/(10+k))."""
    _, flat = make(seed)
    history = [host(flat.buffer)]
    ema = optim.EMA(flat, decay)
    for theta in np.random.default_rng(seed + 1).standard_normal((steps, N)):
        flat.write(theta)
        ema.update()
        history.append(theta)
    d = [min(decay, (1 + k) / (10 + k)) for k in range(1, steps + 1)]
    expected = math.prod(d) * history[0]
    for k in range(1, steps + 1):
        expected = expected + (1 - d[k - 1]) * math.prod(d[k:]) * history[k]
    np.testing.assert_allclose(ema.buffer, expected, rtol=1e-11, atol=1e-12)
    assert math.prod(d) + sum(
        (1 - d[k - 1]) * math.prod(d[k:]) for k in range(1, steps + 1)
    ) == pytest.approx(1)


def test_ema_arrays_are_views_and_its_own_memory(xp):
    parameters, flat = make(9)
    ema = optim.EMA(flat, 0.9)
    arrays = ema.arrays()
    start = host(parameters["w"].value)
    flat.write(flat.buffer + 1.0)
    assert np.array_equal(host(arrays["w"]), start)
    ema.update()
    d = min(0.9, 2 / 11)
    np.testing.assert_allclose(host(arrays["w"]), d * start + (1 - d) * (start + 1), rtol=1e-12)


# --- saving -------------------------------------------------------------------------------------------------

MAKERS = {
    "sgd": lambda f: optim.SGD(f, lr=0.1, momentum=0.9),
    "adam": lambda f: optim.Adam(f, lr=0.1, weight_decay=0.01),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_restored_optimiser_continues_bit_for_bit(name, xp):
    gs = [xp.asarray(g.astype(np.float32)) for g in gradients(10, 8)]
    _, flat = make(10, np.float32)
    optimiser, ema = MAKERS[name](flat), optim.EMA(flat, 0.99)
    for g in gs[:4]:
        optimiser.step(g)
        ema.update()
    saved, saved_ema, theta = optimiser.state(), ema.state(), host(flat.buffer)
    for g in gs[4:]:
        optimiser.step(g)
        ema.update()
    assert saved["steps"] == 4  # what was saved does not move on
    _, other = make(11, np.float32)
    again, ema_again = MAKERS[name](other), optim.EMA(other, 0.99)
    other.write(xp.asarray(theta))
    again.load_state(saved)
    ema_again.load_state(saved_ema)
    for g in gs[4:]:
        again.step(g)
        ema_again.update()
    assert np.array_equal(host(other.buffer), host(flat.buffer))
    assert np.array_equal(host(ema_again.buffer), host(ema.buffer))
    for a, b in zip(again.state().values(), optimiser.state().values(), strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype


def spoiled(state, how):
    last = list(state)[-1]
    state = dict(state)
    if how == "slot missing":
        del state[last]
    elif how == "steps missing":
        del state["steps"]
    elif how == "shape":
        state[last] = state[last][:-1]
    else:
        state[last] = state[last].astype(np.float32)
    return state


@pytest.mark.parametrize("how", ["slot missing", "steps missing", "shape", "dtype"])
@pytest.mark.parametrize("name", [*MAKERS, "ema"])
def test_a_state_that_does_not_fit_changes_nothing(name, how):
    _, flat = make(12)
    target = optim.EMA(flat) if name == "ema" else MAKERS[name](flat)
    move = (lambda: target.update()) if name == "ema" else (lambda: target.step(np.ones(N)))
    move()
    before = target.state()
    move()
    later = target.state()
    with pytest.raises(ValueError, match=type(target).__name__):
        target.load_state(spoiled(before, how))
    assert all(np.array_equal(a, b) for a, b in zip(later.values(), target.state().values(), strict=True))
