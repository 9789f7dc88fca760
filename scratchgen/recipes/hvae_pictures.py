"""The pictures of a run of a hierarchical VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.recipes import codes, pictures, vae_pictures
from scratchgen.recipes.quality import JUDGED
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    labels, T = trained.dataset.heldout_labels, len(trained.system.config.latents)
    return [
        vae_pictures.samples(trained, results, f"drawn: z_{T} ~ N(0, I), and down"),
        _ways(trained, results),
        _levels(trained, results),
        codes.scatter(trained.run.pictures / "codes.png", results.arrays["codes"],
                      None if labels is None else labels[:JUDGED], f"codes z_{T}"),
        vae_pictures.by_samples(trained, results),
        vae_pictures.loss(trained, ("loss", "reconstruction", "transitions", "prior")),
    ]  # fmt: skip


def _ways(trained: Trained, results: Results) -> Picture:
    ways, T = results.arrays["ways"], len(trained.system.config.latents)
    columns = 12
    fig = pictures.figure(8.0, 8.0 * len(ways) / columns**2 + 0.3)
    pictures.show(fig.add_subplot(), pictures.tiles(ways, columns), f"each row: one z_{T}, the levels below drawn anew")
    pictures.save(fig, trained.run.pictures / "ways.png")
    return Picture(
        "ways.png", "What the top decides", "Each row has one code of the top level, from which the levels below are "
        "drawn again and again. What a row has in common is the top's; what differs is left to the levels below.",
        "Rows of digits, alike within a row but for details.",
    )  # fmt: skip


def _levels(trained: Trained, results: Results) -> Picture:
    original, rebuilt = results.arrays["original"], results.arrays["rebuilt"]
    n = len(original)
    fig = pictures.figure(8.0, 0.9 * (1 + len(rebuilt)))
    rows = fig.subplots(1 + len(rebuilt), 1)
    sizes = trained.system.config.latents
    titles = ["original", *(f"from z_{t + 1}: {d} numbers" for t, d in enumerate(sizes))]
    for axes, row, title in zip(rows, np.concatenate([original[None], rebuilt]), titles, strict=True):
        pictures.show(axes, pictures.tiles(row, n), title)
    pictures.save(fig, trained.run.pictures / "levels.png")
    return Picture(
        "levels.png", "What each level keeps", "Images that training never saw, and what comes back from each level: "
        "means all the way up to it, and means all the way down.",
        "Rows of digits: originals, and reconstructions that lose more the higher the level.",
    )  # fmt: skip
