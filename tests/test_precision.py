"""Products in a lower precision: what their operands are rounded to, how far off the results may be, and training."""

from dataclasses import replace
from fractions import Fraction
from math import floor, isfinite, isnan, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_tools import Twin, assert_same_bits
from train_toys import CONFIG, POINTS, make, run_in

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import nn, ops
from scratchgen.autograd import gradients
from scratchgen.backend import get
from scratchgen.precision import asked, precision, rounded
from scratchgen.random import Generator
from scratchgen.train import CheckpointError, TrainConfig, checkpoint, train

LOWER = ("tf32", "bf16")
BITS = {"tf32": 11, "bf16": 8}
"""Of a number, with the leading one."""
U = {"float32": 2.0**-24, "tf32": 2.0**-11, "bf16": 2.0**-8}
NUMPY, STRICT = get("numpy"), get("strict")


def draw(seed, *shape, dtype="float32"):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


# --- rounding -----------------------------------------------------------------------------------------------


def nearest(x, name):
    """The nearest number of the format, by exact arithmetic; of two, the one whose last bit is 0."""
    if not isfinite(x) or x == 0:
        return x
    spacing = Fraction(2) ** (max(floor(log2(abs(x))), -126) - BITS[name] + 1)
    found = round(Fraction(x) / spacing) * spacing  # Fraction's round goes to the even one
    return float(found) if abs(found) < 2**128 else np.copysign(np.inf, x)


def check_rounding(bits, name, xp=NUMPY):
    x = np.asarray(bits, np.uint32).view(np.float32).reshape(1, -1)
    before = x.copy()
    found = xp.to_numpy(rounded(xp, xp.asarray(x), precision=name))
    np.testing.assert_array_equal(x, before)
    assert found.dtype == np.float32
    for mine, given_ in zip(found[0].tolist(), x[0].tolist(), strict=True):
        assert (isnan(mine) and isnan(given_)) or mine == nearest(given_, name), given_
        assert np.signbit(mine) == np.signbit(given_) or isnan(mine)


@pytest.mark.parametrize("name", LOWER)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200))
def test_rounding_of_any_bits(name, bits):
    check_rounding(bits, name)


@pytest.mark.parametrize("name", LOWER)
def test_rounding_at_the_edges(name):
    """Halfway between two numbers, with an even and an odd one below; from the largest to ∞; subnormals; no number."""
    tie = 1 << (23 - BITS[name])
    edges = [0x3F800000 + k * tie + d for k in range(8) for d in (-1, 0, 1)]
    edges += [0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FFFFFFF, 0x7FC00000, 0x7FFFFF]
    edges += [0, 1, tie - 1, tie, tie + 1, 3 * tie]
    edges += [0x7F800000 - k * tie + d for k in (1, 2, 3) for d in (-1, 0, 1)]
    check_rounding(edges + [e ^ 0x80000000 for e in edges], name)
    check_rounding(edges, name, STRICT)
    rows = draw(1, 6, 8)
    for view in (rows.T, rows[::2, ::-1], rows[:, 3:4], rows[:0]):  # however they lie
        np.testing.assert_array_equal(rounded(NUMPY, view, precision=name),
                                      rounded(NUMPY, np.ascontiguousarray(view), precision=name))
    out = np.empty_like(rows)
    assert rounded(NUMPY, rows, out, precision=name) is out
    np.testing.assert_array_equal(rounded(NUMPY, out, precision=name), out)  # a rounded number stays


# --- products -----------------------------------------------------------------------------------------------


def bound(name, k, size):
    """The bound in the module's docstring: size = |a|·|b|."""
    u, gamma = U[name] if name != "float32" else 0.0, k * 2.0**-24 / (1 - k * 2.0**-24)
    return (2 * u + u * u + gamma * (1 + u) ** 2) * size


def error_and_size(name, a, b):
    """|fl(a·b) − a·b| and |a|·|b|, the exact ones in float64."""
    with precision(name):
        y = ops.matmul(a, b)
    a, b = a.astype("float64"), b.astype("float64")
    return np.abs(y - a @ b), np.abs(a) @ np.abs(b)


@pytest.mark.parametrize("name", U)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_a_products_error_is_within_the_bound(name, seed, k):
    error, size = error_and_size(name, draw(seed, 5, k), draw(seed + 1, k, 7))
    assert (error <= bound(name, k, size)).all()


@pytest.mark.parametrize("name", U)
def test_the_bound_is_not_an_empty_one(name):
    """One term is as far off as it may be, nearly; and the next better format's bound does not hold."""
    worst = np.full((1, 2), 1 + U[name] * (1 - 2.0**-8), "float32")
    error, size = error_and_size(name, worst, worst.T)
    assert name == "float32" or (error > 0.98 * bound(name, 2, size)).all()
    error, size = error_and_size(name, draw(1, 40, 64), draw(2, 64, 40))
    assert name == "float32" or (error > bound("float32" if name == "tf32" else "tf32", 64, size)).any()
    truncated = np.full((1, 1), 1 + 2 * U[name] * (1 - 2.0**-8), "float32")  # cut off, it would lose 2u each
    error, size = error_and_size(name, truncated, truncated)
    assert (error <= bound(name, 1, size)).all()


@pytest.mark.parametrize("name", LOWER)
def test_every_product_takes_rounded_operands(name, xp):
    """matmul, tensordot, einsum, convolution and its transpose: what they give of operands rounded before."""
    x, w, k, h = draw(1, 2, 6, 6, 3), draw(2, 3, 4), draw(3, 3, 3, 3, 2), draw(4, 2, 6, 6, 2)
    operations = [
        (ops.matmul, (x, w)), (ops.tensordot, (x, w, 1)), (ops.inner, (x, w.T)),
        (ops.matmul, (x[..., :1], w[:1])), (lambda x, w: ops.einsum("bijc,co->bjo", x, w), (x, w)),
        (lambda x, k: ops.conv2d(x, k, 1, "same"), (x, k)), (lambda x, k: ops.conv2d(x, k, 2, 1), (x, k)),
        (lambda h, k: ops.conv2d_transpose(h, k, 2, 1), (h, k)),
    ]  # fmt: skip
    for f, operands in operations:
        low = [rounded(NUMPY, a, precision=name) if isinstance(a, np.ndarray) else a for a in operands]
        here, low = ([xp.asarray(a) if isinstance(a, np.ndarray) else a for a in side] for side in (operands, low))
        with precision(name):
            found = xp.to_numpy(f(*here))
        np.testing.assert_array_equal(found, xp.to_numpy(f(*low)))
        assert (found != xp.to_numpy(f(*here))).any()


def test_all_else_stays_as_it_is():
    x, w = draw(1, 8, 4), draw(2, 4, 3)
    for f in (lambda: ops.sum(x * 1.1), lambda: F.softmax(x, axis=1), lambda: F.layer_norm(x),
              lambda: ops.outer(x[0], w[0]), lambda: ops.matmul(x.astype("float64"), w.astype("float64"))):  # fmt: skip
        before = f()
        with precision("bf16"):
            assert_same_bits([f()], [before])
    before = ops.matmul(x, w)
    with precision("float32"):
        assert_same_bits([ops.matmul(x, w)], [before])


def test_the_switch():
    assert asked() == "float32"
    with precision("bf16"), precision("tf32"):
        assert asked() == "tf32"
    with pytest.raises(ZeroDivisionError), precision("bf16"):
        raise ZeroDivisionError
    assert asked() == "float32"
    with pytest.raises(ValueError, match="precision: 'fp8' is none of float32, tf32, bf16"), precision("fp8"):
        pass


# --- gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOWER)
def test_gradients_are_taken_in_the_precision_of_their_product(name):
    """Wherever: x̄ = ȳ·bᵀ and b̄ = xᵀ·ȳ of rounded operands, also after the block, and not for products outside it."""
    x, w, h = draw(1, 5, 4), draw(2, 4, 3), draw(3, 5, 3)
    low_x, low_w, low_h = (rounded(NUMPY, a, precision=name) for a in (x, w, h))
    a, b = sg.tensor(x), sg.tensor(w)
    with precision(name):
        y = ops.matmul(a, b)
    for found, right in zip(gradients(y, [a, b], h), (low_h @ low_w.T, low_x.T @ low_h), strict=True):
        np.testing.assert_array_equal(found, right)
    y = ops.matmul(a, b)
    with precision(name):
        found = gradients(y, [a], h)[0]
    np.testing.assert_array_equal(found, h @ w.T)


@pytest.mark.parametrize("name", LOWER)
def test_gradients_of_convolutions_too(name):
    x, w, h = draw(1, 2, 5, 5, 3), draw(2, 3, 3, 3, 2), draw(3, 2, 5, 5, 2)
    low = [rounded(NUMPY, a, precision=name) for a in (x, w, h)]
    a, b = sg.tensor(x), sg.tensor(w)
    with precision(name):
        y = ops.conv2d(a, b, 1, "same")
    right = gradients(ops.conv2d(*(t := [sg.tensor(low[0]), sg.tensor(low[1])]), 1, "same"), t, low[2])
    for found, there in zip(gradients(y, [a, b], h), right, strict=True):
        np.testing.assert_array_equal(found, there)


@pytest.mark.parametrize("name", LOWER)
def test_second_derivatives_are_near(name):
    w, v, x = draw(1, 4, 3), draw(2, 4, 3), draw(3, 6, 4)

    def f(w):
        return ops.sum(ops.tanh(ops.matmul(x, w)) ** 2) + ops.sum(ops.einsum("ij,ik->jk", w, w))

    right = sg.hvp(f, w, v)
    with precision(name):
        found = sg.hvp(f, w, v)
    scale = np.abs(right).max()
    assert 0 < np.abs(found - right).max() < 12 * U[name] * scale


# --- replay and training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOWER)
def test_a_replayed_step_gives_the_same_numbers(name):
    def build():
        rng = Generator(0)
        convolution, linear = nn.Conv2d(1, 4, rng=rng), nn.Linear(4, 5, rng=rng)
        parameters = [*dict(convolution.named_parameters()).values(), *dict(linear.named_parameters()).values()]

        def step(x):
            with precision(name):
                y = linear(F.silu(convolution(x)))
                return y, *gradients(ops.mean(y * y), parameters)

        return step

    twin = Twin(build)
    for seed in range(4):
        twin.call(draw(seed, 3, 6, 6, 1))
    (plan,) = twin.plans()
    assert "rounded" in {call.name for run in plan.steps for call in run.calls}


def test_another_precision_is_another_recording():
    w = draw(1, 4, 3)
    step = sg.replay(lambda x: ops.matmul(x, w))
    x = draw(2, 5, 4)
    for _ in range(2):
        for name in ("float32", "bf16", "tf32"):
            for _ in range(3):
                with precision(name):
                    found = step(x)
                    np.testing.assert_array_equal(found, ops.matmul(x, w))


def test_training_in_bf16_is_nearly_as_good():
    """Float32 master weights: the losses part by less than the noise of the minibatches; float16-like weights would
    stand still where a step is smaller than half a unit in their last place."""
    losses = {}
    for name in ("float32", *LOWER):
        config = replace(CONFIG, steps=300, log_every=100, precision=name, lr=3e-3)
        system = make("denoiser")
        losses[name] = train(system, POINTS, config, progress=False).losses["loss"]
        assert all(x.dtype == np.float32 for x in system.state_dict().values())
    assert losses["bf16"] != losses["float32"] != losses["tf32"]
    np.testing.assert_allclose(losses["tf32"], losses["float32"], rtol=1e-3)
    np.testing.assert_allclose(losses["bf16"], losses["float32"], rtol=1e-2)


@pytest.mark.parametrize("changes", [{"replay": False}, {"shards": 2}])
def test_training_in_bf16_is_replayed_with_the_same_numbers(changes):
    config = replace(CONFIG, precision="bf16")
    results = []
    for settings in (config, replace(config, **changes)):
        system = make("denoiser")
        train(system, POINTS, settings, progress=False)
        results.append(system.state_dict())
    same = all(np.array_equal(results[0][k], results[1][k]) for k in results[0])
    assert same == ("shards" not in changes)


def test_a_run_keeps_its_precision(tmp_path):
    run_in(tmp_path, "denoiser", replace(CONFIG, precision="bf16"))
    with pytest.raises(CheckpointError, match="it was trained with precision = bf16, not float32"):
        run_in(tmp_path, "denoiser")


def test_a_run_from_before_there_was_a_choice_goes_on(tmp_path):
    run_in(tmp_path, "denoiser")
    path = tmp_path / "checkpoint.safetensors"
    arrays, meta = checkpoint.load(path)
    del meta["train"]["precision"]
    checkpoint.save(path, arrays, meta)
    run_in(tmp_path, "denoiser", replace(CONFIG, steps=CONFIG.steps + 2))


def test_precisions_that_make_no_sense():
    with pytest.raises(ValueError, match="precision is one of float32, tf32, bf16, not 'half'"):
        TrainConfig(precision="half")
    with pytest.raises(ValueError, match="precision 'bf16' is of float32"):
        TrainConfig(precision="bf16", dtype="float64")
