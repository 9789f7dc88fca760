"""The pictures of a score-based SDE's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    drawn = [_samples(trained, results), _film(trained, results), _times(trained, results),
             _by_sampler(trained, results), _loss(trained)]  # fmt: skip
    if "grid" in results.numbers:
        drawn.insert(4, _grid(trained, results))
    return drawn


def _samples(trained: Trained, results: Results) -> Picture:
    first = next(iter(results.numbers["calls"]))
    pictures.beside_real(
        trained.run.pictures / "samples.png", results.arrays[first], trained.dataset.heldout, f"drawn: {first}"
    )
    return Picture(
        "samples.png", "Samples", "Left: the first 100 images drawn by the predictor–corrector, none left out. Right: "
        "real images that training never saw.",
        "Two grids of 100 handwritten digits: generated on the left, real on the right.",
    )  # fmt: skip


def _film(trained: Trained, results: Results) -> Picture:
    pictures.film(trained.run.pictures / "reverse.gif", results.arrays["film"])
    return Picture(
        "reverse.gif", "Time running backwards", "Ten images on their way from t = 1, pure noise, to data, by the "
        "predictor–corrector.", "An animation of ten images turning from noise into handwritten digits.", True,
    )  # fmt: skip


def _times(trained: Trained, results: Results) -> Picture:
    there, back = results.arrays["forward"], results.arrays["film"]
    columns = len(there)
    chosen = np.unique(np.linspace(0, len(back) - 1, columns).round().astype(int))
    fig = pictures.figure(8.0, 6.0)
    above, below = fig.subplots(2, 1)
    rows = np.concatenate([there[:, i] for i in range(there.shape[1])])
    pictures.show(above, pictures.tiles(rows, columns), "data → noise: real images, time from left to right")
    rows = np.concatenate([back[chosen, i] for i in range(min(4, back.shape[1]))])
    pictures.show(below, pictures.tiles(rows, len(chosen)), "noise → data: drawn images, time running backwards")
    pictures.save(fig, trained.run.pictures / "times.png")
    return Picture(
        "times.png", "There and back", "Above: the equation of the noise, with nothing to learn. Below: its reverse, "
        "with the learnt score.", "Digits dissolving into noise, and noise turning into digits.",
    )  # fmt: skip


def _by_sampler(trained: Trained, results: Results) -> Picture:
    quality = {r["name"]: r["frechet"] for r in results.numbers["quality"]}
    calls = results.numbers["calls"]
    fig = pictures.figure(8.0, 0.85 * len(calls) + 0.2)
    for axes, name in zip(np.atleast_1d(fig.subplots(len(calls), 1)), calls, strict=True):
        title = f"{name} ({calls[name]} calls): Fréchet {quality[name]:.2f}"
        pictures.show(axes, pictures.tiles(results.arrays[name][:14], 14), title)
    pictures.save(fig, trained.run.pictures / "samplers.png")
    return Picture(
        "samplers.png", "By sampler", "Every column starts from the same noise x_1. The flow's solvers agree on where "
        "it leads; the samplers with noise of their own go elsewhere.",
        "Rows of digits, one row for each sampler.",
    )  # fmt: skip


def _grid(trained: Trained, results: Results) -> Picture:
    grid = results.numbers["grid"]
    fig = pictures.figure(7.2, 3.6)
    axes = fig.add_subplot()
    for solver in dict.fromkeys(r["solver"] for r in grid):
        row = [(r["calls"], r["frechet"]) for r in grid if r["solver"] == solver]
        axes.plot(*zip(*row, strict=True), "o-", label=solver)
    axes.axhline(results.numbers["quality"][0]["frechet"], color="k", lw=0.8, ls="--", label="floor: real")
    axes.set(xscale="log", yscale="log", xlabel="network calls", ylabel="Fréchet distance")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "calls.png")
    return Picture(
        "calls.png", "Quality against cost", "The table above as curves.",
        "Fréchet distance against the number of network calls, one curve for each sampler.",
    )  # fmt: skip


def _loss(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    log = {name: log[name] for name in ("step", "mse")}
    pictures.curves(trained.run.pictures / "loss.png", log, "mean squared error of the noise")
    return Picture(
        "loss.png", "Loss", "How far σ·s_θ is off the noise, per pixel and over all times, as training goes on. Thin: "
        "every logged step; thick: its running mean. It cannot reach 0: a noisy image does not say what its noise was.",
        "The training loss against the step, falling.",
    )  # fmt: skip
