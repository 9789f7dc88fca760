"""The denoising autoencoder from the command line, for a few steps; and the laws that its judge calls exact."""

import numpy as np
import pytest
from evidence import agree, host, up
from pages import shown

from reference import denoisers
from scratchgen import cli
from scratchgen.data import toys
from scratchgen.recipes.denoising import MIXTURES, mixture

PICTURES = {"field.png", "paths.png", "samples.png", "loss.png"}


def test_a_run_from_begin_to_end(tmp_path, capsys):
    path = tmp_path / "run"
    assert cli.run(["train", "denoising", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("the exact conditional mean", "the best affine map", "energy distance", "data, held out"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 2)
    assert np.array_equal(x, np.load(files[1]))
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_of_unknown_density_are_refused(tmp_path, capsys):
    assert cli.run(["train", "denoising", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    known = "the density must be known: use eight_gaussians or two_gaussians, not moons"
    assert capsys.readouterr().err.endswith(f"denoising: {known}\n")


@pytest.mark.parametrize("name", MIXTURES)
def test_the_mixture_is_the_toys(name):
    """Its density is the toy's, and its denoiser is that of conditioning."""
    x = np.random.default_rng(0).uniform(-2.5, 2.5, (20, 2))
    agree(mixture(name).log_prob(up(x)), toys.LOG_DENSITY[name](x), rtol=1e-10)
    data = denoisers.Mixture(*MIXTURES[name])
    found = host(mixture(name).denoiser(up(x[:3]), 1.0, 0.3))
    agree(found, np.stack([denoisers.denoiser(row, data, 1.0, 0.3) for row in x[:3]]), rtol=1e-8)
