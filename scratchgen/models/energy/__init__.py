"""Energy models: densities p ∝ e^f known up to their constant, how to sample them and how to fit them."""

from scratchgen.models.energy import ais, contrastive, deep, densities, langevin, metropolis, rbm
from scratchgen.models.energy.deep import EBM, EBMConfig
from scratchgen.models.energy.rbm import RBM, RBMConfig

__all__ = [
    "EBM", "RBM", "EBMConfig", "RBMConfig", "ais", "contrastive", "deep", "densities", "langevin", "metropolis", "rbm",
]  # fmt: skip
