"""What a replayed step costs as it grows: array calls, bytes that they read and write, bytes of planned memory.

Counted, not timed.  A walk over the tape that visits a node twice, or a sum of gradients that begins anew with every
term, would show as growth that is worse than linear.
"""

import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import nn, ops
from scratchgen.autograd import gradients
from scratchgen.planning import touched
from scratchgen.random import Generator


def cost(loss, parameters, x):
    """(calls, bytes touched, bytes planned) of a loss and its gradient."""
    step = sg.replay(lambda x: gradients(ops.mean(loss(x)), parameters))
    for _ in range(3):
        step(x)
    ((plan,),) = step.plans.values()
    calls = [call for run in plan.steps for call in run.calls]
    return len(calls), sum(slot.nbytes for call in calls for slot in touched(call)), plan.memory.nbytes


def deep(depth, batch=16, width=32):
    """A residual network of so many layers."""
    layers = [nn.Linear(width, width, rng=Generator(i)) for i in range(depth)]

    def loss(x):
        for layer in layers:
            x = x + F.silu(layer(x))
        return ops.sum(ops.square(x), axis=1)

    return cost(loss, [p for layer in layers for p in layer.parameters()], Generator(9).standard_normal((batch, width)))


def long(T, batch=16, width=32):
    """One layer, applied T times: every use adds to the same gradient."""
    layer = nn.Linear(width, width, rng=Generator(0))

    def loss(x):
        for _ in range(T):
            x = ops.tanh(layer(x))
        return ops.sum(ops.square(x), axis=1)

    return cost(loss, layer.parameters(), Generator(9).standard_normal((batch, width)))


@pytest.mark.parametrize("make", [deep, long])
def test_linear_in_depth_and_in_time(make):
    """Eight more layers cost the same, wherever they are added; planned memory to a percent, for its gaps."""
    (a, b, c), (i, j, k), (p, q, r) = zip(*map(make, (8, 16, 24)), strict=True)
    assert c - b == b - a > 0
    assert k - j == j - i > 0
    assert abs((r - q) - (q - p)) <= 0.01 * r
    assert q > p


def test_twice_the_batch_costs_twice_at_most():
    """In as many calls, but for the four biases: the sum over a large batch is made in another way."""
    costs = [deep(4, batch) for batch in (64, 128, 256, 512, 1024)]
    for (calls, read, planned), (more_calls, more_read, more_planned) in pairwise(costs):
        assert abs(more_calls - calls) <= 4
        assert 1.9 * read < more_read <= 2 * read
        assert 1.9 * planned < more_planned <= 2 * planned


def test_a_closed_replay_gives_its_memory_back_at_once():
    gc.disable()  # without Python's search for circles
    try:
        fast = sg.replay(lambda x: ops.sum(ops.concatenate([ops.tanh(x) * x, x])))
        for _ in range(3):
            fast(np.ones((200, 200)))
        [[plan]] = fast.plans.values()
        memory = weakref.ref(plan)
        del plan
        fast.close()
        assert memory() is None
    finally:
        gc.enable()
