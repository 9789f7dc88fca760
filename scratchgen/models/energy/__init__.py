"""Energy models: densities p ∝ e^f known up to their constant, how to sample them and how to fit them."""

from scratchgen.models.energy import contrastive, densities, langevin, metropolis

__all__ = ["contrastive", "densities", "langevin", "metropolis"]
