"""Whatever a user can cause ends in one line that says what and where, and exit code 2: never a traceback."""

from __future__ import annotations

import json

import pytest

from scratchgen import backend as backend_context
from scratchgen import cli, use
from scratchgen.train import RunFolder, checkpoint


@pytest.fixture(autouse=True)
def _numpy_again():
    yield
    use("numpy")


@pytest.fixture
def fails(capsys):
    """Run the command line; return its one line of complaint."""

    def call(*arguments: str) -> str:
        capsys.readouterr()
        code = cli.run([str(a) for a in arguments])
        err = capsys.readouterr().err
        assert code == 2, err
        assert err.count("\n") == 1, err
        assert err.startswith("scratchgen: "), err
        return err

    return call


@pytest.fixture
def run(tmp_path):
    """A run folder of two steps, not judged."""
    out = tmp_path / "run"
    assert cli.run(["train", "ddpm", "--steps", "2", "--batch-size", "4", "--no-report", "--out", str(out)]) == 0
    return out


def test_unknown_command_and_system_suggest_the_nearest(fails):
    assert "did you mean 'train'" in fails("trian", "ddpm")
    assert "did you mean 'ddpm'" in fails("train", "dpm")
    assert "no system is called 'zzz'" in fails("train", "zzz")


def test_options_out_of_range(fails, tmp_path):
    assert "--steps" in fails("train", "ddpm", "--steps", "0", "--out", tmp_path / "a")
    assert "--steps" in fails("train", "ddpm", "--steps", "many", "--out", tmp_path / "a")
    assert "--batch-size" in fails("train", "ddpm", "--batch-size", "2000", "--out", tmp_path / "a")
    assert "--lr" in fails("train", "ddpm", "--lr", "-1", "--out", tmp_path / "a")
    assert "--backend" in fails("train", "ddpm", "--backend", "torch", "--out", tmp_path / "a")
    assert "--precision" in fails("train", "ddpm", "--precision", "half", "--out", tmp_path / "a")
    assert "no such option" in fails("train", "ddpm", "--stepz", "3").lower()
    assert not (tmp_path / "a").exists()


def test_data_that_is_not_there_or_does_not_fit(fails, tmp_path):
    assert "did you mean 'digits'" in fails("train", "ddpm", "--data", "digit", "--out", tmp_path / "a")
    assert "name the folder" in fails("train", "ddpm", "--data", "mnist", "--out", tmp_path / "a")
    assert str(tmp_path) in fails("train", "ddpm", "--data", "mnist", "--folder", tmp_path, "--out", tmp_path / "a")
    assert "needs images" in fails("train", "ddpm", "--data", "moons", "--out", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_folder_that_would_be_overwritten(fails, run):
    before = (run / "checkpoint.safetensors").read_bytes()
    assert "not empty" in fails("train", "ddpm", "--out", run)
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_resume_of_nothing_or_of_another_run(fails, run, tmp_path):
    assert "no such folder" in fails("train", "ddpm", "--resume", "--out", tmp_path / "nowhere")
    assert "not a run folder" in fails("train", "ddpm", "--resume", "--out", tmp_path)
    assert "--seed 0, not 3" in fails("train", "ddpm", "--resume", "--seed", "3", "--out", run)
    assert "--precision float32, not bf16" in fails("train", "ddpm", "--resume", "--precision", "bf16", "--out", run)
    assert "data are digits" in fails("train", "ddpm", "--resume", "--data", "moons", "--out", run)


@pytest.mark.parametrize("command", ["sample", "evaluate", "report"])
def test_a_run_that_is_none(fails, tmp_path, command):
    assert "no such folder" in fails(command, tmp_path / "nowhere")
    assert "not a run folder" in fails(command, tmp_path)


def test_a_damaged_run(fails, run):
    assert "not been judged" in fails("report", run)
    file = run / "checkpoint.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    for command in ("sample", "evaluate"):
        assert "checkpoint.safetensors" in fails(command, run)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "checkpoint.safetensors" in fails("train", "ddpm", "--resume", "--steps", "3", "--out", run)
    (run / "config.json").write_text("{")
    assert "config.json" in fails("sample", run)


def test_a_config_of_a_system_that_does_not_exist(fails, run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"system": "dpm"}))
    assert "did you mean 'ddpm'" in fails("sample", run)


@pytest.mark.parametrize("change", [{"T": 0}, {"schedule": "zzz"}, {"schedule": "linear", "T": 10}, {"what": 1}])
def test_a_config_that_describes_no_system(fails, run, change):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"model": config["model"] | change}))
    assert "config.json" in fails("sample", run)
    assert "config.json" in fails("train", "ddpm", "--resume", "--out", run)


def test_steps_that_are_behind_the_run(fails, run):
    before = (run / "config.json").read_bytes()
    assert "at step 2 already" in fails("train", "ddpm", "--resume", "--steps", "1", "--out", run)
    with RunFolder.open(run).lock():
        assert "another process" in fails("train", "ddpm", "--resume", "--steps", "9", "--out", run)
    assert (run / "config.json").read_bytes() == before


def test_a_folder_that_the_run_does_not_have(fails, run, tmp_path):
    assert "come from the package" in fails("train", "ddpm", "--resume", "--folder", tmp_path, "--out", run)


def test_an_evaluation_that_is_foreign_or_of_another_step(fails, run):
    checkpoint.save(run / "evaluation.safetensors", {}, {"a": 1})
    assert "holds no evaluation" in fails("report", run)
    checkpoint.save(run / "evaluation.safetensors", {}, {"step": 1, "numbers": {}})
    assert "is of step 1, the run is at 2" in fails("report", run)
    checkpoint.save(run / "evaluation.safetensors", {}, {"step": 2, "numbers": {}})
    assert "lacks" in fails("report", run)


def test_the_bare_command_shows_its_help(capsys):
    assert cli.run([]) == 2
    assert capsys.readouterr().err.count("\n") > 10


def test_sampling_options(fails, run, tmp_path):
    assert "between 1 and T = 120" in fails("sample", run, "--steps", "121")
    assert "neither a number nor sigma_hat" in fails("sample", run, "--eta", "much")
    assert "between 0 and 1" in fails("sample", run, "--eta", "1.5")
    assert ".png or .npy" in fails("sample", run, "--out", tmp_path / "a.jpg")
    assert "there is no folder" in fails("sample", run, "--out", tmp_path / "no" / "a.png")


def test_a_backend_that_cannot_be_used(fails, run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    assert "pip install" in fails("sample", run, "--backend", "cupy")
    assert "pip install" in fails("train", "ddpm", "--backend", "cupy")


def test_help_and_version(capsys):
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert "scratchgen train ddpm" in text
    for command in ("list", "train", "sample", "evaluate", "report"):
        assert command in text
        assert cli.run([command, "--help"]) == 0
    assert cli.run(["--version"]) == 0
    with backend_context("numpy"):
        assert cli.run(["list"]) == 0
    assert "ddpm.py" in capsys.readouterr().out
