"""What tests of flows share: images, models with no layer at 0, and maps as NumPy sees them."""

import numpy as np
from evidence import down, up
from sandbox_tools import methods


def images(seed, n, h=4, w=4, c=1, reach=1.0):
    return np.random.default_rng(seed).uniform(-reach, reach, (n, h, w, c))


def levels_of(seed, shape, levels=17):
    """Grey levels, as numbers of [−1, 1]."""
    return np.random.default_rng(seed).integers(0, levels, shape) * 2 / (levels - 1) - 1


def randomised(model, seed=0, scale=0.3, fixed=()):
    """The last layers of a new network are 0; here none is.  fixed: ends of names to leave alone."""
    noise = np.random.default_rng(seed)
    for name, p in model.named_parameters():
        if not name.endswith(fixed):
            p.assign(up(down(p.value) + (scale * noise.standard_normal(p.shape)).astype(p.dtype)))
    return model


def flat_map(flow, shape, n=1):
    """z = g(x) for one x and one z as vectors."""
    return lambda x: methods(flow).forward_and_log_det(x.reshape(n, *shape)).z.ravel()
