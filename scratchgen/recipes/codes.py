"""Pictures of codes, for all systems that turn an image into a few numbers and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import to_images
from scratchgen.models.classical import pca
from scratchgen.recipes import pictures
from scratchgen.recipes.recipe import on_host
from scratchgen.train.report import Picture


def one_of_each(labels: np.ndarray | None, n: int, start: int = 0) -> np.ndarray:
    """Places of n examples, of all classes in turn; the first n where there are no classes."""
    if labels is None:
        return np.arange(start, start + n)
    classes = np.unique(labels)
    places = [np.flatnonzero(labels == c)[start:] for c in classes]
    rounds = -(-n // len(classes))
    return np.array([row[k % len(row)] for k in range(rounds) for row in places])[:n]


def reconstructions(path: Path, original: np.ndarray, rebuilt: np.ndarray, title: str = "reconstruction") -> Picture:
    """Three rows of images (n, H, W, C) in [−1, 1]: as they were, as they came back, and what is lost."""
    n = len(original)
    fig = pictures.figure(8.0, 3.1)
    rows = fig.subplots(3, 1)
    pictures.show(rows[0], pictures.tiles(original, n), "original")
    pictures.show(rows[1], pictures.tiles(rebuilt, n), title)
    lost = to_images(original) - to_images(rebuilt)
    difference(rows[2], lost.mean(axis=-1), "difference: red where the original is brighter, blue where darker")
    pictures.save(fig, path)
    return Picture(
        path.name, "Reconstructions", "Images that training never saw, what is left of them after the code, and the "
        "difference, white where there is none and at full colour where black stands for white.",
        "Three rows of digits: originals, reconstructions, differences.",
    )  # fmt: skip


def difference(axes: Any, lost: np.ndarray, title: str) -> None:
    """Differences (n, H, W) in [−1, 1] as a row of tiles."""
    n, h, w = lost.shape
    sheet = np.zeros((h, n * (w + 1) - 1))
    for i, image in enumerate(lost):
        sheet[:, i * (w + 1) : i * (w + 1) + w] = image
    axes.imshow(sheet, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=10)


def flat(codes: np.ndarray) -> tuple[np.ndarray, float]:
    """Codes (N, d) as points of the plane, by PCA where d > 2, and the share of their variance that is seen there."""
    if codes.shape[1] <= 2:
        return np.pad(codes, ((0, 0), (0, 2 - codes.shape[1]))), 1.0
    x = codes.astype(np.float64)
    axes = pca.components(active().asarray(x))
    kept = pca.Axes(axes.mean, axes.components[:2], axes.variance[:2])
    share = float(kept.variance.sum() / axes.variance.sum())
    return on_host(pca.transform(active().asarray(x), kept)), share


def scatter(path: Path, codes: np.ndarray, labels: np.ndarray | None, what: str = "codes") -> Picture:
    """Codes (N, d) in the plane, a colour for each class."""
    places, share = flat(codes)
    fig = pictures.figure(6.0, 5.4)
    axes = fig.add_subplot()
    classes = np.zeros(len(codes), int) if labels is None else labels
    for c in np.unique(classes):
        here = places[classes == c]
        axes.scatter(*here.T, s=9, alpha=0.75, linewidths=0, color=f"C{c % 10}", label=str(c))
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"{what}: two of {codes.shape[1]} directions, {share:.0%} of the variance", loc="left", fontsize=10)
    if labels is not None:
        axes.legend(title="class", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    pictures.save(fig, path)
    return Picture(
        path.name, "The codes", "Each dot is an image, where its code lies: the two directions in which codes vary "
        "most. Labels were not used in training; that classes lie apart was found without them.",
        "Dots in ten colours, a cloud for each digit.",
    )  # fmt: skip


def between(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """Codes on the straight lines from a to b, both (n, d): (n·steps, d), a line after the other."""
    t = np.linspace(0, 1, steps, dtype=a.dtype)[:, None]
    return np.concatenate([(1 - t) * start + t * end for start, end in zip(a, b, strict=True)])


def interpolation(path: Path, images: np.ndarray, steps: int) -> Picture:
    """Rows of images drawn along lines between codes, (n·steps, H, W, C)."""
    pictures.ways(path, images.reshape(-1, steps, *images.shape[1:]), "straight lines between the codes of two images")
    return Picture(
        path.name, "From one image to another", "Each row is drawn from codes on a straight line; at its ends are the "
        "codes of two real images. Where codes leave no holes, what lies between digits is drawn with as sure a hand.",
        "Rows of digits, each turning into another.",
    )  # fmt: skip
