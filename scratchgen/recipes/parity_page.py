"""What `parity` found: a table on the terminal, parity.json, and a page with the ways of all systems side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from scratchgen.recipes import pictures, present
from scratchgen.recipes.parity import APART, TIGHT, USUAL, Finding, measure, work
from scratchgen.recipes.recipe import Recipe
from scratchgen.train.atomic import write_atomically
from scratchgen.train.progress import Bar
from scratchgen.train.report import Page, Picture, Table, write_html
from scratchgen.train.run import versions

COLUMNS = ("float64 loss", "float64 gradient", "float32 loss", "float32 gradient")


def check(recipes: Sequence[Recipe], there: str, steps: int, batch_size: int, folder: Path) -> bool:
    """Compare the systems one after another, and write down what was found after each.  Whether all holds."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"backend": there, "steps": steps, "batch_size": batch_size, "versions": versions()}
    findings: list[Finding] = []
    with Bar("parity", sum(work(recipe, steps) for recipe in recipes)) as bar:
        for recipe in recipes:
            findings.append(measure(recipe, there, steps, batch_size, partial(bar.advance, text=recipe.id)))
            write_atomically(folder / "parity.json", json.dumps(as_json(findings, settings), indent=1).encode() + b"\n")
    found = table(findings, there)
    present.show(found)
    for finding in findings:
        for line in complaints(finding):
            click.echo(line)
    shown = [f for f in findings if f.way]
    if shown:
        draw(folder / "pictures" / "ways.png", shown, there)
    write_html(folder / "index.html", page(findings, found, there), settings)
    click.echo(f"see {folder / 'index.html'}")
    return all(finding.holds() for finding in findings)


def as_json(findings: Sequence[Finding], settings: dict[str, Any]) -> dict[str, Any]:
    """Every number; one that is not finite is null."""
    rows = [{**asdict(f), "bounds": f.bounds._asdict(), "holds": f.holds()} for f in findings]
    return {**settings, "holds": all(f.holds() for f in findings), "systems": _finite(rows)}


def _finite(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _finite(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_finite(v) for v in x]
    return None if isinstance(x, float) and not abs(x) < float("inf") else x


def complaints(finding: Finding) -> list[str]:
    """A line for everything that does not hold."""
    lines = [
        f"{finding.id}: {what} of {finding.worst[what]} is {error:.1e} off, allowed {finding.allowed(what):.0e}"
        for what, error in finding.errors.items() if not error <= finding.allowed(what)
    ]  # fmt: skip
    if not finding.way_holds():
        there, other = finding.parted()
        lines.append(f"{finding.id}: the way parts by {there:.1e}, another order of summation by {other:.1e}")
    return lines


def table(findings: Sequence[Finding], there: str) -> Table:
    """A row for each system."""
    body = []
    for f in findings:
        errors = [f"{f.errors[c]:.0e}" if c in f.errors else "" for c in COLUMNS]
        if "float64 fit" in f.errors:
            errors[0] = f"{f.errors['float64 fit']:.0e}"
        ways = [f"{x:.0e}" for x in (f.bounds.float32, *f.parted())] if f.way else ["", "", ""]
        body.append((f.id, *errors, *ways, "holds" if f.holds() else "FAILS"))
    return Table(
        f"NumPy against {there}",
        f"The largest relative errors of the loss's terms and of the gradients, with the same weights and noise; "
        f"float64 may be {TIGHT:.0e} off, float32 what is allowed. Of systems without training steps, the first column "
        "says what their fit is off. Way: how far the weights of float32 part, as a fraction of the way gone; at "
        f"most {APART:.0f} times as far as NumPy in another order of summation does, and {USUAL.way:.0e}.",
        ("system", *COLUMNS, "allowed", "way", "another order", ""), body,
    )  # fmt: skip


def page(findings: Sequence[Finding], found: Table, there: str) -> Page:
    """All of it, and why some systems are allowed more."""
    more = [(f.id, f.bounds) for f in findings if f.bounds.why]
    reasons = [(id, f"{b.float32:.0e}", f"{b.way:.0e}", b.why) for id, b in more]
    tables = [found]
    if reasons:
        head = ("system", "float32", "way", "why")
        tables.append(Table("Allowed more", "What some systems may differ by, and why.", head, reasons))
    ways = [Picture(
        "ways.png", "The ways part",
        "Weights over steps of float32: how far the other backend is from NumPy (blue), and NumPy in another order of "
        "summation from itself (grey), as a fraction of the way gone. Rounding differs in both and grows alike.",
        "For each system, two curves that rise together from rounding",
    )]  # fmt: skip
    held = sum(f.holds() for f in findings)
    return Page(
        f"Parity of NumPy and {there}", "The same weights, minibatches and noise on both", (),
        [("systems that hold", f"{held} of {len(findings)}")], tables, ways if any(f.way for f in findings) else [],
    )  # fmt: skip


def draw(path: Path, findings: Sequence[Finding], there: str) -> None:
    """A panel for each system: both distances over steps, in powers of ten."""
    columns = min(6, len(findings))
    rows = -(-len(findings) // columns)
    fig = pictures.figure(2.0 * columns + 0.6, 1.5 * rows + 0.7)
    panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(findings) :]:
        axes.set_axis_off()
    for axes, f in zip(panels, findings, strict=False):
        steps, ours, other = zip(*f.way, strict=True)
        axes.semilogy(steps, [max(x, LEAST) for x in other], color="0.6", lw=1.6, label="NumPy, another order")
        axes.semilogy(steps, [max(x, LEAST) for x in ours], color="#2456a6", lw=1.2, label=there)
        axes.set_title(f.id, loc="left", fontsize=8, color="black" if f.holds() else "#b3261e")
        axes.tick_params(labelsize=7)
        axes.yaxis.set_minor_formatter("")  # powers of ten are enough
        axes.grid(alpha=0.25)
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8, frameon=False)
    fig.supxlabel("step", fontsize=8)
    fig.supylabel("distance / way gone", fontsize=8)
    pictures.save(fig, path)


LEAST = 1e-9
"""What is drawn for less, and for nothing."""
