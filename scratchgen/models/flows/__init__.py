"""Normalizing flows: invertible maps from data to noise whose Jacobians have cheap determinants."""

from scratchgen.models.flows import change, dequantise

__all__ = ["change", "dequantise"]
