"""The pictures of an autoencoder's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scratchgen.recipes import codes, pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    found, folder, labels = results.arrays, trained.run.pictures, trained.dataset.heldout_labels
    return [
        codes.reconstructions(folder / "reconstructions.png", found["original"], found["rebuilt"]),
        _errors(trained, results),
        codes.scatter(folder / "codes.png", found["codes"], None if labels is None else labels[: len(found["codes"])]),
        codes.interpolation(folder / "interpolation.png", found["line"], len(found["line"]) // 6),
        _holes(trained, results),
        _loss(trained),
    ]


def _errors(trained: Trained, results: Results) -> Picture:
    errors = results.numbers["errors"]
    by_rank = errors["pca"]["heldout"]
    fig = pictures.figure(7.2, 3.4)
    axes = fig.add_subplot()
    axes.plot(range(len(by_rank)), by_rank, label="PCA")
    axes.plot([errors["latent"]], [errors["heldout"]], "o", color="C3", ms=8, label=trained.recipe.title)
    axes.set(xlabel="numbers in the code", ylabel="squared error per pixel", ylim=(0, None))
    axes.set_title("what images held out lose", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "errors.png")
    return Picture(
        "errors.png", "Beside PCA", "What images held out lose by PCA, by the number of its directions, the mean image "
        "at 0; and what they lose here.",
        "A falling curve, and a dot near it.",
    )  # fmt: skip


def _holes(trained: Trained, results: Results) -> Picture:
    path = trained.run.pictures / "holes.png"
    pictures.beside_real(path, results.arrays["samples"], trained.dataset.heldout, "random codes, decoded")
    return Picture(
        "holes.png", "The holes", "Left: codes drawn from a Gaussian with the mean and the covariance of real codes. "
        "Many fall where no image's code lies, and decode to no digit: nothing in the loss says what should be there. "
        "Right: real images.",
        "Two grids of 100 images: many shapes that are no digits on the left, digits on the right.",
    )  # fmt: skip


def _loss(trained: Trained) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    if not trained.system.config.decay:
        log.pop("error", None)  # the same number twice
    pictures.curves(trained.run.pictures / "loss.png", log, "squared error per image")
    return Picture(
        "loss.png", "Loss", "The squared error per image, all pixels together, as training goes on. Thin: every logged "
        "step; thick: its running mean.",
        "The training loss against the step, falling.",
    )  # fmt: skip
