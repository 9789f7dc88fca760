"""A deep energy model of the plane from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from pages import shown
from scipy import stats

from scratchgen import cli
from scratchgen.data import toys
from scratchgen.models.energy import EBM, EBMConfig
from scratchgen.random import Generator
from scratchgen.recipes import ebm_2d

PICTURES = {"energy.png", "samplers.png", "lengths.png", "learning.png"}


def test_a_run_from_begin_to_end(tmp_path, capsys, monkeypatch):
    for name, value in {"JUDGED": 200, "STEPS": 4, "TRIED": 50, "TRIES": 4, "LENGTHS": (0.01, 0.02)}.items():
        monkeypatch.setattr(ebm_2d, name, value)
    path = tmp_path / "run"
    assert cli.run(["train", "ebm_2d", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("data, held out", "a Gaussian", "the density that the data were drawn from", "drawn on the grid"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--steps", "3", "--solver", "mala", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 2)
    assert np.array_equal(x, np.load(files[1]))
    assert cli.run(["sample", str(path), "--solver", "hmc"]) == 2
    assert "--solver hmc is not one of langevin, mala, jump, metropolis" in capsys.readouterr().err
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_that_is_no_point_of_the_plane_is_refused(tmp_path, capsys):
    assert cli.run(["train", "ebm_2d", "--data", "digits", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith("needs points of the plane; digits has examples of (8, 8, 1)\n")


def test_the_likelihood_on_the_grid():
    """With nothing learnt the model is N(0, s²I) times a number; the data's own density, and scipy's Gaussian."""
    data = toys.toy("eight_gaussians")
    model = EBM(EBMConfig(s=1.0), rng=Generator(0))
    last = model.net.layers[-1]
    last.w.assign(0 * last.w.array)
    last.b.assign(0 * last.b.array + 3)
    law = ebm_2d.Law(model.frozen(), Generator(1))
    found = ebm_2d.likelihood(model.frozen(), law, data)
    normal = stats.multivariate_normal(np.zeros(2), np.eye(2))
    # float32 sums, and what lies beyond five deviations
    assert found["model"] == pytest.approx(normal.logpdf(data.heldout).mean(), abs=1e-4)
    assert found["log_Z"] == pytest.approx(3 + np.log(2 * np.pi), abs=1e-5)
    assert law.mean_f == pytest.approx(3 - 1, abs=1e-4)  # E ‖x‖²/2 = 1
    fitted = stats.multivariate_normal(data.train.mean(axis=0), np.cov(data.train.T.astype(float)))
    assert found["gaussian"] == pytest.approx(fitted.logpdf(data.heldout).mean(), abs=1e-6)
    assert found["gaussian"] < found["exact"]
    x = law.draw(4000)
    # of each coordinate Kolmogorov and Smirnov's distance exceeds 2.75/√4000 with probability 5·10⁻⁷
    assert max(stats.kstest(x[:, i], "norm").statistic for i in range(2)) < 2.75 / 4000**0.5
