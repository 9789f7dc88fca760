"""The pictures of a contractive autoencoder's run."""

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
    return [_tangents(trained, results), _shares(trained, results), _singular(trained, results),
            _walk(trained, results), _loss(trained)]  # fmt: skip


def _tangents(trained: Trained, results: Results) -> Picture:
    a = results.arrays
    original, shape = a["original"], a["original"].shape[1:]
    fig = pictures.figure(8.0, 3.5)
    panels = fig.subplots(1, 2)
    for axes, v, title in zip(panels, (a["tangents"], a["free"]), ("with the penalty", "without"), strict=True):
        v = v.reshape(len(v), -1, *shape)[:, :6].mean(axis=-1)
        picture = original.mean(axis=-1)[:, None] * 0.5
        rows = np.concatenate([picture, v / np.abs(v).max(axis=(2, 3), keepdims=True)], axis=1)
        (n, k), (h, w) = rows.shape[:2], shape[:2]
        sheet = np.full((n * (h + 1) - 1, k * (w + 1) - 1), np.nan)
        for i, j in np.ndindex(n, k):
            sheet[i * (h + 1) : i * (h + 1) + h, j * (w + 1) : j * (w + 1) + w] = rows[i, j]
        grey = np.full_like(sheet, np.nan)
        grey[:, :w] = sheet[:, :w]
        axes.imshow(sheet, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.imshow(grey, cmap="gray", vmin=-0.5, vmax=0.5, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"image, and its tangents {title}", loc="left", fontsize=10)
    pictures.save(fig, trained.run.pictures / "tangents.png")
    return Picture(
        "tangents.png", "Tangents", "Each row: an image held out, and the six directions in which its code changes "
        "fastest; red is brighter, blue darker. With the penalty they keep more to the strokes, brighter on one side "
        "and darker on the other, as when a stroke is moved; without it they are spread over all pixels.",
        "Rows of digits and of patterns in red and blue, smooth on the left and noisy on the right.",
    )  # fmt: skip


def _shares(trained: Trained, results: Results) -> Picture:
    shares = results.numbers["shares"]
    names, means = list(shares), [100 * float(np.mean(row)) for row in shares.values()]
    fig = pictures.figure(7.2, 2.8)
    axes = fig.add_subplot()
    bars = axes.barh(names, means, color=["C3" if name == "contractive" else "0.6" for name in names])
    axes.bar_label(bars, [f"{m:.0f}%" for m in means], padding=3)
    axes.set(xlabel="share of what small moves change, in %", xlim=(0, 1.15 * max(means)))
    axes.set_title("what 8 directions see of shifts, turns and stretches", loc="left", fontsize=10)
    pictures.save(fig, trained.run.pictures / "shares.png")
    return Picture(
        "shares.png", "What they see of real moves", "Images held out are moved a little: sideways, up and down, "
        "turned, stretched. How much of that change lies in eight directions: of each image's own code, of its nearest "
        "training images, the same for all images (PCA), or random.",
        "Five bars; that of the contractive autoencoder is much longer than that without the penalty.",
    )  # fmt: skip


def _singular(trained: Trained, results: Results) -> Picture:
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    for name, label, colour in (("singular", "with the penalty", "C3"), ("free_singular", "without", "0.4")):
        values = results.arrays[name]
        axes.plot(range(1, len(values) + 1), values, label=label, color=colour)
    axes.set(xlabel="singular value", ylabel="size", ylim=(0, None))
    axes.set_title("singular values of ∂c/∂x, in the mean", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "singular.png")
    return Picture(
        "singular.png", "Few directions are left", "The singular values of the code's Jacobian at images held out, the "
        "largest first. With the penalty only a few are large: the code follows few directions, and others at most of "
        "them at every image.",
        "Two falling curves; the one with the penalty falls much sooner.",
    )  # fmt: skip


def _walk(trained: Trained, results: Results) -> Picture:
    walk = results.arrays["walk"]  # (images, steps, H, W, C)
    fig = pictures.figure(8.0, 8.0 * len(walk) / walk.shape[1] + 0.3)
    sheet = pictures.tiles(walk.reshape(-1, *walk.shape[2:]), walk.shape[1])
    pictures.show(fig.add_subplot(), sheet, "an image, and where a walk along its tangents leads")
    pictures.save(fig, trained.run.pictures / "walk.png")
    return Picture(
        "walk.png", "A walk", "Each row begins with an image held out. At every step its code is shaken, more where it "
        "changes fast, and decoded: the image drifts along its tangents, and grows paler: decoding loses a little.",
        "Rows of digits that change little by little.",
    )  # fmt: skip


def _loss(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    pictures.curves(trained.run.pictures / "loss.png", log, "per image")
    return Picture(
        "loss.png", "Loss", "The loss, the squared error and ‖∂c/∂x‖²_F as training goes on. Thin: every logged step; "
        "thick: its running mean.",
        "Three curves against the step.",
    )  # fmt: skip
