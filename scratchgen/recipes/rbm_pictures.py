"""The pictures of an RBM's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

SHADE = 0.45  # of the lines between images that are black and white themselves


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_samples(trained, results), _chains(trained, results), _filters(trained, results),
            _denoised(trained, results), _completed(trained, results), _learning(trained, results)]  # fmt: skip


def _samples(trained: Trained, results: Results) -> Picture:
    pictures.beside_real(trained.run.pictures / "samples.png", results.arrays["samples"], trained.dataset.heldout,
                         "drawn: 1,000 Gibbs steps", shade=SHADE)  # fmt: skip
    return Picture(
        "samples.png", "Samples", "Left: where the first 100 chains ended, none left out; each began as independent "
        "pixels. Right: real images, made black and white.",
        "Two grids of 100 black-and-white digits: generated on the left, real on the right.",
    )  # fmt: skip


def _chains(trained: Trained, results: Results) -> Picture:
    from scratchgen.recipes.rbm import MOMENTS

    film = results.arrays["film"]
    fig = pictures.figure(8.0, 7.4)
    rows = film.transpose(1, 0, *range(2, film.ndim)).reshape(-1, *film.shape[2:])
    title = f"after {', '.join(str(k) for k in MOMENTS)} steps"
    pictures.show(fig.add_subplot(), pictures.tiles(rows, len(MOMENTS), shade=SHADE), title)
    pictures.save(fig, trained.run.pictures / "chains.png")
    return Picture(
        "chains.png", "Chains on their way", "A row is a chain of block Gibbs sampling, from independent pixels on the "
        "left. It finds a digit in a few steps, stays near it for many, and wanders on to another in the end.",
        "Eight rows of images: noise on the left turns into digits, which change slowly to the right.",
    )  # fmt: skip


def _filters(trained: Trained, results: Results) -> Picture:
    found = results.arrays["filters"]
    fig = pictures.figure(6.0, 6.2)
    pictures.show(fig.add_subplot(), pictures.tiles(found, 8), f"couplings of {len(found)} hidden units")
    pictures.save(fig, trained.run.pictures / "filters.png")
    return Picture(
        "filters.png", "What the hidden units look for", "Each square is a column of W: bright pixels speak for the "
        "unit, dark ones against it, and the unit for them in turn; grey ones do not matter to it. The 64 strongest.",
        "A grid of small grey patterns: strokes and their surroundings.",
    )  # fmt: skip


def _denoised(trained: Trained, results: Results) -> Picture:
    found, numbers = results.arrays["denoised"], results.numbers["denoising"]
    fig = pictures.figure(8.0, 3.4)
    axes = fig.subplots(4, 1)
    titles = ("real", f"noisy: {numbers['noisy']:.1%} of the pixels are wrong", "the posterior's mean",
              f"decided: {numbers['rbm']:.1%} are wrong")  # fmt: skip
    columns = len(found) // 4
    for k, (one, title) in enumerate(zip(axes, titles, strict=True)):
        pictures.show(one, pictures.tiles(found[k * columns : (k + 1) * columns], columns, shade=SHADE), title)
    pictures.save(fig, trained.run.pictures / "denoising.png")
    return Picture(
        "denoising.png", "Denoising", "Held-out images whose pixels were flipped one time in ten. Given such an image, "
        "what it was is again an RBM, with other biases; the chain draws from it.",
        "Four rows of digits: real, noisy, the grey mean of the posterior, and the decision.",
    )  # fmt: skip


def _completed(trained: Trained, results: Results) -> Picture:
    found = results.arrays["completed"]
    fig = pictures.figure(8.0, 3.9)
    title = "real; its upper half; three draws of the rest"
    pictures.show(fig.add_subplot(), pictures.tiles(found, len(found) // 5, shade=SHADE), title)
    pictures.save(fig, trained.run.pictures / "completion.png")
    return Picture(
        "completion.png", "Completion", "First row: held-out images. Second: what the chain is told, the upper half. "
        "Below: three draws of the rest, given that half.",
        "Five rows of digits: whole, upper half, and three completions.",
    )  # fmt: skip


def _learning(trained: Trained, results: Results) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    pictures.curves(trained.run.pictures / "learning.png", {k: v for k, v in log.items() if k != "loss"},
                    "pseudo-likelihood, nats per image", "linear")  # fmt: skip
    return Picture(
        "learning.png", "Learning", "The sum over pixels of log p(pixel | all others), of the training images. It "
        "needs no constant. The loss that is descended has a gradient with a meaning, but no value with one.",
        "A curve that rises steeply and then slowly.",
    )  # fmt: skip
