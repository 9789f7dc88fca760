"""The pictures of a k-means run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen.data import load
from scratchgen.models.classical import kmeans, pca
from scratchgen.recipes import pictures
from scratchgen.recipes.fitted import on_backend, rows
from scratchgen.recipes.recipe import on_host
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

MEMBERS = 14


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    images = len(trained.dataset.shape) == 3
    first = [_centres(trained, results)] if images else []
    return [*first, _plane(trained, results), _rounds(trained), _descent(trained), _curve(trained, results)]


def coloured(axes: Any, x: np.ndarray, labels: np.ndarray, title: str = "", size: float = 5) -> None:
    """Points (n, 2), coloured by their labels, without ticks."""
    axes.scatter(x[:, 0], x[:, 1], c=labels % 10, cmap="tab10", vmin=-0.5, vmax=9.5, s=size, linewidths=0)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, loc="left", fontsize=10)


def _centres(trained: Trained, results: Results) -> Picture:
    """Each centre and members of its group, the nearest first, evenly down to the farthest."""
    x, shape = rows(trained.dataset.train), trained.dataset.shape
    centres, groups = results.arrays["centres"], results.arrays["groups"]
    tiles = []
    for k, centre in enumerate(centres):
        distance = ((x - centre) ** 2).sum(axis=1)
        order = np.argsort(np.where(groups == k, distance, np.inf))[: max(1, int((groups == k).sum()))]
        chosen = order[np.linspace(0, len(order) - 1, MEMBERS).round().astype(int)]
        tiles += [centre, np.ones_like(centre), *x[chosen]]
    fig = pictures.figure(7.2, 0.46 * len(centres) + 0.3)
    sheet = pictures.tiles(np.reshape(tiles, (-1, *shape)), MEMBERS + 2)
    pictures.show(fig.add_subplot(), sheet, "centre, and members of its group: nearest … farthest")
    pictures.save(fig, trained.run.pictures / "centres.png")
    return Picture(
        "centres.png", "Centres and their groups", "Left: a centre, the mean of its group, hence blurred. Right of it: "
        "members of the group, from the one nearest to the centre to the one farthest off.",
        "Rows of digits, each behind the blurred mean of its group.",
    )  # fmt: skip


def _plane(trained: Trained, results: Results) -> Picture:
    """The examples in the plane of their two main directions, coloured by group and by class."""
    data, x = trained.dataset, rows(trained.dataset.train)
    labels = data.train_labels
    axes = pca.components(on_backend(x))
    kept = pca.Axes(axes.mean, axes.components[:2], axes.variance[:2])
    z, centres = (on_host(pca.transform(on_backend(a), kept)) for a in (x, results.arrays["centres"]))
    fig = pictures.figure(7.6 if labels is not None else 4.4, 4.0)
    panels = fig.subplots(1, 2 if labels is not None else 1, squeeze=False)[0]
    coloured(panels[0], z, results.arrays["groups"], "by group")
    panels[0].scatter(*centres.T, marker="X", s=70, c="white", edgecolors="black", linewidths=1)
    if labels is not None:
        coloured(panels[1], z, labels, "by class")
    pictures.save(fig, trained.run.pictures / "plane.png")
    flat = "The two directions of largest variance of the examples. Crosses: the centres. "
    return Picture(
        "plane.png", "Groups in the plane", flat + ("Groups that seem to overlap here lie apart in the other "
        "directions; the colours of groups and of classes have nothing to do with one another." if labels is not None
        else ""),
        "A scatter plot of the examples, coloured by group.",
    )  # fmt: skip


def _rounds(trained: Trained) -> Picture:
    """The algorithm at work on points of the plane, from a bad start."""
    x = load("eight_gaussians").train[:800].astype(np.float64)
    start = x[np.argsort(x[:, 0])[:8]]
    steps = list(kmeans.lloyd(on_backend(x), on_backend(start), 60))
    shown = sorted({0, 1, 3, len(steps) - 1})
    fig = pictures.figure(8.0, 2.4)
    for axes, t in zip(fig.subplots(1, len(shown)), shown, strict=True):
        centres = on_host(steps[t].centres)
        coloured(axes, x, on_host(steps[t].labels), f"round {t}: J/n = {steps[t].inertia / len(x):.2f}", 4)
        axes.scatter(*centres.T, marker="X", s=60, c="white", edgecolors="black", linewidths=1)
    pictures.save(fig, trained.run.pictures / "rounds.png")
    return Picture(
        "rounds.png", "How it goes on, and where it gets stuck", "Eight groups of points, and eight centres that all "
        "start at the left. J falls in every round, but it stops where no point changes its centre any more: some "
        "centres share a group, others have two. That is why starts are drawn far from one another, and several times.",
        "Four panels of points of the plane with moving centres.",
    )  # fmt: skip


def _descent(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    for start in np.unique(log["start"]):
        values = log["inertia"][log["start"] == start]
        axes.plot(values, marker=".", lw=1.2, alpha=0.8)
    axes.set(xlabel="round", ylabel="inertia per example")
    axes.axhline(log["inertia"].min(), color="k", lw=0.8, ls="--", label="the best, which is kept")
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Inertia, round by round", "Every start that was tried. No curve ever rises; they end at "
        "different heights.", "Falling curves, one for each start.",
    )  # fmt: skip


def _curve(trained: Trained, results: Results) -> Picture:
    curve = results.numbers["curve"]
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    axes.plot(curve["clusters"], curve["train"], "o-", label="training examples")
    axes.plot(curve["clusters"], curve["heldout"], "s-", label="held out")
    axes.axvline(trained.system.config.clusters, color="k", lw=0.8, ls=":", label="this run's k")
    axes.set_xscale("log")
    axes.set_xticks(curve["clusters"], [str(c) for c in curve["clusters"]])
    axes.minorticks_off()
    axes.set(xlabel="clusters k", ylabel="inertia per example", ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "clusters.png")
    return Picture(
        "clusters.png", "Inertia by number of clusters", "More centres always come nearer to the points they were "
        "fitted to; only a bend in the curve would speak of a natural number of groups.",
        "Inertia against the number of clusters, falling.",
    )  # fmt: skip
