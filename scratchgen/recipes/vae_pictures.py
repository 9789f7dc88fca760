"""The pictures of a VAE run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.recipes import codes, pictures
from scratchgen.recipes.quality import JUDGED
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


REACH = 2.5  # latents are traversed from −REACH to REACH


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    found, folder = results.arrays, trained.run.pictures
    labels = trained.dataset.heldout_labels
    return [
        samples(trained, results),
        codes.reconstructions(folder / "reconstructions.png", found["original"], found["rebuilt"]),
        codes.scatter(folder / "codes.png", found["codes"], None if labels is None else labels[:JUDGED]),
        codes.interpolation(folder / "interpolation.png", found["line"], _steps(found["line"], 6)),
        _traversals(trained, results),
        _cost(trained, results),
        by_samples(trained, results),
        loss(trained),
    ]


def _steps(images: np.ndarray, rows: int) -> int:
    return len(images) // rows


def samples(trained: Trained, results: Results, title: str = "drawn: z ~ N(0, I)") -> Picture:
    """Drawn beside real."""
    path = trained.run.pictures / "samples.png"
    pictures.beside_real(path, results.arrays["samples"], trained.dataset.heldout, title)
    return Picture(
        "samples.png", "Samples", "Left: the first 100 images drawn from codes of the prior, none left out. Right: "
        "real images that training never saw. A drawn image is the mean of what its code allows. Some codes of the "
        "prior lie where no real image has its own: there the decoder was taught nothing, and draws nothing known.",
        "Two grids of 100 handwritten digits: generated on the left, real on the right.",
    )  # fmt: skip


def _traversals(trained: Trained, results: Results) -> Picture:
    walk, order, cost = (results.arrays[name] for name in ("walk", "order", "cost"))
    steps = len(walk) // len(order)
    fig = pictures.figure(8.0, 7.0 * len(order) / steps + 0.5)
    axes = fig.add_subplot()
    pictures.show(axes, pictures.tiles(walk, steps), f"one number of the code at a time, from −{REACH} to {REACH}")
    axes.set_axis_on()
    height = walk.shape[1] + 1
    names = [f"z{i + 1}: {cost[i]:.2f} nats" for i in order]
    axes.set_yticks(np.arange(len(order)) * height + height / 2 - 1, names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    pictures.save(fig, trained.run.pictures / "traversals.png")
    return Picture(
        "traversals.png", "Traversals", f"Each row changes one number of an image's code, from −{REACH} to {REACH}, "
        "and keeps the others: the numbers that say most of an image first, with what they say. One that says nothing "
        "(0 nats) changes nothing.",
        "Rows of one digit in which, from left to right, something changes: its slant, its width, its class.",
    )  # fmt: skip


def _cost(trained: Trained, results: Results) -> Picture:
    cost = np.sort(results.arrays["cost"])[::-1]
    fig = pictures.figure(7.2, 3.0)
    axes = fig.add_subplot()
    axes.bar(np.arange(1, len(cost) + 1), cost)
    axes.set_xlabel("latents, the most telling first")
    axes.set_ylabel("E KL(q(z_i|x)‖p(z_i)), nats")
    axes.set_title(f"what each latent says: in all {cost.sum():.1f} nats", loc="left", fontsize=10)
    pictures.save(fig, trained.run.pictures / "latents.png")
    return Picture(
        "latents.png", "What each latent says", "The mean divergence from the prior, latent by latent, over held-out "
        "images. A latent at 0 is not used: it costs nothing, and says nothing.",
        "A falling row of bars.",
    )  # fmt: skip


def by_samples(trained: Trained, results: Results) -> Picture:
    """The bound against the number of codes."""
    bounds = {int(k): v for k, v in results.numbers["by_samples"].items()}
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    axes.plot(list(bounds), list(bounds.values()), "o-", label=trained.recipe.title)
    shown = [r for r in results.numbers["rows"] if r["exact"]][1:]
    for style, row in zip((":", "--", "-."), shown, strict=False):
        axes.axhline(row["nats"], color="k", lw=0.9, ls=style, label=row["name"])
    axes.set_xscale("log")
    axes.set_xticks(list(bounds), [str(k) for k in bounds])
    axes.minorticks_off()
    axes.set_xlabel("codes of each image, K")
    axes.set_ylabel("log p(x) ≥, nats")
    axes.set_title("images held out: the bound of K codes, and exact models", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "bound.png")
    return Picture(
        "bound.png", "The bound, by the number of codes", "L_K of images held out: it rises with K towards log p(x). "
        "How far it rises is what q lacks of the posterior. The lines are exact.",
        "A rising curve above or below horizontal lines.",
    )  # fmt: skip


def loss(trained: Trained, terms: tuple[str, ...] = ("loss", "reconstruction", "kl")) -> Picture:
    """The loss and its terms."""
    log = metrics_log.read(trained.run.metrics)
    begun = max(1, len(log["step"]) // 25)  # the first steps fall from so far above that nothing else is seen
    shown = {name: log[name][min(begun, len(log[name]) - 1) :] for name in ("step", *terms)}
    pictures.curves(trained.run.pictures / "loss.png", shown, "nats per image", "linear")
    return Picture(
        "loss.png", "Loss", "The loss and its terms as training goes on, of which the reconstruction is −log p(x|z); "
        "the first steps, far above, are left out. A density may be larger than 1, so that the loss may fall below 0.",
        "Curves of the loss and its terms against the step.",
    )  # fmt: skip
