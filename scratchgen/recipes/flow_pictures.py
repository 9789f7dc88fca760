"""The pictures of a run of a flow of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def draw(trained: Trained, results: Results, name: str, heats: Sequence[float]) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_samples(trained, results, name), _temperatures(trained, results, heats), _between(trained, results),
            _loss(trained, results)]  # fmt: skip


def _samples(trained: Trained, results: Results, name: str) -> Picture:
    path = trained.run.pictures / "samples.png"
    pictures.beside_real(path, results.arrays["drawn"], trained.dataset.heldout, f"drawn: {name}, τ = 1")
    return Picture(
        "samples.png", "Samples", "Left: the first 100 images that the flow draws at temperature 1, which is what it "
        "takes the data for; none left out. Right: real images that training never saw.",
        "Two grids of 100 images: generated on the left, real on the right.",
    )  # fmt: skip


def _temperatures(trained: Trained, results: Results, heats: Sequence[float]) -> Picture:
    rows = results.arrays["heats"]  # (temperatures, n, H, W, C)
    fig = pictures.figure(7.2, 6.4 * len(rows) / rows.shape[1] + 0.1)
    axes = fig.add_subplot()
    pictures.show(axes, pictures.tiles(rows.reshape(-1, *rows.shape[2:]), rows.shape[1]))
    height = rows.shape[2]
    axes.set_axis_on()
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    middles = [i * (height + 1) + (height - 1) / 2 for i in range(len(heats))]
    axes.set_yticks(middles, [f"τ = {tau:g}" for tau in heats], fontsize=11)
    axes.tick_params(length=0)
    axes.set_anchor("E")  # what the sheet does not fill is the labels'
    pictures.save(fig, trained.run.pictures / "temperatures.png")
    return Picture(
        "temperatures.png", "By temperature", "Every column is the same noise, made smaller or larger: x = g⁻¹(τ·ε). "
        "At 0 all are one image, g⁻¹(0); lower temperatures give smoother images and fewer kinds of them.",
        "Rows of images, one row for each temperature.",
    )  # fmt: skip


def _between(trained: Trained, results: Results) -> Picture:
    ways = results.arrays["between"]
    title = "real, held out  →  straight through the noise  →  real, held out"
    pictures.ways(trained.run.pictures / "between.png", ways, title)
    return Picture(
        "between.png", "Between two images", "The first and the last of each row are real: a flow gives every image a "
        "noise of its own, z = g(x), and back. In between lie g⁻¹((1 − t)·z₀ + t·z₁).",
        f"{len(ways)} rows of images, each turning from one real image into another.",
    )  # fmt: skip


def _loss(trained: Trained, results: Results) -> Picture:
    log, found = metrics_log.read(trained.run.metrics), results.numbers["bits"]
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    pictures.curve(axes, log["step"], log["loss"], "training images")
    axes.axhline(found["histogram"], color="k", lw=0.8, ls=":", label="ceiling: a histogram per pixel")
    axes.axhline(found["heldout"], color="tab:red", lw=0.8, ls="--", label="held out, at the end")
    low = min(float(np.min(log["loss"])), found["heldout"])
    axes.set(xlabel="step", ylabel="bits per pixel", ylim=(low - 0.1, max(found["uniform"], found["heldout"]) + 0.3))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Loss", "Bits per pixel of the minibatches, as training goes on. Thin: every logged step; thick: "
        "its running mean.", "The training loss against the step, falling below the ceiling.",
    )  # fmt: skip
