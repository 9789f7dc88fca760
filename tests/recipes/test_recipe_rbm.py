"""The RBM from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from pages import shown
from scipy.stats import bernoulli

from scratchgen import cli
from scratchgen.data import Dataset, binarised, digits
from scratchgen.models.energy import RBM, RBMConfig
from scratchgen.random import Generator
from scratchgen.recipes import RECIPES, judge, rbm
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train.config import TrainConfig

PICTURES = {"samples.png", "chains.png", "filters.png", "denoising.png", "completion.png", "learning.png"}
SHORT = {"WALKERS": 10, "ANNEALING": 20, "STEPS": 5, "GIBBS": 4, "BURN": 1, "MOMENTS": (0, 1, 2)}


def test_a_run_from_begin_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    for name, value in SHORT.items():
        monkeypatch.setattr(rbm, name, value)
    path = tmp_path / "run"
    assert cli.run(["train", "rbm", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("10 hidden units", "2^128 states", "independent pixels", "real, held out", "each pixel alone"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--steps", "3", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, np.load(files[1]))
    assert set(np.unique(x)) == {-1, 1}
    assert cli.run(["sample", str(path), "--eta", "0.5"]) == 2
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_that_it_cannot_take(tmp_path, capsys):
    assert cli.run(["train", "rbm", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith("rbm: needs labelled images; an example of moons has shape (2,)\n")
    x = digits()
    few = Dataset("few", x.train, x.train[:5], x.train_labels, x.train_labels[:5])
    with pytest.raises(RecipeError, match="holds out 5 images, too few to judge by"):
        RECIPES["rbm"].configure(few)


def test_the_floor_is_the_likelihood_of_coins():
    """Against scipy's, pixel by pixel; and it is what the table says of a machine whose pixels nothing couples."""
    data = binarised(digits())
    ones = (rbm.pixels(data.train).sum(axis=0, dtype=float) + 1) / (len(data.train) + 2)
    want = bernoulli.logpmf(rbm.pixels(data.heldout), ones).sum(axis=1).mean()
    assert rbm.independent(data) == pytest.approx(want, rel=1e-6)
    machine = RBM(RBMConfig(hidden=3), rng=Generator(0))
    machine.W.assign(0 * machine.W.array)
    machine.b.assign(machine.b.array + rbm.base_rates(data))
    found = rbm.likelihood(machine.frozen(), data, 3, Generator(1))
    # float32 sums of 64 terms
    assert found["heldout"] == pytest.approx(want, abs=1e-4)
    assert found["log_Z"] == pytest.approx(found["exact"], abs=1e-4)
    assert found["error"] < 1e-4
