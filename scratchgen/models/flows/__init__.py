"""Normalizing flows: invertible maps from data to noise whose Jacobians have cheap determinants.

`change` has the change of variables and the simplest maps, `images` those of images, `dequantise` what a density says
of grey levels; `density` is what all systems share; `coupling` has NICE and RealNVP, `glow` has Glow.
"""

from scratchgen.models.flows import change, coupling, density, dequantise, glow, images
from scratchgen.models.flows.coupling import CouplingConfig, CouplingFlow
from scratchgen.models.flows.glow import Glow, GlowConfig

__all__ = [
    "CouplingConfig", "CouplingFlow", "Glow", "GlowConfig", "change", "coupling", "density", "dequantise", "glow",
    "images",
]  # fmt: skip
