"""The pictures of a PCA run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.models.classical.pca import PCA, PCAConfig
from scratchgen.recipes import pictures
from scratchgen.recipes.fitted import on_backend, rows
from scratchgen.recipes.kmeans_pictures import coloured
from scratchgen.recipes.recipe import on_host
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    if len(trained.dataset.shape) == 3:
        first = [_samples(trained, results), _reconstructions(trained), _components(trained)]
    else:
        first = [_axes(trained, results)]
    return [*first, _scatter(trained, results), _variance(trained, results)]


def _samples(trained: Trained, results: Results) -> Picture:
    path = trained.run.pictures / "samples.png"
    pictures.beside_real(path, results.arrays["samples"], trained.dataset.heldout, "drawn from N(μ, C)")
    return Picture(
        "samples.png", "Samples", "Left: draws of the fitted Gaussian. It has the mean and the main variances of the "
        "digits, and nothing else of them: a Gaussian has one hump, and digits have many. Right: real ones, held out.",
        "Two grids of 100 images: blurred shapes on the left, real digits on the right.",
    )  # fmt: skip


def _reconstructions(trained: Trained) -> Picture:
    data, n = trained.dataset, 16
    x = rows(data.train)
    held = rows(data.heldout)[:: max(1, len(data.heldout) // n)][:n]
    kept = [r for r in (2, 4, 8, 16, 32) if r < x.shape[1]]
    fig = pictures.figure(8.0, 0.78 * (len(kept) + 1))
    panels = fig.subplots(len(kept) + 1, 1)
    for axes, r in zip(panels, (*kept, 0), strict=True):
        images, title = held, "the originals, held out"
        if r:
            system = PCA(PCAConfig(x.shape[1], r)).fit(on_backend(x))
            images = on_host(system.inverse_transform(system.transform(on_backend(held))))
            title = f"{r} directions: squared error {((images - held) ** 2).mean():.3f}"
        pictures.show(axes, pictures.tiles(images.reshape(-1, *data.shape), n), title)
    pictures.save(fig, trained.run.pictures / "reconstructions.png")
    return Picture(
        "reconstructions.png", "What so many directions keep", "Held-out digits, put together from the mean and a few "
        "directions.", "Rows of digits, sharper from row to row.",
    )  # fmt: skip


def _components(trained: Trained) -> Picture:
    system, shape = trained.system, trained.dataset.shape
    V, mean = on_host(system.components), on_host(system.mean)
    scale = np.abs(V).max(axis=1, keepdims=True)
    fig = pictures.figure(8.0, 8.4 * (-(-(len(V) + 1) // 9)) / 9 + 0.3)
    pictures.show(fig.add_subplot(), pictures.tiles(np.concatenate([mean[None], V / scale]).reshape(-1, *shape), 9),
                  "the mean, then the directions, most variance first; grey is 0")  # fmt: skip
    pictures.save(fig, trained.run.pictures / "components.png")
    return Picture(
        "components.png", "Directions", "What is added to the mean, in some amount of either sign: white where it adds "
        "ink, black where it takes some away. They are whole-digit patterns, no parts.",
        "A grid of grey patterns.",
    )  # fmt: skip


def _axes(trained: Trained, results: Results) -> Picture:
    """Points of the plane with the direction found, and draws of the Gaussian."""
    x, system = trained.dataset.train[:1500], trained.system
    mean, V, variance = (on_host(a) for a in (system.mean, system.components, system.variance))
    fig = pictures.figure(7.6, 4.0)
    left, right = fig.subplots(1, 2)
    pictures.points(left, x, "data, and the directions found")
    for v, size in zip(V, np.sqrt(variance), strict=True):
        left.annotate("", mean + 2 * size * v, mean, arrowprops={"arrowstyle": "->", "color": "tab:red", "lw": 2})
    pictures.points(right, results.arrays["samples"], "drawn from N(μ, C)")
    pictures.save(fig, trained.run.pictures / "samples.png")
    return Picture(
        "samples.png", "Data and Gaussian", "The arrow is two standard deviations long.",
        "Two clouds of points.",
    )  # fmt: skip


def _scatter(trained: Trained, results: Results) -> Picture:
    codes, labels = results.arrays["codes"], trained.dataset.train_labels
    fig = pictures.figure(5.6, 5.0)
    axes = fig.add_subplot()
    if codes.shape[1] > 1:
        coloured(axes, codes, labels if labels is not None else np.zeros(len(codes), int), "the first two numbers of z")
    else:
        axes.hist(codes[:, 0], 80, color="tab:blue")
        axes.set_title("the code z", loc="left", fontsize=10)
    if labels is not None:
        for c in np.unique(labels):
            axes.text(*np.median(codes[labels == c, :2], axis=0), str(c), fontsize=15, fontweight="bold", ha="center",
                      va="center", bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "ec": f"C{c % 10}"})  # fmt: skip
    pictures.save(fig, trained.run.pictures / "latent.png")
    return Picture(
        "latent.png", "The code", "Training examples in the plane of the two largest variances, coloured by class. No "
        "label was used: that some classes lie apart is in the data.", "A scatter plot of codes.",
    )  # fmt: skip


def _variance(trained: Trained, results: Results) -> Picture:
    variance, errors = results.arrays["variance"], results.numbers["errors"]
    total = variance.sum()
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    axes.plot(np.arange(len(variance) + 1), 1 - np.concatenate([[0], np.cumsum(variance)]) / total, lw=1.5,
              label="training examples: Σ λ of what is left")  # fmt: skip
    axes.plot([r for r, *_ in errors], [b / errors[0][2] for _, _, b, _ in errors], "s", label="held out")
    axes.plot([r for r, *_ in errors], [c / errors[0][2] for *_, c in errors], "^", color="0.6",
              label="held out, random directions")  # fmt: skip
    axes.axvline(trained.system.config.rank, color="k", lw=0.8, ls=":", label="this run's r")
    axes.set(xlabel="directions r", ylabel="squared error, of the mean's", ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "variance.png")
    return Picture(
        "variance.png", "Error by number of directions", "The squared error that r directions leave, as a share of "
        "what the mean leaves. The curve is the sum of the variances not kept; squares are measured on held-out "
        "examples.", "A falling curve.",
    )  # fmt: skip
