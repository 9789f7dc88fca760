"""Fields of small Ising models."""

import numpy as np
from evidence import lifted

from scratchgen.models.energy import ising

library = lifted(ising)


def fields(grid, seed):
    return np.random.default_rng(seed).uniform(-1.5, 1.5, grid)
