"""The protocol of a CUDA graph, on streams, pools and graphs of the host that raise what a device would get wrong."""

import contextlib
import gc
import re
import sys
import threading
import weakref
from dataclasses import replace

import host_graph
import numpy as np
import pytest
from everywhere import built, dataset_of
from train_toys import CONFIG, data_for, make

import scratchgen as sg
from scratchgen.backend import active
from scratchgen.guard import CaptureError, alone, listening
from scratchgen.recipes import RECIPES
from scratchgen.recorded import ReplayError
from scratchgen.train import train
from scratchgen.train.state import PlayerState


@pytest.fixture
def world(cupy, monkeypatch):
    with sg.backend("cupy"):
        yield host_graph.installed(monkeypatch)


def graph_of(step):
    from scratchgen.cuda.graph import Graph

    return Graph(step)


def there(cupy, *numbers):
    return cupy.asarray(np.array(numbers))


def numbers(cupy, x):
    return cupy.to_numpy(x).tolist()


def test_warm_up_capture_and_launches_in_order(cupy, world):
    graph = graph_of(lambda xs: [xs[0] * 2.0])
    found = []
    for k in range(5):
        world.log.append(f"call {k + 1}")
        found.append(numbers(cupy, graph([there(cupy, k, 1.0)])[0]))
    assert found == [[2.0 * k, 2.0] for k in range(5)]
    arrive, leave = ["null: record", "stream 1: wait for null"], ["stream 1: record", "null: wait for stream 1"]
    assert world.log == [
        "call 1", *arrive, "stream 1: mul", *leave,
        "call 2", *arrive, "stream 1: mul", *leave,
        "call 3", *arrive, "stream 1: copy", "stream 1: begin capture", "stream 1: mul", "stream 1: end capture",
        *leave, "null: launch",
        "call 4", "null: copyto", "null: launch",
        "call 5", "null: copyto", "null: launch",
    ]  # fmt: skip


def test_the_step_runs_three_times_and_its_kernels_every_time(cupy, world):
    """Warm-ups are steps, a capture is none: its launch is."""
    count, calls = cupy.zeros((), np.int64), []

    def step(xs):
        calls.append(int(cupy.to_numpy(count)) if len(calls) < 2 else None)
        count.__iadd__(1)
        return [count * 1]

    graph = graph_of(step)
    assert [int(graph([])[0]) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert calls == [0, 1, None]


def test_a_number_of_the_host_is_baked_in(cupy, world):
    """Negative control: what the strict backend finds and a graph cannot.  Three steps count, and then none."""
    state = {"k": 0}

    def step(xs):
        state["k"] += 1
        return [xs[0] * state["k"]]

    graph = graph_of(step)
    assert [numbers(cupy, graph([there(cupy, 1.0)])[0]) for _ in range(5)] == [[1.0], [2.0], [3.0], [3.0], [3.0]]


def test_results_lie_in_the_graph_and_replay_copies_them(cupy, world):
    plain = sg.replay(lambda x: x * 2.0, copy=False)
    copied = sg.replay(lambda x: x * 2.0)
    for replay, kept in ((plain, False), (copied, True)):
        *_, third, fourth = (replay(there(cupy, float(k))) for k in range(4))
        assert numbers(cupy, third) == [4.0 if kept else 6.0]
        assert numbers(cupy, fourth) == [6.0]


@pytest.mark.parametrize("step", [lambda x, v: (v, x), lambda x, v: (v[::-1], x), lambda x, v: (x + v, x - v)])
@pytest.mark.parametrize("copy", [True, False])
def test_results_may_be_the_next_arguments(cupy, world, step, copy):
    replay = sg.replay(step, copy)
    x, v = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    here, there = (x, v), (cupy.asarray(x), cupy.asarray(v))
    for _ in range(6):
        here, there = step(*here), replay(*there)
        assert [a.tolist() for a in here] == [numbers(cupy, a) for a in there]


def test_the_pool_lives_as_long_as_the_graph(cupy, world):
    graph = graph_of(lambda xs: [xs[0] * 2.0])
    pool = weakref.ref(graph.pool)
    for _ in range(3):
        graph([there(cupy, 1.0)])
    gc.collect()
    assert pool() is not None
    alone = graph.graph
    del graph
    gc.collect()
    assert pool() is None
    with pytest.raises(host_graph.GraphError, match="the pool of the graph is gone"):
        alone.launch()


def test_memory_of_a_graph_is_given_to_nobody(cupy, world):
    """Negative controls of the host's own: an array made in a capture without a pool, and from a graph's pool."""
    graph = graph_of(lambda xs: [xs[0] * 2.0])
    for _ in range(4):
        graph([there(cupy, 1.0)])
    with graph._aside(), pytest.raises(host_graph.GraphError, match="given to somebody else"):
        there(cupy, 1.0) * 2.0
    graph.stream.begin_capture()
    with graph.stream, pytest.raises(host_graph.GraphError, match="outside of a private pool"):
        graph.inputs[0] * 2.0


def test_the_workspace_of_a_graph_s_products_lives_as_long_as_it_does(cupy, world):
    """Its thread may end before: what cuBLAS was told to work in is the graph's too."""
    from scratchgen.cuda import gemm

    def made(step):
        graph = graph_of(step)
        for _ in range(3):
            graph([there(cupy, [1.0, 2.0])])
        return graph

    assert made(lambda xs: [xs[0] * 2.0]).workspace is None
    found = []
    thread = threading.Thread(target=lambda: found.append(made(lambda xs: [cupy.matmul(xs[0], xs[0].T)])))
    thread.start()
    thread.join()
    assert found[0].workspace.size == gemm.WORKSPACE
    assert gemm.workspace(0) is None


# --- what no graph can hold ------------------------------------------------------------------------------------


def by_cublas(x):
    """As CuPy's own products do."""
    if listening():
        raise NotImplementedError("calling cuBLAS API during stream capture is\ncurrently unsupported")
    return x


REFUSED = {
    "a read": (lambda x, world: x if float(x[0]) > 0 else -x, r"read: float\(\) at \S*test_graph\.py:\d+; let the "),
    "a transfer": (lambda x, world: x + active().asarray(np.ones(1)), "copy in: asarray of host data at "),
    "a copy out": (lambda x, world: x * active().to_numpy(x).sum(), "copy out: to_numpy at "),
    "noise of the host": (lambda x, world: x + sg.random.Generator(0).random((1,)), "noise drawn on the host at "),
    "cuBLAS": (lambda x, world: by_cublas(x),
               r"calling cuBLAS API during stream capture is currently unsupported at \S*test_graph\.py:\d+$"),
    "a wait": (lambda x, world: world.current.synchronize() or x, "cudaErrorStreamCaptureUnsupported: .* at "),
    "a wait unheard": (lambda x, world: quietly(world.current) or x, "cudaErrorStreamCaptureInvalidated: "),
}  # fmt: skip


def quietly(stream):
    with contextlib.suppress(RuntimeError):
        stream.synchronize()


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_captured_is_one_line_and_nothing_is_done(cupy, world, what):
    """And it is not captured any more: the stream is free, and others may be."""
    step, why = REFUSED[what]
    weights = there(cupy, 1.0)

    def both(x):
        weights.__iadd__(1.0)
        return step(x, world) * weights

    replay = sg.replay(both)
    for _ in range(2):
        replay(there(cupy, 1.0))
    for _ in range(2):
        with pytest.raises(ReplayError) as caught:
            replay(there(cupy, 1.0))
        assert re.match(f"replay: {why}", str(caught.value)), str(caught.value)
        assert "\n" not in str(caught.value)
        assert numbers(cupy, weights) == [3.0]
    (nested,) = replay.graphs.values()
    assert nested.graph.stream.capture is None
    other = sg.replay(lambda x: x * weights)
    assert [numbers(cupy, other(there(cupy, k))) for k in (1.0, 2.0, 3.0, 4.0)] == [[3.0], [6.0], [9.0], [12.0]]


def test_no_memory_left_while_capturing(cupy, world, monkeypatch):
    """CuPy's pool would give back free blocks, which the capture may have written down.  Before, it may do so."""
    from scratchgen.cuda.graph import block

    def full(size):
        raise host_graph.CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")

    assert block(1 << 10).mem.size == 1 << 10
    monkeypatch.setattr(sys.modules["cupy"].cuda, "Memory", full)
    with pytest.raises(host_graph.CUDARuntimeError, match="out of memory"):
        block(1 << 10)

    def step(x):
        if listening():
            assert graph.pool.allocator is block
            graph.pool.allocator(1 << 10)
        return x + 1.0

    replay = sg.replay(step)
    for _ in range(2):
        replay(there(cupy, 1.0))
    (nested,) = replay.graphs.values()
    graph = nested.graph
    with pytest.raises(ReplayError, match="replay: the device has no memory left for a graph: cudaErrorMem"):
        replay(there(cupy, 1.0))


@pytest.mark.parametrize("name", ["cupy", "strict"])
def test_a_graph_is_used_only_if_all_agree(cupy, world, name):
    """They are asked after the capture; what they refuse has not been done."""
    with sg.backend(name) as xp:
        said, weights, ones = [], xp.asarray(np.ones(2)), xp.asarray(np.ones(2))

        def refuse(refusal):
            said.append(refusal)
            raise CaptureError("capture: another one cannot")

        def step(x):
            weights.__iadd__(x)
            return weights * 1

        replay = sg.replay(step, agree=refuse)
        assert [numbers(xp, replay(ones)[0]) for _ in range(2)] == [2.0, 3.0]
        assert said == []
        with pytest.raises(ReplayError, match="replay: another one cannot"):
            replay(ones)
        assert numbers(xp, weights) == [3.0, 3.0]
        assert said == [None]
        replay = sg.replay(step, agree=said.append)
        assert [numbers(xp, replay(ones)[0]) for _ in range(4)] == [4.0, 5.0, 6.0, 7.0]
        assert set(said) == {None}


@pytest.mark.parametrize("name", ["cupy", "strict"])
def test_they_are_told_what_a_capture_is_refused_for(cupy, world, name):
    with sg.backend(name) as xp:
        said, ones = [], xp.asarray(np.ones(1))
        replay = sg.replay(lambda x: x + float(x[0]), agree=lambda refusal: (said.append(refusal), alone(refusal)))
        for _ in range(2):
            replay(ones)
        with pytest.raises(ReplayError, match="read: float"):
            replay(ones)
        assert [type(refusal) for refusal in said] == [CaptureError]


def test_other_errors_of_a_step_are_its_own(cupy, world):
    def step(x):
        if listening():
            raise ValueError("of its own")
        return x

    replay = sg.replay(step)
    for _ in range(2):
        replay(there(cupy, 1.0))
    with pytest.raises(ValueError, match="of its own"):
        replay(there(cupy, 1.0))
    assert world.current is world.null
    assert world.allocator is None


# --- training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["denoiser", "game", "classifier"])
def test_training_by_graphs_changes_no_bit(cupy, world, name):
    """Graphs here do again the calls of their capture, on its memory and with its numbers: the rate changes in every
    step, the average's decay too, and so does the noise."""
    config = replace(CONFIG, noise="counter", steps=20, warmup=9)
    found = []
    for is_replayed in (False, True):
        system = make(name)
        result = train(system, data_for(name), replace(config, replay=is_replayed), progress=False)
        average = {k: cupy.to_numpy(v) for k, v in result.average.items()}
        found.append((result.losses, system.state_dict(), average))
    (one, weights, means), (two, others, more) = found
    assert one == two
    assert all(np.array_equal(weights[k], others[k]) and np.array_equal(means[k], more[k]) for k in means)
    players = 2 if name == "game" else 1
    assert sum(line.endswith(": begin capture") for line in world.log) == players
    assert sum(line.endswith(": end capture") for line in world.log) == players
    assert world.log.count("null: launch") == (3 * 20 - 2 * 2 if name == "game" else 20 - 2)  # a critic moves twice
    gc.collect()
    assert not world.graphs


@pytest.mark.parametrize("id", ["score_matching", "product_of_experts", "kl_directions"])
def test_small_matrices_are_factored_in_graphs(cupy, world, id):
    """Systems with densities of full covariances: their kernels are captured, and give what they give without."""
    recipe, found = RECIPES[id], []
    dataset = dataset_of(recipe)
    config = replace(recipe.train, batch_size=4, steps=6, shards=1, noise="counter")
    for is_replayed in (False, True):
        system = built(recipe, dataset)
        train(system, recipe.examples(dataset), replace(config, replay=is_replayed), progress=False)
        found.append(system.state_dict())
    assert all(np.array_equal(value, found[1][name]) for name, value in found[0].items())
    players = len(system.players())
    assert sum(line.endswith(": end capture") for line in world.log) == players
    assert world.log.count("null: launch") == players * (6 - 2)


def test_a_rate_of_the_host_would_be_seen(cupy, world, monkeypatch):
    """Negative control: the rate as a number, which the graph keeps."""
    config = replace(CONFIG, noise="counter", steps=20, warmup=9)
    results = []
    for _ in range(2):
        system = make("denoiser")
        train(system, data_for("denoiser"), config, progress=False)
        results.append(system.state_dict())
        monkeypatch.setattr(PlayerState, "set_rate", lambda self, rate: setattr(self, "rate", rate))
    assert not all(np.array_equal(results[0][k], results[1][k]) for k in results[0])
