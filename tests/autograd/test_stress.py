"""Long chains, many steps, many threads: no recursion, no leak, no confusion."""

import contextlib
import gc
import sys
import threading
import weakref

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.tensor import Node, Tensor


@contextlib.contextmanager
def without_the_cyclic_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def shallow_recursion(limit=120):
    """So little room that a walk which recurses would fail at once."""
    before = sys.getrecursionlimit()
    depth = len([*iterate_frames()])
    sys.setrecursionlimit(depth + limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def iterate_frames():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def count(kind):
    return sum(type(o) is kind for o in gc.get_objects())


def test_a_chain_of_100_000_operations():
    with shallow_recursion(), without_the_cyclic_collector():
        nodes = count(Node)
        x = sg.tensor(np.float64(1.0))
        y = x
        for _ in range(50_000):
            y = y * 1.00001 + 0.00001
        (g,) = sg.gradients(y, [x])
        np.testing.assert_allclose(g, 1.00001**50_000, rtol=1e-10)
        watched = weakref.ref(y)
        del y
        assert watched() is None
        del x
        assert count(Node) == nodes  # 100,000 nodes went, without a cycle and without recursion


def test_second_order_on_a_chain():
    with shallow_recursion(), without_the_cyclic_collector():
        nodes = count(Node)
        x = sg.tensor(np.float64(1.0))
        y = x
        n = 3_000
        for _ in range(n):
            y = y * x
        (g,) = sg.gradients(y, [x], create_graph=True)
        (h,) = sg.gradients(g, [x])
        assert float(g) == n + 1
        assert h == n * (n + 1)
        del x, y, g
        assert count(Node) == nodes


def test_diamonds_do_not_multiply():
    """b = a + a, 100 times over: 2¹⁰⁰ paths, one visit each."""
    x = sg.tensor(np.float64(1.0))
    y = x
    for _ in range(100):
        y = y + y
    assert sg.gradients(y, [x])[0] == 2.0**100


def step(w, x, kernel):
    """A gradient penalty: second order through a convolution, a norm and a softmax."""
    image = sg.tensor(x)
    y = F.softmax(F.group_norm(ops.conv2d(image, kernel), 2).reshape(2, -1) @ w)
    (slope,) = sg.gradients((y * y).sum(), [image], create_graph=True)
    penalty = (ops.linalg.norm(slope.reshape(2, -1), axis=1) - 1) ** 2
    return sg.gradients(penalty.sum(), [w, kernel])


def test_a_thousand_second_order_steps_leave_nothing_behind():
    rng = np.random.default_rng(0)
    w, kernel = sg.tensor(rng.standard_normal((8, 3))), sg.tensor(rng.standard_normal((2, 2, 1, 2)))
    x = rng.standard_normal((2, 3, 3, 1))
    for _ in range(3):
        step(w, x, kernel)
    with without_the_cyclic_collector():
        objects, tensors, nodes = len(gc.get_objects()), count(Tensor), count(Node)
        for _ in range(1000):
            gradients = step(w, x, kernel)
        del gradients
        assert count(Tensor) <= tensors
        assert count(Node) <= nodes
        assert len(gc.get_objects()) <= objects + 20


@pytest.mark.parametrize("transform", ["grad", "hessian", "hvp", "jvp", "vjp"])
def test_transforms_leave_nothing_behind(transform):
    x = np.array([0.3, 0.7])

    def f(x):
        return ops.sum(ops.tanh(x) * x)

    calls = {
        "grad": lambda: sg.grad(sg.grad(lambda x: x**3))(x[0]),
        "hessian": lambda: sg.hessian(f)(x),
        "hvp": lambda: sg.hvp(f, x, x),
        "jvp": lambda: sg.jvp(f, [x], [x]),
        "vjp": lambda: sg.vjp(f, x)[1](np.float64(1.0)),
    }
    calls[transform]()
    with without_the_cyclic_collector():
        nodes = count(Node)
        for _ in range(20):
            calls[transform]()
        assert count(Node) == nodes


def test_threads_share_no_tape():
    """Several threads on different backends build and differentiate graphs at once."""
    wrong, barrier = [], threading.Barrier(6)

    def work(number):
        name = ("numpy", "strict")[number % 2]
        try:
            with sg.backend(name) as xp:
                rng = sg.random.Generator(number)
                barrier.wait(timeout=30)
                for _ in range(40):
                    x = sg.tensor(rng.standard_normal((4, 3), sg.float64))
                    w = sg.tensor(rng.standard_normal((3, 2), sg.float64))
                    assert type(x.value) is type(xp.zeros((1,)))
                    (g,) = sg.gradients(((x @ w) ** 2).sum(), [w], create_graph=True)
                    (h,) = sg.gradients((g * g).sum(), [w])
                    gram = x.numpy().T @ x.numpy()
                    np.testing.assert_allclose(g.numpy(), 2 * gram @ w.numpy(), rtol=1e-10, atol=1e-12)
                    np.testing.assert_allclose(xp.to_numpy(h), 8 * gram @ gram @ w.numpy(), rtol=1e-10, atol=1e-12)
        except BaseException as error:  # a thread has no other way to tell
            wrong.append((number, error))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_one_graph_may_be_differentiated_by_several_threads():
    x = sg.tensor(np.arange(1.0, 5.0))
    y = (ops.log(x) * x).sum()
    found = []

    def work():
        for _ in range(50):
            found.append(sg.gradients(y, [x])[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 200
    for g in found:
        np.testing.assert_allclose(g, np.log(np.arange(1.0, 5.0)) + 1, rtol=1e-14)
