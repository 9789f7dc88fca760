"""PCA from the command line: fitted, judged, drawn and sampled, on digits and on points of the plane."""

import numpy as np
import pytest
from pages import shown
from sklearn.decomposition import PCA

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.recipes import RECIPES, judge
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train import RunFolder
from scratchgen.train.config import TrainConfig

PICTURES = {
    "digits": {"samples.png", "reconstructions.png", "components.png", "latent.png", "variance.png"},
    "two_gaussians": {"samples.png", "latent.png", "variance.png"},
}


@pytest.mark.parametrize("data", ["digits", pytest.param("two_gaussians", marks=pytest.mark.long)])
def test_a_run_from_begin_to_end(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    path = tmp_path / "run"
    assert cli.run(["train", "pca", "--data", data, "--steps", "3", "--out", str(path)]) == 0
    assert "--steps has no meaning for a fit of this kind" in capsys.readouterr().err
    page = shown(path, PICTURES[data])
    assert "ceiling: the mean" in page
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == ((5, 8, 8, 1) if data == "digits" else (5, 2))
    assert np.array_equal(x, np.load(files[1]))
    if data == "digits":
        check_figures(path)


def check_figures(path):
    """The errors and likelihoods of the tables, by scikit-learn."""
    recipe = RECIPES["pca"]
    found = recipe.evaluate(recipe.load(RunFolder.open(path))).numbers
    x, held = (part.reshape(len(part), -1).astype(float) for part in (digits().train, digits().heldout))
    error = lambda theirs, a: ((theirs.inverse_transform(theirs.transform(a)) - a) ** 2).mean()  # noqa: E731
    for r, train, unseen, random in found["errors"][1:-1]:
        theirs = PCA(r, svd_solver="full").fit(x)
        assert (train, unseen) == pytest.approx((error(theirs, x), error(theirs, held)), rel=1e-10)
        assert unseen < random
    bits = dict(found["likelihood"])["16 directions and noise"]
    theirs = PCA(16, svd_solver="full").fit(x)
    assert bits == pytest.approx(theirs.score(held) / 64 / np.log(2), rel=1e-9)


def test_too_few_examples_are_refused():
    few = Dataset("few", digits().train[:64], digits().heldout)
    with pytest.raises(RecipeError, match="few has 64 examples of 64 numbers, too few"):
        RECIPES["pca"].configure(few)
