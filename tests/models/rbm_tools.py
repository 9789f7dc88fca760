"""Weights of small restricted Boltzmann machines."""

import numpy as np
from evidence import lifted

from scratchgen.models.energy import rbm

library = lifted(rbm)


def weights(n, m, seed, scale=1.5):
    noise = np.random.default_rng(seed)
    return rbm.Weights(*(noise.uniform(-scale, scale, shape) for shape in ((n, m), n, m)))
