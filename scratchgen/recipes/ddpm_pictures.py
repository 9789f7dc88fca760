"""The pictures of a DDPM run."""

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
    drawn = [_samples(trained, results), _film(trained, results), _strip(trained, results),
             _by_steps(trained, results), _neighbours(trained, results), _loss(trained)]  # fmt: skip
    if "table1" in results.numbers:
        drawn.insert(4, _table1(trained, results))
    return drawn


def _loss(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    if not trained.system.config.weighted:
        log.pop("mse", None)  # the same number twice
    pictures.curves(trained.run.pictures / "loss.png", log, "mean squared error of the noise")
    return Picture(
        "loss.png", "Loss", "How far the guess of the noise is off, per pixel, as training goes on. Thin: every "
        "logged step; thick: its running mean. It cannot reach 0: a noisy image does not say what its noise was.",
        "The training loss against the step, falling.",
    )  # fmt: skip


def _samples(trained: Trained, results: Results) -> Picture:
    path, title = trained.run.pictures / "samples.png", f"drawn: DDPM, {trained.system.config.T} steps"
    pictures.beside_real(path, results.arrays["DDPM"], trained.dataset.heldout, title)
    return Picture(
        "samples.png", "Samples", "Left: the first 100 images drawn by the trained network, none left out. "
        "Right: real images that training never saw.",
        "Two grids of 100 handwritten digits: generated on the left, real on the right.",
    )  # fmt: skip


def _film(trained: Trained, results: Results) -> Picture:
    pictures.film(trained.run.pictures / "denoising.gif", results.arrays["film"])
    return Picture(
        "denoising.gif", "From noise to digits", "Ten images on their way from x_T, pure noise, to x_0.",
        "An animation of ten images turning from noise into handwritten digits.", True,
    )  # fmt: skip


def _strip(trained: Trained, results: Results) -> Picture:
    frames = results.arrays["film"]
    chosen = np.unique(np.linspace(0, len(frames) - 1, 14).round().astype(int))
    rows = np.concatenate([frames[chosen, i] for i in range(min(4, frames.shape[1]))])
    fig = pictures.figure(8.0, 2.6)
    pictures.show(fig.add_subplot(), pictures.tiles(rows, len(chosen)))
    pictures.save(fig, trained.run.pictures / "strip.png")
    return Picture(
        "strip.png", "The same, step by step", "Four images, from x_T on the left to x_0 on the right.",
        "Four rows of images, noise on the left turning into digits on the right.",
    )  # fmt: skip


def _by_steps(trained: Trained, results: Results) -> Picture:
    quality = {r["name"]: r["frechet"] for r in results.numbers["quality"]}
    names = [name for name in quality if name.startswith("DDIM")] + ["DDPM"]
    fig = pictures.figure(8.0, 0.85 * len(names) + 0.2)
    for axes, name in zip(np.atleast_1d(fig.subplots(len(names), 1)), names, strict=True):
        label = f"{name}, {trained.system.config.T} steps" if name == "DDPM" else f"{name} steps"
        pictures.show(axes, pictures.tiles(results.arrays[name][:14], 14), f"{label}: Fréchet {quality[name]:.2f}")
    pictures.save(fig, trained.run.pictures / "steps.png")
    return Picture(
        "steps.png", "DDPM against DDIM, by number of steps", "Every column starts from the same noise x_T. DDIM "
        "(η = 0) draws nearly the same image whatever the number of steps; DDPM adds its own noise on the way.",
        "Rows of digits drawn in 10, 20, 50 and all steps.",
    )  # fmt: skip


def _neighbours(trained: Trained, results: Results) -> Picture:
    fig = pictures.figure(8.0, 3.9)
    grid = fig.add_gridspec(2, 1, height_ratios=[1.0, 1.1])
    pairs = np.concatenate([results.arrays["DDPM"][:12], results.arrays["neighbours"]])
    title = "above: drawn; below: its nearest training image"
    pictures.show(fig.add_subplot(grid[0]), pictures.tiles(pairs, 12), title)
    axes = fig.add_subplot(grid[1])
    bins = np.linspace(0, max(results.arrays["distances"].max(), results.arrays["distances_real"].max()), 40)
    axes.hist(results.arrays["distances_real"], bins, alpha=0.5, label="real, held out")
    axes.hist(results.arrays["distances"], bins, histtype="step", lw=1.6, color="k", label="drawn")
    axes.set_xlabel("distance to the nearest training image")
    axes.set_ylabel("images")
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "neighbours.png")
    return Picture(
        "neighbours.png", "Are they copies?", "A model that memorised would draw images at distance 0 from its "
        "training set. Real images of the same kind tell which distance is natural.",
        "Digits with their nearest training neighbours, and two histograms of distances.",
    )  # fmt: skip


def _table1(trained: Trained, results: Results) -> Picture:
    found = results.numbers["table1"]
    fig = pictures.figure(7.2, 3.6)
    axes = fig.add_subplot()
    for eta, row in zip(found["eta"], found["frechet"], strict=True):
        axes.plot(found["steps"], row, "o-", label="σ̂" if eta == "sigma_hat" else f"η = {eta}")
    axes.axhline(results.numbers["quality"][0]["frechet"], color="k", lw=0.8, ls="--", label="floor: real")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(found["steps"], [str(s) for s in found["steps"]])
    axes.minorticks_off()
    axes.set_xlabel("steps S")
    axes.set_ylabel("Fréchet distance")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "table1.png")
    return Picture(
        "table1.png", "Fréchet distance by steps and η", "The table above as curves.",
        "Fréchet distance against the number of steps, one curve for each η.",
    )  # fmt: skip
