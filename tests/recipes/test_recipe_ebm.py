"""A deep energy model of images from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.recipes import RECIPES, ebm, judge
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train.config import TrainConfig

PICTURES = {"samples.png", "chains.png", "anomalies.png", "denoising.png", "learning.png"}


def test_a_run_on_images(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    for name, value in {"STEPS": 3, "MOMENTS": (0, 1, 2), "RESTORING": 2}.items():
        monkeypatch.setattr(ebm, name, value)
    path = tmp_path / "run"
    assert cli.run(["train", "ebm", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("real, held out", "the replay buffer", "upside down", "the best linear map"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--steps", "3", "--solver", "mala", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, np.load(files[1]))
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert cli.run(["sample", str(path), "--solver", "hmc"]) == 2
    assert "--solver hmc is not one of langevin, mala" in capsys.readouterr().err
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_images_that_it_cannot_take(tmp_path, capsys):
    assert cli.run(["train", "ebm", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith("ebm: needs images; moons has examples of shape (2,)\n")
    few = Dataset("few", digits().train, digits().train[:5])
    with pytest.raises(RecipeError, match="holds out 5 images, too few to judge by"):
        RECIPES["ebm"].configure(few)


def test_what_the_figures_are():
    """The share of pairs in the right order, by counting; the linear map, by least squares on many noisy copies."""
    assert ebm.told_apart(np.array([1.0, 2.0]), np.array([0.0, 1.5, 2.0, 5.0])) == (1 + 2.5) / 8
    noise = np.random.default_rng(0)
    x = noise.standard_normal((200_000, 2)) @ np.array([[1.0, 0.5], [0.0, 0.7]]) + [0.3, -0.2]
    y = x + 0.4 * noise.standard_normal(x.shape)
    rows = np.column_stack([np.ones(len(y)), y])
    best = rows @ np.linalg.lstsq(rows, x, rcond=None)[0]
    # 200,000 pairs: coefficients to 0.002 or so, of |y| up to 5
    assert np.abs(ebm.linear(x, y, 0.4) - best).max() < 0.03
