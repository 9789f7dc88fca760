"""The two directions of KL from the command line; the minima that its table calls exact."""

import numpy as np
import pytest
from PIL import Image

from reference import denoisers
from reference import divergence as oracle
from scratchgen import cli
from scratchgen.data import toys
from scratchgen.models.directions import Directions, DirectionsConfig
from scratchgen.random import Generator
from scratchgen.recipes.kl_directions import at, judge


def test_a_run_from_begin_to_end(tmp_path, capsys):
    path = tmp_path / "run"
    assert cli.run(["train", "kl_directions", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = (path / "index.html").read_text(encoding="utf-8")
    assert {file.name for file in (path / "pictures").iterdir()} == {"fits.png", "loss.png"}
    for file in (path / "pictures").iterdir():
        with Image.open(file) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, file
    for said in ("p's moments", "forward, found", "reverse 2, minimum"):
        assert said.replace("'", "&#39;") in page
    assert cli.run(["sample", str(path), "-n", "7", "--out", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (7, 2)
    assert cli.run(["sample", str(path), "-n", "7"]) == 0
    assert (path / "pictures" / "drawn.png").is_file()
    capsys.readouterr()
    assert cli.run(["sample", str(path), "--steps", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_other_data_is_refused(tmp_path, capsys):
    assert cli.run(["train", "kl_directions", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert "the density must be known: use two_gaussians, not moons" in capsys.readouterr().err


def test_what_the_table_calls_exact_is():
    """Its minima and divergences, against the oracle's own search on a grid of its own; its moments, on paper."""
    system = Directions(DirectionsConfig(), rng=Generator(0))
    starts = [at(mean + 0.1, 0.6 * np.eye(2)) for mean in (np.array([0.0, 0.0]), *toys.PAIR_MEANS)]
    rows = judge(system.p("float64"), starts, toys.toy("two_gaussians", 500)).numbers["rows"]
    by_name = {row["name"]: row for row in rows}
    moments = by_name["p's moments"]
    w, m, c = toys.PAIR_WEIGHTS, toys.PAIR_MEANS, toys.PAIR_COVS
    np.testing.assert_allclose(moments["mu"], w @ m, atol=1e-6)
    spread = np.einsum("k,kij->ij", w, c) + np.cov(m.T, aweights=w, bias=True)
    np.testing.assert_allclose(moments["cov"], spread, atol=1e-5)
    nodes = oracle.plane((-6, -5), (6, 5), (100, 84))
    known = denoisers.log_prob(denoisers.Mixture(w, m, c), nodes.points)
    for k in range(2):
        best = oracle.fit(lambda q: oracle.kl(q, lambda _: known, nodes), m[k] - 0.1, 0.4 * np.eye(2))
        row = by_name[f"reverse {k + 1}, minimum"]
        np.testing.assert_allclose(row["mu"], best.mu, atol=1e-5)
        np.testing.assert_allclose(row["cov"], best.cov, atol=1e-5)
        assert row["reverse"] == pytest.approx(best.divergence, abs=1e-6)
        assert by_name[f"reverse {k + 1}, found"]["reverse"] > row["reverse"]
