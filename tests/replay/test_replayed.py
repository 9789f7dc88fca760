"""`sg.replayed`: methods of a system that are asked over and over."""

import gc
import importlib
import logging
import re
import weakref

import numpy as np
import pytest
from replay_tools import assert_same_bits, rows

import scratchgen as sg
from scratchgen import cores, nn, ops, optim
from scratchgen.backend import active, get
from scratchgen.cores import side_by_side
from scratchgen.nn import Module
from scratchgen.random import Generator
from scratchgen.replay import KEPT
from scratchgen.replayed import Asked, Replayed

FIRST = 3
RECORDED = FIRST + 2  # calls until all later ones are replayed


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(importlib.import_module("scratchgen.replayed"), "FIRST", FIRST)


class Calls:
    """How often a field and its frozen twins were asked."""

    made = 0


class Field(Module):
    """A system with a network, a method that asks it, and a sampler that asks the method."""

    def __init__(self):
        self.net = nn.MLP(3, 8, 3, rng=Generator(0))
        self.calls = Calls()

    def ask(self, x, t, sign=1, way="up"):
        self.calls.made += 1
        return self.net(x * t) * sign if way == "up" else self.net(x) - t

    def reads(self, x, t):
        self.calls.made += 1
        return self.net(x) * float(ops.mean(x)) * t

    def drawn(self, x, rng, shifts=frozenset()):
        return self.net(x + rng.standard_normal(x.shape) + sum(shifts))

    def walk(self, x, steps=20, method="ask", **options):
        field = self.frozen()
        for k in range(steps):
            x = x + getattr(field, method)(x, time(x, k / steps), **options)
        return x


def start(n=4, seed=0, dtype="float32"):
    return rows(n, 3, n=1, dtype=dtype, seed=seed)[0][0]


def time(x, t=0.5):
    """A time, as an array."""
    return active().full((len(x), 1), t, x.dtype)


def asked(system, name="ask"):
    return vars(system)[name]


def check(field, model, *arguments, **options):
    """The replayed system's walk is the other's."""
    assert_same_bits(field.walk(*arguments, **options), model.walk(*arguments, **options))


def test_the_same_bits_in_every_call_and_the_method_is_asked_no_more():
    field = Field()
    model = sg.replayed(field, "ask")
    check(field, model, start(), 30)
    assert len(asked(model).fast.ready) == 1
    before = field.calls.made
    model.walk(start())
    assert field.calls.made == before == 30 + RECORDED
    assert "ask" not in vars(field)


def test_other_shapes_and_options_are_other_recordings():
    field = Field()
    model = sg.replayed(field, "ask")
    for _ in range(2):
        for n in (4, 7):
            check(field, model, start(n))
            check(field, model, start(n), way="down")
            check(field, model, start(n), sign=-1)
    assert len(asked(model).fast.ready) == 6


def test_a_number_is_part_of_a_recording():
    """One that changes is a new kind each time: never recorded, never wrong."""
    field = Field()
    model, x = sg.replayed(field, "ask"), start()
    for k in range(2 * KEPT):
        for t, sign in ((0.5, 1), (k / 7, 1), (0.5, k + 2)):
            assert_same_bits(field.frozen().ask(x, t, sign=sign), model.ask(x, t, sign=sign))
    assert asked(model).refused is None
    assert len(asked(model).fast.ready) == 1


def test_what_is_neither_array_nor_number_is_asked_as_it_is():
    field = Field()
    model, x, rng, other = sg.replayed(field, "drawn"), start(), Generator(1), Generator(1)
    for _ in range(2 * RECORDED):
        assert_same_bits(field.frozen().drawn(x, rng), model.drawn(x, other))
        assert_same_bits(field.frozen().drawn(x, rng, {1.0}), model.drawn(x, other, {1.0}))
    assert not asked(model, "drawn").fast.before


def test_results_are_the_callers_own():
    field = Field()
    model, x = sg.replayed(field, "ask"), start()
    found = [model.ask(x, time(x, k)) for k in range(3 * RECORDED)]
    for k, one in enumerate(found):
        assert_same_bits(field.frozen().ask(x, time(x, k)), one)


def test_a_network():
    """Inside of methods that are as they were; its parameters are still found."""
    field = Field()
    model = sg.replayed(field, "net")
    net = model.net
    assert isinstance(net, Replayed)
    check(field, model, start(), 30)
    check(field, model.frozen(), start(), 30)
    assert len(net.asked.fast.ready) == 1
    assert model.frozen().net.asked is net.asked
    assert model.precision() == np.float32
    assert net.layers[0].w is net.net.layers[0].w
    assert sg.replayed(field.astype("float64"), "net").precision() == np.float64
    with pytest.raises(AttributeError, match="nothing"):
        net.nothing  # noqa: B018


def test_what_is_asked_a_few_times_is_not_recorded():
    field = Field()
    model = sg.replayed(field, "ask")
    for n in range(1, 200):
        check(field, model, start(n), FIRST)
    assert not asked(model).fast.before


def test_no_more_shapes_are_recorded_than_are_kept():
    field = Field()
    model = sg.replayed(field, "ask")
    for n in range(1, KEPT + 5):
        check(field, model, start(n))
    assert len(asked(model).fast.ready) == KEPT
    assert asked(model).refused is None


def test_in_float64_and_with_another_precision_of_products():
    field = Field().astype("float64")
    check(field, sg.replayed(field, "ask"), start(dtype="float64"))
    field = Field()
    model = sg.replayed(field, "ask")
    check(field, model, start())
    with sg.precision("bf16"):
        check(field, model, start())
    assert len(asked(model).fast.ready) == 2


def test_a_tensor_has_its_gradient():
    field = Field()
    model, x, t = sg.replayed(field, "ask"), start(), time(start())
    for _ in range(RECORDED + 2):
        loss = lambda f: lambda x: ops.sum(ops.square(f(x, t)))  # noqa: E731
        assert_same_bits(sg.grad(loss(field.frozen().ask))(x), sg.grad(loss(model.ask))(x))
        model.ask(x, t)
    assert asked(model).refused is None


def test_it_may_be_asked_inside_of_another_recording():
    field = Field()
    model = sg.replayed(field, "ask")
    for backend in ("numpy", "strict"):
        with sg.backend(backend):
            field = Field()
            model, x = sg.replayed(field, "ask"), get(backend).asarray(start())
            step = sg.replay(lambda x, model=model: model.ask(x, time(x)))
            for _ in range(2 * RECORDED):
                found, wanted = step(x), field.frozen().ask(x, time(x))
                assert_same_bits(*map(get(backend).to_numpy, (found, wanted)))
            assert asked(model).refused is None


def test_several_threads():
    field = Field()
    model = sg.replayed(field, "ask")
    found = side_by_side(lambda seed: model.walk(start(seed=seed), 50), range(12))
    for seed, x in enumerate(found):
        assert_same_bits(field.walk(start(seed=seed), 50), x)


# --- weights --------------------------------------------------------------------------------------------------


def change(field, how):
    """New weights: assigned, read from a state, or as an optimiser writes them."""
    if how == "assign":
        for x in field.parameters():
            x.assign(x.value * np.float32(1.5))
    elif how == "load":
        field.load_state_dict({name: 0.5 * x for name, x in field.state_dict().items()})
    else:
        field.flat.write(field.flat.buffer + np.float32(0.25))


def changed(model_of, how):
    """A walk before and after the weights change."""
    field = Field()
    field.flat = optim.Flat(dict(field.named_parameters()))
    model = model_of(field)
    check(field, model, start())
    change(field, how)
    check(field, model, start())
    field.load_state_dict(Field().state_dict())
    check(field, model, start())


@pytest.mark.parametrize("how", ["assign", "load", "optimiser"])
def test_weights_that_change_are_seen(how):
    changed(lambda field: sg.replayed(field, "ask"), how)


@pytest.mark.parametrize("how", ["assign", "load", "optimiser"])
def test_a_replay_of_old_weights_would_be_found(how):
    def stale(field):
        return sg.replayed(field.astype("float32"), "ask")  # a copy

    with pytest.raises(AssertionError, match="is not"):
        changed(stale, how)


# --- what cannot be replayed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "strict"])
def test_what_cannot_be_replayed_answers_itself_and_says_so_once(backend, caplog):
    with sg.backend(backend), caplog.at_level(logging.WARNING):
        field = Field()
        model = sg.replayed(field, "reads", "ask")
        x = get(backend).asarray(start())
        for _ in range(3):
            found, wanted = model.walk(x, method="reads"), field.walk(x, method="reads")
            assert_same_bits(*map(get(backend).to_numpy, (found, wanted)))
        model.walk(x)
        before = field.calls.made
        model.walk(x, 7, method="reads")
        assert field.calls.made == before + 7  # tried no more
        again = sg.replayed(field, "reads")
        side_by_side(lambda x: again.walk(x, method="reads"), [x] * 8)
        asked(again, "reads").refuse(asked(again, "reads").refused)  # as another thread may
    (line, other) = [record.getMessage() for record in caplog.records]
    assert line == other
    assert re.fullmatch(r"replay: .*float\(\).*test_replayed\.py:\d+.*; asked without replay, .*same numbers", line)
    assert asked(model, "reads").refused
    assert asked(model).refused is None


def test_an_error_of_the_method_is_its_own():
    model = sg.replayed(Field(), "ask")
    for _ in range(RECORDED + 2):
        with pytest.raises(ValueError, match="matmul"):
            model.ask(np.ones((4, 5), np.float32), time(start()))
    assert asked(model).refused is None


# --- memory -----------------------------------------------------------------------------------------------------


def test_memory_is_given_back():
    """All of it that a system had, with the system."""
    model = sg.replayed(Field(), "ask", "net")
    side_by_side(model.walk, [start(seed=seed) for seed in range(8)])
    memory = [weakref.ref(plan.memory) for plans in asked(model).fast.plans.values() for plan in plans]
    assert memory and all(ref() is not None for ref in memory)
    del model
    gc.collect()
    assert all(ref() is None for ref in memory)


def test_each_of_several_threads_gives_back_its_own_memory(monkeypatch):
    class Others(list):
        """Another thread is quick to add its own."""

        def append(self, place):
            super().append(place)
            super().append("theirs")

    found = Others()
    monkeypatch.setattr(cores, "_shared", found)
    memory = cores.shared(100)
    assert len(found) == 2
    del memory
    gc.collect()
    assert found == ["theirs"]


def test_graphs_are_given_back():
    with sg.backend("strict"):
        model = sg.replayed(Field(), "ask")
        model.walk(get("strict").asarray(start()))
        (graph,) = map(weakref.ref, asked(model).fast.graphs.values())
        assert graph().graph.captured
        del model
        gc.collect()
        assert graph() is None


def test_a_method_of_a_part():
    class Whole(Field):
        def __init__(self):
            self.part = Field()

        def ask(self, x, t):
            return self.part.ask(x, t)

    field = Whole()
    model = sg.replayed(field, "part.ask")
    check(field, model, start())
    assert isinstance(asked(model.part), Asked)
    assert asked(model.part).fast.ready
    with pytest.raises(AttributeError, match="nothing"):
        sg.replayed(field, "part.nothing")
