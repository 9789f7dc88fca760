"""`scratchgen verify` and the mutants' runner, run whole on a small copy of the project: true, broken, damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scratchgen import cli
from scratchgen.verify.ledger import ROOT

KL = "ops.expm1(d) - d + ops.square(z)"
ENTROPY = "return 0.5 * per_example(1 + LOG_2PI + log_var)"
MUTANT = """
[[mutant]]
equation = "gaussian.kl"
kind = "sign"
file = "scratchgen/distributions/gaussian.py"
old = "{old}"
new = "{new}"
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the project with the tests of Gaussians and no mutants."""
    for name in ("scratchgen", "reference", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("pictures", "__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    (tmp_path / "tests" / "mutants").mkdir(parents=True)
    gaussian = (f"distributions/{name}.py" for name in ("closed_forms", "test_distributions_gaussian"))
    for file in ("conftest.py", "evidence.py", "mutants/run.py", *gaussian):
        target = tmp_path / "tests" / file
        target.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / file, target)
    return tmp_path


def write_mutants(project, *pairs):
    text = "".join(MUTANT.format(old=old, new=new) for old, new in pairs)
    (project / "tests" / "mutants" / "some.toml").write_text(text, "utf-8")


def start(project, *command):
    (project / "tmp").mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(project), "SCRATCHGEN_BACKEND": "", "TMPDIR": str(project / "tmp")}
    return subprocess.Popen(
        [sys.executable, *command], cwd=project, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def call(project, *command):
    process = start(project, *command)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def verify(project, *arguments):
    return call(project, "-m", "scratchgen.cli", "verify", *arguments, "--jobs", "1")


def test_a_true_project_is_verified(project):
    write_mutants(project, (KL, KL.replace("- d", "+ d")), (KL, KL.replace("+ ops", "- ops")))
    code, out, err = verify(project, "gaussian.kl", "--backend", "strict", "--examples", "40", "--report", "seen")
    assert code == 0, out + err
    assert "1 of 1 equations hold" in out
    assert "2 of 2 wrong formulas killed" in out
    seen = json.loads((project / "seen" / "verify.json").read_text("utf-8"))
    (equation,) = seen["equations"]
    assert equation["verdict"] == "holds"
    assert "strict" in equation["backends"]
    assert equation["examples"] >= 40
    assert 0 <= equation["nearest"]["float64"]["error"] <= equation["nearest"]["float64"]["tolerance"]
    assert {m["outcome"] for m in seen["mutants"]} == {"killed"}
    assert "<math" in (project / "seen" / "index.html").read_text("utf-8")
    assert not list((project / "seen").glob(".*"))


def test_a_wrong_formula_fails_and_is_named(project):
    source = project / "scratchgen" / "distributions" / "gaussian.py"
    source.write_text(source.read_text("utf-8").replace(ENTROPY, ENTROPY.replace("0.5 * ", "")), "utf-8")
    code, out, _ = verify(project, "gaussian.entropy", "--mutants", "none", "--report", "seen")
    assert code == 1
    assert "gaussian.entropy: tests/distributions/test_distributions_gaussian.py::" in out.replace("\n", "")
    assert "0 of 1 equations hold" in out
    assert not json.loads((project / "seen" / "verify.json").read_text("utf-8"))["ok"]
    assert "FAILS" in (project / "seen" / "index.html").read_text("utf-8")
    code, out, _ = call(project, "-m", "pytest", "-p", "no:cacheprovider", "tests", "--equation=gaussian.entropy")
    assert code == 1
    assert "equations that do not hold" in out
    assert "gaussian.entropy: Entropy" in out


def test_a_kill_by_tests_that_fail_anyway_is_not_believed(project):
    write_mutants(project, (KL, "0.0 + " + KL))
    test = project / "tests" / "distributions" / "test_distributions_gaussian.py"
    first = "def test_kl_takes_q_first():"
    test.write_text(test.read_text("utf-8").replace(first, first + "\n    raise OSError"), "utf-8")
    code, out, _ = verify(project, "gaussian.kl", "--report", "seen")
    assert code == 1
    assert "0 of 1 equations hold" in out
    log = (project / "seen" / "mutants.log").read_text("utf-8")
    assert "the tests of gaussian.kl fail on the true source" in log


def test_tests_that_cannot_run_are_a_failure_not_a_success(project):
    (project / "tests" / "distributions" / "closed_forms.py").write_text("syntax error", "utf-8")
    code, out, _ = verify(project, "gaussian.kl", "--mutants", "none", "--report", "seen")
    assert code == 1
    said = " ".join(out.split())
    assert "the tests ended with code" in said
    assert "see seen/tests.log: " in said
    assert "closed_forms" in (project / "seen" / "tests.log").read_text("utf-8")


def mutants(project, *arguments):
    return call(project, "tests/mutants/run.py", "--jobs", "1", *arguments)


def test_a_survivor_and_a_broken_mutant_fail_the_runner(project):
    write_mutants(project, (KL, KL.replace("- d", "+ d")), (KL, "0.0 + " + KL), (KL, "ops.expm1((d"))
    code, out, err = mutants(project)
    assert code == 1
    assert "1 of 3 wrong formulas killed" in out
    assert "survived: gaussian.kl" in err
    assert "broken: gaussian.kl" in err


def test_a_kill_counts_only_where_the_true_source_passes(project):
    write_mutants(project, (KL, KL.replace("- d", "+ d")))
    test = project / "tests" / "distributions" / "test_distributions_gaussian.py"
    first = "def test_kl_takes_q_first():"
    test.write_text(test.read_text("utf-8").replace(first, first + "\n    raise OSError"), "utf-8")
    code, _, err = mutants(project)
    assert code == 1
    assert "the tests of gaussian.kl fail on the true source" in err


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [(("no such line", "x"), "stands 0 times"), (("d", "x"), "times"), ((KL, KL), "is not changed")],
)
def test_a_mutant_that_changes_nothing_is_refused(project, pair, complaint):
    write_mutants(project, pair)
    code, _, err = mutants(project)
    assert code == 2
    assert complaint in err
    assert err.count("\n") == 1


def finished(process):
    """What it printed; a process that does not end within a minute is ended, and the test fails."""
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def points_to(link, folder):
    try:
        return Path(os.readlink(link)) == folder
    except OSError:
        return False


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_verification_ends_at_once_and_leaves_nothing_running(project, number, expected):
    options = ("--examples", "100000", "--report", "seen", "--jobs", "1")
    process = start(project, "-m", "scratchgen.cli", "verify", "gaussian", *options)
    time.sleep(6)
    os.kill(process.pid, number)
    _, err = finished(process)
    assert process.returncode == expected
    assert "interrupted" in err
    assert "Traceback" not in err
    left = [path for path in Path("/proc").glob("[0-9]*/cwd") if points_to(path, project)]
    assert not left
    assert not (project / "seen" / "verify.json").exists()


def test_interrupted_mutants_leave_nothing(project):
    write_mutants(project, *[(KL, f"{KL} + {k}") for k in range(1, 40)])
    process = start(project, "tests/mutants/run.py", "--jobs", "1", "--trust")
    time.sleep(5)
    os.kill(process.pid, signal.SIGTERM)
    _, err = finished(process)
    assert process.returncode == 130
    assert err == "mutants: interrupted\n"
    assert not list((project / "tmp").iterdir())


def test_an_unknown_pattern_is_one_line(capsys, tmp_path):
    assert cli.run(["verify", "nonsense", "--report", str(tmp_path / "seen")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("scratchgen: no equation is called like 'nonsense'; there are the families gaussian")
    assert err.count("\n") == 1
    assert not (tmp_path / "seen").exists()


def test_an_installation_without_tests_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("scratchgen.verify.session.ROOT", tmp_path)
    assert cli.run(["verify"]) == 2
    assert "use a clone of the project" in capsys.readouterr().err
