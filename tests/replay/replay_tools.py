"""A step and its twin, one as it is and one replayed, compared bit by bit."""

from copy import deepcopy

import numpy as np

import scratchgen as sg
from scratchgen import ops, optim, tracing
from scratchgen.autograd import Tensor, gradients
from scratchgen.recorded import leaves, mapped


def rows(*shape, n=6, dtype="float32", seed=0):
    """Arguments for n calls: one array each."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(shape).astype(dtype),) for _ in range(n)]


def plain(results):
    """A step's results with arrays for tensors."""
    return mapped(results, lambda x: x.value if type(x) is Tensor else x)


def assert_same_bits(a, b):
    """Two nests of arrays and other things, the same to the last bit."""
    left, right = leaves(a), leaves(b)
    assert len(left) == len(right)
    for x, y in zip(left, right, strict=True):
        if isinstance(x, (np.ndarray, np.generic)):
            assert isinstance(y, (np.ndarray, np.generic))
            assert (y.dtype, y.shape) == (x.dtype, x.shape)
            assert y.tobytes() == x.tobytes(), f"{y} is not {x}"
        else:
            assert type(x) is type(y) and x == y


class Twin:
    """make() ↦ step, or (step, arrays that it changes).  Two are made; one is replayed."""

    def __init__(self, make, copy=True):
        made = [make(), make()]
        made = [m if isinstance(m, tuple) else (m, []) for m in made]
        (self.eager, self.before), (step, self.after) = made
        self.replay = sg.replay(step, copy)

    def call(self, *arguments):
        """One step of both, with arguments of their own; the replayed one's results."""
        mine, theirs = deepcopy(arguments), deepcopy(arguments)
        expected, found = plain(self.eager(*mine)), self.replay(*theirs)
        assert_same_bits(expected, found)
        assert_same_bits(self.before, self.after)
        for x, y in zip(leaves(mine), leaves(theirs), strict=True):
            if isinstance(x, sg.random.Generator):
                assert x.state() == y.state()
            elif isinstance(x, np.ndarray):
                assert_same_bits(x, y)
        return found

    def plans(self):
        return [plan for plans in self.replay.plans.values() for plan in plans]


def agree(make, calls, copy=True):
    """A step and its replay give the same bits in every call, of which the third and later are replayed."""
    assert len(calls) >= 4
    twin = Twin(make, copy)
    for arguments in calls:
        twin.call(*arguments)
    assert tracing.recorder is None
    assert twin.plans()
    return twin


def trainer(network, loss, optimiser=optim.Adam, **settings):
    """A step of gradient descent on `loss(network, …)`, and the arrays that it changes."""
    flat = optim.Flat(dict(network.named_parameters()))
    player = optimiser(flat, **settings)

    def step(*arguments):
        terms = loss(network, *arguments)
        mean = ops.mean(terms)
        player.step(flat.gather(gradients(mean, network.parameters())))
        return mean, terms

    return step, [flat.buffer, *(getattr(player, name) for name in player.slots)]
