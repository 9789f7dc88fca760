"""The pictures of an adversarial run."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Any

from scratchgen.recipes import pictures
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def samples(trained: Trained, results: Results, name: str) -> Picture:
    path = trained.run.pictures / "samples.png"
    pictures.beside_real(path, results.arrays["drawn"], trained.dataset.heldout, f"drawn: {name}")
    return Picture(
        "samples.png", "Samples", "Left: the first 100 images drawn by the trained generator, none left out. "
        "Right: real images that training never saw.",
        "Two grids of 100 images: generated on the left, real on the right.",
    )  # fmt: skip


def between(trained: Trained, results: Results) -> Picture:
    ways = results.arrays["between"]
    pictures.ways(trained.run.pictures / "between.png", ways)
    return Picture(
        "between.png", "Between two noises", "Each row goes from one z to another, by cos φ·z₀ + sin φ·z₁, whose every "
        "point is as likely a noise as its ends. One image turns into another through others, not by fading.",
        f"{len(ways)} rows of images, each turning from one into another.",
    )  # fmt: skip


def game(trained: Trained) -> Picture:
    """A GAN's two losses, and what its discriminator thinks."""
    seen = metrics_log.read(trained.run.metrics)
    steps = seen["step"]
    fig = pictures.figure(7.2, 5.4)
    above, below = fig.subplots(2, 1, sharex=True)
    pictures.curve(above, steps, seen["discriminator.loss"], "discriminator, −V")
    pictures.curve(above, steps, seen["generator.loss"], "generator")
    level(above, log(4), "log 4 = −V where D = ½")
    finish(above, "loss, nats")
    pictures.curve(below, steps, seen["discriminator.real"], "D(x), real")
    pictures.curve(below, steps, seen["discriminator.fake"], "D(G(z)), generated")
    level(below, 0.5, "½: cannot tell")
    below.set(ylim=(0, 1), xlabel="step")
    finish(below, "probability of being real")
    pictures.save(fig, trained.run.pictures / "game.png")
    return Picture(
        "game.png", "The game", "Neither loss says how good the images are: each is measured against an opponent who "
        "learns too. Were p_g = p_r, the best discriminator would say ½ of everything, and −V would be log 4. Thin: "
        "every logged step; thick: its running mean.",
        "Both players' losses, and the discriminator's opinion of real and generated images, against the step.",
    )  # fmt: skip


def level(axes: Any, height: float, label: str) -> None:
    axes.axhline(height, color="k", lw=0.8, ls="--", label=label)


def finish(axes: Any, ylabel: str) -> None:
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
