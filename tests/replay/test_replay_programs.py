"""Random programs and their gradients: the replay's numbers are the program's own, to the last bit.

With blocks of a few bytes and no array too small for them, all that the planner does is done to small programs.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import descent, programs, run, shapes, smooth_programs, smooth_shapes
from replay_tools import assert_same_bits, plain

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import ops, planning
from scratchgen.autograd import gradients

MANY = settings(max_examples=max(60, settings.default.max_examples))  # enough to meet all that a plan can be
FEW = settings(max_examples=max(10, settings.default.max_examples // 2))


def arrays(shapes, seed, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.fixture(params=[(1, 64), (1, 1), (100, 60)], ids=lambda p: f"{p[0]}-{p[1]}")
def small_blocks(request, monkeypatch):
    monkeypatch.setattr(planning, "LARGE", request.param[0])
    monkeypatch.setattr(planning, "BLOCK", request.param[1])


@pytest.mark.usefixtures("small_blocks")
def test_random_programs():
    seen = {"blocks": 0, "shared": 0, "small": 0, "parts": 0, "plans": 0}

    @MANY
    @given(programs, shapes, st.sampled_from(["float32", "float64"]))
    def check(program, shapes, dtype):
        step = lambda *xs: run(program, xs)  # noqa: E731
        replay = sg.replay(step)
        for seed in range(5):
            xs = arrays(shapes, seed, dtype)
            assert_same_bits(step(*xs), replay(*xs))
        (plans,) = replay.plans.values()
        (plan,) = plans
        seen["plans"] += 1
        seen["blocks"] += any(step.rows for step in plan.steps)
        seen["shared"] += bool(plan.home)
        seen["small"] += bool(plan.small)
        seen["parts"] += any(not step.calls for step in plan.steps)

    check()
    assert all(n or (what == "small" and planning.LARGE > 1) for what, n in seen.items()), seen


def test_parts_of_parts_are_made_in_their_places():
    """Joined arrays that are joined again, on either side and in either order."""
    def step(x, y):
        one = np.concatenate([np.tanh(x), y * 2])
        two = np.concatenate([y + x, np.concatenate([x * 3, one, x - y])])
        return np.concatenate([one, two, x * y]), np.concatenate([two, np.tanh(two)], axis=1)

    replay = sg.replay(step)
    for seed in range(5):
        xs = arrays([(2, 3), (2, 3)], seed)
        assert_same_bits(step(*xs), replay(*xs))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (0, 2), (1, 2)])
def test_sums_are_added_in_the_same_order(order, axis):
    """Of an array whose axes lie in any order in memory, forwards and backwards."""
    def step(x):
        y = x.transpose(order)
        looks = (y, y[::-1], y[:, ::-1])
        return [z.sum(axis=axis, keepdims=True) * 2 - z.mean(axis=axis, keepdims=True) for z in looks]

    replay = sg.replay(step)
    for seed in range(4):
        (x,) = arrays([(7, 18, 11)], seed)
        assert_same_bits(step(x), replay(x))


@pytest.mark.parametrize("subscripts", ["ij,kj->ik", "ij,kj->jk", "ij,ij->i", "ij,kj->ikj", "ij,ij->", "ij,ki->kj"])
def test_einsum_of_looks_in_any_direction(subscripts):
    def step(x):
        y = x[3::-2, ::-2] if "ki" not in subscripts else x[:8:2, ::2][:3, :3]
        pairs = ((y, y), (y.copy(), y))
        return [np.einsum(subscripts, *pair, optimize=way) for pair in pairs for way in (False, True)]

    replay = sg.replay(step)
    for seed in range(4):
        (x,) = arrays([(8, 10)], seed)
        assert_same_bits(step(x), replay(x))


@pytest.mark.parametrize("small_blocks", [(1, 64)], indirect=True)
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("twice", [False, True])
def test_gradients_of_random_programs(twice):
    """The parameters change between the calls."""
    seen = {"blocks": 0, "shared": 0, "gradients": 0}

    @FEW
    @given(smooth_programs, smooth_shapes, st.sampled_from(["float32", "float64"]))
    def check(program, shapes, dtype):
        parameters = [sg.tensor(x) for x in arrays(shapes, 9, dtype)]
        step = lambda *xs: descent(program, parameters, xs, twice)  # noqa: E731
        replay = sg.replay(step)
        for seed in range(4):
            xs = arrays(shapes, seed, dtype)
            assert_same_bits(plain(step(*xs)), replay(*xs))
            for p in parameters:
                p.assign((0.9 * p.value).astype(dtype))
        ((plan,),) = replay.plans.values()
        seen["blocks"] += any(step.rows for step in plan.steps)
        seen["shared"] += bool(plan.home)
        seen["gradients"] += len(plan.steps) > 1

    check()
    assert all(seen.values()), seen


def test_gradients_are_laid_out_as_without():
    """A gradient of a sum, repeated along what was summed, of an array whose axes were exchanged; summed again."""
    w = sg.tensor(arrays([(4, 3, 2, 3)], 0, "float64")[0])

    def step(x):
        z = ops.transpose(ops.sum(w, axis=(0, 1)))
        (g,) = gradients(ops.sum(ops.square(F.softmax(z, axis=0)) * x), [w], create_graph=True)
        return g, ops.sum(ops.square(g)), gradients(ops.sum(ops.square(g)), [w])[0]

    replay = sg.replay(step)
    for seed in range(12):
        (x,) = arrays([(3, 2)], seed, "float64")
        assert_same_bits(plain(step(x)), replay(x))


def test_numbers_are_not_written_to():
    """s += 1 changes an array, but makes another number; an array of no dimensions is an array."""
    def step(x, y):
        s, z = x.sum(), x[0, 0]
        before, looks, turned = s, (s[...], s.reshape(1), s.copy(), s.astype("float64"), z), z.reshape(1, 1)
        s += 1
        z *= 2
        looks[0][...] = 7
        turned -= 3
        t = looks[3]
        t *= 2
        kept, y = y, y.copy()
        own = y
        y += 1
        y **= 2
        return s, before, looks, turned, z, t, kept, own, y

    replay = sg.replay(step)
    for seed in range(5):
        xs = arrays([(3, 4), ()], seed)
        assert_same_bits(step(*xs), replay(*xs))


def test_a_determinant_and_its_gradient():
    """Two results of one function of NumPy's, each a call of its own."""

    def step(x):
        sign, value = ops.linalg.slogdet(x)
        return sign, value, *sg.grad(lambda x: ops.sum(ops.linalg.slogdet(x).logabsdet))(x)

    step = sg.replay(step)
    for seed in range(4):
        (x,) = arrays([(3, 4, 4)], seed)
        sign, value, *gradient = step(x)
        np.testing.assert_array_equal((sign, value), np.linalg.slogdet(x))
        np.testing.assert_array_equal(gradient, np.linalg.inv(x).swapaxes(-1, -2))
