"""The pictures of a run of the deep energy model of the plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from scratchgen.backend import active
from scratchgen.recipes import pictures
from scratchgen.recipes.recipe import on_host
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def energy(trained: Trained, results: Results) -> Picture:
    """The energy with the data on it, the density, and Langevin paths."""
    def f(x: np.ndarray) -> np.ndarray:
        return on_host(trained.system.f(active().asarray(x)))

    limit, n = pictures.LIMIT, 150
    height = -f(pictures.grid(n, limit)).reshape(n, n)
    height -= height.min()
    fig = pictures.figure(8.0, 3.1)
    left, middle, right = fig.subplots(1, 3)
    shown = left.imshow(np.minimum(height, 20), extent=(-limit, limit, -limit, limit), origin="lower", cmap="viridis")
    left.scatter(*trained.dataset.heldout[:500].T, s=2, color="white", alpha=0.6, linewidths=0)
    pictures.plane(left, "energy −f(x), and data", limit)
    fig.colorbar(shown, ax=left, fraction=0.046, pad=0.02).set_label("nats above the lowest", fontsize=8)
    pictures.density(middle, f, "density e^f/Z")
    pictures.density(right, f, "Langevin paths")
    for path in results.arrays["paths"].transpose(1, 0, 2):
        (line,) = right.plot(*path.T, lw=0.9)
        right.plot(*path[0], "o", ms=4, color=line.get_color())
    pictures.save(fig, trained.run.pictures / "energy.png")
    return Picture(
        "energy.png", "The energy", "Left: the network's energy, cut off at 20 nats, and 500 points that training "
        "never saw. Middle: the density. Right: six chains of 100 Langevin steps, each from its dot: they fall into "
        "the nearest valley, and stay there.",
        "Three panels of the plane: an energy landscape whose valleys hold the data, its density, and paths in it.",
    )  # fmt: skip


def by_kernel(trained: Trained, results: Results, names: Mapping[str, str]) -> Picture:
    """Where the chains of each sampler end."""
    rows = {r["name"]: r["distance"] for r in results.numbers["distance"]}
    fig = pictures.figure(8.0, 4.3 * 2)
    axes = fig.subplots(2, 2).ravel()
    for one, name in zip(axes, names.values(), strict=True):
        distance = 1000 * rows[f"EBM, {name}"]
        pictures.points(one, results.arrays[name], f"{name}: distance × 1000 = {distance:.1f}")
    pictures.save(fig, trained.run.pictures / "samplers.png")
    return Picture(
        "samplers.png", "By sampler", f"Where {len(results.arrays['paths']) - 1} steps lead the same points of "
        "N(0, s²I). Chains that only walk share the modes out by where they began; jumps put that right. Metropolis "
        "does not know where uphill is, and has not brought all of its chains home yet. The distance is the table's.",
        "Four panels of points of the plane, one for each sampler.",
    )  # fmt: skip


def lengths(trained: Trained, results: Results) -> Picture:
    """What the step's length does."""
    rows = results.numbers["lengths"]
    epsilon = [r["epsilon"] for r in rows]
    fig = pictures.figure(8.0, 3.2)
    left, right = fig.subplots(1, 2)
    for kernel, name, style in (("langevin", "Langevin", "o-"), ("mala", "MALA", "s-")):
        left.plot(epsilon, [r[kernel]["gap"] for r in rows], style, label=name)
    left.axhline(0, color="k", lw=0.8, ls="--", label="the model's law")
    left.set(xscale="log", xlabel="ε", ylabel="E f, off by (nats)")
    right.plot(epsilon, [r["mala"]["accepted"] for r in rows], "s-", color="tab:orange", label="MALA")
    right.set(xscale="log", xlabel="ε", ylabel="share of steps taken", ylim=(0, 1.03))
    for axes in (left, right):
        axes.set_xticks(epsilon, [f"{e:g}" for e in epsilon])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "lengths.png")
    return Picture(
        "lengths.png", "The price of a step", "Left: chains that start from the model's own law should leave the mean "
        "of f as it is. Langevin's steps drift off, the farther the longer they are. Right: MALA pays in steps that "
        "are refused.",
        "Two plots against the step's length: the error of the mean of f, and the share of steps taken.",
    )  # fmt: skip


def learning(trained: Trained) -> Picture:
    """f at the data and at the chains."""
    log = metrics_log.read(trained.run.metrics)
    shown = {"step": log["step"], "f at the data": log["data"], "f at the chains": log["chains"]}
    pictures.curves(trained.run.pictures / "learning.png", shown, "mean of f, nats", "linear")
    return Picture(
        "learning.png", "Learning", "Learning lifts f at the data and lowers it at the chains, until both are as high: "
        "their difference is the loss. It says nothing of how good the model is, only whether the chains keep up.",
        "Two curves that meet: f at the data, and f at the chains.",
    )  # fmt: skip
