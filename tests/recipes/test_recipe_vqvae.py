"""VQ-VAEs from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.recipes import RECIPES, judge
from scratchgen.recipes.recipe import RecipeError
from scratchgen.recipes.vqvae import places, surroundings
from scratchgen.train.config import TrainConfig

PICTURES = {"samples.png", "prior.png", "rebuilt.png", "usage.png", "codebook.png", "loss.png"}
IDS = ("vqvae", "vqvae_ema")


@pytest.mark.parametrize("id", ["vqvae", pytest.param("vqvae_ema", marks=pytest.mark.long)])
def test_a_run_from_begin_to_end(id, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    path = tmp_path / id
    assert cli.run(["train", id, "--steps", "5", "--out", str(path)]) == 0
    printed = capsys.readouterr()
    assert "without replay" not in printed.err
    for words in ("real, held out", "codes at random", "dead codes", "bits per code", "the mean image"):
        assert words in printed.out
    page = shown(path, PICTURES)
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--temperature", "0.7", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, np.load(files[1]))
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert cli.run(["sample", str(path), "--eta", "0.5"]) == 2
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("id", IDS)
def test_data_that_does_not_fit_is_refused(id, tmp_path, capsys):
    assert cli.run(["train", id, "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert f"{id}: needs images of even height and width and some grey levels; moons has" in capsys.readouterr().err
    few = Dataset("few", digits().train, digits().train[:5], levels=17)
    with pytest.raises(RecipeError, match="holds out 5 images, too few to judge by"):
        RECIPES[id].configure(few)


def test_the_variants_differ_in_how_codes_learn():
    assert RECIPES["vqvae"].configure(digits()).decay is None
    assert RECIPES["vqvae_ema"].configure(digits()).decay == 0.99


def test_a_histogram_for_each_place():
    """Two places, two codes: seen once more than they were."""
    seen, asked = np.array([[[0, 1]], [[0, 0]]]), np.array([[[0, 1]], [[1, 1]]])
    expected = -np.log2([3 / 4, 2 / 4, 1 / 4, 2 / 4]).mean()
    assert places(seen, asked, 2) == pytest.approx(expected, rel=1e-14)


def test_what_surrounds_a_code():
    """One image of 4×2 pixels, two codes: each has its two rows, and of the frame's and the neighbour's rows one."""
    x = np.arange(8.0).reshape(1, 4, 2, 1)
    found = surroundings(x, np.array([[[1], [0]]]), 3)[..., 0]
    below = np.array([[-1, 2, 3, -1], [-1, 4, 5, -1], [-1, 6, 7, -1], [-1, -1, -1, -1]])
    above = np.array([[-1, -1, -1, -1], [-1, 0, 1, -1], [-1, 2, 3, -1], [-1, 4, 5, -1]])
    assert np.array_equal(found, [below, above, (below + above) / 2])
