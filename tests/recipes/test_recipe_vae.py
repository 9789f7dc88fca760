"""Variational autoencoders from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from evidence import agree
from pages import shown
from scipy import stats

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.metrics import ClassifierConfig
from scratchgen.recipes import RECIPES, baselines, codes, judge
from scratchgen.recipes import vae as vae_recipe
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train.config import TrainConfig

IDS = "vae", "vae_bernoulli", "beta_vae"
PICTURES = {"samples.png", "reconstructions.png", "codes.png", "interpolation.png", "traversals.png", "latents.png",
            "bound.png", "loss.png"}  # fmt: skip


@pytest.mark.parametrize("id", [pytest.param(id, marks=pytest.mark.long) for id in IDS[::2]] + ["vae_bernoulli"])
def test_a_run_from_begin_to_end(id, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    monkeypatch.setattr(vae_recipe, "WEIGHTS", 4)
    path = tmp_path / id
    assert cli.run(["train", id, "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("the bound, ELBO", "the bound of 4 codes, L_K", "floor: ", "real, held out", "Samples"):
        assert said in page
    assert ("latents that say more" in page) == (id == "beta_vae")
    files = [tmp_path / f"{i}.npy" for i in range(3)]
    for file, options in zip(files, ([], [], ["--temperature", "0"]), strict=True):
        assert cli.run(["sample", str(path), "-n", "5", "--out", str(file), *options]) == 0
    x, again, mean = map(np.load, files)
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, again)
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert np.array_equal(mean, np.repeat(mean[:1], 5, axis=0))  # the mean code, each time
    capsys.readouterr()
    for wrong in (["--temperature", "-1"], ["--eta", "0.5"]):
        assert cli.run(["sample", str(path), *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("id", IDS)
def test_data_that_cannot_be_judged_are_refused(id, tmp_path, capsys):
    assert cli.run(["train", id, "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith(f"{id}: needs labelled images; moons has examples (2,)\n")
    data = digits()
    few = Dataset("few", data.train, data.train[:5], data.train_labels, data.train_labels[:5])
    with pytest.raises(RecipeError, match="holds out 5 images, too few to judge by"):
        RECIPES[id].configure(few)
    assert len(data.heldout) > ClassifierConfig().width


def test_the_variants_differ_as_they_say():
    configs = {id: RECIPES[id].configure(digits()) for id in IDS}
    assert {id: (c.decoder, c.beta, c.levels) for id, c in configs.items()} == {
        "vae": ("gaussian", 1.0, 17), "vae_bernoulli": ("bernoulli", 1.0, 17), "beta_vae": ("gaussian", 2.0, 17),
    }  # fmt: skip


# --- the exact models beside which bounds stand ---------------------------------------------------------------------


def test_gaussians_by_scipy():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((20_000, 1))
    seen = 1 + hidden @ np.array([[1.0, -0.5, 0.8]]) + 0.3 * rng.standard_normal((20_000, 3))
    x = seen[:50]
    pixels, factors, full = baselines.gaussians(seen, x, latent=1).values()
    mean, cov = seen.mean(axis=0), np.cov(seen.T)
    agree(pixels, stats.norm.logpdf(x, mean, np.sqrt(np.diag(cov))).sum(axis=1), rtol=1e-10)
    agree(full, stats.multivariate_normal.logpdf(x, mean, cov), rtol=1e-10)
    # the data are those of one factor: so it finds their law, but for the sampling error of 20,000 examples
    agree(factors.mean(), full.mean(), atol=1e-2)


def test_coins_by_hand():
    seen = np.array([[1.0, 0], [1, 1], [0, 0], [0, 0]])
    labels = np.array([0, 0, 0, 1])
    x = np.array([[1.0, 0], [0, 1]])
    one, mixed = baselines.coins(seen, labels, x).values()
    agree(np.exp(one), [0.5 * 3.5 / 5, 0.5 * 1.5 / 5], rtol=1e-12)
    first = [0.75 * (2.5 / 4) * (2.5 / 4), 0.75 * (1.5 / 4) * (1.5 / 4)]  # of the class that was seen three times
    second = [0.25 * (0.5 / 2) * (1.5 / 2), 0.25 * (1.5 / 2) * (0.5 / 2)]
    agree(np.exp(mixed), np.add(first, second), rtol=1e-12)


def test_codes_in_a_plane_and_on_a_line():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((500, 4)) * [3, 1, 0.1, 0.1]
    places, share = codes.flat(x)
    agree(np.abs(np.corrcoef(places[:, 0], x[:, 0])[0, 1]), 1, atol=1e-3)
    agree(share, 10 / 10.02, atol=1e-2)
    assert codes.flat(x[:, :1])[0].shape == (500, 2)
    a, b = x[:2], x[2:4]
    line = codes.between(a, b, 5)
    agree(line[[0, 4, 5, 9]], [a[0], b[0], a[1], b[1]], rtol=1e-12)
    agree(line[2], (a[0] + b[0]) / 2, rtol=1e-12)
    labels = np.array([0, 0, 1, 2, 1])
    assert codes.one_of_each(labels, 5).tolist() == [0, 2, 3, 1, 4]
    assert codes.one_of_each(None, 3, start=2).tolist() == [2, 3, 4]
