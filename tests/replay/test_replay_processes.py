"""Which steps a process of their own may run, and that it finds the same numbers."""

import sys

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn, ops, optim
from scratchgen.autograd import gradients
from scratchgen.processes import CHECKED
from scratchgen.random import Generator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are forked on Linux only")
LARGE = CHECKED // 8 + 1  # float64 numbers that are too many to be looked at in every step


def moved(step, *arguments):
    """The results of a step here and there, and whether there was another process."""
    fast = sg.replay(step)
    for _ in range(3):
        here = fast(*arguments)
    fast.move()
    there = fast(*arguments)
    ((plan,),) = fast.plans.values()
    elsewhere = plan.process is not None
    fast.close()
    return here, there, elsewhere


def gradient_step():
    """A network whose parameters are in one flat buffer, as in training."""
    layer = nn.Linear(3, 2, rng=Generator(0))
    optim.Flat(dict(layer.named_parameters()))
    return lambda x: gradients(ops.sum(ops.square(layer(x))), layer.parameters())


def test_parameters_in_a_flat_buffer_are_shared():
    here, there, elsewhere = moved(gradient_step(), Generator(1).standard_normal((4, 3)))
    assert elsewhere
    assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))


def test_what_every_step_makes_anew_need_not_be_shared():
    """Times and other constants of a sampler: made in the step, of the same numbers, in memory that nobody else has."""
    here, there, elsewhere = moved(lambda x: x * ops.exp(np.arange(LARGE) / LARGE), np.ones(LARGE))
    assert elsewhere
    assert np.array_equal(here, there)


def test_what_others_may_write_to_must_be_shared_or_small():
    held = np.arange(LARGE) / LARGE
    assert not moved(lambda x: x * held, np.ones(LARGE))[2]
    assert moved(lambda x: x * held[:5].copy(), np.ones(5))[2]


def test_what_must_be_done_here_is_done_here():
    """An optimiser's step would change a count that only the other process sees."""
    layer = nn.Linear(3, 2, rng=Generator(0))
    flat = optim.Flat(dict(layer.named_parameters()))
    optimiser = optim.Adam(flat, lr=0.1)

    def step(x):
        optimiser.step(flat.gather(gradients(ops.sum(ops.square(layer(x))), layer.parameters())))

    assert not moved(step, Generator(1).standard_normal((4, 3)))[2]
