"""Energy models: densities p ∝ e^f known up to their constant, how to sample them and how to fit them."""

from scratchgen.models.energy import ais, contrastive, densities, experts, ising, langevin, metropolis, rbm
from scratchgen.models.energy.experts import ExpertsConfig, ProductOfExperts
from scratchgen.models.energy.ising import Ising, IsingConfig
from scratchgen.models.energy.rbm import RBM, RBMConfig

__all__ = ["RBM", "ExpertsConfig", "Ising", "IsingConfig", "ProductOfExperts", "RBMConfig", "ais", "contrastive",
           "densities", "experts", "ising", "langevin", "metropolis", "rbm"]
