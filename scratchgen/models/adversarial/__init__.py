"""Adversarial models: a generator learns from a network that learns to tell its work from the data."""

from scratchgen.models.adversarial import gan, optimal, wgan
from scratchgen.models.adversarial.gan import GAN, GANConfig
from scratchgen.models.adversarial.optimal import OptimalConfig, OptimalDiscriminator
from scratchgen.models.adversarial.wgan import WGAN, WGANConfig

__all__ = ["GAN", "WGAN", "GANConfig", "OptimalConfig", "OptimalDiscriminator", "WGANConfig", "gan", "optimal", "wgan"]
