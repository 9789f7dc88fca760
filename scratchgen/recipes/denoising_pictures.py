"""The pictures of a denoising autoencoder's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.backend import active
from scratchgen.models.exact import Mixture
from scratchgen.recipes import pictures
from scratchgen.recipes.recipe import on_host
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def draw(trained: Trained, results: Results, exact: Mixture) -> list[Picture]:
    """All of them, in the order of the page.  exact: the law of the clean data."""
    noised = exact.noisy(1.0, trained.system.config.sigma)
    return [_field(trained, noised), _paths(trained, results, noised), _samples(trained, results),
            _loss(trained, results)]  # fmt: skip


def _log_q(noised: Mixture, x: np.ndarray) -> np.ndarray:
    return on_host(noised.log_prob(active().asarray(x.astype(np.float64))))


def _field(trained: Trained, noised: Mixture) -> Picture:
    fig = pictures.figure(8.0, 4.3)
    fields = {
        "(r(x̃) − x̃)/σ², learnt": lambda x: on_host(trained.system.score(active().asarray(x))),
        "∇log q(x̃), exact": lambda x: on_host(noised.score(active().asarray(x.astype(np.float64)))),
    }
    for axes, (title, field) in zip(fig.subplots(1, 2), fields.items(), strict=True):
        pictures.density(axes, lambda x: _log_q(noised, x), title)
        pictures.arrows(axes, field, title)
    pictures.save(fig, trained.run.pictures / "field.png")
    return Picture(
        "field.png", "What it takes away is the score", "Blue: the density q of the noised data. Arrows: how the "
        "autoencoder moves a point, over σ², and the exact score. Where there are no data, near the corners, it has "
        "not been taught.",
        "Two fields of arrows that point to eight blue spots; they look alike.",
    )  # fmt: skip


def _paths(trained: Trained, results: Results, noised: Mixture) -> Picture:
    paths = results.arrays["paths"]
    fig = pictures.figure(5.4, 5.4)
    axes = fig.add_subplot()
    pictures.density(axes, lambda x: _log_q(noised, x))
    for path in np.swapaxes(paths, 0, 1):
        axes.plot(*path.T, color="tab:red", lw=0.7, alpha=0.8)
    axes.plot(*paths[0].T, ".", color="0.5", ms=3)
    axes.plot(*paths[-1].T, ".", color="k", ms=5)
    pictures.plane(axes, "r applied again and again: from grey to black", pictures.LIMIT)
    pictures.save(fig, trained.run.pictures / "paths.png")
    return Picture(
        "paths.png", "Uphill", "Points of an even grid (grey), and where they go if they are denoised thirty times "
        "(black): uphill on q, to its modes.",
        "Red paths from a grid of points to eight spots.",
    )  # fmt: skip


def _samples(trained: Trained, results: Results) -> Picture:
    fig = pictures.figure(8.0, 4.3)
    left, right = fig.subplots(1, 2)
    pictures.points(left, results.arrays["drawn"], "drawn: walks along the learnt score")
    pictures.points(right, results.arrays["noised"], "held out, noised")
    pictures.save(fig, trained.run.pictures / "samples.png")
    return Picture(
        "samples.png", "Samples", "Left: where Langevin walks along the learnt score have come, from a wide Gaussian. "
        "Right: noised points that training never saw, whose law that is.",
        "Two clouds of points in eight spots.",
    )  # fmt: skip


def _loss(trained: Trained, results: Results) -> Picture:
    seen = metrics_log.read(trained.run.metrics)
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    pictures.curve(axes, seen["step"], seen["loss"], "‖x − r(x̃)‖² of minibatches")
    axes.axhline(results.numbers["rows"][0]["loss"], color="k", lw=0.8, ls="--", label="exact, E[x | x̃], held out")
    top = float(np.quantile(seen["loss"], 0.98))
    axes.set(xlabel="step", ylabel="squared error", ylim=(0, max(top, 1.2 * results.numbers["rows"][0]["loss"])))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Loss", "The squared error as training goes on: below the line, what the exact conditional mean "
        "loses, it cannot stay. Thin: every logged step; thick: its running mean.",
        "The training loss against the step, falling to a dashed line.",
    )  # fmt: skip
