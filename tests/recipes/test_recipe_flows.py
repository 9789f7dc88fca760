"""Flows from the command line, for a few steps: trained, judged, drawn and sampled; what their figures stand beside."""

import numpy as np
import pytest
from pages import shown
from scipy import stats

from scratchgen import cli
from scratchgen.data import Dataset, digits, toys
from scratchgen.recipes import RECIPES, flow_images, judge, realnvp_2d
from scratchgen.recipes.recipe import RecipeError
from scratchgen.train import RunFolder
from scratchgen.train.config import TrainConfig

PLANE = {"density.png", "samples.png", "way.png", "loss.png"}
IMAGES = {"samples.png", "temperatures.png", "between.png", "loss.png"}
PICTURES = {"realnvp_2d": PLANE, "nice_2d": PLANE, "realnvp": IMAGES, "nice": IMAGES, "glow": IMAGES}
ALL = ["realnvp_2d", "glow", *(pytest.param(id, marks=pytest.mark.long) for id in ("nice_2d", "nice", "realnvp"))]


@pytest.fixture(params=ALL)
def judged(request, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    monkeypatch.setattr(realnvp_2d, "JUDGED", 300)
    monkeypatch.setattr(flow_images, "DRAWS", 2)
    path = tmp_path / request.param
    assert cli.run(["train", request.param, "--steps", "3", "--out", str(path)]) == 0
    return request.param, path


def test_a_run_from_begin_to_end(judged, tmp_path, capsys):
    id, path = judged
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES[id])
    assert ("the true density" if PICTURES[id] is PLANE else "a histogram per pixel") in page
    files = [tmp_path / f"{i}.npy" for i in range(3)]
    for file, more in zip(files, ([], [], ["--temperature", "0"]), strict=True):
        assert cli.run(["sample", str(path), "-n", "5", "--out", str(file), *more]) == 0
    x, again, cold = map(np.load, files)
    assert x.shape == ((5, 2) if PICTURES[id] is PLANE else (5, 8, 8, 1))
    assert np.array_equal(x, again)
    assert np.ptp(cold, axis=0).max() == 0 < np.ptp(x, axis=0).max()
    if PICTURES[id] is IMAGES:
        assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert cli.run(["sample", str(path), "--eta", "0.5"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page
    trained = RECIPES[id].load(RunFolder.open(path))
    if PICTURES[id] is PLANE:
        way = realnvp_2d.way(trained.system, 7, trained.rng(0))
        assert way.shape == (6, 7, 2)
        np.testing.assert_allclose(trained.system.encode(way[-1]), way[0][:, ::-1], atol=1e-4)  # 11 exchanges: mirrored
    else:
        ends = flow_images.between(trained.system, trained.dataset)[:, [0, -1]]
        assert all((trained.dataset.heldout == end).all(axis=(1, 2, 3)).any() for end in ends.reshape(-1, 8, 8, 1))


@pytest.mark.long
def test_points_whose_density_is_not_known(tmp_path, capsys):
    """The figure of quality is the energy distance, and nothing claims a floor of nats."""
    path = tmp_path / "moons"
    assert cli.run(["train", "realnvp_2d", "--data", "moons", "--steps", "2", "--out", str(path)]) == 0
    page = (path / "index.html").read_text(encoding="utf-8")
    assert "the true density, on the same points" not in page
    assert capsys.readouterr().out.count("energy distance") == 1


@pytest.mark.parametrize("id", PICTURES)
def test_data_that_does_not_fit_is_refused(id, tmp_path, capsys):
    other = "digits" if PICTURES[id] is PLANE else "moons"
    assert cli.run(["train", id, "--data", other, "--out", str(tmp_path / "a")]) == 2
    needs = "needs points of the plane" if other == "digits" else "needs images whose sides are divisible by 4"
    assert f"{id}: {needs}; {other} has " in capsys.readouterr().err
    if other == "moons":
        with pytest.raises(RecipeError, match="holds out 5 images, too few to judge by"):
            RECIPES[id].configure(Dataset("few", digits().train, digits().train[:5], levels=17))


def test_the_variants_differ_as_they_say():
    assert [RECIPES[id].configure(toys.toy("moons", 9)).affine for id in ("realnvp_2d", "nice_2d")] == [True, False]
    assert [RECIPES[id].configure(digits()).affine for id in ("realnvp", "nice")] == [True, False]
    assert RECIPES["glow"].configure(digits()).lu


def test_yardsticks_of_points():
    """The ceiling is scipy's Gaussian; the floor is the entropy of eight Gaussians far apart, within 6 deviations."""
    data = toys.toy("eight_gaussians", 4000)
    law = stats.multivariate_normal(data.train.mean(axis=0, dtype=float), np.cov(data.train.T.astype(float)))
    assert realnvp_2d.gaussian_cost(data) == pytest.approx(-law.logpdf(data.heldout).mean(), rel=1e-6)
    truth = -toys.LOG_DENSITY[data.name](data.heldout)
    entropy = np.log(8) + stats.multivariate_normal(cov=toys.MODE_STD**2 * np.eye(2)).entropy()
    assert abs(truth.mean() - entropy) < 6 * truth.std() / np.sqrt(len(truth))
