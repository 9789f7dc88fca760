"""The pictures of a PixelCNN run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen.data import dequantise
from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_samples(trained, results), _rows(trained, results), _completed(trained, results),
            _sight(trained, results), _cost(trained, results), _loss(trained)]  # fmt: skip


def _samples(trained: Trained, results: Results) -> Picture:
    path = trained.run.pictures / "samples.png"
    pictures.beside_real(path, results.arrays["drawn"], trained.dataset.heldout, "drawn: PixelCNN")
    return Picture(
        "samples.png", "Samples", "Left: the first 100 images drawn by the trained network, none left out. "
        "Right: real images that training never saw.",
        "Two grids of 100 images: generated on the left, real on the right.",
    )  # fmt: skip


def _rows(trained: Trained, results: Results) -> Picture:
    rows = results.arrays["rows"]  # (1 + H, 10, H, W)
    states = dequantise(rows, trained.dataset.levels or 256)[..., None].transpose(1, 0, 2, 3, 4)
    n, stops = states.shape[:2]
    fig = pictures.figure(8.0, 8.0 * n / stops)
    pictures.show(fig.add_subplot(), pictures.tiles(states.reshape(-1, *states.shape[2:]), stops))
    pictures.save(fig, trained.run.pictures / "rows.png")
    return Picture(
        "rows.png", "Row by row", "Ten images as they are drawn: nothing on the left, then one row more in each "
        "column. What is not drawn yet is black, and the network cannot see it.",
        "Ten rows of images, each of which fills up from above.",
    )  # fmt: skip


def _completed(trained: Trained, results: Results) -> Picture:
    originals, ends = results.arrays["originals"], results.arrays["completed"]
    ways = len(ends) // len(originals)
    cut = originals.copy()
    cut[:, originals.shape[1] // 2 :] = -1
    rows = np.concatenate([originals[:, None], cut[:, None], ends.reshape(len(originals), ways, *ends.shape[1:])], 1)
    fig = pictures.figure(8.0, 8.0 * len(originals) / (ways + 2) + 0.3)
    sheet = pictures.tiles(rows.reshape(-1, *ends.shape[1:]), ways + 2)
    pictures.show(fig.add_subplot(), sheet, "held out; its upper half; six ways to go on")
    pictures.save(fig, trained.run.pictures / "completed.png")
    return Picture(
        "completed.png", "Halves completed", "The upper half of a real image leaves open what the lower one is: each "
        "time it is drawn anew, given the same rows.",
        "Real digits, their upper halves, and several completions of each.",
    )  # fmt: skip


def _sight(trained: Trained, results: Results) -> Picture:
    gated, plain = results.arrays["sight"]
    h, w = gated.shape
    fig = pictures.figure(7.2, 3.6)
    titles = "one stack of masks", "two stacks"
    for axes, found, title in zip(fig.subplots(1, 2), (plain, gated), titles, strict=True):
        shown = np.full((h, w), np.nan)
        shown[found > 0] = np.log10(found[found > 0] / found.max())
        axes.set_facecolor("0.85")
        axes.imshow(shown, cmap="viridis", vmin=-4, vmax=0)
        axes.plot(w // 2, h // 2, "rs", markersize=11)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, loc="left", fontsize=10)
    pictures.save(fig, trained.run.pictures / "sight.png")
    return Picture(
        "sight.png", "What a pixel can see", "How much the features at the red pixel depend on each other pixel "
        "(colour: the size of the derivative, on a logarithmic scale; grey: exactly 0). Neither network sees the pixel "
        "itself or what comes later. One stack of masked kernels is blind to the right of a diagonal, however deep; "
        "two stacks see everything that was read before.",
        "Two grids of pixels: on the left a part of the upper right is grey, on the right all rows above are coloured.",
    )  # fmt: skip


def _cost(trained: Trained, results: Results) -> Picture:
    cost = results.arrays["cost"]
    fig = pictures.figure(4.4, 3.6)
    axes = fig.add_subplot()
    shown: Any = axes.imshow(cost, cmap="magma", vmin=0)
    axes.set(xticks=[], yticks=[])
    fig.colorbar(shown, label="bits")
    pictures.save(fig, trained.run.pictures / "cost.png")
    return Picture(
        "cost.png", "Where the bits are", "What each pixel of a held-out image costs on average, given those before "
        "it. Margins are nearly always empty; the rest costs what cannot be guessed from above and from the left.",
        "A grid of pixels, dark at the margins.",
    )  # fmt: skip


def _loss(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    pictures.curves(trained.run.pictures / "loss.png", log, "bits per pixel", "linear")
    return Picture(
        "loss.png", "Loss", "Bits per pixel of the minibatches, as training goes on. Thin: every logged step; thick: "
        "its running mean.",
        "The training loss against the step, falling.",
    )  # fmt: skip
