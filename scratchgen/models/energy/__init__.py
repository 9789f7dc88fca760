"""Energy models: densities p ∝ e^f known up to their constant, how to sample them and how to fit them."""

from scratchgen.models.energy import ais, contrastive, deep, densities, experts, ising, langevin, metropolis, rbm
from scratchgen.models.energy.deep import EBM, EBMConfig
from scratchgen.models.energy.experts import ExpertsConfig, ProductOfExperts
from scratchgen.models.energy.ising import Ising, IsingConfig
from scratchgen.models.energy.rbm import RBM, RBMConfig

__all__ = [
    "EBM", "RBM", "EBMConfig", "ExpertsConfig", "Ising", "IsingConfig", "ProductOfExperts", "RBMConfig", "ais",
    "contrastive", "deep", "densities", "experts", "ising", "langevin", "metropolis", "rbm",
]  # fmt: skip
