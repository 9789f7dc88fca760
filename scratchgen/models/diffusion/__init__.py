"""Diffusion models: `schedule` and `process` are the forward side, `bound` the likelihood, `ddpm` and `ddim`
the systems."""

from scratchgen.models.diffusion import bound, ddim, ddpm, process, schedule
from scratchgen.models.diffusion.ddpm import DDPM, DDPMConfig
from scratchgen.models.diffusion.schedule import Schedule, cosine, linear

__all__ = ["DDPM", "DDPMConfig", "Schedule", "bound", "cosine", "ddim", "ddpm", "linear", "process", "schedule"]
