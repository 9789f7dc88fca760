"""Autoencoders from the command line, for a few steps: trained, judged, drawn and sampled; and PCA beside them."""

import numpy as np
import pytest
from evidence import agree
from pages import shown

from reference import autoencoder as oracle
from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.recipes import RECIPES
from scratchgen.recipes.autoencoder import largest_angle, pca_errors
from scratchgen.recipes.recipe import RecipeError

IDS = "autoencoder", "linear_autoencoder", "conv_autoencoder", "deconv_autoencoder"
PICTURES = {"reconstructions.png", "errors.png", "codes.png", "interpolation.png", "holes.png", "loss.png"}


@pytest.mark.parametrize("id", [
    "linear_autoencoder", "deconv_autoencoder", *(pytest.param(id, marks=pytest.mark.long) for id in IDS[::2]),
])  # fmt: skip
def test_a_run_from_begin_to_end(id, tmp_path, capsys):
    path = tmp_path / id
    assert cli.run(["train", id, "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("PCA, 8 numbers", "the mean image", RECIPES[id].title):
        assert said in page
    assert ("largest angle" in page) == (id == "linear_autoencoder")
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, np.load(files[1]))
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    capsys.readouterr()
    assert cli.run(["sample", str(path), "--eta", "0.5"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("id", IDS)
def test_data_without_room_for_a_code_are_refused(id, tmp_path, capsys):
    assert cli.run(["train", id, "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith(f"{id}: needs labelled images; moons has examples (2,)\n")
    data = digits()
    few = Dataset("few", data.train[:5], data.heldout, data.train_labels[:5], data.heldout_labels)
    with pytest.raises(RecipeError, match="few is too small for a code to be narrow"):
        RECIPES[id].configure(few)


def test_the_variants_differ_as_they_say():
    configs = {id: RECIPES[id].configure(digits()) for id in IDS}
    assert [c.network for c in configs.values()] == ["dense", "dense", "upsample", "deconvolution"]
    assert configs["linear_autoencoder"].widths == ()
    assert {c.latent for c in configs.values()} == {8}


def test_what_pca_loses():
    """Of what it was fitted to, the smallest eigenvalues; of anything else, what the projection leaves."""
    rng = np.random.default_rng(0)
    turn = rng.standard_normal((6, 6))
    x, other = (rng.standard_normal((n, 6)) @ turn for n in (50, 20))
    own, asked = pca_errors(x, x), pca_errors(x, other)
    assert len(own) == 7
    for d in range(6):
        least, projection = oracle.best_affine(x, d)
        agree(own[d], least / 6, rtol=1e-9)
        left = other - x.mean(axis=0)
        agree(asked[d], np.square(left - left @ projection).sum(axis=1).mean() / 6, rtol=1e-9)
    agree([own[6], asked[6]], 0, atol=1e-12)


def test_the_angle_to_pcas_directions():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2000, 3)) * [3, 2, 0.1]
    x = np.linalg.qr(x - x.mean(axis=0))[0] * [3, 2, 0.1]  # uncorrelated, exactly
    agree(largest_angle(np.array([[1.0, 1, 0], [0, 5, 0]]), x), 0, atol=1e-5)
    agree(largest_angle(np.array([[1.0, 0, 1]]), x), 45, atol=1e-5)
