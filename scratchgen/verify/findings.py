"""From lines of evidence to verdicts: one row per equation, per slip, per mutant."""

from __future__ import annotations

import dataclasses
from math import inf, isfinite
from typing import Any, NamedTuple

from scratchgen.verify.ledger import Equation, Ledger, Mutant, Slip

HOLDS, FAILS, UNTESTED = "holds", "FAILS", "no test"
PROVEN, KILLED = "proven", "killed"


class Nearest(NamedTuple):
    """An error beside what it may be, and the first over the second."""

    error: float
    tolerance: float
    ratio: float


@dataclasses.dataclass(frozen=True)
class Tested:
    """What the tests of one equation or slip have shown."""

    tests: int
    failed: tuple[str, ...]
    """The tests that failed, each with its last line."""
    examples: int
    """How many inputs were tried, those that hypothesis drew and those that are written down."""
    nearest: dict[str, Nearest]
    """By dtype, the comparison of values that came nearest to failing; empty where only yes or no was asked."""
    share: float
    """How much of its room an inequality, a statistic or a limit used; −1 where there was none."""
    backends: tuple[str, ...]
    notes: dict[str, Any]

    @property
    def verdict(self) -> str:
        return UNTESTED if not self.tests else FAILS if self.failed else HOLDS


@dataclasses.dataclass(frozen=True)
class Findings:
    """All of one verification, in the order of the ledger."""

    equations: tuple[tuple[Equation, Tested], ...]
    slips: tuple[tuple[Slip, Tested], ...]
    mutants: tuple[tuple[Mutant, str, str], ...]
    """(mutant, killed | survived | broken | not run, the test that killed it or what else was said)"""
    trouble: tuple[str, ...]
    """What kept the tests from running."""
    facts: dict[str, Any]
    """Backend, versions, examples asked for, seconds."""

    @property
    def ok(self) -> bool:
        """Whether everything holds, is proven and killed."""
        rows = [tested for _, tested in (*self.equations, *self.slips)]
        return not self.trouble and all(t.verdict == HOLDS for t in rows) and all(m[1] == KILLED for m in self.mutants)

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many of how many: equations that hold, slips proven, mutants killed."""
        return {
            "equations hold": (sum(t.verdict == HOLDS for _, t in self.equations), len(self.equations)),
            "misprints proven": (sum(t.verdict == HOLDS for _, t in self.slips), len(self.slips)),
            "wrong formulas killed": (sum(m[1] == KILLED for m in self.mutants), len(self.mutants)),
        }


def gather(id: str, key: str, lines: list[dict[str, Any]]) -> Tested:
    """All lines of one equation (key "equations") or slip ("slips")."""
    mine = [line for line in lines if id in line[key] and line["outcome"] != "skipped"]
    nearest: dict[str, Nearest] = {}
    for line in mine:
        for dtype, place in line["nearest"].items():
            nearest[dtype] = max(nearest.get(dtype, Nearest(0, 0, -1)), Nearest(*place), key=lambda n: n.ratio)
    return Tested(
        tests=len(mine),
        failed=tuple(f"{line['test']}: {line['message']}" for line in mine if line["outcome"] == "failed"),
        examples=sum(line["examples"] for line in mine),
        nearest=dict(sorted(nearest.items(), reverse=True)),
        share=max((line["share"] for line in mine), default=-1.0),
        backends=tuple(sorted({name for line in mine for name in line["backends"]})),
        notes={k: v for line in mine for k, v in line["notes"].items()},
    )  # fmt: skip


def findings(part: Ledger, tests: list[dict[str, Any]], mutants: list[dict[str, Any]], trouble: list[str],
             facts: dict[str, Any]) -> Findings:  # fmt: skip
    """Verdicts on everything in `part`."""
    fate = {line["number"]: line for line in mutants}
    killed = []
    for number, mutant in enumerate(part.mutants):
        line = fate.get(number, {"outcome": "not run", "by": ""})
        killed.append((mutant, line["outcome"], line["by"]))
    return Findings(
        equations=tuple((e, gather(id, "equations", tests)) for id, e in part.equations.items()),
        slips=tuple((s, gather(id, "slips", tests)) for id, s in part.slips.items()),
        mutants=tuple(killed), trouble=tuple(trouble), facts=facts,
    )  # fmt: skip


def as_json(found: Findings) -> dict[str, Any]:
    """Everything, for a program to read."""
    return {
        "ok": found.ok,
        "facts": found.facts,
        "counts": {what: {"yes": yes, "of": of} for what, (yes, of) in found.counts().items()},
        "trouble": list(found.trouble),
        "equations": [dataclasses.asdict(e) | _shown(t, HOLDS) for e, t in found.equations],
        "slips": [dataclasses.asdict(s) | _shown(t, PROVEN) for s, t in found.slips],
        "mutants": [dataclasses.asdict(m) | {"outcome": what, "by": by} for m, what, by in found.mutants],
    }


def _finite(nearest: Nearest) -> dict[str, float | str]:
    """JSON has no NaN and no infinity: those as text."""
    return {name: value if isfinite(value) else str(value) for name, value in nearest._asdict().items()}


def _shown(tested: Tested, good: str) -> dict[str, Any]:
    numbers = dataclasses.asdict(tested) | {"nearest": {k: _finite(n) for k, n in tested.nearest.items()}}
    numbers["share"] = tested.share if 0 <= tested.share < inf else None
    return numbers | {"verdict": good if tested.verdict == HOLDS else tested.verdict}
