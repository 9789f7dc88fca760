"""The pictures of a noise-conditional score network's run, on images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

COLUMNS = 13  # of the strip


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_samples(trained, results), _strip(trained, results), _inpainting(trained, results), loss(trained)]


def _samples(trained: Trained, results: Results) -> Picture:
    path = trained.run.pictures / "samples.png"
    pictures.beside_real(path, results.arrays["drawn"], trained.dataset.heldout, "drawn: NCSN")
    return Picture(
        "samples.png", "Samples", "Left: the first 100 images drawn by annealed Langevin dynamics, none left out. "
        "Right: real images that training never saw.",
        "Two grids of 100 images: generated on the left, real on the right.",
    )  # fmt: skip


def _strip(trained: Trained, results: Results) -> Picture:
    film = results.arrays["film"]  # (start, levels, end; images, H, W, C)
    sigma = np.array([float(s) for s in trained.system.sigma])
    inner = np.unique(np.linspace(1, len(sigma), COLUMNS - 2).round().astype(int))
    chosen = [0, *inner, len(film) - 1]
    rows = np.concatenate([film[chosen, i] for i in range(film.shape[1])])
    h, w = film.shape[2] + 1, film.shape[3] + 1
    fig = pictures.figure(8.0, 8.0 * film.shape[1] * h / (len(chosen) * w) + 0.6)
    axes = fig.add_subplot()
    pictures.show(axes, pictures.tiles(rows, len(chosen)))
    axes.set_title("after the level σ", fontsize=10)
    names = ["start", *(f"{sigma[i - 1]:.2g}" for i in inner), "end"]
    for i, name in enumerate(names):
        axes.text(i * w + (w - 1) / 2, film.shape[1] * h + 1.5, name, ha="center", va="center", fontsize=9)
    pictures.save(fig, trained.run.pictures / "annealing.png")
    return Picture(
        "annealing.png", "Annealing", "Each row is one walk, seen at the end of some of its levels, each scaled to its "
        "deviation. The wide levels settle which digit it will be, the narrow ones what it looks like.",
        "Rows of images turning from noise, on the left, into digits, on the right.",
    )  # fmt: skip


def _inpainting(trained: Trained, results: Results) -> Picture:
    real, masks = results.arrays["real"], results.arrays["masks"]
    fig = pictures.figure(6.4, 8.2)
    for axes, name, mask in zip(fig.subplots(2, 1), ("left", "upper"), masks, strict=True):
        drawn = np.swapaxes(results.arrays[name], 0, 1)  # (times, images, H, W, C)
        rows = np.concatenate([real, np.where(mask > 0, real, 0), *drawn])
        pictures.show(axes, pictures.tiles(rows, len(real)), f"the {name} half is known")
        h = real.shape[1] + 1
        for place, text in ((0, "real"), (1, "known"), (2 + (len(drawn) - 1) / 2, "drawn")):
            axes.text(-1.5, place * h + h / 2, text, rotation=90, ha="right", va="center", fontsize=9)
    pictures.save(fig, trained.run.pictures / "inpainting.png")
    return Picture(
        "inpainting.png", "Inpainting", "From the top: held-out images, what the walk is told of them (grey: nothing), "
        "and what it makes of that, four times. Where one half leaves the digit open, the draws differ.",
        "Two groups of digits of which one half is given and the other completed in several ways.",
    )  # fmt: skip


def loss(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    log = {name: log[name] for name in ("step", "loss")}
    pictures.curves(trained.run.pictures / "loss.png", log, "½·E‖σ·s + ε‖², per number", "linear")
    return Picture(
        "loss.png", "Loss", "Half the mean squared error of the noise, over all levels, as training goes on. Thin: "
        "every logged step; thick: its running mean. It cannot reach 0: what is noisy does not say what its noise was.",
        "The training loss against the step, falling.",
    )  # fmt: skip
