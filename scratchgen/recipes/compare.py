"""The trilemma of generative models, measured: quality, diversity and speed of all samplers of images in one chart.

    quality      Fréchet distance to the training images, between real images held out (best) and noise (worst)
    diversity    recall: the share of training images that lie among the samples, in the judge's features
    speed        images a second, drawn JUDGED at a time on this machine, the first minibatch's preparations included

Good pictures, all kinds of them, and fast: the families of models give up one of the three each.
Xiao, Kreis & Vahdat (2022), "Tackling the generative learning trilemma".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scratchgen.recipes import pictures
from scratchgen.recipes.quality import JUDGED, judged
from scratchgen.recipes.recipe import RecipeError, Trained
from scratchgen.train import CheckpointError, RunError
from scratchgen.train.atomic import write_atomically
from scratchgen.train.report import Table

DRAWN, RULERS = 200, 201  # purposes of random numbers


def across(runs: Sequence[Path], load: Callable[[Path], Trained], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The rows of all runs; of several, those that cannot be measured are left out, and said.

    Raises RecipeError if none is left, and what `load` and `measure` raise of a single run.
    """
    rows: list[dict[str, Any]] = []
    for run in runs:
        try:
            rows += measure(load(run))
        except (RunError, CheckpointError, RecipeError) as error:
            if len(runs) == 1:
                raise
            say(f"left out: {error}")
    if not rows:
        raise RecipeError("none of these folders is a run of a system that draws images")
    return rows


def measure(trained: Trained) -> list[dict[str, Any]]:
    """A row for each sampler of a run, and the floor last: name, frechet, recall, precision, images per second.

    Raises RecipeError for a system whose samples are no images, or that draws none.
    """
    if len(trained.dataset.shape) != 3 or not trained.recipe.samplers:
        raise RecipeError(f"{trained.run.path}: {trained.recipe.id} draws no images like those of its data")
    rows, sets = [], {}
    for name, options in trained.recipe.samplers.items():
        began = time.perf_counter()
        samples = trained.recipe.sample(trained, JUDGED, trained.rng(DRAWN), **options)
        seconds = time.perf_counter() - began
        if getattr(samples, "ndim", 0) != 4:
            raise RecipeError(f"{trained.run.path}: {trained.recipe.id} draws no images")
        label = f"{trained.recipe.id}, {name}" if name else trained.recipe.id
        sets[label] = samples
        rows.append({"name": label, "speed": JUDGED / seconds})
    floor, *found = judged(trained, sets, trained.rng(RULERS))
    for row, figures in zip(rows, found, strict=False):
        row |= {key: figures[key] for key in ("frechet", "precision", "recall")}
    return [*rows, {**floor, "speed": None}]


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of `measure`, the best Fréchet distance first; the floor once, on top."""
    floors = [row for row in rows if row["speed"] is None]
    others = sorted((row for row in rows if row["speed"] is not None), key=lambda row: row["frechet"])
    body = [
        (r["name"], f"{r['frechet']:.2f}", f"{r['precision']:.3f}", f"{r['recall']:.3f}",
         "" if r["speed"] is None else f"{r['speed']:,.0f}")
        for r in [*floors[:1], *others]
    ]  # fmt: skip
    return Table(
        "Quality, diversity, speed", f"{JUDGED} images of each sampler against the training images.",
        ("images", "Fréchet", "precision", "recall", "images a second"), body, frozenset({0}),
    )  # fmt: skip


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """The chart, and beside it the numbers as .json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path, rows)
    write_atomically(path.with_suffix(".json"), json.dumps(rows, indent=1, ensure_ascii=False).encode())


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Speed to the right, quality upwards, diversity as colour; numbers in the dots, the best first, and their names
    beside."""
    from matplotlib.ticker import LogLocator

    points = sorted((row for row in rows if row["speed"] is not None), key=lambda row: row["frechet"])
    fig = pictures.figure(9.0, max(5.0, 0.19 * len(points) + 0.6))
    axes, names = fig.subplots(1, 2, width_ratios=(2.4, 1))
    seen = axes.scatter([r["speed"] for r in points], [r["frechet"] for r in points], s=130, zorder=3,
                        c=[r["recall"] for r in points], cmap="viridis", vmin=0, vmax=1, edgecolors="k")  # fmt: skip
    for i, row in enumerate(points, 1):
        ink = "white" if row["recall"] < 0.6 else "black"
        place = row["speed"], row["frechet"]
        axes.annotate(str(i), place, ha="center", va="center", fontsize=6.5, color=ink, zorder=4)
        names.text(0, 1 - i / (len(points) + 1), f"{i:2d}   {row['name']}", fontsize=7.5, va="center")
    names.set_axis_off()
    floor = next(row["frechet"] for row in rows if row["speed"] is None)
    axes.axhline(floor, ls="--", lw=0.9, color="k")
    axes.annotate("real images, held out", (0.01, floor), xycoords=("axes fraction", "data"), xytext=(0, 4),
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="images a second →", ylabel="← Fréchet distance")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.margins(x=0.08)
    axes.invert_yaxis()
    axes.grid(alpha=0.25)
    fig.colorbar(seen, label="recall", ax=axes, location="bottom", shrink=0.6, aspect=30)
    pictures.save(fig, path)
