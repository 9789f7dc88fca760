"""The pictures of a flow of the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.data import toys
from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

SHOWN = 2500  # points


def draw(trained: Trained, results: Results, name: str) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_density(trained, results, name), _samples(trained, results, name), _way(trained, results),
            _loss(trained, results)]  # fmt: skip


def _density(trained: Trained, results: Results, name: str) -> Picture:
    data = trained.dataset
    fig = pictures.figure(8.0, 3.0)
    left, middle, right = fig.subplots(1, 3)
    pictures.points(left, data.heldout[:SHOWN], "points, held out")
    log_p = results.arrays["log_p"]
    cells = round(len(log_p) ** 0.5)
    p = np.exp(log_p - log_p.max()).reshape(cells, cells)
    reach = pictures.LIMIT
    middle.imshow(p, extent=(-reach, reach, -reach, reach), origin="lower", cmap="Blues", vmax=np.quantile(p, 0.998))
    pictures.plane(middle, f"density of {name}", reach)
    if data.name in toys.LOG_DENSITY:
        pictures.density(right, toys.LOG_DENSITY[data.name], "true density")
        last = "Right: the true density."
    else:
        z = results.arrays["encoded"]
        pictures.points(right, z, "held out, as noise")
        last = "Right: the same points as noise, g(x)."
    pictures.save(fig, trained.run.pictures / "density.png")
    return Picture(
        "density.png", "Density", "Left: points that training never saw. Middle: the density that the flow gives the "
        f"plane, exactly. {last} A flow cannot tear: what lies apart in the data stays joined by thin bridges."
        + ("" if trained.system.config.affine else " Additive couplings keep every volume: they press nothing "
           "together, and can only draw the noise out and fold it."),
        "Points of the plane beside two densities.",
    )  # fmt: skip


def _samples(trained: Trained, results: Results, name: str) -> Picture:
    fig = pictures.figure(8.0, 3.0)
    left, middle, right = fig.subplots(1, 3)
    pictures.points(left, results.arrays["drawn"][:SHOWN], f"drawn: {name}")
    pictures.points(middle, trained.dataset.heldout[:SHOWN], "real, held out")
    pictures.points(right, results.arrays["encoded"][:SHOWN], "real, as noise g(x)")
    pictures.save(fig, trained.run.pictures / "samples.png")
    return Picture(
        "samples.png", "Samples", f"Left: {SHOWN:,} points that the flow draws. Middle: as many real ones. Right: the "
        "real ones as the flow sees them: the nearer to a round Gaussian, the better.",
        "Three clouds of points: generated, real, and real ones turned into noise.",
    )  # fmt: skip


def _way(trained: Trained, results: Results) -> Picture:
    way = results.arrays["way"]  # (stops, n, 2)
    angle, columns = np.arctan2(way[0, :, 1], way[0, :, 0]), 3
    rows = -(-len(way) // columns)
    fig = pictures.figure(8.0, 2.9 * rows)
    places = fig.subplots(rows, columns).ravel()
    couplings = sum(hasattr(flow, "conditioner") for flow in trained.system.flow.flows)
    passed = np.linspace(0, couplings, len(way)).round().astype(int)
    for axes, x, k in zip(places, way, passed, strict=False):
        axes.scatter(x[:, 0], x[:, 1], s=4, c=angle, cmap="hsv", linewidths=0)
        pictures.plane(axes, "noise" if k == 0 else f"after {k} couplings", pictures.LIMIT)
    pictures.save(fig, trained.run.pictures / "way.png")
    return Picture(
        "way.png", "From noise to data", "The same points as the couplings carry them, one colour for each direction "
        "that the noise had. A coupling moves one coordinate only, by how far the other one tells it.",
        "Six clouds of points, from a round Gaussian to the data.",
    )  # fmt: skip


def _loss(trained: Trained, results: Results) -> Picture:
    log, n = metrics_log.read(trained.run.metrics), results.numbers["nats"]
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    pictures.curve(axes, log["step"], log["loss"], "training points")
    if "truth" in n:
        axes.axhline(n["truth"], color="k", lw=0.8, ls="--", label="floor: the true density")
    axes.axhline(n["gaussian"], color="k", lw=0.8, ls=":", label="ceiling: a Gaussian")
    axes.set(xlabel="step", ylabel="−log p(x), nats", ylim=(None, n["gaussian"] + 0.3))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Loss", "What the minibatches cost as training goes on. In the mean it cannot fall below the "
        "entropy of the data. Thin: every logged step; thick: its running mean.",
        "The training loss against the step, falling to its floor.",
    )  # fmt: skip
