"""Every system of the catalogue trains and samples where the arrays live, with no hidden way to the host and back.

The strict backend stands in for the device.  A training step, once it is warm, copies nothing in or out and reads
nothing, and can be captured as a CUDA graph.  A sampler brings in at most what it is given (a prompt, examples to begin
with), and takes its samples out once, at the end.  What is not so stands in the tables, with the reason.
"""

import importlib
import inspect
import re
from dataclasses import replace

import numpy as np
import pytest
from everywhere import BATCH, answering, built, dataset_of, trained, with_twins_in_the_long_tier

import scratchgen as sg
from scratchgen import ops, strict
from scratchgen.backend import get
from scratchgen.models.latent.denoising import Denoising
from scratchgen.random import Generator
from scratchgen.recipes import RECIPES
from scratchgen.recipes.fitted import FittedRecipe
from scratchgen.train import loop, train

WARM = 4  # turns: two warm up, one is captured, one replayed
FITTED = [id for id, recipe in RECIPES.items() if isinstance(recipe, FittedRecipe)]
DESCENDED = [id for id in RECIPES if id not in FITTED]
SAMPLERS = [(id, name) for id in DESCENDED for name in RECIPES[id].samplers or [""]]

ADAPTIVE = (100, 101, 0, "SciPy chooses the steps, on the host: in and out for each call of the network")
CODES = (3, 2, 1, "a Gaussian is fitted to the training images' codes on the host: they go out, two moments come in; "
                  "its covariance is asked whether it has a factor")
FACTORS = (0, 1, 400, "the covariances of known mixtures are asked in every step of a walk whether they have factors")
LEVELS = (0, 1, 2, "the noise levels and their steps are read once, before the walk")
RANGED = (1, 2, 0, "the codes, drawn in chunks, are taken out, and come in again to be decoded in chunks")
CROSSINGS = {
    ("score_sde", "ODE, RK45"): ADAPTIVE,
    ("score_sde_ve", "ODE, RK45"): ADAPTIVE,
    ("score_sde_subvp", "ODE, RK45"): ADAPTIVE,
    ("ncsn", ""): LEVELS,
    ("ncsn_2d", ""): LEVELS,
    ("optimal_discriminator", ""): (1, 2, 0, "points are drawn again by their weights, which NumPy does on the host"),
    ("autoencoder", ""): CODES,
    ("linear_autoencoder", ""): CODES,
    ("conv_autoencoder", ""): CODES,
    ("deconv_autoencoder", ""): CODES,
    ("contractive", ""): (1, 1, 0, "walks begin at training images"),
    ("gpt", ""): (1, 1, 0, "texts begin with a prompt"),
    ("product_of_experts", ""): FACTORS,
    ("vqvae", ""): RANGED,
    ("vqvae_ema", ""): RANGED,
}
"""Samplers that are given something, or need the host: copies in, copies out and reads at most, and why."""
OTHERWISE = (0, 1, 0, "")

FITS = {
    "kmeans": (4, 25, "a round ends the fit when no example changes its group, and looks for groups without any; "
                      "the first centres are drawn one by one, the best of several candidates"),
    "agglomerative": (7, 2, "which two groups are merged is read, and so are the places of those that are left"),
    "pca": (0, 3, "one factorisation, on the device; the shares of variance are shown"),
    "nmf": (2, 3, "the loss is a row of the log, and what is negative is refused"),
}
"""Fits that are no descent on minibatches: crossings in an iteration and besides, at most, and why.  The distances,
products and sums are the device's; an iteration's number is read, since it is logged and ends the fit."""


@pytest.fixture(autouse=True)
def strict_backend():
    with sg.backend("strict"):
        yield


def check(seen, copies_in, copies_out, reads):
    """No more than so much has crossed, the constants apart, which a device is given once."""
    constants = sum(n for crossing, n in seen.times.items() if "transfers.py" in crossing.place)
    assert seen.copies_in - constants <= copies_in, str(seen)
    assert seen.copies_out <= copies_out, str(seen)
    assert seen.reads <= reads, str(seen)


def warm(system, recipe, dataset):
    """A state of training after a few turns, and where its minibatches come from."""
    config = replace(recipe.train, batch_size=BATCH, steps=WARM + 2, shards=1, noise="counter")
    source = loop.Source(recipe.examples(dataset), config)
    state = loop.begin(system, source, config, None, recipe.id)
    for _ in range(WARM):
        loop.take_turn(state, source)
    return state, source


@pytest.mark.parametrize("id", DESCENDED)
def test_a_training_step_stays_on_the_device(id):
    recipe = RECIPES[id]
    dataset = dataset_of(recipe)
    state, source = warm(built(recipe, dataset), recipe, dataset)
    with strict.watched() as seen:
        loop.take_turn(state, source)
        state.describe()
    assert str(seen) == "nothing crossed"
    assert [note for note in state.notes if "trained without replay" in note] == []
    state.close()


@pytest.mark.parametrize(("id", "name"), with_twins_in_the_long_tier(SAMPLERS))
def test_a_sampler_stays_on_the_device(id, name, monkeypatch):
    """And what it asks over and over becomes a graph."""
    monkeypatch.setattr(importlib.import_module("scratchgen.replayed"), "FIRST", 0)
    recipe = RECIPES[id]
    model = trained(recipe)
    options = dict(recipe.samplers.get(name, {}))
    if "steps" in options:
        options["steps"] = 3
    with strict.watched() as seen:
        recipe.sample(model, 3, Generator(0, "counter"), **options)
    check(seen, *CROSSINGS.get((id, name), OTHERWISE)[:3])
    asked = answering(model)
    assert not [x.refused for x in asked.values() if x.refused]
    assert bool(asked) == any(x.fast.graphs for x in asked.values())


@pytest.mark.parametrize("id", FITTED)
def test_a_fit_reads_what_it_must(id):
    recipe = RECIPES[id]
    dataset = dataset_of(recipe, 80)
    with strict.watched() as seen:
        done = sum(1 for _ in recipe.iterations(built(recipe, dataset), dataset, 3, Generator(0, "counter")))
    iteration, besides, _ = FITS[id]
    assert sum(seen.times.values()) <= iteration * done + besides, str(seen)


def test_the_tables_name_systems_and_samplers_that_there_are():
    assert set(CROSSINGS) <= set(SAMPLERS)
    assert set(FITS) == set(FITTED)


# --- the run around the steps --------------------------------------------------------------------------------


def test_a_run_reads_only_where_a_row_is_logged(monkeypatch):
    recipe, told = RECIPES["nice_2d"], []
    dataset = dataset_of(recipe)

    def update(bar, step, loss):
        told.append((loss(), seen.copies_out + seen.reads))

    monkeypatch.setattr(loop.Bar, "update", update)
    config = replace(recipe.train, batch_size=BATCH, steps=6, log_every=3, noise="counter")
    with strict.watched() as seen:
        train(built(recipe, dataset), dataset.train, config, progress=False)
    crossed = [n for _, n in told]
    assert crossed[0] == crossed[1] and crossed[2] == crossed[3] == crossed[4]
    assert crossed[1] < crossed[2] < crossed[5]
    texts = [text for text, _ in told]
    assert texts[:2] == ["loss …"] * 2
    assert re.fullmatch(r"loss -?\d\S*", texts[2]) and texts[2:5] == [texts[2]] * 3 != texts[3:]


def test_the_data_are_moved_once_and_an_order_once_an_epoch():
    config = replace(RECIPES["nice_2d"].train, batch_size=50)
    x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    with strict.watched() as seen:
        source = loop.Source((x, np.arange(200)), config)
        batches = [source(i) for i in range(8)]
    assert seen.nbytes("copy in") == x.nbytes + 200 * 8 + 2 * 200 * 8
    assert seen.copies_in == 4
    check_batches(batches, (x, np.arange(200)), config)


def test_data_too_large_for_the_device_are_brought_in_by_minibatches(monkeypatch):
    monkeypatch.setattr(loop, "RESIDENT", 1000)
    config = replace(RECIPES["nice_2d"].train, batch_size=50)
    x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    with strict.watched() as seen:
        source = loop.Source((x, np.arange(200)), config)
        batches = [source(i) for i in range(8)]
    assert (seen.copies_in, seen.nbytes("copy in")) == (16, 8 * 50 * (8 + 8))
    check_batches(batches, (x, np.arange(200)), config)


def check_batches(batches, data, config):
    """They are the minibatches that NumPy's backend gives."""
    with sg.backend("numpy"):
        source = loop.Source(data, config)
        wanted = [source(i) for i in range(len(batches))]
    for batch, other in zip(batches, wanted, strict=True):
        for a, b in zip(batch, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(get("strict").to_numpy(a), b)


# --- faults that must be found -------------------------------------------------------------------------------


def line():
    """The line after the caller's."""
    return inspect.currentframe().f_back.f_lineno + 1


def hides_a_read(loss, places):
    def hidden(batch, rng):
        terms = loss(batch, rng)
        places.append(line())
        assert float(ops.sum(terms.loss)) > -1e9
        return terms

    return hidden


def hides_a_constant(loss, places):
    def hidden(batch, rng):
        terms = loss(batch, rng)
        places.append(line())
        ones = sg.tensor([1.0] * BATCH)
        return terms._replace(loss=terms.loss * ones)

    return hidden


def hides_a_mask(loss, places):
    def hidden(batch, rng):
        places.append(line())
        assert batch[batch[:, 0] > 0].ndim
        return loss(batch, rng)

    return hidden


@pytest.mark.parametrize(
    ("hide", "what"),
    [(hides_a_read, "1 × read: float()"), (hides_a_constant, "1 × copy in: asarray of host data"),
     (hides_a_mask, "1 × read: a boolean mask as an index")],
)  # fmt: skip
def test_what_hides_in_a_step_is_found_with_its_line(hide, what):
    recipe, places = RECIPES["nice_2d"], []
    dataset = dataset_of(recipe)
    system = built(recipe, dataset)
    system.loss = hide(system.loss, places)
    state, source = warm(system, recipe, dataset)
    assert any(f"test_everywhere.py:{places[0]}" in note for note in state.notes)
    with strict.watched() as seen:
        loop.take_turn(state, source)
    with pytest.raises(AssertionError) as caught:
        check(seen, 0, 0, 0)
    assert re.search(rf"{re.escape(what)} at \S*test_everywhere\.py:{places[0]}\b", str(caught.value))


def test_what_hides_in_a_sampler_is_found_with_its_line(monkeypatch, caplog):
    """And said, where a graph would have been made of it."""
    recipe, places = RECIPES["denoising"], []
    score = Denoising.score

    def hidden(system, x):
        places.append(line())
        shift = sg.tensor([0.0, 0.0]).value
        return score(system, x + shift)

    monkeypatch.setattr(Denoising, "score", hidden)
    model = trained(recipe)
    with strict.watched() as seen:
        recipe.sample(model, 3, Generator(0, "counter"))
    where = rf"test_everywhere\.py:{places[0]}\b"
    with pytest.raises(AssertionError, match=rf"{len(places)} × copy in: .*{where}"):
        check(seen, *OTHERWISE[:3])
    assert re.search(rf"replay: copy in: .*{where}.*asked without replay", caplog.text)
