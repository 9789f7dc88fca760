"""The pictures of an Ising model's run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained

SHADE = 0.45  # of the lines between images that are black and white themselves
COLORS = {"noisy": "tab:gray", "alone": "tab:brown", "icm": "tab:orange", "gibbs": "tab:blue", "exact": "black"}


def draw(trained: Trained, results: Results) -> list[Picture]:
    """All of them, in the order of the page."""
    return [_drawing(trained, results), _denoised(trained, results), _rates(trained, results),
            _energies(trained, results), _marginals(trained, results), _samples(trained, results),
            _learning(trained, results)]  # fmt: skip


def _drawing(trained: Trained, results: Results) -> Picture:
    sheets, wrong = results.arrays["drawing"], results.numbers["drawing"]["wrong"]
    fig = pictures.figure(7.6, 5.6)
    titles = ("drawn", f"noisy: {wrong['noisy']:.1%} are wrong", f"ICM: {wrong['icm']:.1%} are wrong",
              f"Gibbs, means: {wrong['gibbs']:.1%} are wrong")  # fmt: skip
    for axes, sheet, title in zip(fig.subplots(2, 2).ravel(), sheets, titles, strict=True):
        pictures.show(axes, (sheet + 1) / 2, title)
    pictures.save(fig, trained.run.pictures / "drawing.png")
    return Picture(
        "drawing.png", "A drawing", "One pixel in ten was flipped. ICM stops in the first minimum it comes to: where "
        "flipped pixels met, a spot holds itself up. In the mean of many draws such spots are gone, and edges are "
        "grey: there the draws differ.",
        "Four panels: a boat at sea, the same with noise, and two restorations.",
    )  # fmt: skip


def _denoised(trained: Trained, results: Results) -> Picture:
    from scratchgen.recipes.ising import NAMES

    found, numbers = results.arrays["denoised"], results.numbers["denoising"]
    fig = pictures.figure(8.0, 4.4)
    share = {name: f"{numbers[name]['wrong']:.1%} are wrong" for name in NAMES}
    titles = ("real", f"noisy: {share['noisy']}", f"ICM: {share['icm']}",
              f"Gibbs, means: {share['gibbs']}", f"the posterior, counted and decided: {share['exact']}")  # fmt: skip
    columns = len(found) // len(titles)
    for k, (axes, title) in enumerate(zip(fig.subplots(len(titles), 1), titles, strict=True)):
        pictures.show(axes, pictures.tiles(found[k * columns : (k + 1) * columns], columns, shade=SHADE), title)
    pictures.save(fig, trained.run.pictures / "denoising.png")
    return Picture(
        "denoising.png", "Digits", "Held-out images with one pixel in ten flipped. The model knows how often each "
        "pixel is on, and that neighbours are alike; of strokes, a pixel or two wide, it knows nothing. What it can "
        "say of these images is counted in the last row; sampling comes to the same.",
        "Five rows of digits: real, noisy, by descent, by sampling, and exactly.",
    )  # fmt: skip


def _rates(trained: Trained, results: Results) -> Picture:
    from scratchgen.recipes.ising import NAMES, RATES

    fig = pictures.figure(7.2, 3.8)
    axes = fig.add_subplot()
    for name, label in NAMES.items():
        shares = [100 * row[name] for row in results.numbers["rates"]]
        style: dict[str, Any] = {"ls": "--", "marker": "x"} if name == "exact" else {"marker": "o", "ms": 4}
        axes.plot([100 * rho for rho in RATES], shares, color=COLORS[name], label=label, lw=1.5, **style)
    axes.set(xlabel="pixels flipped, %", ylabel="wrong pixels, %", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "noise.png")
    return Picture(
        "noise.png", "By the amount of noise", "Digits. The noisier the picture, the further descent falls behind the "
        "posterior's means; Gibbs sampling lies on the counted ones. Most of what is gained here comes from knowing "
        "how often each pixel is on: strokes are too thin for their neighbours to say much.",
        "Curves of the share of wrong pixels, rising with the noise.",
    )  # fmt: skip


def _energies(trained: Trained, results: Results) -> Picture:
    fig = pictures.figure(7.6, 3.6)
    both = (("digits, mean of an image", results.numbers["energies"]),
            ("drawing", results.numbers["drawing"]["energies"]))  # fmt: skip
    for axes, (title, found) in zip(fig.subplots(1, 2), both, strict=True):
        icm = found["icm"] + [found["icm"][-1]] * (len(found["gibbs"]) - len(found["icm"]))
        axes.plot(found["gibbs"], color=COLORS["gibbs"], label="Gibbs sampling")
        axes.plot(icm, color=COLORS["icm"], label="ICM")
        axes.axhline(found["clean"], color="tab:green", lw=1, ls=":", label="clean")
        if "least" in found:
            axes.axhline(found["least"], color="k", lw=1, ls="--", label="the least there is")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("sweep")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9)
    fig.axes[0].set_ylabel("energy")
    pictures.save(fig, trained.run.pictures / "energy.png")
    return Picture(
        "energy.png", "Energy over sweeps", "ICM never rises, and rests after a few sweeps above the least energy, "
        "which is counted for the digits. Gibbs sampling goes up and down about the posterior's mean: the likeliest "
        "picture is not like those that make up most of the probability. The clean digits lie where the draws are.",
        "Falling curves of energy: ICM comes to rest, Gibbs sampling fluctuates above it.",
    )  # fmt: skip


def _marginals(trained: Trained, results: Results) -> Picture:
    from scratchgen.recipes.ising import BURN, SWEEPS

    exact, gibbs = results.arrays["marginals"]
    fig = pictures.figure(4.6, 4.4)
    axes = fig.add_subplot()
    axes.plot([-1, 1], [-1, 1], color="k", lw=0.8)
    axes.scatter(exact, gibbs, s=4, alpha=0.4, linewidths=0, color=COLORS["gibbs"])
    axes.set(xlabel="E[x | y], counted", ylabel=f"estimated by {SWEEPS - BURN} sweeps", xlim=(-1.03, 1.03),
             ylim=(-1.03, 1.03), aspect="equal")  # fmt: skip
    axes.grid(alpha=0.25)
    pictures.save(fig, trained.run.pictures / "marginals.png")
    return Picture(
        "marginals.png", "Sampled and counted", "Each point is a pixel of a noisy digit: its mean given all that is "
        "seen, by sampling and exactly.",
        "A scatter plot along the diagonal.",
    )  # fmt: skip


def _samples(trained: Trained, results: Results) -> Picture:
    pictures.beside_real(trained.run.pictures / "samples.png", results.arrays["samples"], trained.dataset.heldout,
                         "drawn: 500 sweeps", shade=SHADE)  # fmt: skip
    return Picture(
        "samples.png", "What the prior holds to be a picture", "Left: draws of p(x), nothing seen. Pixels that are "
        "often on, and neighbours alike: a law too poor for digits, and yet enough to remove noise.",
        "Two grids of 100 black-and-white images: blobs on the left, digits on the right.",
    )  # fmt: skip


def _learning(trained: Trained, results: Results) -> Picture:
    log = metrics_log.read(trained.run.metrics)
    pictures.curves(trained.run.pictures / "learning.png", log, "−pseudo-likelihood, nats per image", "linear")
    return Picture(
        "learning.png", "Learning", "Minus the sum over pixels of log p(pixel | all others): a logistic regression of "
        "every pixel on its neighbours. It begins at independent pixels.",
        "A falling curve.",
    )  # fmt: skip
