"""Recipes: for each system the data, the numbers, the judging and the pictures that show it at work."""

from __future__ import annotations

import difflib

from scratchgen.recipes.autoencoder import (
    AutoencoderRecipe,
    ConvAutoencoderRecipe,
    DeconvAutoencoderRecipe,
    LinearAutoencoderRecipe,
)
from scratchgen.recipes.contractive import ContractiveRecipe
from scratchgen.recipes.ddpm import DDPMRecipe
from scratchgen.recipes.denoising import DenoisingRecipe
from scratchgen.recipes.gan import GANRecipe
from scratchgen.recipes.kl_directions import KLDirectionsRecipe
from scratchgen.recipes.optimal_discriminator import OptimalDiscriminatorRecipe
from scratchgen.recipes.pixelcnn import PixelCNNRecipe
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained
from scratchgen.recipes.score_sde import ScoreSDERecipe, ScoreSDESubVPRecipe, ScoreSDEVERecipe
from scratchgen.recipes.tangent_prop import TangentPropRecipe
from scratchgen.recipes.wgan import WGANGPRecipe, WGANRecipe

SYSTEMS: tuple[Recipe, ...] = (
    DDPMRecipe(),
    GANRecipe(), WGANRecipe(), WGANGPRecipe(), OptimalDiscriminatorRecipe(), KLDirectionsRecipe(),
    ScoreSDERecipe(), ScoreSDEVERecipe(), ScoreSDESubVPRecipe(),
    PixelCNNRecipe(),
    AutoencoderRecipe(), LinearAutoencoderRecipe(), ConvAutoencoderRecipe(), DeconvAutoencoderRecipe(),
    ContractiveRecipe(), DenoisingRecipe(), TangentPropRecipe(),
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
