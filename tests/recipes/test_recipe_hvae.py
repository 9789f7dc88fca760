"""The hierarchical VAE from the command line, for a few steps: trained, judged, drawn and sampled."""

from types import SimpleNamespace

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.recipes import RECIPES, judge
from scratchgen.recipes import vae as vae_recipe
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train.config import TrainConfig

PICTURES = {"samples.png", "ways.png", "levels.png", "codes.png", "bound.png", "loss.png"}


def test_a_run_from_begin_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    monkeypatch.setattr(vae_recipe, "WEIGHTS", 4)
    path = tmp_path / "hvae"
    assert cli.run(["train", "hvae", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("a VAE of one level, ELBO", "the bound, ELBO", "the bound of 4 codes, L_K", "floor: "):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, np.load(files[1]))
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    capsys.readouterr()
    assert cli.run(["sample", str(path), "--temperature", "-1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_that_is_no_image_is_refused(tmp_path, capsys):
    assert cli.run(["train", "hvae", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith("hvae: needs labelled images; moons has examples (2,)\n")
    run = SimpleNamespace(path="runs/hvae", config=SimpleNamespace(model={"latents": []}, train=TrainConfig()))
    with pytest.raises(RecipeError, match="describes no hvae"):
        RECIPES["hvae"].restore(run)
