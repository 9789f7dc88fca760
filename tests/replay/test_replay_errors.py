"""Steps that cannot be replayed say so in one line, and leave everything as it was; none is silently wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
from refusal_tools import Player, X, refused
from replay_tools import assert_same_bits, plain

import scratchgen as sg
from scratchgen import nn, ops, optim, tracing
from scratchgen.autograd import Tensor, gradients
from scratchgen.random import Generator
from scratchgen.replay import KEPT

HERE = re.escape(str(Path(__file__)))

# --- reading numbers ----------------------------------------------------------------------------------------

READS = {
    "float()": float, "int()": int, "if, while or bool()": lambda s: 1 if s > 0 else 2, "item()": lambda s: s.item(),
    "numpy()": np.asarray, "an index, range() or a shape": lambda s: range(s.astype(int)), "round()": round,
    "tolist()": lambda s: s.tolist(), "a text": "{:.3f}".format,
}  # fmt: skip


@pytest.mark.parametrize("what", READS)
def test_reading_a_number(what):
    player = Player()

    def step(x):
        player.descend(x)
        return READS[what](x.sum())

    made = r"(add\.reduce|greater|astype)"
    refused(step, rf"{re.escape(what)} reads a number of a step that is to be replayed, the result of {made}, "
                  rf"at {HERE}:\d+", player=player)  # fmt: skip


@pytest.mark.parametrize("read", [float, bool, lambda t: t.item(), lambda t: t.numpy(), repr, lambda t: f"{t}"])
def test_reading_a_number_of_a_tensor(read):
    player = Player()
    message = rf".* reads a number of .*, the result of .*, at {HERE}:\d+"
    refused(lambda x: read(player.descend(x)), message, player=player)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: [1, 2, 3][x.argmax() % 3], lambda x: x[: x.argmax()], lambda x: np.zeros(x.argmax()) + 1,
        lambda x: list(range(x.argmax())), lambda x: np.array([x[0], x[1]]), lambda x: max(x[0, 0], x[0, 1]),
        lambda x: 3 in x, lambda x: f"{x.sum():.2f}", lambda x: print(x.mean()), lambda x: np.full(3, x[0, 0]),
        lambda x: sg.tensor(np.ones(3, "float32")).item() if x.all() else x,
    ],
)  # fmt: skip
def test_other_ways_to_read_a_number(step):
    refused(step, rf".* reads a number of a step that is to be replayed(, the result of \w+(\.\w+)?,)? at {HERE}:\d+")


# --- what has no place in a list of calls -------------------------------------------------------------------


def clipped(x):
    y = x * 2
    np.clip(y, -0.5, 0.5, out=y)
    return y


def clipped_in_place(x):
    y = x * 2
    np.clip(y, -0.5, 0.5, y)
    return y


def summed_into(x):
    y = x[0] * 2
    np.sum(x, axis=0, out=y)
    return y


def without_nan(x):
    y = x * 2
    np.nan_to_num(y, copy=False)
    return y


@pytest.mark.parametrize("step", [clipped, clipped_in_place, summed_into, without_nan])
def test_a_function_that_writes_to_what_it_is_given(step):
    refused(step, rf"\w+ writes to an array that it is given at {HERE}:\d+")


@pytest.mark.parametrize("name", ["sort", "partition", "resize", "fill"])
def test_a_method_that_writes_to_its_array(name):
    def step(x):
        y = x * 2
        getattr(y, name)(1)
        return y

    refused(step, rf"{name} gives a NoneType, not an array at {HERE}:\d+")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda x: divmod(x, 2), r"divmod\.__call__ with 2 results cannot be recorded"),
        (lambda x: np.add.accumulate(x), r"add\.accumulate with 1 results cannot be recorded"),
        (lambda x: np.nonzero(x), "nonzero gives a tuple, not an array"),
        (lambda x: ops.nonzero(x), "nonzero gives a tuple, not an array"),
        (lambda x: np.split(x, 2), "split gives a list, not an array"),
        (lambda x: x.real + 1, "the attribute 'real' of an array cannot be recorded"),
        (lambda x: x.tobytes(), "tobytes gives a bytes, not an array"),
    ],
)  # fmt: skip
def test_functions_that_give_something_else(step, message):
    refused(step, rf"{message} at {HERE}:\d+")


def added(x):
    x += 1
    return x.sum()


def set_to(x):
    x[0] = 0
    return x.sum()


def set_at(x):
    x[[0, 2]] = 0
    return x.sum()


def added_at(x):
    np.add.at(x, [0, 0], 1.0)
    return x.sum()


@pytest.mark.parametrize("step", [added, set_to, set_at, added_at, lambda x: optim.clip_by_norm(x[0], 0.1)])
def test_writing_to_an_argument(step):
    x = X[0][0].copy()
    refused(step, r"[\w.]+ writes to an argument; copy it first at .*\.py:\d+", calls=[(x,)])
    assert_same_bits(X[0][0], x)


OUTSIDE = np.zeros((4, 3), "float32")


def add_to(x, y):
    y += x
    return y


def add_into(x, y):
    np.add(x, y, out=y)
    return y


def scatter(x, y):
    np.add.at(y, [0, 0], x[0])
    return y


@pytest.mark.parametrize("write", [add_to, add_into, scatter])
@pytest.mark.parametrize("make", [lambda: np.zeros((4, 3), "float32"), lambda: OUTSIDE], ids=["in the step", "outside"])
def test_writing_to_an_array_that_numpy_made(write, make):
    refused(lambda x: write(x, make()), rf"add writes to an array that the step did not make at {HERE}:\d+")
    assert not OUTSIDE.any()


def test_descent_on_the_flat_buffer():
    player = Player()

    def step(x):
        mean = ops.mean(ops.square(x @ player.w + player.b))
        player.flat.buffer -= 0.1 * player.flat.gather(gradients(mean, [player.w, player.b]))
        return mean

    refused(step, rf"subtract writes to an array that the step did not make at {HERE}:\d+", player=player)


@pytest.mark.parametrize("whose", ["argument", "outside"])
def test_noise_written_to_an_array(whose):
    def step(x, rng):
        y = x * 1 if whose == "argument" else np.zeros((4, 3), "float32")
        rng.standard_normal(y.shape, y.dtype, y)
        return y + x

    refused(step, rf"standard_normal writes to an array that it is given at {HERE}:\d+",
            calls=[(x, Generator(0)) for (x,) in X])  # fmt: skip


# --- arguments ----------------------------------------------------------------------------------------------


def test_a_tensor_among_the_arguments():
    refused(lambda x: x * 2, "a tensor among the arguments; pass its array, or let the step reach for it",
            calls=[(sg.tensor(X[0][0]),)])  # fmt: skip


def test_too_many_numbers():
    replay = sg.replay(lambda x, n: x * n)
    for n in range(KEPT):
        for (x,) in X[:4]:
            assert_same_bits(x * n, replay(x, n))
    message = f"replay: {KEPT} different shapes or numbers among the arguments of <lambda>: pass a number that changes"
    with pytest.raises(sg.ReplayError, match=f"^{message} as an array$"):
        replay(X[0][0], KEPT)
    assert_same_bits(X[0][0] * 3, replay(X[0][0], 3))


@pytest.mark.parametrize("calls", [0, 1, 4])
def test_a_replay_inside_of_another(calls):
    w = sg.tensor(np.ones(3, "float32"))
    inner = sg.replay(lambda *xs: (w * 2, *xs))
    for _ in range(calls):
        inner()
        inner(X[0][0])
    for arguments in ((), (X[0][0],)):
        message = "a replayed step inside another one that is being recorded"
        refused(lambda *xs: inner(*xs)[0] + 1, message, calls=[arguments])
    assert type(w.value) is np.ndarray


def test_an_error_of_the_steps_own_goes_through():
    player, broken = Player(), [True]

    def step(x):
        mean = player.descend(x)
        if broken[0]:
            raise KeyError("mine")
        return mean

    replay = sg.replay(step)
    with pytest.raises(KeyError, match="mine"):
        replay(X[0][0])
    assert tracing.recorder is None
    assert type(player.w.value) is np.ndarray
    broken[0] = False
    twin = Player()
    twin.descend(X[0][0])
    for (x,) in X:
        assert_same_bits(plain(twin.descend(x)), replay(x))
    assert_same_bits(twin.flat.buffer, player.flat.buffer)


def test_a_tensor_made_of_an_argument():
    """A leaf of the step's own: nothing is read."""
    def step(x):
        z = Tensor(x)
        return gradients(ops.sum(z * z * z), [z])[0], sg.grad(lambda z: ops.sum(ops.exp(z)))(x)

    replay = sg.replay(step)
    for (x,) in X:
        assert_same_bits(list(step(x)), list(replay(x)))


def test_networks_are_whole_after_an_error():
    rng = Generator(0)
    network = nn.Sequential(nn.Linear(3, 4, rng=rng), nn.LayerNorm(4), nn.Linear(4, 1, rng=rng))
    state = network.state_dict()
    refused(lambda x: float(ops.mean(network(x)).value), rf"float\(\) reads .* at {HERE}:\d+")
    assert all(type(p.value) is np.ndarray for p in network.parameters())
    assert all(np.array_equal(state[name], value) for name, value in network.state_dict().items())
