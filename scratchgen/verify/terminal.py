"""The findings as tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scratchgen.verify.findings import HOLDS, KILLED, PROVEN, Findings, Tested
from scratchgen.verify.formula import plain

GOOD, BAD = "green", "bold red"


def show(found: Findings, console: Console) -> None:
    """Equations, slips and mutants, then what failed, then the counts."""
    if found.equations:
        console.print(_equations(found), "")
    if found.slips:
        console.print(_slips(found), "")
    if found.mutants:
        console.print(_mutants(found), "")
    for trouble in found.trouble:
        console.print(Text(trouble, BAD))
    rows = [(e.id, tested) for e, tested in found.equations] + [(s.id, tested) for s, tested in found.slips]
    for id, tested in rows:
        for failure in tested.failed:
            console.print(Text(f"{id}: {failure}", BAD))
    for mutant, outcome, said in found.mutants:
        if outcome != KILLED:
            console.print(Text(f"{outcome}: {mutant.equation}: {mutant.file}: {mutant.change}  {said}", BAD))
    counts = ", ".join(f"{yes} of {of} {what}" for what, (yes, of) in found.counts().items() if of)
    console.print(Text(f"{counts}; {found.facts['seconds']:.0f} s", GOOD if found.ok else BAD))


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for head in heads:
        right = head in ("examples", "error", "tolerance", "killed", "of")
        table.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def _equations(found: Findings) -> Table:
    table = _table("Equations", "equation, formula, oracle", "examples", "compared", "error", "tolerance", "verdict")
    for equation, tested in found.equations:
        oracle = ", ".join(name.removeprefix("reference.").replace(":", ".") for name in equation.oracle)
        backends = " ".join(tested.backends) or "–"
        lines = (plain(equation.tex), "\n", (f"oracle {oracle}; on {backends}", "dim"))
        what = Text.assemble((equation.id, "bold"), "\n", *lines)
        columns = ("\n".join(column) for column in zip(*numbers(tested), strict=True))
        table.add_row(what, f"{tested.examples:,}", *columns, verdict(tested, HOLDS))
    return table


def _slips(found: Findings) -> Table:
    table = _table("Misprints", "misprint: printed, what holds", "the printed form fails for", "examples", "verdict")
    for slip, tested in found.slips:
        forms = ("printed  ", plain(slip.printed), "\nholds    ", plain(slip.holds))
        what = Text.assemble((slip.id, "bold"), f"  {slip.name}\n", *forms)
        table.add_row(what, Text(counter_example(tested)), f"{tested.examples:,}", verdict(tested, PROVEN))
    return table


def counter_example(tested: Tested) -> str:
    """The smallest arguments for which the printed form fails, and what it gives there."""
    if "counter_example" not in tested.notes:
        return ""
    where = ", ".join(f"{name} = {value}" for name, value in tested.notes["counter_example"].items())
    return f"{where}: {tested.notes['printed']}, not {tested.notes['truth']}"


def _mutants(found: Findings) -> Table:
    table = _table("Wrong formulas", "equation", "killed", "of", "kinds")
    for id in dict.fromkeys(mutant.equation for mutant, _, _ in found.mutants):
        mine = [(mutant, what) for mutant, what, _ in found.mutants if mutant.equation == id]
        killed = sum(what == KILLED for _, what in mine)
        kinds = ", ".join(dict.fromkeys(mutant.kind for mutant, _ in mine))
        table.add_row(Text(id), Text(str(killed), GOOD if killed == len(mine) else BAD), str(len(mine)), Text(kinds))
    return table


def numbers(tested: Tested) -> list[tuple[str, str, str]]:
    """(dtype, largest error, its tolerance), in two digits; a statistic's share of its room; dashes where neither."""
    rows = [
        (dtype, f"{n.error:.1e}", f"{n.tolerance:.1e}" if n.tolerance else "exact")
        for dtype, n in tested.nearest.items()
        if dtype.startswith("float")
    ]
    if tested.share >= 0:
        rows.append(("limits", f"{tested.share:.0%}", "100%"))
    return rows or [("–", "–", "–")]


def verdict(tested: Tested, good: str) -> Text:
    return Text(good, GOOD) if tested.verdict == HOLDS else Text(tested.verdict, BAD)
