"""What a recorder cannot hear: NumPy's own writing, numbers of Python's, another list of calls."""

import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from refusal_tools import Player, X, refused
from replay_tools import assert_same_bits

import scratchgen as sg
from scratchgen import ops
from scratchgen.random import Generator
from scratchgen.recorded import Recorded

HERE = re.escape(str(Path(__file__)))

# --- what NumPy does unheard ---------------------------------------------------------------------------------


def clip_after(player, x):
    mean = player.descend(x)
    np.clip(player.flat.buffer, -0.01, 0.01, out=player.flat.buffer)
    return mean


def clip_before(player, x):
    player.flat.buffer *= np.float32(0.9)
    return player.descend(x)


def clip_and_write(player, x):
    mean = player.descend(x)
    player.flat.write(np.clip(player.flat.buffer, -0.01, 0.01))
    return mean


def clip_between(player, x):
    mean = player.descend(x)
    player.flat.buffer[1:3] = 0
    player.descend(x)
    return mean


@pytest.mark.parametrize("body", [clip_after, clip_before, clip_and_write, clip_between])
def test_numpy_writes_to_the_parameters(body):
    """Clipping a critic's weights with NumPy would be forgotten by the replay."""
    player = Player()
    message = "NumPy itself wrote to an array of float32 from outside, which nobody hears; use Tensor.assign"
    refused(lambda x: body(player, x), message, player=player)


def test_numpy_writes_to_a_constant():
    def step(x):
        a = np.zeros((4, 3), "float32")
        y = x + a
        a[...] = 1
        return y, x + a

    refused(step, "NumPy itself wrote to an array of float32 from outside, .*")


ELSEWHERE = {
    "buffer": (lambda p: p.flat.buffer + 1, "the result"),
    "array": (lambda p: p.optimiser.velocity * 2, "the result"),
    "number": (lambda p: float(p.flat.buffer.sum()), "the result"),
    "used": (lambda p: ops.exp(p.flat.buffer + 1), "exp"),
    "counter": (lambda p: p.w * p.optimiser.steps, "multiply"),
}  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_numbers_that_numpy_or_python_made(name):
    player = Player()
    make, where = ELSEWHERE[name]
    message = (f"a number or an array that {where} uses is another one in the next step; pass it as an argument, "
               "or make it of the step's own arrays")  # fmt: skip
    refused(lambda x: (player.descend(x), make(player)), message, player=player)


def test_noise_that_is_no_generators():
    rng = np.random.default_rng(0)
    refused(lambda x: x + rng.standard_normal((4, 3)), "a number or an array that add uses is another one .*")


@pytest.mark.parametrize("make", [lambda rng: Generator(3), lambda rng: rng.spawn(1)[0]], ids=["new", "spawned"])
def test_a_generator_made_in_the_step(make):
    rng = Generator(0)
    refused(lambda x: x + make(rng).random((3,)), "a number or an array that random uses is another one .*")


# --- another list of calls ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "even", "message"),
    [
        (lambda x: x + 1, lambda x: x * 2, "add at first, then multiply"),
        (lambda x: x + 1, lambda x: (x + 1) * 2, "the result at first, then multiply"),
        (lambda x: (x + 1) * 2, lambda x: x + 1, "multiply at first, then the result"),
    ],
)  # fmt: skip
def test_control_flow_that_alternates(odd, even, message):
    steps = count()
    refused(lambda x: (odd if next(steps) % 2 == 0 else even)(x), f"the step is not the same twice: {message}")


@pytest.mark.parametrize(
    "step",
    [
        lambda x, k: x * k, lambda x, k: x[:k] + 1, lambda x, k: x[[*range(k)]] + 1, lambda x, k: (x + 1, k),
        lambda x, k: (x + 1,) * k, lambda x, k: ops.take(x, list(range(k)), 0), lambda x, k: ops.sum(x * 2, axis=k % 2),
    ],
)  # fmt: skip
def test_a_counter(step):
    steps = count(1)
    refused(lambda x: step(x, next(steps)), "(a number or an array that|the step is not the same) .*")


def test_what_is_kept_in_an_attribute():
    class Cell:
        state = np.zeros((4, 3), "float32")

    cell = Cell()

    def step(x):
        cell.state = 0.9 * cell.state + x
        return cell.state.sum()

    refused(step, rf"an array that a recorded step left behind, in an attribute or a list, at {HERE}:\d+")
    assert type(cell.state) is Recorded
    with pytest.raises(sg.ReplayError, match="left behind"):
        cell.state * 2
    with pytest.raises(sg.ReplayError, match="left behind"):
        ops.exp(cell.state)


def test_results_of_a_kind_of_ones_own():
    class Result:
        def __init__(self, y):
            self.y = y

    refused(lambda x: Result(x * 2), "a number or an array that the result uses is another one .*")


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x[x > 0], lambda x: np.flatnonzero(x > 0), lambda x: np.unique(np.round(x)),
        lambda x: x[x[:, 0] > 0] * 2,
    ],
)  # fmt: skip
def test_a_shape_that_depends_on_numbers(step):
    """Two recordings that differ are refused; two that agree are not, but a replay that differs is."""
    refused(step, r"a number or an array that (getitem|flatnonzero|unique) uses is another one .*")
    replay = sg.replay(step)
    for i in range(4):
        assert_same_bits(step(X[0][0]), replay(X[0][0] if i else X[0][0].copy()))
    with pytest.raises(sg.ReplayError, match=r"^replay: \w+ gives an array of shape \(.*\); \(.*\) was recorded$"):
        replay(X[1][0])
    assert_same_bits(step(X[0][0]), replay(X[0][0]))


def test_a_number_cannot_be_written_to():
    """As NumPy says it of the number itself; `x.sum()[...]` is an array, and its own."""

    def step(x):
        s = x.sum()
        s[...] *= 2
        return s

    for run in (step, sg.replay(step)):
        with pytest.raises(TypeError, match="does not support item assignment"):
            run(X[0][0])


def test_one_place_instead_of_several():
    """A single number must not be repeated where several were recorded."""
    def step(x):
        return x[x > 0] * 2

    replay, x = sg.replay(step), np.array([1, -1, 2, 3], "float32")
    for _ in range(4):
        assert_same_bits(step(x), replay(x))
    with pytest.raises(sg.ReplayError, match=r"shape \(1,\); \(3,\)"):
        replay(-x)
