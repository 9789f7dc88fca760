"""Tangent Prop from the command line, for a few steps; and how images are moved."""

import numpy as np
from evidence import agree, at_most
from pages import shown

from scratchgen import cli
from scratchgen.random import Generator
from scratchgen.recipes.tangent_prop import UNITS, moved, tangents

PICTURES = {"accuracy.png", "moved.png", "tangents.png", "loss.png"}


def test_a_run_from_begin_to_end(tmp_path, capsys):
    path = tmp_path / "run"
    assert cli.run(["train", "tangent_prop", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("without the penalty", "random directions", "tangents of a code", "taught with moved images"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(2)]
    for file in files:
        assert cli.run(["sample", str(path), "-n", "5", "--out", str(file)]) == 0
    x = np.load(files[0])
    assert x.shape == (5, 8, 8, 1)
    assert np.array_equal(x, np.load(files[1]))
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_without_labels_are_refused(tmp_path, capsys):
    assert cli.run(["train", "tangent_prop", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith("tangent_prop: needs labelled images; moons has examples (2,)\n")


def test_images_are_moved_along_their_tangents():
    """Of a smooth image moved a little, nearly all of the change lies along its tangents; unmoved it stays as it is."""
    places = np.arange(16) - 7.5
    x = np.exp(-(places[:, None] ** 2 + 2 * (places + 0.6) ** 2) / 18)[None, :, :, None].repeat(40, axis=0) - 1
    agree(moved(x, 0.0, Generator(0)), x, atol=1e-12)
    change = (moved(x, 0.02, Generator(0)) - x).reshape(40, -1)
    basis = np.linalg.qr(tangents(x)[0].T)[0]
    left = change - change @ basis @ basis.T
    at_most(np.square(left).sum() / np.square(change).sum(), 0.1)


def test_lengths_of_moves_are_in_units():
    """An image that rises evenly to the right changes by what it rises in two units."""
    x = np.tile(0.1 * np.arange(8.0), (1, 8, 1))[..., None]
    found = tangents(x).reshape(5, 8, 8)
    agree(found[0], 0.1 * 2 * UNITS[0], rtol=1e-12)
    agree(found[1], 0, atol=1e-15)
