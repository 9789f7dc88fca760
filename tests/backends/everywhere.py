"""Every system of the catalogue, small enough to be trained and sampled in a moment."""

from dataclasses import fields, is_dataclass, replace

import pytest

from scratchgen import data
from scratchgen.models.autoregressive import PixelCNNConfig
from scratchgen.models.directions import DirectionsConfig
from scratchgen.models.language import GPTConfig
from scratchgen.models.score.ncsn import NCSNConfig
from scratchgen.nn import Module, UNetConfig
from scratchgen.random import Generator
from scratchgen.recipes.recipe import Trained
from scratchgen.replayed import Asked, Replayed, replayed

EXAMPLES, BATCH = 200, 4
TWINS = ("score_sde_ve", "score_sde_subvp")
"""Systems that are another one's code with another setting: their samplers are for the long tier."""


def with_twins_in_the_long_tier(cases):
    """Parameters of a test, whose first names the system."""
    return [pytest.param(*case, marks=pytest.mark.long) if case[0] in TWINS else case for case in cases]


SIZES = {
    "T": 4, "base": 8, "buffer": 32, "chains": 8, "code": 8, "codes": 4, "components": 4, "context": 64, "couplings": 2,
    "depth": 2, "dims": 4, "heads": 2, "hidden": 8, "k": 2, "latent": 4, "latents": (4, 3), "layers": 2,
    "prior_layers": 2, "prior_width": 16, "steps": 2, "width": 16, "widths": (16,),
}  # fmt: skip
UNET = UNetConfig(base=8, multipliers=(1,), attention=(), groups=4, time=8)


def small(config):
    """A system's config with small sizes in place of its own."""
    own = {f.name: getattr(config, f.name) for f in fields(config)}
    sizes = {name: SIZES[name] for name, value in own.items() if name in SIZES and isinstance(value, (int, tuple))}
    if isinstance(config, NCSNConfig):
        sizes["levels"] = 4
    if isinstance(config, PixelCNNConfig):
        sizes |= {"layers": 3}
    if isinstance(config, (GPTConfig, DirectionsConfig)):
        sizes.pop("steps", None)
    nested = {name: UNET for name, value in own.items() if isinstance(value, UNetConfig)}
    assert all(name in nested for name, value in own.items() if is_dataclass(value))
    return replace(config, **sizes, **nested)


def dataset_of(recipe, examples=EXAMPLES):
    """The first examples of the recipe's data."""
    found = data.load(recipe.dataset)
    labels = found.train_labels
    return replace(found, train=found.train[:examples], train_labels=None if labels is None else labels[:examples])


def built(recipe, dataset):
    """The small system, untrained."""
    return recipe.build(small(recipe.configure(dataset)), Generator(0))


def trained(recipe):
    """The small system as samplers want it."""
    dataset = dataset_of(recipe)
    system = built(recipe, dataset)
    return Trained(None, recipe, dataset, replayed(system, *recipe.repeated), 1, system.size())


def answering(model):
    """What is replayed in a system, by name."""
    found = {}

    def visit(name, x):
        for key, value in vars(x).items():
            if isinstance(value, (Asked, Replayed)):
                found[name + key] = getattr(value, "asked", value)
            elif isinstance(value, Module):
                visit(f"{name}{key}.", value)

    visit("", model.system)
    assert sorted(found) == sorted(model.recipe.repeated)
    return found
