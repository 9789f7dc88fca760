"""What a replayed step is called with and what it returns: shapes, numbers, nests, and whose memory it is."""

from typing import NamedTuple

import numpy as np
import pytest
from replay_tools import Twin, agree, assert_same_bits, rows

import scratchgen as sg
from scratchgen import ops
from scratchgen.random import Generator


class Pair(NamedTuple):
    first: object
    second: object


X = rows(4, 3)


# --- what comes in ------------------------------------------------------------------------------------------


def test_each_shape_and_type_is_recorded_once_and_goes_on_working():
    twin = Twin(lambda: lambda x: ops.tanh(x) @ x.T)
    for _ in range(2):
        for dtype in ("float32", "float64"):
            for n in (4, 7, 1, 0):
                for call in rows(n, 3, n=4, dtype=dtype):
                    twin.call(*call)
    assert len(twin.replay.ready) == 8
    assert [len(plans) for plans in twin.replay.plans.values()] == [1] * 8


@pytest.mark.parametrize(
    "numbers", [(1, 2), (1.0, 2.0), (0.0, -0.0), (True, False), ("a", "b"), (None, 1), (1, 1.0, True)]
)
def test_another_number_is_another_recording(numbers):
    def step(x, n):
        return np.copysign(x, 1.0 if n is None or isinstance(n, str) else n), n

    agree(lambda: step, [(x, n) for n in numbers for (x,) in X])


def test_nan_is_one_number():
    twin = agree(lambda: lambda x, n: ops.where(x > 0, x, n), [(x, float("nan")) for (x,) in X])
    assert len(twin.replay.ready) == 1


def test_nests_of_arguments_are_not_mistaken_for_one_another():
    def step(p, q):
        return p[0] - q if isinstance(p, tuple) else p * q[0]

    twin = Twin(lambda: step)
    for calls in ([((x,), x + 1) for (x,) in X], [(x, (x + 1,)) for (x,) in X]):
        for call in calls:
            twin.call(*call)


def test_arrays_by_name_are_found_by_name():
    twin = Twin(lambda: lambda named: named["a"] - 2 * named["b"])
    for (x,) in X:
        twin.call({"a": x, "b": x * x})
    for (x,) in X:
        twin.call({"b": x * x, "a": x})
    for (x,) in X:
        twin.call({"c": x, "b": x * x, "a": x + 1})


def test_one_generator_twice_is_not_two():
    twin = Twin(lambda: lambda x, one, two: (x + one.standard_normal((3,)), two.random((2,))))
    for i, (x,) in enumerate(X):
        rng = Generator(i)
        twin.call(x, rng, rng)
    for i, (x,) in enumerate(X):
        twin.call(x, Generator(i), Generator(i + 1))


@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::-2], lambda x: np.broadcast_to(x[:1], x.shape)],
    ids=["fortran", "strided", "broadcast"],
)
def test_arguments_of_any_layout(change):
    def step(x):
        return ops.tanh(x) * 2 + x, x.T @ x

    replay = sg.replay(step)
    for (x,) in X:
        assert_same_bits(step(np.ascontiguousarray(change(x))), replay(change(x)))


def test_an_array_given_twice():
    agree(lambda: lambda x, y: (x * y, y - x), [(x, x) for (x,) in X])


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool", "float64"])
def test_arguments_of_any_type(dtype):
    def step(x):
        y = x.astype("float32")
        return ops.sum(y * 0.5, axis=0), x == 1, -y, ops.where(x > 0, y, 2.0)

    agree(lambda: step, [((3 * x).astype(dtype),) for (x,) in X])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (4, 0), (0, 3), (1, 1, 1)])
def test_empty_arrays_and_single_numbers(shape):
    def step(x):
        y = ops.tanh(x) + x * 0.1
        return y, ops.sum(y), ops.reshape(y, (-1,)), ops.concatenate([ops.ravel(y), ops.ravel(x)]), y * y - x

    agree(lambda: step, rows(*shape))


# --- what comes out -----------------------------------------------------------------------------------------


def test_nests_of_results():
    def step(x):
        y = ops.tanh(x)
        return Pair(y, [x, (y.sum(), None)]), {"a": "text", "b": {"c": y.T, "n": 3, "t": True}}, (), 2.5

    found = agree(lambda: step, X).replay(X[0][0])
    assert type(found[0]) is Pair
    assert type(found[0].second) is list
    assert list(found[1]) == ["a", "b"]


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x, lambda x: None, lambda x: (x, x), lambda x: x.T[::-1, 1:], lambda x: np.arange(3),
        lambda x: (x[None], x[0], x[0, 0], x[..., :0]), lambda x: (1, "a", ()), lambda x: ops.flip(x) * 1,
    ],
)  # fmt: skip
def test_results_that_are_arguments_or_views_or_constants(step):
    agree(lambda: step, X)


def test_results_are_the_callers_own():
    replay = sg.replay(lambda x: (x * 2, x, x.T))
    found = [replay(x) for (x,) in X]
    for (x,), results in zip(X, found, strict=True):
        assert_same_bits([x * 2, x, x.T], list(results))
        for y in results:
            y[...] = 0
    assert_same_bits(X[0][0] * 2, replay(X[0][0])[0])


def test_without_copy_results_are_the_replays_own():
    replay = sg.replay(lambda x: x * 2, copy=False)
    for (x,) in X[:3]:
        first = replay(x)
    second = replay(X[3][0])
    assert second is first
    assert_same_bits(X[3][0] * 2, second)


@pytest.mark.parametrize(
    "step",
    [
        lambda x, v: (x + 0.1 * v, v - 0.1 * x), lambda x, v: (v - 0.1 * x, x + 0.1 * v), lambda x, v: (v, x),
        lambda x, v: (v[::-1], x),
    ],
)  # fmt: skip
def test_without_copy_results_may_be_the_next_arguments(step):
    """Leapfrog and its like: what is handed in lies where the next step's arrays go."""
    replay = sg.replay(step, copy=False)
    mine = theirs = tuple(np.random.default_rng(0).standard_normal((2, 5)))
    for _ in range(8):
        mine, theirs = step(*mine), replay(*theirs)
        assert_same_bits(mine, theirs)
