"""Latent variable models: what is seen, x, explained by what is not, z.

`bound` is what they maximise; `vae` has one Gaussian latent, `hierarchical` a chain of them, `quantise` and `vqvae` a
codebook.  `autoencoder` has a code, and no law of it; that of `contractive` follows the data, and `denoising` learns
their score.  `tangents` looks at what a code has learnt, `tangent_classifier` is taught by tangents, `predictive` says
what a posterior expects to see next.
"""

from scratchgen.models.latent import (
    autoencoder,
    bound,
    contractive,
    denoising,
    hierarchical,
    predictive,
    quantise,
    tangent_classifier,
    tangents,
    vae,
    vqvae,
)
from scratchgen.models.latent.vqvae import VQVAE, VQVAEConfig

__all__ = [
    "VQVAE", "VQVAEConfig", "autoencoder", "bound", "contractive", "denoising", "hierarchical", "predictive",
    "quantise", "tangent_classifier", "tangents", "vae", "vqvae",
]  # fmt: skip
