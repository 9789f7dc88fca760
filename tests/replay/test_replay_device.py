"""Replay where arrays live on a device: the strict backend holds a step against the rules of a CUDA graph."""

import re

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import guard, nn, ops, optim, tracing
from scratchgen.backend import get
from scratchgen.random import Generator
from scratchgen.recorded import ReplayError
from scratchgen.rehearsal import WARM_UPS

xp = get("strict")
CALLS = 6
assert WARM_UPS + 2 < CALLS


@pytest.fixture(autouse=True)
def on_strict():
    with sg.backend("strict"):
        yield
    assert not guard.listening()
    assert tracing.recorder is None


def host(x):
    return xp.to_numpy(x)


def there(*numbers):
    return xp.asarray(np.array(numbers))


def noisy_step(lr=0.1):
    """Descent with noise, momentum and an average: what a trainer does."""
    net = nn.Linear(3, 2, rng=Generator(1))
    flat = optim.Flat(dict(net.named_parameters()))
    adam, ema = optim.Adam(flat, lr=lr), optim.EMA(flat, 0.9)
    rng = Generator(2, "counter")

    def step(x, rate, rng):
        loss = ops.mean((net(x + 0.1 * rng.standard_normal(x.shape)) - 1.0) ** 2)
        gradient = flat.gather(sg.gradients(loss, flat.parameters))
        norm = optim.clip_by_norm(gradient, 0.1)
        adam.step(gradient, lr=rate)
        ema.update()
        return {"loss": loss, "norm": norm, "shape": x.shape}

    return step, rng, lambda: [host(flat.buffer), host(ema.buffer), *adam.state().values(), ema.state()["steps"]]


def test_a_step_of_training_is_the_same_to_the_last_bit():
    (plain, rng, state), (step, other, later) = noisy_step(), noisy_step()
    replay = sg.replay(step)
    for k in range(30):
        x, rate = np.random.default_rng(k).random((4, 3), np.float32), there(0.1 / (k + 1)).reshape(())
        one, two = plain(xp.asarray(x), rate, rng), replay(x, rate, other)
        assert one.keys() == two.keys()
        assert two["shape"] == (4, 3)
        assert type(two["loss"]) is type(xp.zeros(()))
        assert host(one["loss"].value) == host(two["loss"])
        assert all(np.array_equal(a, b) for a, b in zip(state(), later(), strict=True))
    assert rng.state() == other.state()
    (nested,) = replay.graphs.values()
    assert nested.graph.captured is not None


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("step", [lambda x, v: (v, x), lambda x, v: (v[::-1], x), lambda x, v: (x + v, x - v)])
def test_results_may_be_the_next_arguments(step, copy):
    replay = sg.replay(step, copy)
    a = b = (np.array([1.0, 2.0]), np.array([3.0, 5.0]))
    for _ in range(CALLS):
        a, b = step(*a), replay(*b)
        assert [x.tolist() for x in a] == [host(x).tolist() for x in b]


@pytest.mark.parametrize("copy", [True, False])
def test_results_are_the_callers_own_if_they_are_copied(copy):
    weights = there(1.0)
    replay = sg.replay(lambda x: (x * 2.0, weights), copy)
    found = [replay(there(float(k))) for k in range(CALLS)]
    assert [host(y).tolist() for y, _ in found[-2:]] == ([[8.0], [10.0]] if copy else [[10.0], [10.0]])
    for _, w in found[: WARM_UPS if copy else 0]:
        w.fill(7.0)
    assert host(weights).tolist() == [1.0]


def test_another_shape_number_or_generator_is_another_graph():
    replay = sg.replay(lambda x, k, rng: (x * k).sum() + 0.0 * rng.random(()))
    rngs = [Generator(0, "counter"), Generator(0, "counter")]
    for _ in range(CALLS):
        for n in (2, 3):
            for k in (1.0, 2):
                for rng in rngs:
                    assert host(replay(np.ones(n), k, rng)) == n * k
    assert len(replay.graphs) == 8
    for n in range(4, 12):
        replay(np.ones(n), 1.0, rngs[0])
    with pytest.raises(ReplayError, match="16 different shapes or numbers among the arguments of <lambda>"):
        replay(np.ones(12), 1.0, rngs[0])
    replay.close()
    assert replay.graphs == {}


def test_backends_have_graphs_of_their_own():
    replay = sg.replay(lambda x: x * 2.0)
    for _ in range(CALLS):
        assert host(replay(np.ones(2))).tolist() == [2.0, 2.0]
        with sg.backend("numpy"):
            assert replay(np.ones(2)).tolist() == [2.0, 2.0]
    assert len(replay.graphs) == len(replay.plans) == 1


def test_a_tensor_or_a_replay_inside_is_refused():
    with pytest.raises(ReplayError, match="a tensor among the arguments"):
        sg.replay(lambda x: x)(sg.tensor([1.0]))
    inner = sg.replay(lambda x: x * 2.0)
    with pytest.raises(ReplayError, match="a replayed step inside another one"):
        sg.replay(lambda x: inner(x) + 1.0)(np.ones(2))
    for _ in range(CALLS):
        inner(np.ones(2))  # neither of them is in the way of others


# --- the rules -------------------------------------------------------------------------------------------------


class Kept:
    """What a step keeps between calls."""

    def __init__(self):
        self.k = 0
        self.array = there(0.0, 0.0)

    def count(self):
        self.k += 1
        return self.k

    def late(self):
        return self.count() > WARM_UPS + 3


def noise(x, kept):
    return x + Generator(0, "host").standard_normal((2,), np.float64)


def rebinds(x, kept):
    kept.array = kept.array * 0.5 + x
    return kept.array * 1.0


BROKEN = {
    "a read": (lambda x, kept: x if float(x[0]) > 0 else -x, r"read: float\(\) at {here}; "),
    "a decision": (lambda x, kept: x if x[0] > 0 else -x, r"read: bool\(\) at {here}; "),
    "a mask": (lambda x, kept: x[x > 0], r"read: a boolean mask as an index at {here}; "),
    "a copy out": (lambda x, kept: x * float(host(x)[0]), r"copy out: to_numpy at {here}; "),
    "a copy in": (lambda x, kept: x + xp.asarray(np.ones(2)), r"copy in: asarray of host data at {here}; "),
    "noise of the host": (noise, r"noise drawn on the host at {here} "),
    "generators": (lambda x, kept: x + Generator(0).spawn(1)[0].random((2,)), "a generator made in the step"),
    "a product by cuBLAS": (lambda x, kept: x * (x @ x), r"@ calls cuBLAS through CuPy, which refuses at {here}; "),
    "a number": (lambda x, kept: x * (0.5 * kept.count()), r"a number is baked in, 1\.5, then 2\.0: .* of mul at "),
    "a number, later": (lambda x, kept: x + (1.0 if kept.late() else 0.0), r"a number is baked in, 0\.0, then 1\.0: "),
    "a rate": (lambda x, kept: x - 0.1 / kept.count(), r"a number is baked in, 0\.0333\d*, then 0\.025: "),
    "a number that fills": (lambda x, kept: x + xp.full((2,), kept.count()), "a number is baked in, 3, then 4: "),
    "a shape": (lambda x, kept: xp.zeros((kept.count(),)), r"a number is baked in, 3, then 4: .* of zeros at {here}"),
    "another call": (lambda x, kept: ops.exp(x) if kept.late() else ops.log(x), "the step is not the same twice: log "),
    "more calls": (lambda x, kept: x + x + x if kept.late() else x + x, "the step is not the same twice: "),
    "an array replaced": (rebinds, r"another array in the next step, .* of mul at {here}"),
    "a result of the host": (lambda x, kept: (x, kept.count()), "the result holds another number in the next step"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_a_graph_would_get_wrong_is_refused_in_one_line(what):
    """And arrays from outside are what they were before the step that was refused."""
    step, why = BROKEN[what]
    kept, state = Kept(), there(0.0)
    stream = Generator(0, "counter")

    def both(x):
        state.__iadd__(1.0)
        stream.random((3,))
        return step(x, kept)

    replay, done, text = sg.replay(both), 0, ""
    while not text and done < CALLS:
        try:
            replay(np.array([1.0, 2.0]))
            done += 1
        except ReplayError as error:
            text = str(error)
    assert re.match("replay: " + why.format(here=r"\S*test_replay_device\.py:\d+"), text), text
    assert "\n" not in text
    if what != "a result of the host":
        assert done >= WARM_UPS
        assert host(state).tolist() == [float(done)]
        assert stream.state()["counter"] == done


def test_steps_that_keep_the_rules_are_not_refused():
    """Negative control: the same things done as a graph can hold them."""
    count, state, rng = xp.zeros((), np.int64), there(0.0, 0.0), Generator(0, "counter")

    def step(x):
        count.__iadd__(1)
        state[...] = state * 0.5 + xp.where(x > 0, x, -x)
        return state * (0.5 * count), rng.random((2,)), xp.matmul(x, x), xp.full((2,), 3.0)

    replay = sg.replay(step)
    for k in range(CALLS):
        found = replay(np.array([1.0, 2.0]))
        assert host(found[0]).tolist() == [0.5 * (k + 1) * (2 - 0.5**k), (k + 1) * (2 - 0.5**k)]
    assert rng.state()["counter"] == CALLS
