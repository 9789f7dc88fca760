"""Small DDPMs and images for them."""

import numpy as np
from evidence import host

from scratchgen import nn
from scratchgen.backend import active
from scratchgen.models.diffusion import DDPM, DDPMConfig
from scratchgen.random import Generator

UNET = nn.UNetConfig(channels=1, base=4, multipliers=(1, 2), attention=(1,), heads=2, groups=2, time=8)


TINY = {"T": 6, "shape": (4, 4, 1), "unet": UNET}


def randomised(model, seed=0, scale=0.2):
    """The last layer of a new network is 0; here it is not."""
    noise = np.random.default_rng(seed)
    for p in model.parameters():
        p.assign(p.value + _on((scale * noise.standard_normal(p.shape)).astype(p.dtype)))
    return model


def _on(array):
    return active().asarray(array)


def make(dtype=np.float64, **settings):
    return randomised(DDPM(DDPMConfig(**{**TINY, **settings}), rng=Generator(0)).astype(dtype))


def images(n=5, dtype=np.float64):
    return _on((np.random.default_rng(7).integers(0, 17, (n, 4, 4, 1)) / 8 - 1).astype(dtype))


def betas_of(model):
    return host(model.schedule.beta)[1:]
