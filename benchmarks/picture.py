"""The results as a picture: for each workload, everybody's time in units of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.measure import Row
from benchmarks.report import columns, headline, milliseconds, reference

STYLE = {
    "ours": ("#6b7280", "o"), "replayed": ("#111827", "D"), "torch": ("#dc2626", "s"), "compile": ("#ea580c", "^"),
    "channels-last": ("#f59e0b", "v"), "jax": ("#2563eb", "P"), "autograd": ("#16a34a", "X"),
    "cudnn": ("#7c3aed", "h"),
}  # fmt: skip


def draw(path: Path, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """One line per workload, one mark per contender, bars from quartile to quartile; to the right we are faster."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    rows = [row for row in rows if row.reference]
    figure, axes = plt.subplots(figsize=(8.0, 1.6 + 0.62 * len(rows)), layout="constrained")
    for y, row in enumerate(rows):
        shown = [c for c in columns([row]) if c != row.reference]
        for i, contender in enumerate(shown):
            r = row.ratio(contender)
            colour, mark = STYLE[contender]
            at = y + (i - (len(shown) - 1) / 2) * 0.11
            axes.errorbar(r.median, at, xerr=[[r.median - r.low], [r.high - r.median]], fmt=mark, color=colour,
                          markersize=7, capsize=2, linewidth=1.2)  # fmt: skip
        axes.axhspan(y - 0.5, y + 0.5, color="#f3f4f6" if y % 2 else "white", zorder=0)
    axes.axvline(1, color=STYLE["replayed"][0], linewidth=1.4, zorder=1)
    for contender in columns(rows):
        if contender != (rows[0].reference if rows else ""):
            colour, mark = STYLE[contender]
            axes.plot([], [], mark, color=colour, label=CONTENDERS[contender].label)
    axes.set_yticks(range(len(rows)), [f"{r.name} {r.size}\n{milliseconds(r.timings[r.reference].seconds.median)} ms"
                                       for r in rows], fontsize=9)  # fmt: skip
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(f"time of a step ÷ that of {reference(rows)} (the line): right of it they are slower")
    figure.legend(loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Description": headline(about)})
    plt.close(figure)
