"""Diffusion models: `schedule` and `process` are the forward side, `parameterisation` what a network may predict,
`bound` the likelihood, `ddpm` and `ddim` the systems; `binomial` is the same idea for binary data."""

from scratchgen.models.diffusion import binomial, bound, ddim, ddpm, parameterisation, process, schedule
from scratchgen.models.diffusion.ddpm import DDPM, DDPMConfig
from scratchgen.models.diffusion.schedule import Schedule, cosine, linear

__all__ = [
    "DDPM", "DDPMConfig", "Schedule", "binomial", "bound", "cosine", "ddim", "ddpm", "linear", "parameterisation",
    "process", "schedule",
]  # fmt: skip
