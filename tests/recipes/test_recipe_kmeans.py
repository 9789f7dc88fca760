"""k-means from the command line: fitted, judged and drawn, on digits and on points of the plane."""

import numpy as np
import pytest
from PIL import Image
from sklearn.cluster import KMeans

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.recipes import RECIPES
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train import RunFolder

IMAGES = {"centres.png", "plane.png", "rounds.png", "loss.png", "clusters.png"}


@pytest.mark.parametrize("data, pictures", [
    ("digits", IMAGES), pytest.param("moons", IMAGES - {"centres.png"}, marks=pytest.mark.long),
])  # fmt: skip
def test_a_run_from_begin_to_end(data, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("scratchgen.recipes.kmeans.BY_CLUSTERS", (1, 4))
    path = tmp_path / "run"
    assert cli.run(["train", "kmeans", "--data", data, "--steps", "12", "--lr", "0.5", "--out", str(path)]) == 0
    assert "--lr has no meaning for a fit of this kind" in capsys.readouterr().err
    page = (path / "index.html").read_text(encoding="utf-8")
    assert {file.name for file in (path / "pictures").iterdir()} == pictures
    for name in pictures:
        assert name in page
        with Image.open(path / "pictures" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, name
    assert "ceiling: one centre" in page
    assert ("adjusted Rand" in page) == (data == "digits")
    saved = (path / "checkpoint.safetensors").read_bytes()
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page
    assert cli.run(["train", "kmeans", "--resume", "--out", str(path)]) == 0  # a fit that is done stays as it is
    assert (path / "checkpoint.safetensors").read_bytes() == saved
    capsys.readouterr()
    assert cli.run(["sample", str(path)]) == 2
    assert "has no distribution to draw from" in capsys.readouterr().err


def test_the_figures_are_those_of_scikit_learn(tmp_path, monkeypatch):
    """The whole run of ten starts, against the best of ten of theirs: within a thousandth."""
    monkeypatch.setattr("scratchgen.recipes.kmeans.BY_CLUSTERS", (1,))
    monkeypatch.setattr("scratchgen.recipes.kmeans_pictures.draw", lambda *_: [])
    path = tmp_path / "run"
    assert cli.run(["train", "kmeans", "--out", str(path)]) == 0
    recipe = RECIPES["kmeans"]
    found = recipe.evaluate(recipe.load(RunFolder.open(path))).numbers
    x, held = (part.reshape(len(part), -1).astype(float) for part in (digits().train, digits().heldout))
    theirs = KMeans(10, n_init=10, random_state=0).fit(x)
    inertia = found["inertia"]
    assert inertia["k-means"][0] == pytest.approx(theirs.inertia_ / len(x), rel=1e-3)
    assert inertia["one centre, the mean"] == pytest.approx((x.var(0).sum(), ((held - x.mean(0)) ** 2).sum(1).mean()))
    chance, mine, classes = found["agreement"]
    assert chance[2] < 0.02 < 0.6 < mine[2] < classes[2] == 1


def test_too_few_examples_are_refused():
    few = Dataset("few", digits().train[:5], digits().heldout, digits().train_labels[:5], digits().heldout_labels)
    with pytest.raises(RecipeError, match="few has 5 examples, too few for"):
        RECIPES["kmeans"].configure(few)
