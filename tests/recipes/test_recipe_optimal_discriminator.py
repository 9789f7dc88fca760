"""The best discriminator from the command line; the value that its table calls the best."""

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from reference.adversarial import best_value
from scratchgen import cli
from scratchgen.data import toys
from scratchgen.recipes import RECIPES
from scratchgen.train import RunFolder


def test_a_run_from_begin_to_end(tmp_path, capsys):
    path = tmp_path / "run"
    assert cli.run(["train", "optimal_discriminator", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = (path / "index.html").read_text(encoding="utf-8")
    assert {file.name for file in (path / "pictures").iterdir()} == {"discriminator.png", "again.png", "loss.png"}
    for file in (path / "pictures").iterdir():
        with Image.open(file) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, file
    assert "blind, D = ½" in page
    assert cli.run(["sample", str(path), "-n", "7", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (7, 1)
    assert cli.run(["sample", str(path), "-n", "50"]) == 0
    assert (path / "pictures" / "drawn.png").is_file()
    capsys.readouterr()
    assert cli.run(["sample", str(path), "--steps", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    found = RECIPES["optimal_discriminator"].evaluate(RECIPES["optimal_discriminator"].load(RunFolder.open(path)))
    value = found.numbers["value"]
    assert value["best"] == pytest.approx(expected(), abs=1e-6)
    assert value["learnt"] < value["best"]


def expected():
    """V(D*) of the first coordinate of the data and N(½, 3/2), each D* searched for."""
    parts = zip(toys.PAIR_WEIGHTS, toys.PAIR_MEANS[:, 0], np.sqrt(toys.PAIR_COVS[:, 0, 0]), strict=True)
    laws = [(np.log(w), stats.norm(m, s)) for w, m, s in parts]
    p = lambda x: np.logaddexp.reduce([log_w + law.logpdf(x) for log_w, law in laws])  # noqa: E731
    return best_value(p, stats.norm(0.5, np.sqrt(1.5)).logpdf, np.linspace(-8, 8, 41))


def test_other_data_is_refused(tmp_path, capsys):
    assert cli.run(["train", "optimal_discriminator", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert "the density must be known: use two_gaussians, not moons" in capsys.readouterr().err
