"""Models of ∇log p: `matching` and `denoising` fit them, `sde` says what they mean for noise in continuous time,
`solvers` walk along them."""

from scratchgen.models.score import denoising, matching, sde, solvers

__all__ = ["denoising", "matching", "sde", "solvers"]
