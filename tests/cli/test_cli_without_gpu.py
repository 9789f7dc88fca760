"""CuPy absent, and CuPy without a device: every command that could use it says so in one line, exit code 2."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
import types

import pytest

from scratchgen import cli, use
from scratchgen.train import RunFolder

backend = sys.modules["scratchgen.backend"]  # `scratchgen.backend` is the context manager


def without_device() -> types.ModuleType:
    """As CuPy is on a machine without a driver: it can be imported, and has no device."""
    cupy = types.ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    cupy.cuda = types.SimpleNamespace(is_available=lambda: False)
    return cupy


STATES = {
    "absent": (None, "CuPy is not installed: pip install 'scratchgen[cuda12x]'"),
    "without a device": (without_device(), "CuPy 14.2.0 is installed but finds no CUDA device: check that nvidia-smi"),
    "removed by halves": (types.ModuleType("cupy"), "CuPy cannot be imported: pip install 'scratchgen[cuda12x]'"),
}


@pytest.fixture(params=STATES)
def complaint(request, monkeypatch):
    """What is to be said of a machine on which CuPy is in a certain state; and this is such a machine."""
    cupy, words = STATES[request.param]
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.delitem(backend._loaded, "cupy", raising=False)
    monkeypatch.delenv("SCRATCHGEN_BACKEND", raising=False)
    monkeypatch.setattr(backend, "_default", None)
    yield words
    use("numpy")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps, not judged."""
    out = tmp_path_factory.mktemp("runs") / "ddpm"
    assert cli.run(["train", "ddpm", "--steps", "2", "--batch-size", "4", "--no-report", "--out", str(out)]) == 0
    return out


COMMANDS = {
    "train": lambda run: ["train", "ddpm", "--out", run.parent / "new"],
    "resume": lambda run: ["train", "ddpm", "--resume", "--out", run],
    "sample": lambda run: ["sample", run],
    "evaluate": lambda run: ["evaluate", run],
    "report": lambda run: ["report", run],
    "compare": lambda run: ["compare", run, "--out", run.parent / "chart.png"],
    "verify": lambda run: ["verify", "gaussian.kl", "--report", run.parent / "verify"],
    "parity": lambda run: ["parity", "ddpm", "--report", run.parent / "parity"],
}


def said(capsys, *arguments) -> str:
    """The one line with which the command line refuses."""
    capsys.readouterr()
    code = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_takes_a_backend(complaint, trained, capsys, command):
    before = sorted(trained.parent.rglob("*"))
    assert said(capsys, *COMMANDS[command](trained), "--backend", "cupy").startswith(f"scratchgen: {complaint}")
    assert sorted(trained.parent.rglob("*")) == before


def test_every_command_that_takes_a_backend_is_in_this_list():
    taking = {name for name, command in cli.commands.commands.items() if "backend" in (p.name for p in command.params)}
    assert taking <= set(COMMANDS)


@pytest.mark.parametrize("command", ["train", "verify"])
def test_the_environment_asks_in_vain(complaint, trained, capsys, monkeypatch, command):
    monkeypatch.setenv("SCRATCHGEN_BACKEND", "cupy")
    assert complaint in said(capsys, *COMMANDS[command](trained))


@pytest.mark.parametrize("command", ["sample", "report", "compare"])
def test_a_run_made_on_a_gpu_is_opened_on_the_host_by_request(complaint, trained, capsys, tmp_path, command):
    folder = tmp_path / "gpu"
    made = RunFolder.open(trained)
    RunFolder.create(folder, dataclasses.replace(made.config, backend="cupy"))
    (folder / "checkpoint.safetensors").write_bytes((trained / "checkpoint.safetensors").read_bytes())
    rest = [] if command == "report" else ["--out", str(tmp_path / "a.png")]
    assert complaint in said(capsys, command, folder, *rest)
    if command == "sample":
        assert cli.run(["sample", str(folder), "-n", "2", *rest, "--backend", "numpy"]) == 0
    elif command == "report":
        assert "has not been judged" in said(capsys, command, folder, "--backend", "numpy")


def test_auto_falls_back_to_the_host(complaint, trained, capsys, tmp_path):
    assert cli.run(["sample", str(trained), "-n", "2", "--out", str(tmp_path / "a.png"), "--backend", "auto"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'a.png'}\n" and "CuPy" not in err


@pytest.mark.parametrize("asked, shown", [("", "numpy"), ("cupy", "none: cupy cannot be used"), ("auto", "numpy")])
def test_info_tells_and_does_not_fail(complaint, capsys, monkeypatch, asked, shown):
    monkeypatch.setenv("SCRATCHGEN_BACKEND", asked)
    assert cli.run(["info"]) == 0
    told = {line[:12].strip(): line[12:] for line in capsys.readouterr().out.splitlines()}
    assert told["backend"] == shown and told["CUDA"].startswith(f"no: {complaint}")


# --- in a process of its own, with what is installed ---------------------------------------------------------


def process(*arguments, **environment):
    done = subprocess.run([sys.executable, "-m", "scratchgen", *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | environment)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_nothing_else_is_said_on_this_machine(tmp_path):
    """With the CuPy that is installed here, or without one: one line, and no warnings of anybody's."""
    if importlib.util.find_spec("cupy") is not None and __import__("cupy").cuda.is_available():
        pytest.skip("there is a device")
    code, out, err = process("train", "ddpm", "--backend", "cupy", "--out", tmp_path / "a")
    assert (code, out) == (2, "") and err.startswith("scratchgen: CuPy ") and err.count("\n") == 1
    code, out, err = process("info", SCRATCHGEN_BACKEND="auto")
    assert (code, err) == (0, "") and "backend     numpy\n" in out
