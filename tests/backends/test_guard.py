"""What crosses between host and device is counted, and what a CUDA graph cannot hold is refused: one test per item."""

import inspect
import re

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import ops, strict
from scratchgen.autograd import gradients
from scratchgen.backend import get
from scratchgen.guard import IN, OUT, READ

xp = get("strict")
HERE = re.escape("test_guard.py")


@pytest.fixture
def x():
    return xp.asarray(np.arange(1.0, 5.0))


def line():
    """The line after the caller's."""
    return inspect.currentframe().f_back.f_lineno + 1


# --- counting ------------------------------------------------------------------------------------------------


def test_copies_are_counted_with_their_bytes_and_place(x):
    with strict.watched() as seen:
        for _ in range(3):
            here = line()
            xp.asarray(np.zeros((2, 5), np.float32))
        xp.to_numpy(x)
    assert (seen.copies_in, seen.copies_out, seen.reads) == (3, 1, 0)
    assert (seen.nbytes(IN), seen.nbytes(OUT)) == (3 * 40, 32)
    assert re.match(rf"3 × copy in: asarray of host data at \S*{HERE}:{here}, 120 bytes\n1 × copy out: ", str(seen))


@pytest.mark.parametrize("read", [float, int, bool, repr, lambda x: x.item(), lambda x: x.tolist()])
def test_reads_are_counted(x, read):
    with strict.watched() as seen:
        read(x[0])
    assert (seen.copies_in, seen.copies_out, seen.reads) == (0, 0, 1)


READS = {
    "a boolean mask": lambda x: x[x > 2],
    "a boolean mask among others": lambda x: xp.outer(x, x)[1:, x > 2],
    "writing by a mask": lambda x: x.__setitem__(x > 2, 0.0),
    "nonzero": lambda x: xp.nonzero(x),
    "where with one argument": lambda x: xp.where(x > 2),
    "unique": lambda x: xp.unique(x),
    "bincount": lambda x: xp.bincount(x.astype(np.int64)),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_cupy_reads_by_itself_is_counted(x, read):
    with strict.watched() as seen:
        read(x)
    assert seen.reads == 1


def test_a_join_of_many_small_arrays_brings_in_a_table(x):
    for join, n, wanted in ((xp.concatenate, 8, 0), (xp.concatenate, 9, 1), (xp.stack, 9, 1)):
        with strict.watched() as seen:
            join([x] * n)
        assert (seen.copies_in, seen.nbytes(IN)) == (wanted, wanted * 8 * n)
    with strict.watched() as seen:
        xp.concatenate([xp.zeros((1 << 19,), np.float32)] * 9)  # 2 MiB each: copied one by one
        xp.concatenate([x] * 8 + [x.astype(np.float32)])  # of two dtypes
    assert str(seen) == "nothing crossed"


def test_what_stays_on_the_device_is_free(x):
    with strict.watched() as seen:
        y = xp.exp(x * 2.0) + xp.where(x > 2, x, 0.0).sum()
        y[1:3] += 1.0
        _ = y.shape, len(y), y.dtype, y.reshape(2, 2).T.sum(axis=0)
        xp.asarray(3.0)
        xp.asarray(x)
        for row in y:
            assert row.shape == ()
    assert str(seen) == "nothing crossed"


def test_watching_ends_with_the_block_and_nests(x):
    with strict.watched() as outer:
        with strict.watched() as inner:
            float(x[0])
        float(x[0])
    float(x[0])
    assert (outer.reads, inner.reads) == (2, 1)
    assert outer.count(READ) == 2


def test_the_place_is_the_callers_and_the_operation_is_named():
    with sg.backend("strict"), strict.watched() as seen:
        here = line()
        sg.tensor([1.0, 2.0])
    (crossing,) = seen.times
    assert re.search(rf"{HERE}:{here} \(in scratchgen/autograd/tensor\.py:\d+\)$", crossing.place)


# --- capturing -----------------------------------------------------------------------------------------------

REFUSED = READS | {
    "float": lambda x: float(x[0]),
    "int": lambda x: int(x[0]),
    "bool": lambda x: bool(x[0]),
    "item": lambda x: x[0].item(),
    "tolist": lambda x: x.tolist(),
    "printing": str,
    "a copy in": lambda x: xp.asarray(np.ones(3)),
    "a list": lambda x: xp.asarray([1, 2]),
    "a copy out": lambda x: xp.to_numpy(x),
    "concatenate": lambda x: xp.concatenate([x] * 9),
    "stack": lambda x: xp.stack([x] * 9),
    "@": lambda x: x @ x,
    "dot": lambda x: xp.dot(x, x),
    "einsum": lambda x: xp.einsum("i,i->", x, x),
    "tensordot": lambda x: xp.tensordot(x, x, 1),
    "solve of a vector": lambda x: xp.linalg.solve(xp.eye(4), x),
    "solve of a large matrix": lambda x: xp.linalg.solve(xp.eye(33), xp.eye(33)),
    "solve of two types": lambda x: xp.linalg.solve(xp.eye(4), xp.eye(4, dtype=np.float32)),
    "inv of a large matrix": lambda x: xp.linalg.inv(xp.eye(33)),
    "cholesky of a large matrix": lambda x: xp.linalg.cholesky(xp.eye(33)),
    "slogdet": lambda x: xp.linalg.slogdet(xp.eye(2)),
    "eigh": lambda x: xp.linalg.eigh(xp.eye(2)),
    "noise drawn on the host": lambda x: noise(),
}


def noise():
    with sg.backend("strict"):
        return sg.random.Generator(0).standard_normal((2,))


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_a_capture_refuses_what_a_graph_cannot_hold(x, call):
    with strict.capturing(), pytest.raises(strict.CaptureError) as caught:
        call(x)
    text = str(caught.value)
    assert re.fullmatch(rf"capture: .* at \S*{HERE}:\d+( \(in \S+\))?; .+", text), text
    call(x)  # elsewhere it may be done


def test_a_host_list_is_no_index_in_a_capture_either(x):
    with strict.capturing(), pytest.raises(TypeError, match="no index on a device"):
        x[[0, 1]]


def test_a_capture_takes_what_stays_on_the_device(x):
    places = xp.asarray(np.array([0, 2]))
    with strict.capturing() as calls:
        y = xp.exp(x * 2.0) + x[places].sum()
        y[1:] += 1.0
        y[places] = 3.0
        xp.matmul(y.reshape(2, 2), y.reshape(2, 2).T)
        xp.concatenate([x] * 8)
        xp.add.at(y, places, x[places])
        xp.full((2,), 3.0)
        xp.asarray(0.5)
        ops.tanh(y)
        xp.linalg.inv(xp.linalg.cholesky(xp.eye(32)))
        xp.linalg.solve(xp.eye(2), xp.ones((2, 5)))
    assert [c.name for c in calls.calls][:4] == ["mul", "exp", "[…]", "sum"]


def test_a_factor_that_is_not_there_is_nan_in_a_capture_and_asked_for_elsewhere():
    a = xp.asarray(np.stack([np.eye(2), -np.eye(2)]))
    with strict.capturing():
        found = xp.linalg.cholesky(a)
    np.testing.assert_array_equal(xp.to_numpy(found), [np.eye(2), np.full((2, 2), np.nan)])
    with strict.watched() as seen, pytest.raises(np.linalg.LinAlgError):
        xp.linalg.cholesky(a)
    assert seen.reads == 1


@pytest.mark.parametrize("operation", [
    lambda a: ops.linalg.cholesky(a), lambda a: ops.linalg.inv(a), lambda a: ops.linalg.solve(a, a[:, :1]),
])  # fmt: skip
def test_gradients_of_small_factors_can_be_captured(operation):
    with sg.backend("strict"):
        a = sg.tensor(np.array([[4.0, 1.0], [1.0, 3.0]]))
        with strict.capturing():
            gradients(ops.sum(ops.square(operation(a))), [a])


# --- two captures of one step --------------------------------------------------------------------------------


def capture(step, *args):
    with strict.capturing() as calls:
        step(*args)
    return calls


def test_a_step_that_is_the_same_twice(x):
    state = xp.zeros((4,))

    def step():
        state.__iadd__(xp.exp(x) * 0.1)
        return (state[1:] * state[:-1]).sum()

    strict.compare(capture(step), capture(step))


@pytest.mark.parametrize(
    "step",
    [
        lambda x, k: x * (0.1 * k),
        lambda x, k: 1.0 / (x + k),
        lambda x, k: xp.maximum(x, float(k)),
        lambda x, k: xp.full((2,), k),
        lambda x, k: xp.asarray(float(k)) * x,
        lambda x, k: x[k:],
        lambda x, k: x.__setitem__(0, k),
        lambda x, k: x.fill(k),
        lambda x, k: xp.sum(x.reshape(2, 2), axis=k - 1),
        lambda x, k: xp.clip(x, 0, k),
        lambda x, k: x.__imul__(k),
    ],
)
def test_a_number_that_is_baked_in_is_found(x, step):
    first, again, second = (capture(step, x, k) for k in (1, 1, 2))
    strict.compare(first, again)
    with pytest.raises(strict.CaptureError, match=rf"baked in, .* of \S.* at \S*{HERE}:\d+"):
        strict.compare(first, second)


def test_another_array_in_the_place_of_the_first_is_found(x):
    held = [x * 1.0]

    def rebinds():
        held[0] = held[0] * 0.5

    with pytest.raises(strict.CaptureError, match=r"another array in the next step.* of mul at .*:\d+"):
        strict.compare(capture(rebinds), capture(rebinds))


def test_other_calls_are_found(x):
    for other in (lambda: xp.exp(xp.exp(x)), lambda: None, lambda: xp.log(x)):
        with pytest.raises(strict.CaptureError, match="not the same twice"):
            strict.compare(capture(lambda: xp.exp(x)), capture(other))
    one, two = (capture(lambda a=a: xp.concatenate(a)) for a in ([x, x], [x, x, x]))
    with pytest.raises(strict.CaptureError, match="not of the same operands twice"):
        strict.compare(one, two)


# --- what spares copies --------------------------------------------------------------------------------------


def test_a_constant_is_brought_in_once():
    with strict.watched() as seen:
        a, b = (xp.constant((0.25, 0.5, 0.125), "float32") for _ in range(2))
        index, mask, row = xp.constant([0, 1]), xp.constant([False, True]), xp.constant((0.0, 1.0))
    assert a is b and seen.copies_in <= 4
    assert (index.dtype, mask.dtype, row.dtype) == (np.int64, np.bool_, np.float64)
    numpy = get("numpy")
    assert numpy.constant([1, 2]) is not numpy.constant([1, 2])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_many_arrays_are_joined_without_a_table(axis):
    parts = [np.random.default_rng(i).standard_normal((2, 3, 2)) for i in range(12)]
    there = [xp.asarray(p) for p in parts]
    with strict.capturing():
        whole, piled = xp.joined(there, axis), ops.stack(there, axis=1)
    np.testing.assert_array_equal(xp.to_numpy(whole), np.concatenate(parts, axis=axis))
    np.testing.assert_array_equal(xp.to_numpy(piled), np.stack(parts, axis=1))
    with pytest.raises(ValueError, match="cannot be joined"):
        xp.joined([*there, xp.zeros((4, 5, 6))], axis)
