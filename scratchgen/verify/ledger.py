"""The ledger: every equation that the project stands on, every misprint it proves, every wrong formula it kills.

    docs/equations.toml     what holds: formula, where it is taught, the code, the oracle
    docs/errata.toml        what is printed somewhere and does not hold, beside what does
    tests/mutants/*.toml    wrong lines of code that the tests of an equation must notice

Documentation, reports and tests all read these files; nothing of them stands anywhere else.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
"""The checkout that this module lies in: `verify` needs its tests and docs."""


class LedgerError(Exception):
    """A ledger that cannot be read; the message is one line that names the file and the entry."""


@dataclasses.dataclass(frozen=True)
class Equation:
    """One formula.  code and oracle: "package.module:function", those that implement it and those that judge it."""

    id: str
    name: str
    tex: str
    lectures: tuple[str, ...]
    """Of the lectures that the ledger's head lists; empty where only a paper has it."""
    place: str
    """Where it is taught: the passage of the lecture, the paper and its equation."""
    code: tuple[str, ...]
    oracle: tuple[str, ...]
    why: str
    """One line: why it holds."""


@dataclasses.dataclass(frozen=True)
class Slip:
    """A formula as it is printed somewhere, and the one that holds."""

    id: str
    name: str
    lectures: tuple[str, ...]
    place: str
    printed: str
    holds: str
    equation: str
    """The id of the equation that it is a slip of."""
    why: str
    """One line: what is wrong with the printed form."""
    extraction: bool = False
    """Whether the slip may be one of the text extraction, not of the lecture."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A wrong formula: `old` in `file`, where it stands exactly once, replaced by `new`."""

    equation: str
    kind: str
    """sign, factor, operator, index, argument, gradient, …"""
    file: str
    old: str
    new: str
    source: str = ""
    """The file of tests/mutants that lists it."""

    @property
    def change(self) -> str:
        """Old → new: whole where that is short, otherwise what differs, with a few words and signs on each side."""
        whole = " → ".join(" ".join(text.split()) for text in (self.old, self.new))
        if len(whole) <= WHOLE:
            return whole
        old, new = (re.findall(r"\w+|[^\w\s]|\s+", " ".join(text.split())) for text in (self.old, self.new))
        shortest = min(len(old), len(new))
        before = next((i for i in range(shortest) if old[i] != new[i]), shortest)
        after = next((i for i in range(shortest - before) if old[-1 - i] != new[-1 - i]), shortest - before)
        before, after = max(before - CONTEXT, 0), max(after - CONTEXT, 0)
        return " → ".join("".join(text[before : len(text) - after]).strip() for text in (old, new))


WHOLE = 120
"""Characters that `Mutant.change` shows without leaving anything out."""
CONTEXT = 8
"""Words and signs that `Mutant.change` shows on each side."""

Entry = TypeVar("Entry")


def read(path: Path) -> dict[str, Any]:
    """All that a TOML file says.  Raises LedgerError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise LedgerError(f"{path}: {error}") from error


def read_entries(path: Path, key: str, kind: type[Entry], **fixed: Any) -> list[Entry]:
    """The entries [[key]] of a TOML file.  Raises LedgerError as `read` and `entries_of` do."""
    return entries_of(path, read(path), key, kind, **fixed)


def entries_of(path: Path, table: dict[str, Any], key: str, kind: type[Entry], **fixed: Any) -> list[Entry]:
    """The entries [[key]] of what a file says.  Raises LedgerError for a missing, unknown or wrongly typed field."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    entries = []
    for place, row in enumerate(table.get(key, []), start=1):
        where = f"{path}: {key} {row.get('id', place)}"
        for name in row:
            if name not in fields:
                raise LedgerError(f"{where}: has no field {name!r}")
        values = dict(fixed)
        for name, field in fields.items():
            if name in row:
                values[name] = _typed(row[name], str(field.type), f"{where}: {name}")
            elif name not in values and field.default is dataclasses.MISSING:
                raise LedgerError(f"{where}: lacks {name!r}")
        entries.append(kind(**values))
    return entries


def _typed(value: Any, wanted: str, where: str) -> Any:
    if wanted.startswith("tuple"):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise LedgerError(f"{where} should be a list of strings")
        return tuple(value)
    if not isinstance(value, {"str": str, "bool": bool}[wanted]):
        raise LedgerError(f"{where} should be {'true or false' if wanted == 'bool' else 'a string'}")
    return value


@dataclasses.dataclass(frozen=True)
class Ledger:
    """All equations, slips and mutants, each by its id or in the order of its file."""

    lectures: dict[str, str]
    families: dict[str, str]
    """The title of each family, the part of an id before its dot, in the order of the file."""
    equations: dict[str, Equation]
    slips: dict[str, Slip]
    mutants: tuple[Mutant, ...]

    @staticmethod
    @cache
    def load(root: Path = ROOT) -> Ledger:
        """Read the ledger of a checkout.  Raises LedgerError if there is none, or if it is damaged."""
        path, errata = root / "docs" / "equations.toml", root / "docs" / "errata.toml"
        table = read(path)
        equations = _by_id(path, entries_of(path, table, "equation", Equation))
        slips = _by_id(errata, read_entries(errata, "slip", Slip))
        mutants: list[Mutant] = []
        for source in sorted((root / "tests" / "mutants").glob("*.toml")):
            mutants += read_entries(source, "mutant", Mutant, source=source.name)
        return Ledger(table.get("lectures", {}), table.get("families", {}), equations, slips, tuple(mutants))

    def describe(self, id: str) -> str:
        """One equation or slip in a few lines of plain text."""
        if id in self.equations:
            e = self.equations[id]
            return f"{id}: {e.name}\n    {' '.join(e.tex.split())}\n    judged by {', '.join(e.oracle)}"
        if id in self.slips:
            s = self.slips[id]
            printed, holds = " ".join(s.printed.split()), " ".join(s.holds.split())
            return f"{id}: {s.name}\n    printed  {printed}\n    holds    {holds}"
        return f"{id}: not in the ledger"

    def formulas(self) -> list[str]:
        """All TeX that a report of it shows."""
        return [e.tex for e in self.equations.values()] + [f for s in self.slips.values() for f in (s.printed, s.holds)]

    def select(self, pattern: str) -> Ledger:
        """The part whose equation's id fits a pattern such as `diffusion.*`; a bare word fits the family."""
        kept = {id: e for id, e in self.equations.items() if fits(id, pattern)}
        slips = {id: s for id, s in self.slips.items() if s.equation in kept or fits(id, pattern)}
        mutants = tuple(m for m in self.mutants if m.equation in kept)
        return dataclasses.replace(self, equations=kept, slips=slips, mutants=mutants)

    def with_mutants(self, most: int | None) -> Ledger:
        """The same with the first `most` mutants of each equation; None: with all."""
        if most is None:
            return self
        seen: Counter[str] = Counter()
        kept = []
        for mutant in self.mutants:
            seen[mutant.equation] += 1
            if seen[mutant.equation] <= most:
                kept.append(mutant)
        return dataclasses.replace(self, mutants=tuple(kept))


def fits(id: str, pattern: str) -> bool:
    """Whether an id fits a pattern: `*` and `?` as in a shell; `gaussian` alone stands for `gaussian.*`."""
    return fnmatch.fnmatchcase(id, pattern) or fnmatch.fnmatchcase(id, pattern + ".*")


def _by_id(path: Path, entries: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        if entry.id in found:
            raise LedgerError(f"{path}: {entry.id} stands there twice")
        found[entry.id] = entry
    return found


def resolve(name: str) -> Any:
    """The object that "package.module:function" or "package.module:Class.method" names.

    Raises LedgerError if there is no such thing.
    """
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise LedgerError(f"{name}: {error}") from error
    return found


def files_by_id(root: Path = ROOT) -> dict[str, list[str]]:
    """Which test files name which equation or slip, read from their text."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        calls = re.findall(r"\b(?:equation|slip)\(([^)]*)\)", path.read_text("utf-8"))
        for id in sorted({id for call in calls for id in re.findall(r'"([^"\s]+\.[^"\s]+)"', call)}):
            found.setdefault(id, []).append(str(path.relative_to(root)))
    return found
