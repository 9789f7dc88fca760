"""What `list` says of a system, and `compare` of several runs; on a network small enough for a test."""

import json

import numpy as np
import pytest
from PIL import Image

from scratchgen import cli
from scratchgen.models.diffusion import DDPMConfig
from scratchgen.nn import UNetConfig
from scratchgen.recipes import RECIPES, catalogue, compare
from scratchgen.recipes.recipe import SAMPLING
from scratchgen.train import RunConfig, RunFolder, TrainConfig, as_json
from scratchgen.verify import ledger

TINY = DDPMConfig(T=4, unet=UNetConfig(base=8, multipliers=(1,), attention=(), groups=4, time=8))
TRAIN = TrainConfig(steps=2, batch_size=8, log_every=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one run, trained and judged."""
    path = tmp_path_factory.mktemp("runs")
    RunFolder.create(path / "ddpm", RunConfig("ddpm", as_json(TINY), TRAIN, "digits"))
    assert cli.run(["train", "ddpm", "--resume", "--out", str(path / "ddpm")]) == 0
    return path


@pytest.mark.parametrize("id", RECIPES)
def test_a_recipe_names_equations_that_are_verified(id):
    recipe = RECIPES[id]
    known = set(ledger.Ledger.load().equations)
    found = catalogue.equations(recipe)
    assert found
    assert set(found) <= known
    assert set(recipe.options) <= set(SAMPLING)
    assert recipe.paper and recipe.title and recipe.id == id


def test_the_last_figure_stands_beside_its_floor(runs, capsys):
    assert cli.run(["list", "--runs", str(runs)]) == 0
    out = capsys.readouterr().out
    figures = catalogue.figures(runs / "ddpm")
    assert [what for what, _ in figures[:2]] == ["Fréchet, DDPM", "floor: real, held out"]
    assert all(f"{what} {value}" in out for what, value in figures[:2])
    for id in RECIPES:
        assert f"\n{id} " in f"\n{out}"
    assert cli.run(["list", "--runs", str(runs / "none")]) == 0
    assert "last run" not in capsys.readouterr().out


def test_the_figures_of_what_is_judged_make_a_table(runs, capsys):
    assert cli.run(["list", "--table", "--runs", str(runs)]) == 0
    header, line, row = capsys.readouterr().out.splitlines()
    assert header.count("|") == line.count("|") == row.count("|") == 5
    assert row.startswith("| [ddpm](scratchgen/models/diffusion/ddpm.py) | digits | Fréchet, DDPM: ")
    assert all(f"{what}: {value}" in row for what, value in catalogue.figures(runs / "ddpm")[:4])
    assert "parameters" not in row


def test_a_damaged_evaluation_is_no_figure(runs, tmp_path):
    whole = (runs / "ddpm" / catalogue.RESULTS).read_bytes()
    (tmp_path / catalogue.RESULTS).write_bytes(whole[: len(whole) // 2])
    assert catalogue.figures(tmp_path) == []


def test_every_sampler_is_a_point_of_the_chart(runs, monkeypatch, capsys):
    monkeypatch.setattr(RECIPES["ddpm"], "samplers", {"DDPM": {}, "DDIM 2": {"steps": 2, "eta": 0.0}}, raising=False)
    out = runs / "charts" / "chart.png"
    assert cli.run(["compare", str(runs / "ddpm"), "--out", str(out)]) == 0
    rows = json.loads(out.with_suffix(".json").read_text())
    assert [row["name"] for row in rows] == ["ddpm, DDPM", "ddpm, DDIM 2", "real, held out"]
    assert all(np.isfinite(row[key]) for row in rows for key in ("frechet", "precision", "recall"))
    assert rows[0]["speed"] > 0 and rows[1]["speed"] > 0 and rows[2]["speed"] is None
    with Image.open(out) as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    shown = capsys.readouterr().out
    assert "real, held out" in shown and f"see {out}" in shown


def test_what_is_no_run_of_images_is_left_out(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(RECIPES["ddpm"], "samplers", {"": {}}, raising=False)
    out, points = tmp_path / "chart.png", tmp_path / "kl_directions"
    assert cli.run(["train", "kl_directions", "--steps", "2", "--no-report", "--out", str(points)]) == 0
    assert cli.run(["compare", str(points), str(runs / "ddpm"), str(tmp_path), "--out", str(out)]) == 0
    left_out = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert "kl_directions draws no images" in left_out[0] and str(tmp_path) in left_out[1]
    assert [row["name"] for row in json.loads(out.with_suffix(".json").read_text())][-1] == "real, held out"
    assert cli.run(["compare", str(points), str(tmp_path), "--out", str(out)]) == 2


def test_the_ids_are_one_a_line(capsys):
    assert cli.run(["list", "--ids"]) == 0
    assert capsys.readouterr().out.split() == list(RECIPES)


def test_rows_of_the_table_are_ordered():
    floor = {"name": "real", "frechet": 2.0, "precision": 0.9, "recall": 0.9, "speed": None}
    rows = [{**floor, "name": str(f), "frechet": f, "speed": 10.0} for f in (9.0, 3.0)]
    assert [row[0] for row in compare.table([*rows, floor]).rows] == ["real", "3.0", "9.0"]


@pytest.mark.parametrize("given, said", [
    (["compare"], "Missing argument"),
    (["compare", "nowhere"], "nowhere"),
    (["compare", "RUN", "--out", "chart.gif"], "must end in .png"),
    (["sample", "RUN", "--temperature", "0.5"], "ddpm: has no sampling option --temperature; it has --steps, --eta"),
    (["sample", "RUN", "--out", "digits.txt"], "must end in .png or .npy"),
    (["sample", "RUN", "--out", "nowhere/digits.png"], "there is no folder nowhere"),
])  # fmt: skip
def test_a_wrong_request_is_one_line(given, said, runs, capsys):
    assert cli.run([str(runs / "ddpm") if word == "RUN" else word for word in given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
