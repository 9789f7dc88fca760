"""A step that is refused, and with what words."""

import re

import numpy as np
from replay_tools import plain, rows

import scratchgen as sg
from scratchgen import ops, optim, tracing
from scratchgen.autograd import gradients

X = rows(4, 3)


class Player:
    """Two parameters, an optimiser, and a step that ends or begins with whatever a test wants."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.w, self.b = (sg.tensor(rng.standard_normal(s).astype("float32")) for s in ((3, 2), (2,)))
        self.flat = optim.Flat({"w": self.w, "b": self.b})
        self.optimiser = optim.SGD(self.flat, lr=0.1)

    def descend(self, x):
        mean = ops.mean(ops.square(ops.tanh(x @ self.w + self.b) - 2))
        self.optimiser.step(self.flat.gather(gradients(mean, [self.w, self.b])))
        return mean


def refused(step, message, calls=X, player=None):
    """One of the first two calls raises ReplayError with the message, one line; afterwards all is as without."""
    replay, text = sg.replay(step), ""
    try:
        for arguments in calls[:2]:
            replay(*arguments)
    except sg.ReplayError as error:
        text = str(error)
    assert "\n" not in text
    assert re.fullmatch(f"replay: {message}", text), text
    assert tracing.recorder is None
    assert not replay.ready
    if player is not None:
        for tensor in (player.w, player.b):
            assert type(tensor.value) is np.ndarray
            assert np.shares_memory(tensor.value, player.flat.buffer)
        assert type(player.flat.buffer) is np.ndarray
        assert type(plain(player.descend(X[0][0]))) in (np.float32, np.ndarray)
