"""Energy models: densities p ∝ e^f known up to their constant, how to sample them and how to fit them."""

from scratchgen.models.energy import ais, contrastive, densities, ising, langevin, metropolis, rbm
from scratchgen.models.energy.ising import Ising, IsingConfig
from scratchgen.models.energy.rbm import RBM, RBMConfig

__all__ = ["RBM", "Ising", "IsingConfig", "RBMConfig", "ais", "contrastive", "densities", "ising", "langevin",
           "metropolis", "rbm"]
