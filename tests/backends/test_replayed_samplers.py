"""Samplers whose questions are replayed draw what they draw without, to the last bit, of every system that says so."""

import importlib

import numpy as np
import pytest
from everywhere import SIZES, answering, built, dataset_of, trained, with_twins_in_the_long_tier

import scratchgen as sg
from scratchgen.random import Generator
from scratchgen.recipes import RECIPES
from scratchgen.recipes.recipe import Trained
from scratchgen.replayed import replayed

FIRST = "FIRST", 1  # calls as they are: then two recordings, and the rest is replayed
STEPS = 5
CASES = [(id, name) for id, recipe in RECIPES.items() if recipe.repeated for name in recipe.samplers or [""]]
FIRSTS = dict(reversed(CASES))  # one sampler of each system


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(importlib.import_module("scratchgen.replayed"), *FIRST)


def options_of(recipe, name):
    """Of a sampler, in a few steps where it can be told how many."""
    options = dict(recipe.samplers.get(name, {}))
    if "steps" in recipe.options and name not in ("DDPM", "ODE, RK45"):
        options["steps"] = 2 if recipe.id.startswith("ncsn") else min(STEPS, options.get("steps", STEPS), most(recipe))
    return options


def most(recipe):
    """Steps that the small system can take."""
    return SIZES["T"] if recipe.id == "ddpm" else STEPS


def model_of(recipe, dtype, *names):
    """The small system in a precision, its parameters far from 0, with the methods of these names replayed."""
    dataset = dataset_of(recipe)
    system = built(recipe, dataset)
    rng = np.random.default_rng(0)
    for x in system.parameters():
        x.assign(sg.tensor(x.numpy() + rng.normal(0, 0.1, x.shape).astype(np.float32)).value)
    system = system.astype(dtype)
    return Trained(None, recipe, dataset, replayed(system, *names), 1, system.size())


def bits(samples):
    return np.asarray(samples).dtype, np.asarray(samples).tobytes()


def draws(model, name, mode):
    """Of one shape, of another, and of the first once more."""
    recipe = model.recipe
    with np.errstate(all="ignore"):
        return [bits(recipe.sample(model, n, Generator(n, mode), **options_of(recipe, name))) for n in (3, 2, 3)]


def test_the_systems_that_there_are():
    assert set(FIRSTS) == {
        "ddpm", "ncsn", "ncsn_2d", "score_sde", "score_sde_ve", "score_sde_subvp", "pixelcnn", "ebm", "ebm_2d",
        "score_matching", "denoising",
    }  # fmt: skip


@pytest.mark.parametrize(("id", "name", "dtype"), with_twins_in_the_long_tier(
    [*((*case, "float32") for case in CASES), *((*one, "float64") for one in FIRSTS.items())]
))  # fmt: skip
def test_the_same_bits(id, name, dtype):
    recipe = RECIPES[id]
    plain, model = model_of(recipe, dtype), model_of(recipe, dtype, *recipe.repeated)
    assert draws(model, name, "host") == draws(plain, name, "host")
    asked = answering(model).values()
    assert any(x.fast.ready for x in asked)
    assert not any(x.refused for x in asked)


@pytest.mark.parametrize(("id", "name"), with_twins_in_the_long_tier(FIRSTS.items()))
def test_the_same_bits_on_a_device_with_noise_of_its_own(id, name):
    recipe = RECIPES[id]
    with sg.backend("strict"):
        plain, model = model_of(recipe, "float32"), model_of(recipe, "float32", *recipe.repeated)
        assert draws(model, name, "counter") == draws(plain, name, "counter")
    asked = answering(model).values()
    assert any(graph.graph.captured for x in asked for graph in x.fast.graphs.values())
    assert not any(x.refused for x in asked)


def test_noise_by_counter_on_the_host():
    recipe = RECIPES["ddpm"]
    plain, model = model_of(recipe, "float32"), model_of(recipe, "float32", *recipe.repeated)
    assert draws(model, "DDPM", "counter") == draws(plain, "DDPM", "counter") != draws(plain, "DDPM", "host")


def test_chunks_side_by_side():
    """More images than one chunk, in threads, each with a plan of its own."""
    recipe = RECIPES["ddpm"]
    plain, model = model_of(recipe, "float32"), model_of(recipe, "float32", *recipe.repeated)
    drawn = [bits(recipe.sample(m, 6 * 60, Generator(0), steps=4)) for m in (plain, model, model)]
    assert drawn[0] == drawn[1] == drawn[2]


def test_a_system_without_a_name_is_asked_as_it_is():
    recipe = RECIPES["nice_2d"]
    assert not answering(trained(recipe))
