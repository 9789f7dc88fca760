"""How much a step must compute and move, whoever does it: counted from the shapes of its products.

    floating-point operations   2 for each term of a matrix product or convolution, forward and back
    bytes                       each product's operands read and its result written once, in float32; and Adam's θ, ḡ,
                                m, v read, θ, m, v written.  What else a step does can be done on the way

Both are linear in the number of examples, so networks are counted on two small batches, without computing the products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from benchmarks.workload import Problem, Workload
from scratchgen import ops
from scratchgen.autograd import gradients
from scratchgen.backend import get
from scratchgen.random import Generator

FLOAT, ADAM = 4, 7
Shape = tuple[int, ...]


def of_product(a: Shape, result: Shape) -> int:
    """Terms of a product of matrices a (…, m, k) and (…, k, n)."""
    return prod(result) * a[-1]


def of_convolution(y: Shape, w: Shape) -> int:
    """Terms of a convolution with kernels w (kh, kw, c, O) that gives y, and of either adjoint."""
    return prod(y) * prod(w[:3])


@dataclass
class Work:
    """Of one step."""

    flops: float = 0.0
    bytes: float = 0.0

    def product(self, terms: int, *shapes: Any) -> None:
        self.flops += 2 * terms
        self.bytes += FLOAT * sum(map(prod, shapes))


@contextmanager
def counted() -> Iterator[Work]:
    """Count the products of NumPy's backend, and give zeros for their results."""
    xp, work = get("numpy"), Work()

    def zeros(shape: Any, x: Any, out: Any = None) -> Any:
        if out is None:
            return np.zeros(shape, x.dtype)
        out[...] = 0
        return out

    def matmul(a: Any, b: Any, out: Any = None) -> Any:
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        work.product(of_product(a.shape, shape), a.shape, b.shape, shape)
        return zeros(shape, a, out)

    def einsum(subscripts: str, a: Any, b: Any, **_: Any) -> Any:
        left, result = subscripts.split("->")
        sizes = dict(zip(left.replace(",", ""), (*a.shape, *b.shape), strict=True))
        shape = tuple(sizes[c] for c in result)
        work.product(prod(sizes.values()), a.shape, b.shape, shape)
        return zeros(shape, a)

    def correlate(x: Any, w: Any, stride: int, frame: Any, groups: int = 1, out: Any = None) -> Any:
        rows, columns = ((n + sum(f) - k) // stride + 1 for n, f, k in zip(x.shape[1:3], frame, w.shape, strict=False))
        shape = x.shape[0], rows, columns, w.shape[3]
        work.product(of_convolution(shape, w.shape), x.shape, w.shape, shape)
        return zeros(shape, x, out)

    def adjoint_x(h: Any, w: Any, shape: Any, *_: Any) -> Any:
        work.product(of_convolution(h.shape, w.shape), h.shape, w.shape, shape)
        return zeros(shape, h)

    def adjoint_w(x: Any, h: Any, shape: Any, *_: Any) -> Any:
        work.product(of_convolution(h.shape, shape), x.shape, h.shape, shape)
        return zeros(shape, h)

    own = {"matmul": matmul, "einsum": einsum, "correlate": correlate, "correlate_adjoint_x": adjoint_x,
           "correlate_adjoint_w": adjoint_w}  # fmt: skip
    before = {name: vars(xp).get(name) for name in own}
    vars(xp).update(own)
    try:
        with np.errstate(all="ignore"):
            yield work
    finally:
        for name, function in before.items():
            if function is None:
                delattr(xp, name)
            else:
                setattr(xp, name, function)


def of(workload: Workload, problem: Problem) -> Work:
    """The work of one step with all its examples."""
    net = workload.network(Generator(0))
    net.load_state_dict(problem.weights)
    two, three = (few(workload, net, problem, n) for n in (2, 3))  # one example's are no products but multiplications
    more = workload.examples - 2
    work = Work(*(a + more * (b - a) for a, b in ((two.flops, three.flops), (two.bytes, three.bytes))))
    if workload.kind == "training":
        work.bytes += ADAM * FLOAT * sum(w.size for w in problem.weights.values())
    return work


def few(workload: Workload, net: Any, problem: Problem, n: int) -> Work:
    """The work with n examples, but for the optimiser's."""
    arrays = [x[:n] for x in (*problem.batches[0], *problem.noise)]
    with counted() as work:
        if workload.kind == "sampling":
            net.sample(*arrays)
        else:
            gradients(ops.mean(net.loss(*arrays)), net.parameters())
    return work
