"""What a replayed step finds outside of itself: parameters, optimisers, generators, backends, other threads."""

import sys
import threading

import numpy as np
import pytest
from replay_tools import Twin, agree, assert_same_bits, plain, rows, trainer

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import nn, ops, optim, tracing
from scratchgen.autograd import gradients
from scratchgen.random import Generator

X = rows(4, 3)


def small(seed=0):
    """A network, and its trainer's step on the mean of its squared outputs."""
    rng = Generator(seed)
    return nn.Sequential(nn.Linear(3, 5, rng=rng), F.tanh, nn.Linear(5, 2, rng=rng))


def loss(network, x):
    return ops.sum(ops.square(network(x)), axis=-1)


# --- by reference -------------------------------------------------------------------------------------------


def test_what_changes_between_calls_is_seen():
    """Loading parameters, writing to the flat buffer, another learning rate."""
    networks = [small(), small()]
    flats = [optim.Flat(dict(network.named_parameters())) for network in networks]
    optimisers = [optim.SGD(flat, lr=0.1) for flat in flats]

    def make(network, flat, optimiser):
        def step(x):
            mean = ops.mean(loss(network, x))
            optimiser.step(flat.gather(gradients(mean, network.parameters())))
            return mean

        return step

    eager, step = (make(*parts) for parts in zip(networks, flats, optimisers, strict=True))
    replay = sg.replay(step)
    for i, (x,) in enumerate(rows(4, 3, n=12)):
        assert_same_bits(plain(eager(x)), replay(x))
        assert_same_bits(flats[0].buffer, flats[1].buffer)
        for network, flat, optimiser in zip(networks, flats, optimisers, strict=True):
            if i == 3:
                network.load_state_dict(small(7).state_dict())
            if i == 5:
                flat.write(flat.buffer * np.float32(0.5))
            if i == 7:
                optimiser.lr = 0.3
            if i == 9:
                network.layers[0].w.assign(np.ones((3, 5), np.float32))


LOOKS = {
    "sign": ops.sign,
    "greater": lambda w: (w > 0) * 1.0,
    "argmax": lambda w: ops.take(np.arange(15.0, dtype="float32"), ops.argmax(w)),
    "array": lambda w: w.array * 2,
    "stop_gradient": lambda w: sg.stop_gradient(w) + 1,
    "count_nonzero": lambda w: ops.count_nonzero(w > 0) * 0.5,
    "isfinite": lambda w: ops.isfinite(w) & (w.array < 0),
    "zeros_like": lambda w: ops.zeros_like(w) + w.array[0],
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_parameter_that_no_gradient_reaches_is_seen(look):
    """Also where the operation gives constants and nothing has met the parameter before."""
    w = sg.tensor(np.random.default_rng(0).standard_normal((3, 5)).astype("float32"))
    replay = sg.replay(lambda x: (look(w), x * 2))
    for x in X:
        assert_same_bits([look(w), x[0] * 2], list(replay(*x)))
        if len(replay.ready):
            w.assign(-w.value[::-1])


def test_an_average_and_a_frozen_network_follow():
    def make():
        network = small()
        flat = optim.Flat(dict(network.named_parameters()))
        player, ema = optim.Adam(flat, lr=0.05), optim.EMA(flat, 0.9)
        averaged, frozen = network.frozen(ema.arrays()), network.frozen()

        def step(x):
            mean = ops.mean(ops.square(network(x) - averaged(x))) + ops.mean(loss(network, x)) + ops.mean(frozen(x))
            player.step(flat.gather(gradients(mean, network.parameters())))
            ema.update()
            return mean, averaged(x), frozen(x), averaged.layers[0].w

        return step, [flat.buffer, ema.buffer, player.m, player.v]

    agree(make, X)


def test_parameters_assigned_in_the_step():
    """Gradient descent by hand, before and after the parameter's other uses."""

    def make():
        w, b = sg.tensor(np.ones((3, 2), "float32")), sg.tensor(np.zeros(2, "float32"))

        def step(x):
            w.assign(w.array * 0.9)
            mean = ops.mean(ops.square(ops.tanh(x @ w + b) - 1))
            for p, g in zip((w, b), gradients(mean, [w, b]), strict=True):
                p.assign(p.array - 0.5 * g)
            return mean, ops.sum(w.array)

        return step, [w.value, b.value]

    agree(make, X)


# --- generators ---------------------------------------------------------------------------------------------


def draws(x, rng):
    return (
        rng.standard_normal(x.shape) + x, rng.standard_normal((2, 3), sg.float64), rng.standard_normal(),
        rng.random((3,)), rng.exponential((2,)), rng.integers(0, 9, (4,)), rng.integers(0, 9), rng.permutation(5),
        rng.choice(5, (2,), p=[0.1, 0.2, 0.3, 0.2, 0.2]),
    )  # fmt: skip


def test_a_generator_that_is_given_advances_as_without():
    twin = Twin(lambda: draws)
    for i, (x,) in enumerate(X):
        twin.call(x, Generator(i // 2))


def test_a_generator_from_outside_advances_as_without():
    one, two = Generator(3), Generator(3)
    replay = sg.replay(lambda x: draws(x, two))
    for (x,) in X:
        assert_same_bits(list(draws(x, one)), list(replay(x)))
        assert one.state() == two.state()


def test_noise_that_nobody_uses_is_drawn():
    def make():
        rng = Generator(0)

        def step(x):
            rng.standard_normal((3,))
            return x + rng.random((3,))

        return step

    agree(make, X)


# --- backends and threads -----------------------------------------------------------------------------------


def test_on_another_backend_nothing_is_recorded():
    with sg.backend("strict") as xp:
        network = small()
        replay = sg.replay(lambda x: network(x))
        x = xp.asarray(X[0][0])
        for _ in range(4):
            found = replay(x)
            assert_same_bits(network(x).numpy(), xp.to_numpy(found))
    assert not replay.before


def together(*tasks):
    """Run functions in threads of their own, all at once; raises what one of them raises."""
    wrong, barrier = [], threading.Barrier(len(tasks))

    def run(task):
        try:
            barrier.wait(timeout=30)
            task()
        except BaseException as error:  # a thread has no other way to tell
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if wrong:
        raise wrong[0]


@pytest.fixture
def _hasty():
    """Threads that take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hasty")
def test_threads_call_one_replay_at_once():
    """The first calls too, which are recorded."""
    network = small()

    def step(x, rng):
        return ops.tanh(network(x) + rng.standard_normal((2,))), x * 2

    replay = sg.replay(step)

    def sequentially(seed):
        return [plain(step(x, Generator(i))) for i, (x,) in enumerate(rows(4, 3, n=40, seed=seed))]

    expected, found = [sequentially(seed) for seed in range(3)], [[], [], []]

    def collect(seed):
        for i, (x,) in enumerate(rows(4, 3, n=40, seed=seed)):
            found[seed].append(replay(x, Generator(i)))

    together(*(lambda seed=seed: collect(seed) for seed in range(3)))
    assert_same_bits(expected, found)
    assert 1 <= len(replay.plans[next(iter(replay.plans))]) <= 3


@pytest.mark.usefixtures("_hasty")
def test_other_threads_compute_while_one_records():
    """Nothing of theirs is recorded, and the recorder hears all of its own."""
    x, stop, expected = X[0][0], threading.Event(), set()

    def make(seed):
        step, (buffer, *_) = trainer(small(seed), loss, lr=0.1)
        noise = Generator(seed)
        return lambda: step(x + noise.standard_normal((4, 3)))[0], buffer

    def record():
        try:
            for _ in range(20):
                step, buffer = make(0)
                replay = sg.replay(step)
                for _ in range(3):
                    replay()
                expected.add(buffer.tobytes())
        finally:
            stop.set()

    def compute(seed):
        while not stop.is_set():
            step, buffer = make(seed)
            for _ in range(3):
                assert type(step().value) in (np.float32, np.ndarray)
            expected.add(buffer.tobytes())

    together(record, lambda: compute(1), lambda: compute(2))
    assert tracing.recorder is None
    for seed in range(3):
        step, buffer = make(seed)
        for _ in range(3):
            step()
        expected.discard(buffer.tobytes())
    assert not expected
