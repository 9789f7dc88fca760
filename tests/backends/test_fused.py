"""What may be one pass: the array calls on NumPy are those that they were, and gradients of any order are right."""

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import ops
from scratchgen.backend import get


def standardised(x, mean):
    centred = x - mean(x)
    return centred / ops.sqrt(mean(ops.square(centred)) + 1e-2)


def in_groups(x):
    """Two groups of four channels, (B, P, C)."""
    y = ops.reshape(x, (*x.shape[:2], 2, 4))
    return ops.reshape(standardised(y, lambda x: ops.mean(x, axis=(1, 3), keepdims=True)), x.shape)


def soft(x):
    return ops.exp(x - ops.logsumexp(x, axis=-1, keepdims=True))


PAIRS = {
    "silu": (F.silu, lambda x: x * F.sigmoid(x)),
    "softplus": (F.softplus, lambda x: ops.logaddexp(0.0, x)),
    "gelu": (F.gelu, lambda x: x * ops.ndtr(x)),
    "binary_cross_entropy": (lambda x: F.binary_cross_entropy(x, F.sigmoid(2 * x)),
                             lambda x: ops.logaddexp(0.0, x) - x * F.sigmoid(2 * x)),
    "softmax": (F.softmax, soft),
    "log_softmax": (F.log_softmax, lambda x: x - ops.logsumexp(x, axis=-1, keepdims=True)),
    "layer_norm": (lambda x: F.layer_norm(x, tiny=1e-2),
                   lambda x: standardised(x, lambda x: ops.mean(x, axis=-1, keepdims=True))),
    "standardise": (lambda x: F.standardise(x, (0, 2), 1e-2),
                    lambda x: standardised(x, lambda x: ops.mean(x, axis=(0, 2), keepdims=True))),
    "group_norm": (lambda x: F.group_norm(x, 2, tiny=1e-2), in_groups),
}  # fmt: skip


def derivatives(f, to, order):
    """⟨v, f(x)⟩, and its derivatives along random directions up to an order: the gradient of each, too."""
    rng = np.random.default_rng(7)
    x, *directions = (to(rng.standard_normal((2, 3, 8))) for _ in range(order + 2))
    value, found = (lambda x, v=directions[0]: ops.sum(f(x) * v)), []
    for v in directions[1:]:
        slope = sg.grad(value)
        found.append(slope(x))
        value = lambda x, slope=slope, v=v: ops.sum(slope(x) * v)  # noqa: E731
    return [value(x), *found]


@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_to_third_order_are_those_of_the_composition(name):
    one, composed = (derivatives(f, np.asarray, 3) for f in PAIRS[name])
    for a, b in zip(one, composed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_to_third_order_on_the_device(cupy, name):
    ours, theirs = derivatives(PAIRS[name][0], np.asarray, 3), derivatives(PAIRS[name][0], cupy.asarray, 3)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(cupy.to_numpy(b), a, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_are_those_of_differences(name):
    x = np.random.default_rng(3).standard_normal((2, 3, 8))
    v = np.random.default_rng(4).standard_normal((2, 3, 8))
    sg.check_grads(lambda x: ops.sum(PAIRS[name][0](x) * v), (x,), order=2)


CALLS = {
    "softmax": "maximum.reduce subtract exp add.reduce divide | multiply add.reduce subtract multiply",
    "log_softmax": "maximum.reduce subtract exp add.reduce log subtract | exp add.reduce multiply subtract",
    "layer_norm": "add.reduce divide subtract multiply add.reduce divide add sqrt divide multiply | "
                  "add.reduce divide subtract multiply add.reduce divide multiply subtract multiply",
    "group_norm": "add.reduce matmul subtract multiply add.reduce matmul add sqrt divide multiply | "
                  "add.reduce matmul subtract multiply add.reduce matmul multiply subtract multiply",
    "silu": "multiply tanh multiply add | multiply tanh multiply add subtract multiply add multiply multiply",
    "gelu": "ndtr multiply | multiply multiply multiply multiply exp multiply multiply add",
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_replayed_step_makes_the_calls_of_the_equations(name):
    forward, adjoint = CALLS[name].split(" | ")
    x = np.random.default_rng(0).standard_normal((2, 3, 8))
    v = np.random.default_rng(1).standard_normal((2, 3, 8))
    step = sg.replay(sg.grad(lambda x: ops.sum(PAIRS[name][0](x) * v)))
    for _ in range(2):
        step(x)
    (recorder,) = step.ready.values()
    heard = " ".join(call.name for call in recorder.calls if call.name != "copy")
    assert heard == f"{forward} multiply add.reduce multiply {adjoint}"


def test_plain_arrays_leave_nothing_behind():
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    for name, (f, _) in PAIRS.items():
        y = f(x)
        assert type(y) is np.ndarray and y.dtype == np.float32, name
        assert type(f(get("strict").asarray(x))) is get("strict").zeros((1,)).__class__
    assert F.gelu(1.0).dtype == np.float32
    with pytest.raises(TypeError, match="gelu: operand of type list"):
        F.gelu([1.0])
    for f in (F.gelu, F.layer_norm, lambda x: F.group_norm(x, 1)):
        with pytest.raises(TypeError, match="operands of int64 would give float64"):
            f(np.arange(6).reshape(1, 2, 3))


@pytest.mark.parametrize("name", ["numpy", "strict"])
@pytest.mark.parametrize(("step", "arrays", "settings"), [
    ("adam", 4, (3, 0.1, 0.9, 0.99, 1e-8, 0.1)), ("sgd", 3, (0.1, 0.9)), ("ema", 2, (0.1,)),
])  # fmt: skip
def test_without_scratch_a_step_makes_it_itself(name, step, arrays, settings):
    """The same bits, and nothing but what belongs to the step is written to."""
    xp, given = get(name), np.random.default_rng(3).random((arrays, 11))
    ours, theirs = ([xp.asarray(a.copy()) for a in given] for _ in range(2))
    getattr(xp, step)(*ours, xp.empty((11,)), *settings)
    getattr(xp, step)(*theirs, None, *settings)
    assert not np.array_equal(xp.to_numpy(ours[0]), given[0])
    for a, b in zip(ours, theirs, strict=True):
        assert xp.to_numpy(a).tobytes() == xp.to_numpy(b).tobytes()
