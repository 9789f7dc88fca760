"""The pictures of a Wasserstein GAN's critic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratchgen.recipes import pictures
from scratchgen.recipes.gan_pictures import finish, level
from scratchgen.train import metrics_log
from scratchgen.train.report import Picture

if TYPE_CHECKING:
    from scratchgen.recipes.recipe import Results, Trained


def distance(trained: Trained) -> Picture:
    """What the critic says of the distance, as training goes on."""
    seen = metrics_log.read(trained.run.metrics)
    fig = pictures.figure(7.2, 5.4)
    above, below = fig.subplots(2, 1, sharex=True)
    pictures.curve(above, seen["step"], seen["critic.distance"], "E f(x) − E f(G(z))")
    level(above, 0.0, "0: cannot tell")
    finish(above, "critic's distance")
    pictures.curve(below, seen["step"], seen["critic.loss"], "critic")
    pictures.curve(below, seen["step"], seen["generator.loss"], "generator, −E f(G(z))")
    below.set_xlabel("step")
    finish(below, "loss")
    pictures.save(fig, trained.run.pictures / "distance.png")
    return Picture(
        "distance.png", "The critic's distance", "Unlike a GAN's losses, the difference that the critic makes between "
        "real and generated images falls as these get better. The generator's own loss says nothing: f may be shifted "
        "as a whole. Thin: every logged step; thick: its running mean.",
        "The critic's distance and both losses against the step.",
    )  # fmt: skip


def critic(trained: Trained, results: Results) -> Picture:
    """How steep the critic is, and what its weights are."""
    fig = pictures.figure(7.2, 2.9)
    left, right = fig.subplots(1, 2)
    slopes, weights = results.arrays["slopes"], results.arrays["weights"]
    left.hist(slopes, 40, color="tab:blue")
    left.set(xlabel="‖∇f(x̂)‖ between real and drawn", ylabel="points", xlim=(0, None))
    left.set_title("slopes", loc="left", fontsize=10)
    reach = max(float(np.abs(weights).max()), 1e-9)
    right.hist(weights, np.linspace(-reach, reach, 61), color="tab:orange")
    right.set(xlabel="weight", ylabel="weights", yscale="log")
    right.set_title("weights", loc="left", fontsize=10)
    if trained.system.config.penalty is not None:
        left.axvline(1.0, color="k", lw=0.8, ls="--")
    pictures.save(fig, trained.run.pictures / "critic.png")
    said = "The penalty holds the slopes near 1, dashed, and leaves the weights free." \
        if trained.system.config.penalty is not None else \
        "Clipping drives many weights to ±c, and says little of the slopes."
    return Picture(
        "critic.png", "The critic", f"Its slopes on the lines between real and generated images, and its weights. "
        f"{said}",
        "Two histograms: of the critic's slopes, and of its weights.",
    )  # fmt: skip
