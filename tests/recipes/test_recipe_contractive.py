"""The contractive autoencoder from the command line, for a few steps; and the judge of its tangents."""

import numpy as np
import pytest
from evidence import agree
from pages import shown

from scratchgen import cli
from scratchgen.data import Dataset, digits
from scratchgen.recipes import RECIPES
from scratchgen.recipes.contractive import MOVES, changes, neighbourly, shares
from scratchgen.recipes.recipe import RecipeError

PICTURES = {"tangents.png", "shares.png", "singular.png", "walk.png", "loss.png"}


def test_a_run_from_begin_to_end(tmp_path, capsys):
    path = tmp_path / "run"
    assert cli.run(["train", "contractive", "--steps", "3", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("random directions", "without the penalty", "16 neighbours", "turning", "What it costs"):
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


def test_data_without_tangents_are_refused(tmp_path, capsys):
    assert cli.run(["train", "contractive", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert capsys.readouterr().err.endswith("contractive: needs images; moons has examples (2,)\n")
    few = Dataset("few", digits().train[:5], digits().heldout)
    with pytest.raises(RecipeError, match="few is too small to have tangents"):
        RECIPES["contractive"].configure(few)


def moved(image, place):
    """image(row, column) at (n, n) places about the middle, each shifted by a function of the place."""
    rows, columns = np.meshgrid(np.arange(9) - 4.0, np.arange(9) - 4.0, indexing="ij")
    dr, dc = place(rows, columns)
    return image(rows - dr, columns - dc)


def test_how_an_image_changes_when_it_is_moved():
    """Against an image that really is moved by a hundredth; quadratic, so that differences inside are exact."""

    def image(r, c):
        return 0.3 * r + 0.5 * c + 0.1 * r * c + 0.2 * r * r - 0.1 * c * c

    places = [lambda r, c: (0 * r, 1 + 0 * r), lambda r, c: (1 + 0 * r, 0 * r), lambda r, c: (-c, r),
              lambda r, c: (0 * r, c), lambda r, c: (r, 0 * r)]  # fmt: skip
    x = moved(image, lambda r, c: (0 * r, 0 * r))[None, :, :, None]
    found = changes(x)[0].reshape(len(MOVES), 9, 9)[:, 1:-1, 1:-1]  # at the margin differences are one-sided
    for change, place in zip(found, places, strict=True):
        h = 1e-4
        ahead, behind = (moved(image, lambda r, c, s=s, f=place: [s * d for d in f(r, c)]) for s in (h, -h))
        agree(-change, ((ahead - behind) / (2 * h))[1:-1, 1:-1], atol=1e-7)


def test_shares():
    basis = np.eye(4)[None, :2]
    one = np.array([[[1.0, 0, 0, 0], [0, 0, 3, 0]], [[1, 0, 1, 0], [0, 0, 0, 0]]])
    agree(shares(basis, one), [0.75, 0.0], atol=1e-15)


def test_directions_to_neighbours_lie_in_the_plane_of_the_data():
    """Points of a plane of two directions in five: both are found first, at every point."""
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((12, 2)))[0]
    train = (rng.standard_normal((60, 2)) @ plane.T).reshape(60, 2, 6)
    x = (rng.standard_normal((3, 2)) @ plane.T).reshape(3, 2, 6)
    for v in neighbourly(x, train)[:, :2]:
        agree(v.T @ v, plane @ plane.T, atol=1e-12)
