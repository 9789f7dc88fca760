"""Score matching from the command line, for a few steps: trained, judged, drawn and sampled."""

import numpy as np
import pytest
from PIL import Image

from reference import score as oracle
from scratchgen import cli
from scratchgen.data import toys
from scratchgen.recipes import RECIPES
from scratchgen.recipes import score_matching as module
from scratchgen.train import RunFolder


def test_a_run_from_begin_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "WALKS", 200)
    path = tmp_path / "run"
    assert cli.run(["train", "score_matching", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = (path / "index.html").read_text(encoding="utf-8")
    assert {file.name for file in (path / "pictures").iterdir()} == {"scores.png", "points.png", "loss.png"}
    for file in (path / "pictures").iterdir():
        with Image.open(file) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, file
    for said in ("floor: told the score", "Hutchinson", "a network that says 0"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "7", "--steps", "9", "--out", str(file)]) == 0
    assert np.load(files[0]).shape == (7, 2)
    assert np.array_equal(*map(np.load, files))
    capsys.readouterr()
    assert cli.run(["sample", str(path), "--eta", "0.3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    judged_by_the_oracle(path)


def judged_by_the_oracle(path):
    """What the table says of a network that says 0: ½E‖∇log p‖² on 10,000 points, within 5.3 of its errors."""
    recipe = RECIPES["score_matching"]
    found = recipe.evaluate(recipe.load(RunFolder.open(path))).numbers
    want = oracle.fisher_2d(lambda x: 0 * x, toys.LOG_DENSITY["two_gaussians"])
    *_, zero = found["fisher"]
    assert zero["implicit"] == 0
    assert zero["fisher"] == found["half"] == pytest.approx(want, rel=0.06)
    assert all(np.isfinite(row["fisher"]) and row["fisher"] > 0 for row in found["fisher"])


def test_other_data_is_refused(tmp_path, capsys):
    assert cli.run(["train", "score_matching", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert "the score must be known: use two_gaussians, not moons" in capsys.readouterr().err
