"""Noise-conditional score networks from the command line, for a few steps of small ones: trained, judged and drawn."""

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.data import Dataset, digits, toys
from scratchgen.models.score import NCSNConfig
from scratchgen.nn import UNetConfig
from scratchgen.recipes import RECIPES, clouds, judge, ncsn_2d
from scratchgen.recipes.ncsn import calls, halves_of
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train import RunConfig, RunFolder, TrainConfig, as_json

UNET = UNetConfig(base=8, multipliers=(1,), attention=(), groups=4, time=8)
CONFIGS = {
    "ncsn": NCSNConfig(levels=4, T=2, unet=UNET), "ncsn_2d": NCSNConfig(levels=4, T=2, shape=(2,), width=8),
}  # fmt: skip
PICTURES = {
    "ncsn": {"samples.png", "annealing.png", "inpainting.png", "loss.png"},
    "ncsn_2d": {"scores.png", "points.png", "annealing.png", "loss.png"},
}
SAID = {
    "ncsn": ("Fréchet, NCSN", "floor: real, held out", "upper half real, the rest drawn"),
    "ncsn_2d": ("floor: data, held out", "annealed, with the exact score", "a network that says 0"),
}
SHAPES = {"ncsn": (5, 8, 8, 1), "ncsn_2d": (5, 2)}


@pytest.fixture(params=CONFIGS)
def judged(request, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    monkeypatch.setattr(ncsn_2d, "JUDGED", 300)
    id, path = request.param, tmp_path / "run"
    train = TrainConfig(steps=3, batch_size=8, log_every=1)
    RunFolder.create(path, RunConfig(id, as_json(CONFIGS[id]), train, RECIPES[id].dataset))
    assert cli.run(["train", id, "--resume", "--out", str(path)]) == 0
    return id, path


def test_a_run_from_begin_to_end(judged, tmp_path, capsys):
    id, path = judged
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES[id])
    for said in SAID[id]:
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(3)]
    for file, steps in zip(files, ("2", "2", "3"), strict=True):
        assert cli.run(["sample", str(path), "-n", "5", "--steps", steps, "--out", str(file)]) == 0
    x, again, other = map(np.load, files)
    assert x.shape == SHAPES[id]
    assert np.array_equal(x, again)
    assert not np.array_equal(x, other)
    if id == "ncsn":
        assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert cli.run(["sample", str(path), "--eta", "0.5"]) == 2
    assert capsys.readouterr().err.count("\n") >= 1
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_that_does_not_fit_is_refused(tmp_path, capsys):
    for id, said in (("ncsn", "needs images of even height and width"), ("ncsn_2d", "the score must be known")):
        assert cli.run(["train", id, "--data", "moons", "--out", str(tmp_path / "a")]) == 2
        assert said in capsys.readouterr().err
    few = Dataset("few", digits().train, digits().train[:5])
    with pytest.raises(RecipeError, match="holds out 5 images, too few to judge by"):
        RECIPES["ncsn"].configure(few)


def test_the_halves_and_the_calls():
    left, upper = halves_of((4, 6, 1)).values()
    assert left[..., 0].tolist() == 4 * [[1, 1, 1, 0, 0, 0]]
    assert upper[..., 0].tolist() == 2 * [6 * [1]] + 2 * [6 * [0]]
    assert calls(20, 5) == 101


def test_the_density_of_the_two_gaussians():
    x = toys.toy("two_gaussians", 50).train.astype(float)
    np.testing.assert_allclose(clouds.pair("float64").log_prob(x), toys.LOG_DENSITY["two_gaussians"](x), rtol=1e-10)
