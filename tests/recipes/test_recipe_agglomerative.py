"""Agglomerative clustering from the command line: fitted, judged and drawn; its dendrogram against SciPy's."""

import numpy as np
import pytest
from pages import shown
from scipy.cluster import hierarchy
from sklearn import cluster, metrics

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.recipes import RECIPES, agglomerative
from scratchgen.recipes.agglomerative_pictures import Layout
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train import RunFolder

PICTURES = {"dendrogram.png", "groups.png", "linkages.png", "heights.png"}


@pytest.mark.parametrize("data", ["digits", pytest.param("moons", marks=pytest.mark.long)])
def test_a_run_from_begin_to_end(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(agglomerative, "MOST", 200)
    path = tmp_path / "run"
    assert cli.run(["train", "agglomerative", "--data", data, "--out", str(path)]) == 0
    capsys.readouterr()
    page = shown(path, PICTURES)
    assert "random groups" in page
    assert ("adjusted Rand" in page) == (data == "digits")
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page
    assert cli.run(["sample", str(path)]) == 2
    assert "has no distribution to draw from" in capsys.readouterr().err
    if data == "digits":
        check_figures(path)


def check_figures(path):
    """The partitions of the table, by scikit-learn."""
    recipe = RECIPES["agglomerative"]
    trained = recipe.load(RunFolder.open(path))
    chosen = agglomerative.chosen(digits(), 200)
    x, classes = digits().train[chosen].reshape(200, -1).astype(float), digits().train_labels[chosen]
    found = {p["name"]: p for p in recipe.evaluate(trained).numbers["partitions"]}
    assert found["all in one group"]["inertia"] == pytest.approx(x.var(axis=0).sum())
    for method in ("single", "average", "ward"):  # grey levels are whole, and complete linkage finds ties
        theirs = cluster.AgglomerativeClustering(10, linkage=method).fit_predict(x)
        mine = found[f"{method} linkage"]
        assert mine["rand"] == pytest.approx(metrics.adjusted_rand_score(classes, theirs))
        assert mine["largest"] == np.bincount(theirs).max() / 200
    assert abs(found["chance: random groups"]["rand"]) < 0.05
    assert found["the classes"]["rand"] == found["the classes"]["purity"] == 1


@pytest.mark.parametrize("leaves, k", [(12, 5), (40, 8)])
def test_the_dendrogram_is_scipys(leaves, k):
    """The same leaves from left to right, but for which branch goes left; the same heights; and a colour a group."""
    tree = hierarchy.linkage(np.random.default_rng(2).normal(size=(40, 2)), "ward")
    layout = Layout(tree, leaves, k)
    theirs = hierarchy.dendrogram(tree, p=leaves, truncate_mode="lastp", no_plot=True)
    assert sorted(ys[1] for _, ys, _ in layout.lines) == sorted(ys[1] for ys in theirs["dcoord"])
    assert sorted(i for leaf in layout.members for i in leaf) == list(range(40))
    assert len(layout.members) == leaves
    assert layout.colours == k
    cut = (tree[-k, 2] + tree[-k + 1, 2]) / 2
    assert all((colour is None) == (ys[1] > cut) for _, ys, colour in layout.lines)


def test_too_few_examples_are_refused():
    few = Dataset("few", digits().train[:9], digits().heldout, np.arange(9), digits().heldout_labels)
    with pytest.raises(RecipeError, match="few has 9 examples, too few for 9 groups"):
        RECIPES["agglomerative"].configure(few)
