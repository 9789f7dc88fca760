"""How sets of images are judged: between real ones held out, and noise; and what codes cost that are no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scratchgen.data import Dataset, dequantise, quantise
from scratchgen.metrics import table
from scratchgen.random import Generator
from scratchgen.recipes.judge import judge
from scratchgen.recipes.recipe import Trained
from scratchgen.train.report import Table

JUDGED = 360  # held-out images, and samples, that figures are made of


def judged(trained: Trained, samples: Mapping[str, np.ndarray], rng: Generator) -> list[dict[str, Any]]:
    """The rows of `quality_table`: the floor, each set of samples (≥ JUDGED, H, W, C), and the ceilings of noise.

    rng: makes the noise.  Trains the judge of the run's folder if there is none yet.
    """
    data = trained.dataset
    rows = table(samples, data.train, data.heldout[:JUDGED], judge(trained.run.path, dataset=data), rng=rng)
    return [{"name": row.name, **row.mean._asdict()} for row in rows]


def quality_table(rows: list[dict[str, Any]]) -> Table:
    """Fréchet distance, precision, recall and score of every sampler, between floor and ceiling."""
    floor = rows[0]["frechet"]
    body = [
        (r["name"], f"{r['frechet']:.2f}", f"{r['frechet'] / floor:.2f}", f"{r['precision']:.3f}",
         f"{r['recall']:.3f}", f"{r['score']:.2f}")
        for r in rows
    ]  # fmt: skip
    return Table(
        "Quality",
        "Against the training images, in the features of a digit classifier trained with the same engine. The first "
        "row is the floor, real images held out; the last rows are the ceiling, noise. Fréchet: smaller is better.",
        ("images", "Fréchet", "× floor", "precision", "recall", "score"), body,
        frozenset({0, len(body) - 2, len(body) - 1}),
    )  # fmt: skip


def histogram_bits(dataset: Dataset) -> float:
    """Bits per pixel of the held-out images under one histogram per pixel, fitted on the training images.

    The code of a model that knows every pixel's distribution and nothing of their relations; each level is
    counted once more than it was seen, so that none costs infinitely much.
    """
    levels = dataset.levels or 256
    seen, asked = (quantise(x, levels).reshape(len(x), -1) for x in (dataset.train, dataset.heldout))
    cost = 0.0
    for pixel in range(seen.shape[1]):
        counts = np.bincount(seen[:, pixel], minlength=levels) + 1.0
        cost -= np.log2(counts / counts.sum())[asked[:, pixel]].mean()
    return float(cost / seen.shape[1])


def rounded(images: np.ndarray, levels: int | None) -> np.ndarray:
    """Samples as images of the data's kind: at the nearest of its grey levels, as a file would hold them."""
    return images if levels is None else dequantise(quantise(images, levels), levels)
