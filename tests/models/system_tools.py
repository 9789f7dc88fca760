"""What tests of several systems ask."""

import numpy as np
from evidence import agree, host, up
from scipy import stats

import scratchgen as sg
from reference.derivatives import directional
from scratchgen import ops, optim
from scratchgen.random import Generator


def perceptron(net, x):
    """The network by loops over its layers, in NumPy: silu is x times the chance that logistic noise stays below x."""
    x = np.reshape(x, (len(x), -1))
    for i, layer in enumerate(net.layers):
        x = x @ layer.w.numpy() + layer.b.numpy()
        x = x * stats.logistic.cdf(x) if i < len(net.layers) - 1 else x
    return x


def check_gradient(system, x):
    """That of the mean loss, along a random direction of all weights, by differences, the noise replayed; it reaches
    every weight."""
    parameters = dict(system.named_parameters())
    flat, state = optim.Flat(parameters), Generator(6).state()

    def loss():
        return ops.mean(system.loss(x, Generator.from_state(state)).loss)

    parts = sg.gradients(loss(), list(parameters.values()))
    assert min(np.abs(host(g)).max() for g in parts) > 0
    g, start = host(flat.gather(parts)), host(flat.buffer).copy()
    v = np.random.default_rng(0).normal(size=flat.size)

    def along(theta):
        flat.write(up(theta))
        return float(loss())

    agree(g @ v, directional(along, start, v, h=1e-3), rtol=1e-6, atol=1e-7)
