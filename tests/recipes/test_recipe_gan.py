"""GANs from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.recipes import RECIPES, judge
from scratchgen.recipes.recipe import RecipeError
from scratchgen.recipes.wgan import assignment
from scratchgen.train.config import TrainConfig

PICTURES = {
    "gan": {"samples.png", "between.png", "game.png"},
    "wgan": {"samples.png", "between.png", "distance.png", "critic.png"},
    "wgan_gp": {"samples.png", "between.png", "distance.png", "critic.png"},
}


@pytest.fixture(params=[pytest.param(id, marks=[pytest.mark.long] if id == "wgan" else []) for id in PICTURES])
def judged(request, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    path = tmp_path / request.param
    assert cli.run(["train", request.param, "--steps", "3", "--out", str(path)]) == 0
    return request.param, path


def test_a_run_from_begin_to_end(judged, tmp_path, capsys):
    id, path = judged
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES[id])
    assert "real, held out" in page
    assert ("steepest slope" in page) == (id != "gan")
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, np.load(files[1]))
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert cli.run(["sample", str(path), "--eta", "0.5"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("id", PICTURES)
def test_data_that_is_no_image_is_refused(id, tmp_path, capsys):
    assert cli.run(["train", id, "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith(f"{id}: needs images; moons has examples of shape (2,)\n")
    few = Dataset("few", digits().train, digits().train[:5])
    with pytest.raises(RecipeError, match="holds out 5 images, too few to judge by"):
        RECIPES[id].configure(few)


def test_the_variants_differ_as_they_say():
    configs = {id: RECIPES[id].configure(digits()) for id in PICTURES}
    assert configs["wgan"].penalty is None
    assert configs["wgan_gp"].penalty == 10
    assert configs["gan"].levels == 17
    assert configs["gan"].shape == (8, 8, 1)


def test_the_exact_distance_of_two_sets():
    """Against every way to pair four points off."""
    from itertools import permutations

    x, y = np.random.default_rng(0).normal(size=(2, 4, 3))
    cheapest = min(np.linalg.norm(x - y[list(order)], axis=1).mean() for order in permutations(range(4)))
    assert assignment(x, y) == pytest.approx(cheapest, rel=1e-12)
    assert assignment(x, x[::-1]) == 0
