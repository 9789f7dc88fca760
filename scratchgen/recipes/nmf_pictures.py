"""The pictures of an NMF run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

SHOWN = 14


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_parts(trained, results), _sums(trained, results), _hidden(trained, results), _ratings(trained, results),
            _loss(trained)]  # fmt: skip


def _tiles(ink: np.ndarray, shape: tuple[int, ...], columns: int) -> np.ndarray:
    """Rows of ink, 0 … 1, as a sheet."""
    return pictures.tiles(2 * ink.reshape(-1, *shape) - 1, columns)


def _parts(trained: Trained, results: Results) -> Picture:
    parts, shape = results.arrays["parts"], trained.dataset.shape
    order = np.argsort(-results.arrays["codes"].mean(axis=0) * parts.sum(axis=1))
    scaled = (parts / np.maximum(parts.max(axis=1, keepdims=True), 1e-12))[order]
    columns = 8
    fig = pictures.figure(8.0, 8.2 * (-(-len(parts) // columns)) / columns + 0.2)
    pictures.show(fig.add_subplot(), _tiles(scaled, shape, columns), "the rows of H, those most used first")
    pictures.save(fig, trained.run.pictures / "parts.png")
    return Picture(
        "parts.png", "Parts", "Every image is a sum of these, none of which can be taken away again: so they are "
        "strokes, and mostly empty, where the directions of PCA are whole digits of both signs.",
        "A grid of strokes on black.",
    )  # fmt: skip


def _sums(trained: Trained, results: Results) -> Picture:
    """Some images as sums of their largest parts."""
    held, codes, parts = (results.arrays[k] for k in ("held", "codes", "parts"))
    shape, most = trained.dataset.shape, 6
    chosen = np.linspace(0, len(held) - 1, 9).round().astype(int)
    tiles = []
    for i in chosen:
        shares = codes[i][:, None] * parts
        largest = np.argsort(-shares.sum(axis=1))[:most]
        tiles += [held[i], results.arrays["reconstructed"][i], np.ones_like(held[i]), *shares[largest]]
    fig = pictures.figure(6.4, 6.5)
    pictures.show(fig.add_subplot(), _tiles(np.clip(tiles, 0, 1), shape, most + 3),
                  "held out · W·H · the largest parts, each in its amount")  # fmt: skip
    pictures.save(fig, trained.run.pictures / "sums.png")
    return Picture(
        "sums.png", "Images as sums", "Left: images that the parts were not fitted to. Beside them the sum of their "
        f"parts, then the {most} parts that give it the most ink, as dark as they are in the sum.",
        "Rows of digits, each followed by the strokes that it is made of.",
    )  # fmt: skip


def _hidden(trained: Trained, results: Results) -> Picture:
    """Images, what was left of them, and what NMF made of it."""
    shape = trained.dataset.shape
    shown, known, filled = (results.arrays[k][:SHOWN] for k in ("shown", "known", "filled"))
    holes = np.where(known[..., None], shown[..., None], np.array([0.85, 0.25, 0.2]))  # red: not known
    if shape[-1] != 1:
        holes = np.where(known, shown, 0.5)
    fig = pictures.figure(8.0, 2.5)
    for axes, (ink, depth, title) in zip(fig.subplots(3, 1), (
        (holes, holes.shape[-1] if holes.ndim == 3 else shape[-1], "what was known: red is hidden"),
        (filled, shape[-1], "filled in by W·H"), (shown, shape[-1], "the originals"),
    ), strict=True):  # fmt: skip
        pictures.show(axes, _tiles(np.clip(ink, 0, 1), (*shape[:2], depth), SHOWN), title)
    pictures.save(fig, trained.run.pictures / "hidden.png")
    return Picture(
        "hidden.png", "Hidden pixels", "The sums of the updates leave out what is hidden; the product of W and H then "
        "has a guess for it.", "Three rows of digits: with red holes, filled in, and the originals.",
    )  # fmt: skip


def _ratings(trained: Trained, results: Results) -> Picture:
    """The table of ratings with its holes, the guess, and the truth."""
    stars, known, guess, clean = (results.arrays[f"stars{k}"][:60] for k in ("", "_known", "_guessed", "_clean"))
    order = np.argsort(clean[:, np.argmax(clean.std(axis=0))])
    fig = pictures.figure(8.0, 3.1)
    last: Any = None
    for axes, (values, title) in zip(fig.subplots(1, 3), (
        (np.where(known, stars, np.nan), "known ratings"), (guess, "guessed, W·H"), (clean, "the truth"),
    ), strict=True):  # fmt: skip
        last = axes.imshow(values[order], cmap="viridis", vmin=1, vmax=5, interpolation="nearest", aspect="auto")
        axes.set(xticks=[], yticks=[], xlabel="films")
        axes.set_title(title, loc="left", fontsize=10)
    fig.axes[0].set_ylabel("people")
    fig.colorbar(last, ax=fig.axes, label="stars", ticks=[1, 2, 3, 4, 5])
    pictures.save(fig, trained.run.pictures / "ratings.png")
    return Picture(
        "ratings.png", "Collaborative filtering", "60 of the made-up people. Left: what they have rated. Middle: what "
        "the product of their tastes and the films' contents says of all films. Right: what they would say on average.",
        "Three coloured tables: one with holes, and two that look alike.",
    )  # fmt: skip


def _loss(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    fig = pictures.figure(7.2, 3.0)
    axes = fig.add_subplot()
    axes.plot(log["step"], log["divergence"], lw=1.6)
    axes.set(xlabel="update", ylabel="divergence per pixel", yscale="log", xscale="log")
    axes.grid(alpha=0.25, which="both")
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Divergence, update by update", "It never rises, and becomes slow: the last of it takes most of "
        "the updates.", "A falling curve.",
    )  # fmt: skip
