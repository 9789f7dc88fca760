"""Shows that the tests can fail: every wrong formula of tests/mutants/*.toml must be noticed.

    python tests/mutants/run.py [PATTERN] [--jobs N] [--most N] [--evidence=FILE] [--trust]

Each mutant is applied to a scratch copy of the project, and the tests of its equation are run there, only those.
Killed: a test fails.  Survived: all pass, which is a hole in the tests.  Broken: the tests did not even run.  Timed
out: they had not ended after two minutes, which on a busy machine says nothing.  A kill means nothing where the tests
fail anyway, so each equation's tests are run once on the true source too (not with --trust, which says that somebody
has seen them pass).

A worker is forked for each mutant from one process that has loaded everything heavy and nothing of the project:
most mutants die in about a second.

Exit code 0 if all are killed, 1 if not, 2 if the list itself is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is loaded: a process with threads must not fork
os.environ["HYPOTHESIS_PROFILE"] = "mutants"
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("scratchgen", "reference", "tests", "docs", "setup.cfg")
TIMEOUT = 120.0
"""Seconds that one run may take."""


class Verdict(NamedTuple):
    """What became of one mutant; `number` is its place in the list, −1 for the true source."""

    number: int
    equation: str
    outcome: str
    """killed, survived, broken, timed out; passed or failed for the true source."""
    by: str
    """The test that failed, or the end of what a broken run printed."""
    seconds: float


def load_ledger() -> Any:
    """scratchgen/verify/ledger.py by its path: importing the package would load the true source for good."""
    spec = importlib.util.spec_from_file_location("scratchgen_ledger", ROOT / "scratchgen" / "verify" / "ledger.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def check(mutants: Any, equations: Any, fail: Any) -> None:
    """Every mutant changes one place of one file, and belongs to an equation of the ledger."""
    for mutant in mutants:
        where = f"tests/mutants/{mutant.source}: {mutant.equation}"
        path = ROOT / mutant.file
        if mutant.equation not in equations:
            raise fail(f"{where}: the ledger has no such equation")
        if not path.is_file():
            raise fail(f"{where}: there is no file {mutant.file}")
        count = path.read_text("utf-8").count(mutant.old)
        if count != 1:
            raise fail(f"{where}: {mutant.old!r} stands {count} times in {mutant.file}, not once")
        if mutant.old == mutant.new:
            raise fail(f"{where}: {mutant.old!r} is not changed")


# --- one run in a forked process ----------------------------------------------------------------------------------


class Witness:
    """Remembers the first test that failed."""

    def __init__(self) -> None:
        self.first = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.first:
            self.first = report.nodeid


def warm() -> None:
    """Load what every run needs and no mutant changes."""
    for heavy in (
        "hypothesis.extra.numpy", "matplotlib.figure", "numpy.testing", "pytest", "rich.table", "scipy.integrate",
        "scipy.linalg", "scipy.optimize", "scipy.special", "scipy.stats", "sklearn.datasets",
    ):  # fmt: skip
        importlib.import_module(heavy)
    from hypothesis import given, strategies

    given(strategies.integers())(lambda n: None)()  # looks through all modules for constants, once for all runs
    gc.freeze()


def start(scratch: Path, files: list[str], equation: str) -> int:
    """Fork a process that runs the tests of an equation in a scratch copy, and leaves result.json.  Returns its pid."""
    result = scratch / "result.json"
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = 2
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which kills its children
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with (scratch / "output.txt").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.chdir(scratch)
        sys.path[:0] = [str(scratch)]
        import pytest

        witness = Witness()
        options = ["-x", "-q", "--tb=line", "--no-header", "-p", "no:cacheprovider", "-m", "not long"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what `warm` has loaded
        chosen = [] if equation == "*" else [f"--equation={equation}"]  # "*": all tests of the files
        code = int(pytest.main([*files, *options, *chosen], plugins=[witness]))
        result.write_text(json.dumps(witness.first))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(pid: int, deadline: float) -> int | None:
    """The exit code of a process if it is done, after killing it if its time is up; else None."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        return os.waitstatus_to_exitcode(status)
    if time.monotonic() > deadline:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return -signal.SIGKILL
    return None


def outcome(code: int, scratch: Path, true_source: bool) -> tuple[str, str]:
    """What an exit code of pytest means for a mutant, or for the true source; and which test, or what, said so."""
    tail = " ".join((scratch / "output.txt").read_text("utf-8", "replace").split())[-300:]
    by = json.loads((scratch / "result.json").read_text()) if (scratch / "result.json").exists() else ""
    if code == -signal.SIGKILL:
        return ("failed" if true_source else "timed out"), f"not done after {TIMEOUT:.0f} s"
    if true_source:
        return ("passed", "") if code == 0 else ("failed", by or tail)
    if code in (0, 1):
        return ("survived", "") if code == 0 else ("killed", by)
    return "broken", tail


@contextlib.contextmanager
def patched(scratch: Path, mutant: Any) -> Iterator[None]:
    """The wrong formula in place, and the true one again afterwards."""
    if mutant is None:
        yield
        return
    path = scratch / mutant.file
    true = path.read_text("utf-8")
    _replace(path, true.replace(mutant.old, mutant.new))
    try:
        yield
    finally:
        _replace(path, true)


def _replace(path: Path, text: str) -> None:
    """Write a source file and forget its bytecode, which Python takes for the new text's if second and size agree."""
    path.write_text(text, "utf-8")
    for cached in (path.parent / "__pycache__").glob(path.stem + ".*.pyc"):
        cached.unlink()


class Job(NamedTuple):
    """One run: a mutant with its place in the list, or None for the true source of an equation."""

    number: int
    equation: str
    mutant: Any


def copy_project(to: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("*.pyc.*", "pictures"))
        else:
            shutil.copy2(source, to / name)


def run_jobs(jobs: list[Job], files: dict[str, list[str]], workers: int) -> Iterator[Verdict]:
    """Run all jobs, `workers` at a time, each worker in its own copy of the project; yields verdicts as they come."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, contextlib.ExitStack() as stack:
        free = [Path(folder) / str(i) for i in range(max(1, min(workers, len(jobs))))]
        for scratch in free:
            scratch.mkdir()
            copy_project(scratch)
        running: dict[int, tuple[Job, Path, float, contextlib.ExitStack]] = {}
        waiting = iter(jobs)
        stack.callback(_abandon, running)
        exhausted = False
        while not exhausted or running:
            while free and not exhausted:
                job = next(waiting, None)
                if job is None:
                    exhausted = True
                    break
                scratch = free.pop()
                patch = contextlib.ExitStack()
                patch.enter_context(patched(scratch, job.mutant))
                pid = start(scratch, files.get(job.equation, ["tests/no-test-names-this-equation"]), job.equation)
                running[pid] = job, scratch, time.monotonic(), patch
            for pid, (job, scratch, began, patch) in list(running.items()):
                code = finish(pid, began + TIMEOUT)
                if code is None:
                    continue
                del running[pid]
                patch.close()
                free.append(scratch)
                what, by = outcome(code, scratch, job.mutant is None)
                yield Verdict(job.number, job.equation, what, by, time.monotonic() - began)
            time.sleep(0.005)


def _abandon(running: dict[int, tuple[Job, Path, float, contextlib.ExitStack]]) -> None:
    """End what runs, before its folder is removed."""
    for pid, (_, _, _, patch) in running.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        patch.close()


# --- the command ----------------------------------------------------------------------------------------------------


def report(mutants: Any, verdicts: dict[int, Verdict]) -> None:
    """The kill table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("equation", "kind", "wrong formula", "verdict", "by"):
        table.add_column(head, overflow="fold", no_wrap=head == "equation")
    for number, mutant in enumerate(mutants):
        verdict = verdicts[number]
        style = "green" if verdict.outcome == "killed" else "bold red"
        by = verdict.by.rsplit("::", 1)[-1]
        cells = [mutant.equation, mutant.kind, mutant.change, Text(verdict.outcome, style), by]
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pattern", nargs="?", default="*", help="equations, as in diffusion.*  [all]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time  [one per core]")
    parser.add_argument("--most", type=int, metavar="N", help="at most N for each equation  [all]")
    parser.add_argument("--evidence", metavar="FILE", help="one line of JSON for each mutant, as it falls")
    parser.add_argument("--trust", action="store_true", help="the tests are known to pass on the true source")
    options = parser.parse_args()

    ledger = load_ledger()
    try:
        whole = ledger.Ledger.load(ROOT)
        mutants = whole.select(options.pattern).with_mutants(options.most).mutants
        check(whole.mutants, whole.equations, ledger.LedgerError)
    except ledger.LedgerError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    if not mutants:
        print(f"mutants: none belongs to an equation like {options.pattern!r}", file=sys.stderr)
        return 2

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to leave as after Ctrl-C: nothing runs, nothing lies on
    jobs = [Job(number, mutant.equation, mutant) for number, mutant in enumerate(mutants)]
    if not options.trust:
        jobs = [Job(-1, equation, None) for equation in dict.fromkeys(m.equation for m in mutants)] + jobs
    warm()
    began, verdicts, untrue = time.monotonic(), {}, []
    with open(options.evidence or os.devnull, "w", buffering=1) as evidence:
        for done, verdict in enumerate(run_jobs(jobs, ledger.files_by_id(ROOT), options.jobs), start=1):
            if verdict.number < 0:
                untrue += [verdict] if verdict.outcome == "failed" else []
            else:
                verdicts[verdict.number] = verdict
                evidence.write(json.dumps(verdict._asdict()) + "\n")
            if sys.stderr.isatty():
                print(f"\r{done}/{len(jobs)}", end="\r", file=sys.stderr, flush=True)
    report(mutants, verdicts)
    bad = [v for v in verdicts.values() if v.outcome != "killed"]
    print(f"{len(verdicts) - len(bad)} of {len(verdicts)} wrong formulas killed, {time.monotonic() - began:.0f} s")
    for verdict in untrue:
        print(f"the tests of {verdict.equation} fail on the true source: {verdict.by}", file=sys.stderr)
    for verdict in bad:
        mutant = mutants[verdict.number]
        print(f"{verdict.outcome}: {mutant.equation}: {mutant.file}: {mutant.change}  {verdict.by}", file=sys.stderr)
    return 1 if bad or untrue else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("mutants: interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"mutants: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
