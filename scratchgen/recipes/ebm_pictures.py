"""The pictures of a run of the deep energy model of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.recipes import pictures
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def samples(trained: Trained, results: Results) -> Picture:
    pictures.beside_real(trained.run.pictures / "samples.png", results.arrays["samples"], trained.dataset.heldout,
                         "drawn: Langevin's steps from noise")  # fmt: skip
    return Picture(
        "samples.png", "Samples", "Left: where the first 100 chains ended, none left out, cleaned of the noise that "
        "the model was trained with. Right: real images that training never saw.",
        "Two grids of 100 images: generated on the left, real on the right.",
    )  # fmt: skip


def chains(trained: Trained, results: Results, moments: tuple[int, ...]) -> Picture:
    film = results.arrays["film"]  # (moments, chains, H, W, C)
    rows = film.transpose(1, 0, *range(2, film.ndim)).reshape(-1, *film.shape[2:])
    fig = pictures.figure(8.0, 8.0 * film.shape[1] / len(moments) + 0.3)
    title = f"after {', '.join(map(str, moments))} steps"
    pictures.show(fig.add_subplot(), pictures.tiles(rows, len(moments)), title)
    pictures.save(fig, trained.run.pictures / "chains.png")
    return Picture(
        "chains.png", "Chains on their way", "A row is a chain of Langevin's steps from N(0, s²I), on the left, not "
        "cleaned. It becomes something like a digit within a hundred steps or so, and mostly stays near it.",
        "Rows of images: noise on the left turns into digits on the right.",
    )  # fmt: skip


def strange(trained: Trained, results: Results) -> Picture:
    fig = pictures.figure(8.0, 3.2)
    axes = fig.add_subplot()
    values = results.arrays["f"]
    low, high = values[0].min(), values.max()  # of the images held out, of all
    low -= high - low
    edges = np.linspace(low, high, 60)
    for row, f in zip(results.numbers["strange"], values, strict=True):
        far = " (farther to the left)" if np.median(f) < low else ""
        axes.hist(f, edges, histtype="step", lw=1.5, label=row["name"] + far)
    axes.set(xlabel="f(x), nats", ylabel="images")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.grid(alpha=0.25)
    pictures.save(fig, trained.run.pictures / "anomalies.png")
    return Picture(
        "anomalies.png", "What it finds strange", "How high f is for images of several kinds. No constant is needed to "
        "say which of two images is likelier. The strangest lie to the left of what is shown.",
        "Histograms of f: real images are on the right, strange ones to the left.",
    )  # fmt: skip


def denoised(trained: Trained, results: Results) -> Picture:
    found, numbers = results.arrays["denoised"], results.numbers["denoising"]
    columns = len(found) // 4
    titles = ("real", f"with noise: off by {numbers['noisy']:.2f}", f"a draw of the posterior: {numbers['draw']:.2f}",
              f"the mean of four draws: {numbers['mean']:.2f}")  # fmt: skip
    fig = pictures.figure(8.0, 3.6)
    for k, (axes, title) in enumerate(zip(fig.subplots(4, 1), titles, strict=True)):
        pictures.show(axes, pictures.tiles(found[k * columns : (k + 1) * columns], columns), title)
    pictures.save(fig, trained.run.pictures / "denoising.png")
    return Picture(
        "denoising.png", "Denoising", "Held-out images with noise. Langevin's steps that are pulled towards the noisy "
        "image, too, draw from what it may have been.",
        "Four rows of digits: real, noisy, one restored draw, and the mean of four.",
    )  # fmt: skip
