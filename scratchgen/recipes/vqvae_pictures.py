"""The pictures of a VQ-VAE run."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING

import numpy as np

from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def draw(trained: Trained, results: Results, name: str) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_samples(trained, results, name), _prior(trained, results), _rebuilt(trained, results),
            _usage(trained, results), _codebook(trained, results), _loss(trained)]  # fmt: skip


def _samples(trained: Trained, results: Results, name: str) -> Picture:
    path = trained.run.pictures / "samples.png"
    pictures.beside_real(path, results.arrays["drawn"], trained.dataset.heldout, f"drawn: {name}")
    return Picture(
        "samples.png", "Samples", "Left: the first 100 grids of codes drawn by the prior, decoded, none left out. "
        "Right: real images that training never saw.",
        "Two grids of 100 images: generated on the left, real on the right.",
    )  # fmt: skip


def _prior(trained: Trained, results: Results) -> Picture:
    fig = pictures.figure(8.0, 4.2)
    titles = "codes of the prior", "codes at random"
    for axes, key, title in zip(fig.subplots(1, 2), ("drawn", "anyhow"), titles, strict=True):
        pictures.show(axes, pictures.tiles(results.arrays[key][:64], 8), title)
    pictures.save(fig, trained.run.pictures / "prior.png")
    return Picture(
        "prior.png", "What the prior knows", "The same decoder, given codes that the prior drew one after the other, "
        "and codes of which each was thrown by itself, all equally likely. Each of those is a piece of some digit; "
        "which pieces go together, only the prior knows.",
        "Two grids of images: digits on the left, scribbles on the right.",
    )  # fmt: skip


def _rebuilt(trained: Trained, results: Results) -> Picture:
    x, y = results.arrays["originals"], results.arrays["rebuilt"]
    fig = pictures.figure(8.0, 3.2)
    rows = zip(fig.subplots(3, 1), (x, y, 0.5 * (y - x)), ("held out", "rebuilt", "difference"), strict=True)
    for axes, images, title in rows:
        pictures.show(axes, pictures.tiles(images, len(images)), title)
    pictures.save(fig, trained.run.pictures / "rebuilt.png")
    h, w = trained.system.prior.config.shape
    return Picture(
        "rebuilt.png", "There and back", f"Ten images that training never saw, what {h * w} codes leave of each, and "
        "the difference: grey where there is none, white where the copy is too light, black where it is too dark.",
        "Three rows: digits, nearly the same digits, and grey squares with faint marks.",
    )  # fmt: skip


def _usage(trained: Trained, results: Results) -> Picture:
    seen, held = results.arrays["shares"]
    order, K = np.argsort(-seen), len(seen)
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    axes.bar(np.arange(K), 100 * seen[order], color="0.6", width=0.9, label="training images")
    axes.plot(np.arange(K), 100 * held[order], "k.", ms=4, label="held out")
    axes.axhline(100 / K, color="tab:red", lw=1, ls="--", label="all equally often")
    axes.set(xlabel=f"the {K} codes, by how often they are used", ylabel="share of all vectors, %", xticks=[])
    axes.margins(x=0.01)
    axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "usage.png")
    return Picture(
        "usage.png", "How often each code is used", "The share of the encoder's vectors that each code stands for. "
        "A code without a bar is dead: no vector of a training image is nearest to it.",
        "A bar chart that falls from left to right.",
    )  # fmt: skip


def _codebook(trained: Trained, results: Results) -> Picture:
    seen = results.arrays["shares"][0]
    order = np.argsort(-seen)
    images = results.arrays["codebook"][order[seen[order] > 0]]
    columns = max(1, round(len(images) ** 0.5 * 1.4))
    rows = -(-len(images) // columns)
    fig = pictures.figure(7.0, 7.0 * rows / columns)
    pictures.show(fig.add_subplot(), pictures.tiles(images, columns))
    pictures.save(fig, trained.run.pictures / "codebook.png")
    return Picture(
        "codebook.png", "What each code stands for", "The mean, over all training images, of the places where a code "
        "is used, and of the pixels around them; the most frequent first, dead ones left out. Nobody chose these "
        "symbols: emptiness, edges, ends and bends of strokes of some weight, each a little differently placed.",
        f"{len(images)} small blurred pieces of strokes, all different.",
    )  # fmt: skip


def _loss(trained: Trained) -> Picture:
    seen = metrics_log.read(trained.run.metrics)
    steps, K = seen["step"], trained.system.config.codes
    fig = pictures.figure(7.2, 5.4)
    above, below = fig.subplots(2, 1, sharex=True)
    labels = {"reconstruction": "image, ‖x − D(e)‖²", "commitment": "vectors to codes, ‖E − e‖²"}
    for key, label in labels.items():
        pictures.curve(above, steps, seen[f"model.{key}"], label)
    above.set(yscale="log", ylabel="squared error")
    pictures.curve(below, steps, seen["prior.loss"], "the prior")
    below.axhline(log2(K), color="k", lw=0.8, ls="--", label=f"log₂ {K}: nothing known")
    below.set(xlabel="step", ylabel="bits per code")
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Loss", "Above, what the codes lose; below, what the prior pays for one. At first both change at "
        "once: the prior learns a language that is still being made. Thin: every logged step; thick: its running mean.",
        "Two falling curves above, one below, against the step.",
    )  # fmt: skip
