"""Short chains with plain numbers, as the library takes them, and what their oracles say of them."""

import numpy as np
from hypothesis import strategies as st
from slips import TENTHS

from reference.diffusion import forward_chain
from scratchgen.backend import active
from scratchgen.models.diffusion import Schedule


def betas(least, most):
    """β_1 … β_T in tenths.  What is said of t is tried at t = T: later steps have no part in it."""
    return st.lists(TENTHS, min_size=least, max_size=most)


def schedule_of(beta):
    return Schedule(active().asarray(np.asarray(beta, np.float64)))


def point(x):
    """One example of one number, (1, 1)."""
    return np.array([[float(x)]])


def carried(beta):
    """What is left of x_s in x_t after the steps `beta`, and the variance of the noise in it: (gain, variance)."""
    means, covs = forward_chain(beta, [1.0])
    return float(means[-1, 0]), float(covs[-1, 0, 0])
