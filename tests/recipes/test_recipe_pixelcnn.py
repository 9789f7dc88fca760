"""A PixelCNN from the command line, for a few steps of a small one: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.models.autoregressive import PixelCNNConfig
from scratchgen.recipes import RECIPES, judge
from scratchgen.recipes.pixelcnn import images, symbols
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train import RunConfig, RunFolder, TrainConfig, as_json

PICTURES = {"samples.png", "rows.png", "completed.png", "cost.png", "sight.png", "loss.png"}


def test_a_run_from_begin_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    path = tmp_path / "run"
    train = TrainConfig(steps=3, batch_size=8, log_every=1)
    RunFolder.create(path, RunConfig("pixelcnn", as_json(PixelCNNConfig(width=8, layers=2)), train, "digits"))
    assert cli.run(["train", "pixelcnn", "--resume", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("Fréchet, PixelCNN", "floor: real, held out", "bits per pixel, held out", "a histogram per pixel"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(3)]
    for file, heat in zip(files, ("1", "1", "0"), strict=True):
        assert cli.run(["sample", str(path), "-n", "5", "--temperature", heat, "--out", str(file)]) == 0
    x, again, cold = map(np.load, files)
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, again)
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert np.ptp(cold, axis=0).max() == 0 < np.ptp(x, axis=0).max()
    assert cli.run(["sample", str(path), "--eta", "0.5"]) == 2
    assert capsys.readouterr().err.count("\n") >= 1
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_that_does_not_fit_is_refused(tmp_path, capsys):
    assert cli.run(["train", "pixelcnn", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert "needs images of one channel and some grey levels" in capsys.readouterr().err
    few = Dataset("few", digits().train, digits().train[:5], levels=17)
    with pytest.raises(RecipeError, match="holds out 5 images, too few to judge by"):
        RECIPES["pixelcnn"].configure(few)


def test_images_are_symbols_and_back():
    data = digits()
    k = symbols(data.train[:20], data)
    assert k.shape == (20, 8, 8) and k.min() == 0 and k.max() == 16
    np.testing.assert_array_equal(images(k, data), data.train[:20])
