"""Steps that cannot be replayed say so in one line, and leave everything as it was; none is silently wrong."""

import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from replay_tools import assert_same_bits, plain, rows

import scratchgen as sg
from scratchgen import nn, ops, optim, tracing
from scratchgen.autograd import Tensor, gradients
from scratchgen.random import Generator
from scratchgen.recorded import Recorded
from scratchgen.replay import KEPT

X = rows(4, 3)
HERE = re.escape(str(Path(__file__)))


class Player:
    """Two parameters, an optimiser, and a step that ends or begins with whatever a test wants."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.w, self.b = (sg.tensor(rng.standard_normal(s).astype("float32")) for s in ((3, 2), (2,)))
        self.flat = optim.Flat({"w": self.w, "b": self.b})
        self.optimiser = optim.SGD(self.flat, lr=0.1)

    def descend(self, x):
        mean = ops.mean(ops.square(ops.tanh(x @ self.w + self.b) - 2))
        self.optimiser.step(self.flat.gather(gradients(mean, [self.w, self.b])))
        return mean


def refused(step, message, calls=X, player=None):
    """One of the first two calls raises ReplayError with the message, one line; afterwards all is as without."""
    replay, text = sg.replay(step), ""
    try:
        for arguments in calls[:2]:
            replay(*arguments)
    except sg.ReplayError as error:
        text = str(error)
    assert "\n" not in text
    assert re.fullmatch(f"replay: {message}", text), text
    assert tracing.recorder is None
    assert not replay.ready
    if player is not None:
        for tensor in (player.w, player.b):
            assert type(tensor.value) is np.ndarray
            assert np.shares_memory(tensor.value, player.flat.buffer)
        assert type(player.flat.buffer) is np.ndarray
        assert type(plain(player.descend(X[0][0]))) in (np.float32, np.ndarray)


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
