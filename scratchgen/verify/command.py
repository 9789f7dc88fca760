"""What `scratchgen verify` does: run, judge, show, write down."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from scratchgen.backend import get
from scratchgen.train.atomic import write_atomically
from scratchgen.verify import page, terminal
from scratchgen.verify.findings import Findings, as_json, findings
from scratchgen.verify.formula import mathml
from scratchgen.verify.ledger import Ledger
from scratchgen.verify.session import VerifyError, check_installed, run_mutants, run_tests
from scratchgen.version import VERSION


def verify(pattern: str, examples: int, backend: str, report: Path, most: int | None, jobs: int | None) -> bool:
    """Run the tests of all equations that fit the pattern, and at most `most` mutants of each (None: all of them).

    Returns whether everything holds.

    Raises VerifyError or LedgerError, in one line, if there is nothing to run, or nothing to run it with.
    """
    check_installed()
    ledger = Ledger.load()
    part = ledger.select(pattern).with_mutants(most)
    if not part.equations and not part.slips:
        families = ", ".join(dict.fromkeys(id.split(".")[0] for id in ledger.equations))
        raise VerifyError(f"no equation is called like {pattern!r}; there are the families {families}")
    for tex in part.formulas():
        mathml(tex)  # what cannot be shown is said before minutes of work, not after
    name = get(backend).name  # the one line of a backend that cannot be used, before anything starts
    report.mkdir(parents=True, exist_ok=True)
    jobs = jobs or os.cpu_count() or 1
    Console(stderr=True).print(_announcement(part, name, jobs, report), highlight=False, soft_wrap=True)
    began = time.monotonic()
    for old in report.glob("*.log"):
        old.unlink()  # of a run before this one
    tested = run_tests(part, pattern, name, examples, jobs, report)
    killed = run_mutants(part, pattern, most, name, jobs, report, trust=tested.well)
    trouble = [outcome.trouble for outcome in (tested, killed) if outcome.trouble]
    facts = _facts(name, examples, time.monotonic() - began)
    found = findings(part, tested.lines, killed.lines, trouble, facts)
    terminal.show(found, Console())
    write(found, ledger, report)
    print(f"see {report / 'index.html'}")
    return found.ok


def write(found: Findings, ledger: Ledger, report: Path) -> None:
    """verify.json and index.html, each whole or not at all."""
    text = json.dumps(as_json(found), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(report / "verify.json", text.encode())
    write_atomically(report / "index.html", page.render(found, ledger).encode())


def _announcement(part: Ledger, backend: str, jobs: int, report: Path) -> str:
    wrong = len(part.mutants)
    what = f"{len(part.equations)} equations, {len(part.slips)} misprints and {wrong} wrong formulas"
    return f"verifying {what} on {backend}, {jobs} at a time; the report goes to {report}"


def _facts(backend: str, examples: int, seconds: float) -> dict[str, Any]:
    packages = ("numpy", "scipy", "hypothesis", "pytest")
    return {
        "backend": backend,
        "examples": f"{examples:,} per property",
        "seconds": round(seconds, 1),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "versions": {
            "scratchgen": VERSION,
            "python": f"{platform.python_version()} on {platform.machine()} {sys.platform}",
            **{name: version(name) for name in packages},
        },
    }
