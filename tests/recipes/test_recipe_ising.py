"""The Ising model from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from pages import shown
from scipy.stats import bernoulli

from reference import boltzmann, lattice
from scratchgen import cli
from scratchgen.data import Dataset, binarised, digits
from scratchgen.models.energy import Ising, IsingConfig
from scratchgen.recipes import RECIPES, ising
from scratchgen.recipes.recipe import RecipeError

PICTURES = {"drawing.png", "denoising.png", "noise.png", "energy.png", "marginals.png", "samples.png", "learning.png"}
SHORT = {"SWEEPS": 6, "BURN": 2, "STEPS": 3, "SHOWN": 12, "RATES": (0.1, 0.3), "JUDGED": 24}


def test_a_run_from_begin_to_end(tmp_path, capsys, monkeypatch):
    for name, value in SHORT.items():
        monkeypatch.setattr(ising, name, value)
    path = tmp_path / "run"
    assert cli.run(["train", "ising", "--steps", "5", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("counted: the posterior itself", "the least energy there is", "independent pixels", "ceiling: noisy"):
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
    assert cli.run(["train", "ising", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith("ising: needs grey images; an example of moons has shape (2,)\n")
    wide = Dataset("wide", np.zeros((3, 8, 13, 1), np.float32), np.zeros((3, 8, 13, 1), np.float32))
    with pytest.raises(RecipeError, match="at most 12 pixels, not 13"):
        RECIPES["ising"].configure(wide)


def test_the_floor_and_the_coins():
    """Exact means against the table of all states; the likelihood of coins against scipy's."""
    model = Ising(IsingConfig(2, 3)).frozen()
    model.h = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3)).astype(np.float32)
    model.beta = np.asarray(0.4, np.float32)
    y = np.where(np.random.default_rng(1).random((70, 2, 3)) < 0.5, 1, -1).astype(np.float32)
    found = ising.counted(model, y, 0.2)
    states = lattice.spins(2, 3)
    p = boltzmann.table(lattice.logs(model.h.astype(float), float(model.beta)))
    for k in (0, 59, 60, 69):
        want = np.tensordot(boltzmann.flipped(p, (y[k].ravel() + 1) / 2, 0.2), states, 1)
        # float32, a sum over 64 states
        np.testing.assert_allclose(found[k], want, atol=1e-5)
    data = binarised(digits())
    x = ising.spins(data.train)
    ones = ((x > 0).sum(axis=0) + 1) / (len(x) + 2)
    want = bernoulli.logpmf((ising.spins(data.heldout) > 0).astype(int), ones).sum(axis=(1, 2)).mean()
    assert ising.coins(data, ising.spins(data.heldout)) == pytest.approx(want, rel=1e-6)
    picture = ising.drawing()
    assert set(np.unique(picture)) == {-1, 1}
    assert 0.1 < (picture > 0).mean() < 0.5
    assert ising.wrong(-picture, picture) == 1
    assert ising.wrong(0.1 * picture, picture) == 0
