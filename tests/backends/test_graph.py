"""The protocol of a CUDA graph, on streams, pools and graphs of the host that raise what a device would get wrong."""

import gc
import weakref

import host_graph
import numpy as np
import pytest

import scratchgen as sg
from scratchgen import ops
from scratchgen.guard import CaptureError
from scratchgen.recorded import ReplayError


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
        "call 3", *arrive, "stream 1: copy", "stream 1: begin", "stream 1: mul", "stream 1: end", *leave, "null: launch",
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


# --- what no graph can hold ------------------------------------------------------------------------------------


def refuses(call):
    """What CuPy does where a stream is capturing."""
    def refusing(x):
        if call == "cublas":
            raise NotImplementedError("calling cuBLAS API during stream capture is currently\nunsupported")
        return x.world.current.synchronize()
    return refusing


REFUSED = {
    "a read": (lambda x, world: x if float(x[0]) > 0 else -x, r"read: float\(\) at \S*test_graph\.py:\d+; let the number"),
    "an operation's read": (lambda x, world: ops.exp(x) if bool(x[0] > 0) else x, r"read: bool\(\) at \S*test_graph\.py:\d+"),
    "a transfer": (lambda x, world: x + sg.backend("cupy").__enter__().asarray(np.ones(1)), r"copy in: asarray of host data"),
    "cuBLAS": (lambda x, world: by_cublas(x), r"calling cuBLAS API during stream capture is currently unsupported at "
               r"\S*test_graph\.py:\d+"),
    "a wait": (lambda x, world: world.current.synchronize() or x, r"cudaErrorStreamCaptureUnsupported: .* at \S*host_graph"),
}  # fmt: skip


def by_cublas(x):
    if sg.guard.listening():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently\nunsupported")
    return x
