"""The pictures of a product of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen.backend import active
from scratchgen.models.energy import experts
from scratchgen.recipes import pictures
from scratchgen.recipes.recipe import on_host
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

PAIR = ([[-0.8, 0.0], [0.9, 0.3]], [[[1.6, 1.1], [1.1, 1.0]], [[0.5, -0.5], [-0.5, 1.4]]])  # two Gaussians, shown


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_and(trained), _drawn(trained, results), _distances(trained, results), _never(trained, results),
            _gaussians(trained), _learning(trained)]  # fmt: skip


def _limit(trained: Trained) -> float:
    return 1.15 * float(np.abs(trained.dataset.heldout).max())


def _and(trained: Trained) -> Picture:
    first, second = trained.system.parts()
    both = lambda x: on_host(experts.product([first, second], active().asarray(x)))  # noqa: E731
    one = lambda p: lambda x: on_host(p.log_prob(active().asarray(x)))  # noqa: E731
    either = lambda x: np.logaddexp(one(first)(x), one(second)(x))  # noqa: E731
    panels = ((one(first), "first expert"), (one(second), "second expert"), (both, "product: AND"),
              (either, "mixture: OR"))  # fmt: skip
    fig = pictures.figure(7.0, 7.2)
    for axes, (log_p, title) in zip(fig.subplots(2, 2).ravel(), panels, strict=True):
        pictures.density(axes, log_p, title, _limit(trained))
    pictures.save(fig, trained.run.pictures / "and.png")
    return Picture(
        "and.png", "AND and OR", "Two experts, each trained on its own points, and what becomes of them: the product "
        "is dense where both are, the mixture where either is. The product was never trained.",
        "Four panels: two shapes, the places where they cross, and the two on top of each other.",
    )  # fmt: skip


def _drawn(trained: Trained, results: Results) -> Picture:
    names = ("exact draws", "Langevin", "Metropolis", "MALA", "weighed draws, then MALA", "the first expert alone")
    fig = pictures.figure(8.0, 5.7)
    for axes, name in zip(fig.subplots(2, 3).ravel(), names, strict=True):
        pictures.points(axes, results.arrays[f"drawn/{name}"], name, _limit(trained))
    pictures.save(fig, trained.run.pictures / "samples.png")
    return Picture(
        "samples.png", "Draws", "All chains began as draws of the first expert, the last panel, and "
        "knew of the second only its density and score.",
        "Six scatter plots of points at the crossings of two shapes.",
    )  # fmt: skip


def _distances(trained: Trained, results: Results) -> Picture:
    from scratchgen.recipes.product_of_experts import MOMENTS

    distances = results.numbers["distances"]
    fig = pictures.figure(7.2, 3.6)
    axes = fig.add_subplot()
    for name, values in results.numbers["curves"].items():
        axes.plot(MOMENTS, np.maximum(1000 * np.array(values), 0), marker="o", ms=4, label=name)
    for name, style in (("weighed draws, then MALA", ":"), ("exact draws", "--")):
        axes.axhline(max(1000 * distances[name], 0), color="k", lw=1, ls=style, label=name)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xticks(MOMENTS, [str(k) for k in MOMENTS])
    axes.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    axes.minorticks_off()
    axes.set(xlabel="steps of the chain", ylabel="energy distance × 1000", xlim=(0, MOMENTS[-1]), ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "distances.png")
    return Picture(
        "distances.png", "How fast the chains arrive", "The distance to exact draws. It falls while points move to the "
        "nearest crossing. How many find which is decided on the way there; here each is nearest to about its share. "
        "From one crossing to another there is no way but through where the product is next to nothing.",
        "Falling curves for three chains, and two level lines.",
    )  # fmt: skip


def _never(trained: Trained, results: Results) -> Picture:
    fig = pictures.figure(7.0, 3.7)
    left, right = fig.subplots(1, 2)
    limit = _limit(trained)
    for axes, name, title in ((left, "drawn/weighed draws, then MALA", "two experts"),
                              (right, "never", "and a third, who says no to the left")):  # fmt: skip
        pictures.points(axes, results.arrays[name], title, limit)
    right.axvspan(-limit, 0, color="tab:red", alpha=0.12, lw=0)
    pictures.save(fig, trained.run.pictures / "never.png")
    return Picture(
        "never.png", "A zero is a zero", "A third expert gives the left half no probability at all. However sure the "
        "others are, the product is 0 there, and no step of Metropolis's rule into it is ever taken.",
        "Two scatter plots; in the second the left half is empty.",
    )  # fmt: skip


def _gaussians(trained: Trained) -> Picture:
    mu, cov = (np.array(part) for part in PAIR)
    found = experts.gaussians(*(active().asarray(part[None]) for part in (mu, cov)))
    fig = pictures.figure(5.0, 4.6)
    axes = fig.add_subplot()
    for m, c, color, label in ((mu[0], cov[0], "tab:blue", "first"), (mu[1], cov[1], "tab:orange", "second"),
                               (on_host(found.mu)[0], on_host(found.cov)[0], "black", "product")):  # fmt: skip
        ellipses(axes, m, c, color, label)
    pictures.plane(axes, "", 3.6)
    axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "gaussians.png")
    return Picture(
        "gaussians.png", "Gaussians", "Two Gaussians and their product, at one and two deviations. Precisions add up: "
        "in each direction the product listens to whoever is surer, and is surer than both.",
        "Two crossing ellipses and a small one where they cross.",
    )  # fmt: skip


def ellipses(axes: Any, mu: np.ndarray, cov: np.ndarray, color: str, label: str) -> None:
    """A Gaussian at one and two deviations."""
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.linalg.cholesky(cov) @ np.stack([np.cos(angle), np.sin(angle)])
    for radius in (1, 2):
        axes.plot(*(mu[:, None] + radius * circle), color=color, lw=1.6 / radius, label=label if radius == 1 else None)


def _learning(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    shown = {name.removesuffix(".loss"): values for name, values in log.items()}
    pictures.curves(trained.run.pictures / "loss.png", shown, "−log p_k, nats", "linear")
    return Picture(
        "loss.png", "Loss", "Each expert on its own points. They do not meet before they are multiplied.",
        "Two falling curves.",
    )  # fmt: skip
