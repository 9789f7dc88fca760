"""The results: a table on the terminal, a file of JSON, a picture, and the table of docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONTENDERS
from benchmarks.device import HOST, Place
from benchmarks.measure import Plan, Row, Spread, Timing

PACKAGES = ("scratchgen", "numpy", "scipy", "torch", "jax", "jaxlib", "autograd", "cupy-cuda12x", "cupy-cuda13x")
Cell = Callable[[Row, str], tuple[str, ...]]
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


# --- what is known about the run ----------------------------------------------------------------------------


def facts(
    plan: Plan, lifted: dict[str, str], place: Place = HOST, device: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The machine, the versions, and how it was measured; `device` is what `measure.ceilings` found, on a device."""
    found = {
        "date": date.today().isoformat(), "machine": machine(), "versions": dict(versions()), "plan": asdict(plan),
        "lifted": lifted,
    }  # fmt: skip
    return {**found, "place": asdict(place), "device": device} if place.on_device else found


def machine() -> dict[str, Any]:
    """Processor, how many of its cores may be used, memory, system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"processor": model, "cores": cores, "memory_GiB": round(memory, 1), "system": platform.platform()}


def versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


# --- JSON ---------------------------------------------------------------------------------------------------


def save(path: Path, about: dict[str, Any], rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """What `save` wrote."""
    about = json.loads(path.read_text())
    rows = [Row(**row) for row in about.pop("rows")]
    for row in rows:
        timings: Any = row.timings
        row.timings = {c: Timing(**{**t, "seconds": Spread(*t["seconds"])}) for c, t in timings.items()}
    return about, rows


# --- tables -------------------------------------------------------------------------------------------------


def milliseconds(seconds: float) -> str:
    """Three digits: 0.123, 1.23, 12.3, 123."""
    ms = 1e3 * seconds
    return f"{ms:.0f}" if ms >= 100 else f"{ms:#.3g}"


def columns(rows: Sequence[Row]) -> list[str]:
    """The contenders that have times, in their usual order."""
    return [c for c in CONTENDERS if any(c in row.timings for row in rows)]


def time_cell(row: Row, contender: str) -> tuple[str, str]:
    """The time, and the ratio with its quartiles (of the reference: the quartiles of its time)."""
    if contender not in row.timings:
        return "–", ""
    t = row.timings[contender].seconds
    if contender == row.reference:
        return f"{milliseconds(t.median)} ms", f"({milliseconds(t.low)}–{milliseconds(t.high)})"
    r = row.ratio(contender)
    return f"{milliseconds(t.median)} ms", f"×{r.median:.2f} ({r.low:.2f}–{r.high:.2f})"


def memory_cell(row: Row, contender: str) -> str:
    if contender not in row.timings:
        return "–"
    memory = row.timings[contender].memory
    if "device" in memory:
        return f"{memory['device']:.0f}" if memory["device"] else "?"
    return f"{memory['above_imports']:.0f} ({memory['peak']:.0f})"


def speed_cell(row: Row, contender: str, device: dict[str, Any]) -> tuple[str, str]:
    """TFLOP/s and GB/s of a step, and what share of the device's own they are."""
    if contender not in row.timings:
        return "–", ""
    seconds = row.timings[contender].seconds.median
    found = ((row.flops / seconds / 1e12, "TFLOP/s"), (row.bytes / seconds / 1e9, "GB/s"))
    flops, moved = (f"{x:.3g} {unit}, {100 * x / device[unit]:.2g} %" if x else "" for x, unit in found)
    return flops, moved


TIMES = ("Milliseconds of a step, median.  × is the time in units of {reference}'s, median and quartiles over rounds: "
         "above 1, {reference} is faster.")  # fmt: skip
MEMORY = "Peak of resident memory in MiB, above that of the imports (and in all), each contender in its own process."
TAKEN = ("Peak of the device's memory in MiB, by each library's own count, each contender in its own process: what "
         "scratchgen and PyTorch have taken from the device, what JAX has used at one time.")  # fmt: skip
SPEED = ("Achieved: the least that a step must compute and move, divided by its time, and as a share of what the "
         "device reaches: {flops:.3g} TFLOP/s in a product of large matrices, {moved:.3g} GB/s in a copy.")  # fmt: skip


def reference(rows: Sequence[Row]) -> str:
    return CONTENDERS[rows[0].reference].label if rows and rows[0].reference else "scratchgen"


def notes(rows: Sequence[Row]) -> list[str]:
    """Who has no times, and why; the same reason once."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for contender, reason in row.problems.items():
            found.setdefault(f"{CONTENDERS[contender].label}: {reason}", []).append(f"{row.name} {row.size}".strip())
    return [text if len(where) == len(rows) > 1 else f"{', '.join(where)}: {text}" for text, where in found.items()]


def tables(about: dict[str, Any], rows: Sequence[Row]) -> list[tuple[str, Cell]]:
    """Titles, and the lines of a cell: times, on a device what they come to, memory."""
    device = about.get("device")
    found: list[tuple[str, Cell]] = [(TIMES.format(reference=reference(rows)), time_cell)]
    if device:
        title = SPEED.format(flops=device["TFLOP/s"], moved=device["GB/s"])
        found.append((title, lambda row, c: speed_cell(row, c, device)))
    return [*found, (TAKEN if device else MEMORY, lambda row, c: (memory_cell(row, c),))]


def title(row: Row) -> str:
    return f"{row.title} ({row.size})" if row.size else row.title


def show(console: Console, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """The tables on a terminal."""
    console.print(headline(about), highlight=False)
    shown = columns(rows)
    for heading, cell in tables(about, rows):
        table = Table(title=heading, title_justify="left", box=None, pad_edge=False, header_style="bold")
        table.add_column("workload")
        for contender in shown:
            table.add_column(CONTENDERS[contender].label, justify="right")
        for row in rows:
            table.add_row(title(row), *("\n".join(filter(None, cell(row, c))) for c in shown))
        console.print("", table)
    for note in notes(rows):
        console.print(note, highlight=False, markup=False)


def headline(about: dict[str, Any]) -> str:
    """The machine and the versions, in one line."""
    machine, plan = about["machine"], about["plan"]
    names = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lifted = f"; lifted for all: {', '.join(about['lifted'])}" if about["lifted"] else ""
    steps = f"{names}; at least {plan['steps']} steps in {plan['rounds']} rounds{lifted}"
    if "device" in about:
        device = about["device"]
        driver = f", driver {device['driver']}, runtime {device['runtime']}" if "driver" in device else ""
        on = f"{device['name']}{driver}, {about['place']['precision']} products"
        return f"{about['date']}, {on}, {machine['processor']}, {steps}"
    return f"{about['date']}, {machine['processor']}, {plan['threads']} threads each, {steps}"


def markdown(about: dict[str, Any], rows: Sequence[Row]) -> str:
    """The same for a page."""
    shown = columns(rows)
    head = "| | " + " | ".join(CONTENDERS[c].label for c in shown) + " |\n|---|" + "---:|" * len(shown)
    parts = [headline(about) + "."]
    for heading, cell in tables(about, rows):
        lines = (f"| {title(row)} | " + " | ".join("<br>".join(filter(None, cell(row, c))) for c in shown) + " |"
                 for row in rows)  # fmt: skip
        parts += [heading, "\n".join([head, *lines])]
    parts += [f"- {note}" for note in notes(rows)]
    return "\n\n".join(parts)


def insert(page: Path, text: str) -> None:
    """Put the text in its place in a page.  Raises ValueError if the page has none."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: has no place for results, from {BEGIN} to {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
