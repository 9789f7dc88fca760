"""Running the tests of the ledger's equations, and its mutants, in processes of their own.

Both write one line of JSON per result as it comes; what is read here is only those lines, so that a run can be
followed while it goes on, and a run that dies leaves what it had.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from scratchgen.train.progress import Bar
from scratchgen.train.signals import StopSignals
from scratchgen.verify.ledger import ROOT, Ledger, files_by_id

NEEDED = ("pytest", "xdist", "hypothesis", "latex2mathml")
POLL = 0.1  # seconds between two looks at what a process has written
PATIENCE = 10.0  # seconds that a process has between being asked to end and being killed
TAIL = 400  # characters of a broken run's output that are worth showing


class VerifyError(Exception):
    """A verification that cannot be started; the message is one line."""


class Stopped(Exception):
    """SIGINT or SIGTERM: what ran has been ended.  code: 130 or 143."""

    def __init__(self, code: int) -> None:
        super().__init__("interrupted")
        self.code = code


class Outcome(NamedTuple):
    """What one process left: its lines, and why they are not all, if they are not."""

    lines: list[dict[str, Any]]
    trouble: str

    @property
    def well(self) -> bool:
        """Whether everything ran, and nothing failed."""
        return not self.trouble and not _failures(self.lines)


def check_installed() -> None:
    """Raises VerifyError unless the tests can be run here: from a checkout, with what they need."""
    if not (ROOT / "tests").is_dir() or not (ROOT / "docs" / "equations.toml").is_file():
        raise VerifyError(f"verify runs the project's tests, and {ROOT} has none: use a clone of the project")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise VerifyError(f"verify needs {', '.join(missing)}: pip install -e '.[test]' in {ROOT}")


def run_tests(part: Ledger, pattern: str, backend: str, examples: int, jobs: int, report: Path) -> Outcome:
    """The tests of all equations and slips in `part`, on a backend; their output goes to `report`/tests.log."""
    by_id = files_by_id()
    files = sorted({file for id in (*part.equations, *part.slips) for file in by_id.get(id, [])})
    if not files:
        return Outcome([], "")
    command = [sys.executable, "-m", "pytest", *files, "-m", "(equation or slip) and not long", "--tb=short"]
    chosen = ",".join([pattern, *part.slips])  # a slip belongs to the pattern of its equation
    command += ["-p", "no:cacheprovider", f"--equation={chosen}", "-n", str(jobs)]
    environment = {"SCRATCHGEN_BACKEND": backend, "OPENBLAS_NUM_THREADS": "1"}
    environment |= {"HYPOTHESIS_PROFILE": "ci", "HYPOTHESIS_EXAMPLES": str(examples)}
    return _follow(command, environment, report / "tests.log", "tests", None)


def run_mutants(
    part: Ledger, pattern: str, most: int | None, backend: str, jobs: int, report: Path, trust: bool
) -> Outcome:
    """The wrong formulas in `part`, at most `most` for each equation; their output goes to `report`/mutants.log.

    trust: their tests have been seen to pass on the true source; otherwise that is looked at first.
    """
    if not part.mutants:
        return Outcome([], "")
    command = [sys.executable, str(ROOT / "tests" / "mutants" / "run.py"), pattern, "--jobs", str(jobs)]
    command += ["--trust"] if trust else []
    command += [] if most is None else ["--most", str(most)]
    environment = {"SCRATCHGEN_BACKEND": backend}
    return _follow(command, environment, report / "mutants.log", "mutants", len(part.mutants))


def _follow(command: list[str], environment: dict[str, str], log: Path, unit: str, total: int | None) -> Outcome:
    """Run a command in ROOT, showing how far its lines of evidence have come.  It dies with this process."""
    env = {**os.environ, **environment}
    with StopSignals() as stop, log.open("w") as output, tempfile.TemporaryDirectory(prefix="verify-") as folder:
        lines = Path(folder) / "evidence.jsonl"
        command = [*command, f"--evidence={lines}"]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True)
        try:
            found = _read(process, lines, unit, total, stop)
        finally:
            _end(process)
    trouble = ""
    if process.returncode not in (0, 1) or (process.returncode and not _failures(found)):
        said = " ".join(log.read_text("utf-8", "replace").split())[-TAIL:]
        trouble = f"the {unit} ended with code {process.returncode}, see {log}: {said}"
    return Outcome(found, trouble)


def _end(process: subprocess.Popen) -> None:
    """Make sure that neither the process nor what it has started goes on."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)


def _read(
    process: subprocess.Popen, lines: Path, unit: str, total: int | None, stop: StopSignals
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        bar: Bar | None = None
        for new in _lines(process, lines, stop):
            if total is None:
                total = new.get("total")
            if bar is None and total is not None:
                bar = stack.enter_context(Bar("verify", total, unit=unit))
            if "total" not in new:
                found.append(new)
                if bar is not None:
                    bar.update(len(found), lambda: f"{_failures(found) or 'none'} failed")
    return found


def _failures(found: list[dict[str, Any]]) -> int:
    return sum(line["outcome"] in ("failed", "survived", "broken", "timed out") for line in found)


def _lines(process: subprocess.Popen, path: Path, stop: StopSignals) -> Iterator[dict[str, Any]]:
    """The lines of a file that a process writes, as they come, until it ends; half a line is never read.

    Raises Stopped once a signal has come.
    """
    rest, done, position = "", False, 0
    while not done:
        done = process.poll() is not None
        if path.exists():
            with path.open(encoding="utf-8") as file:
                file.seek(position)
                new = file.read()
                position = file.tell()
            *whole, rest = (rest + new).split("\n")
            for line in whole:
                yield json.loads(line)
        if stop.received is not None:
            raise Stopped(stop.code)
        if not done:
            time.sleep(POLL)
