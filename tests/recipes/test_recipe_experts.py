"""The product of experts from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from pages import shown
from scipy.stats import multivariate_normal

from scratchgen import cli
from scratchgen.backend import active
from scratchgen.models import exact
from scratchgen.recipes import product_of_experts

PICTURES = {"and.png", "samples.png", "distances.png", "never.png", "gaussians.png", "loss.png"}
SHORT = {"DRAWN": 60, "MOMENTS": (0, 1, 4), "STEPS": 5, "ANNEALING": 5, "CELLS": 40}


def test_a_run_from_begin_to_end(tmp_path, capsys, monkeypatch):
    for name, value in SHORT.items():
        monkeypatch.setattr(product_of_experts, name, value)
    path = tmp_path / "run"
    assert cli.run(["train", "product_of_experts", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("exact draws", "weighed draws, then MALA", "pairs of parts, exactly", "either, evenly: OR"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--steps", "3", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 2)
    assert np.array_equal(x, np.load(files[1]))
    assert cli.run(["sample", str(path), "--eta", "0.5"]) == 2
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_that_it_cannot_take(tmp_path, capsys):
    assert cli.run(["train", "product_of_experts", "--data", "digits", "--out", str(tmp_path / "a")]) == 2
    assert "needs points of the plane; an example of digits has shape (8, 8, 1)" in capsys.readouterr().err


def test_the_yardsticks_of_an_expert():
    """A Gaussian expert is as likely as the Gaussian of its points, scipy's; what is turned is turned; half a plane."""
    x = (np.random.default_rng(0).standard_normal((400, 2)) @ np.array([[1, 0.5], [0, 0.7]])).astype(np.float32)
    mean, cov = x.astype(float).mean(axis=0), np.cov(x.T.astype(float))
    part = exact.gaussian(*(active().asarray(a) for a in (mean, cov)))
    found = product_of_experts.likelihood(part, x, x[:50])
    want = multivariate_normal(mean, cov).logpdf(x[:50]).mean()
    assert found["heldout"] == pytest.approx(want, rel=1e-10)
    assert found["gaussian"] == pytest.approx(want, rel=1e-10)
    assert found["train"] == pytest.approx(multivariate_normal(mean, cov).logpdf(x).mean(), rel=1e-10)
    quarter = product_of_experts.turned(x[:3])
    assert np.allclose(quarter, x[:3] @ np.array([[0, 1], [-1, 0]]))
    said = product_of_experts.HalfPlane().log_prob(active().asarray(np.array([[-0.1, 5.0], [0.1, -5.0]])))
    assert np.array_equal(np.asarray(said), [-np.inf, 0.0])
