"""NMF from the command line: fitted, judged and drawn; its ratings, and what guesses of them cannot be better than."""

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.data import digits
from scratchgen.random import Generator
from scratchgen.recipes import RECIPES, nmf, ratings
from scratchgen.train import RunFolder

PICTURES = {"parts.png", "sums.png", "hidden.png", "ratings.png", "loss.png"}


def test_a_run_from_begin_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(nmf, "MOST", 300)
    monkeypatch.setattr(ratings, "UPDATES", 10)
    path = tmp_path / "run"
    assert cli.run(["train", "nmf", "--steps", "30", "--out", str(path)]) == 0
    capsys.readouterr()
    page = shown(path, PICTURES)
    assert "floor: SVD" in page
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page
    assert cli.run(["sample", str(path)]) == 2
    assert "has no distribution of these amounts to draw from" in capsys.readouterr().err
    recipe = RECIPES["nmf"]
    found = recipe.evaluate(recipe.load(RunFolder.open(path))).numbers
    errors = {name: fitted for name, fitted, _ in found["errors"]}
    mean, kl, squared, svd, pca = errors.values()
    x = (digits().train[:300].reshape(300, -1).astype(float) + 1) / 2
    assert mean == pytest.approx(x.var(axis=0).mean())
    s = np.linalg.svd(x, compute_uv=False)
    assert svd == pytest.approx((s[16:] ** 2).sum() / x.size)
    assert pca < svd < squared < mean
    assert svd < kl < mean


def test_images_only(tmp_path, capsys):
    assert cli.run(["train", "nmf", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith("nmf: needs images, whose ink is never negative; moons has (2,)\n")


def test_tastes_are_found_from_a_third_of_the_ratings():
    """Better than whoever knows the films and each person's habit; the truth is off by noise and rounding alone."""
    found, arrays = ratings.judged(Generator(0))
    stars, films, habit, parts, truth = (error for _, error in found)
    assert truth < parts < 0.85 * habit < habit < films < stars
    assert truth == pytest.approx(np.hypot(ratings.NOISE, np.sqrt(1 / 12)), rel=0.1)
    assert arrays["stars_known"].mean() == pytest.approx(ratings.KNOWN, abs=0.01)
    assert set(np.unique(arrays["stars"])) == {1, 2, 3, 4, 5}
