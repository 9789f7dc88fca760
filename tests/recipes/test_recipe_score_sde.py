"""Score-based SDEs from the command line, for a few steps of small ones: trained, judged, drawn and sampled."""

import dataclasses

import numpy as np
import pytest
from pages import shown

from scratchgen import cli
from scratchgen.models.score import ScoreSDEConfig
from scratchgen.nn import UNetConfig
from scratchgen.recipes import RECIPES, judge, score_sde
from scratchgen.train import RunConfig, RunFolder, TrainConfig, as_json

UNET = UNetConfig(base=8, multipliers=(1,), attention=(), groups=4, time=8)
PICTURES = {"samples.png", "reverse.gif", "samplers.png", "times.png", "loss.png"}
IDS = ["score_sde", *(pytest.param(id, marks=pytest.mark.long) for id in ("score_sde_ve", "score_sde_subvp"))]


@pytest.mark.parametrize("id", IDS)
def test_a_run_from_begin_to_end(id, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge, "TRAINING", TrainConfig(steps=3, batch_size=64))
    monkeypatch.setattr(score_sde, "PLAN", {"PC, 2 steps": ("pc", 2), "ODE, Heun, 3 steps": ("heun", 3)})
    monkeypatch.setattr(score_sde, "BITS_STEPS", 2)
    path, train = tmp_path / "run", TrainConfig(steps=3, batch_size=8, log_every=1)
    config = dataclasses.replace(ScoreSDEConfig(unet=UNET), sde=RECIPES[id].noise)
    RunFolder.create(path, RunConfig(id, as_json(config), train, "digits"))
    assert cli.run(["train", id, "--resume", "--out", str(path)]) == 0
    assert "without replay" not in capsys.readouterr().err
    page = shown(path, PICTURES)
    for said in ("PC, 2 steps", "ODE, Heun, 3 steps", "floor: real, held out", "bits per pixel", "exact trace"):
        assert said in page
    files = [tmp_path / f"{i}.npy" for i in range(4)]
    ways = (("pc", "--steps", "2"), ("pc", "--steps", "2"), ("heun", "--steps", "2"), ("rk45",))
    for file, way in zip(files, ways, strict=True):
        assert cli.run(["sample", str(path), "-n", "5", "--solver", *way, "--out", str(file)]) == 0
    x, again, other, adaptive = map(np.load, files)
    assert x.shape == other.shape == adaptive.shape == (5, 8, 8, 1)
    assert np.array_equal(x, again)
    assert np.array_equal(x * 8, np.rint(x * 8))  # at the data's grey levels
    assert not np.array_equal(x, other) and not np.array_equal(other, adaptive)
    for options in (("--eta", "0.5"), ("--solver", "rk45", "--steps", "5"), ("--solver", "nonesuch")):
        capsys.readouterr()
        assert cli.run(["sample", str(path), *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["report", str(path)]) == 0
    assert (path / "index.html").read_text(encoding="utf-8") == page


def test_data_that_does_not_fit_is_refused(tmp_path, capsys):
    assert cli.run(["train", "score_sde", "--data", "moons", "--out", str(tmp_path / "a")]) == 2
    assert "images" in capsys.readouterr().err
