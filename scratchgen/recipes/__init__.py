"""Recipes: for each system the data, the numbers, the judging and the pictures that show it at work."""

from __future__ import annotations

import difflib

from scratchgen.recipes.agglomerative import AgglomerativeRecipe
from scratchgen.recipes.autoencoder import (
    AutoencoderRecipe,
    ConvAutoencoderRecipe,
    DeconvAutoencoderRecipe,
    LinearAutoencoderRecipe,
)
from scratchgen.recipes.contractive import ContractiveRecipe
from scratchgen.recipes.ddpm import DDPMRecipe
from scratchgen.recipes.denoising import DenoisingRecipe
from scratchgen.recipes.ebm import EBMRecipe
from scratchgen.recipes.ebm_2d import EBM2DRecipe
from scratchgen.recipes.gan import GANRecipe
from scratchgen.recipes.glow import GlowRecipe
from scratchgen.recipes.gpt import GPTRecipe
from scratchgen.recipes.hvae import HVAERecipe
from scratchgen.recipes.ising import IsingRecipe
from scratchgen.recipes.kl_directions import KLDirectionsRecipe
from scratchgen.recipes.kmeans import KMeansRecipe
from scratchgen.recipes.ncsn import NCSNRecipe
from scratchgen.recipes.ncsn_2d import NCSN2DRecipe
from scratchgen.recipes.nmf import NMFRecipe
from scratchgen.recipes.optimal_discriminator import OptimalDiscriminatorRecipe
from scratchgen.recipes.pca import PCARecipe
from scratchgen.recipes.pixelcnn import PixelCNNRecipe
from scratchgen.recipes.product_of_experts import ProductOfExpertsRecipe
from scratchgen.recipes.rbm import RBMRecipe
from scratchgen.recipes.realnvp import NICERecipe, RealNVPRecipe
from scratchgen.recipes.realnvp_2d import NICE2DRecipe, RealNVP2DRecipe
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained
from scratchgen.recipes.score_matching import ScoreMatchingRecipe
from scratchgen.recipes.score_sde import ScoreSDERecipe, ScoreSDESubVPRecipe, ScoreSDEVERecipe
from scratchgen.recipes.tangent_prop import TangentPropRecipe
from scratchgen.recipes.vae import BernoulliVAERecipe, BetaVAERecipe, VAERecipe
from scratchgen.recipes.vqvae import VQVAEEMARecipe, VQVAERecipe
from scratchgen.recipes.wgan import WGANGPRecipe, WGANRecipe

SYSTEMS: tuple[Recipe, ...] = (
    DDPMRecipe(), ScoreSDERecipe(), ScoreSDEVERecipe(), ScoreSDESubVPRecipe(),
    NCSNRecipe(), NCSN2DRecipe(), ScoreMatchingRecipe(),
    GANRecipe(), WGANRecipe(), WGANGPRecipe(), OptimalDiscriminatorRecipe(),
    AutoencoderRecipe(), LinearAutoencoderRecipe(), ConvAutoencoderRecipe(), DeconvAutoencoderRecipe(),
    ContractiveRecipe(), DenoisingRecipe(), TangentPropRecipe(),
    VAERecipe(), BernoulliVAERecipe(), BetaVAERecipe(), HVAERecipe(), VQVAERecipe(), VQVAEEMARecipe(),
    PixelCNNRecipe(), GPTRecipe(),
    NICERecipe(), RealNVPRecipe(), GlowRecipe(), NICE2DRecipe(), RealNVP2DRecipe(),
    RBMRecipe(), EBMRecipe(), EBM2DRecipe(), IsingRecipe(), ProductOfExpertsRecipe(),
    KMeansRecipe(), AgglomerativeRecipe(), PCARecipe(), NMFRecipe(), KLDirectionsRecipe(),
)  # fmt: skip
RECIPES: dict[str, Recipe] = {recipe.id: recipe for recipe in SYSTEMS}


def find(id: str) -> Recipe:
    """The recipe of that name.  Raises RecipeError, with the nearest name, if there is none."""
    if id in RECIPES:
        return RECIPES[id]
    near = difflib.get_close_matches(id.lower(), RECIPES, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(RECIPES)}"
    raise RecipeError(f"no system is called {id!r}; {hint}")


__all__ = ["RECIPES", "Recipe", "RecipeError", "Results", "Trained", "find"]
