"""A discriminator of two known laws on the line: how near it comes to the best one, by quadrature."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset, toys
from scratchgen.functional import sigmoid
from scratchgen.models.adversarial import OptimalConfig, OptimalDiscriminator, gan
from scratchgen.random import Generator
from scratchgen.recipes import pictures
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig, metrics_log
from scratchgen.train.report import Picture, Table

LOW, HIGH, CELLS = -8.0, 8.0, 4000  # of the quadrature, by midpoints
DRAWN = 4000
SAMPLES = 0  # a purpose of random numbers


class OptimalDiscriminatorRecipe(Recipe):
    """p_r: the first coordinate of two Gaussians of the plane.  p_g: one Gaussian."""

    id = "optimal_discriminator"
    title = "The best discriminator, D* = p_r/(p_r + p_g), and one that learns it"
    paper = "Goodfellow et al. 2014, Proposition 1, Theorem 1"
    lectures = "L1"
    file = "scratchgen/models/adversarial/optimal.py"
    dataset = "two_gaussians"
    config_type = OptimalConfig
    train = TrainConfig(
        steps=3000, batch_size=500, lr=5e-3, warmup=50, final_lr=0.0, ema_decay=0.99, checkpoint_every=500,
        log_every=10,
    )  # fmt: skip
    equations = (
        ("V(D) = E_{x~p_r} log D(x) + E_{x~p_g} log(1 − D(x))", "D makes it large"),
        ("D*(x) = p_r(x)/(p_r(x) + p_g(x))", "point by point, this D makes it largest"),
        ("V(D*) = 2·JS(p_r, p_g) − log 4", "and so large it can be"),
    )

    def configure(self, dataset: Dataset) -> OptimalConfig:
        if dataset.name != self.dataset:
            raise RecipeError(f"{self.id}: the density must be known: use {self.dataset}, not {dataset.name}")
        variances = toys.PAIR_COVS[:, 0, 0]
        return OptimalConfig(tuple(toys.PAIR_WEIGHTS.tolist()), tuple(toys.PAIR_MEANS[:, 0].tolist()),
                             tuple(variances.tolist()))  # fmt: skip

    def build(self, config: OptimalConfig, rng: Generator) -> OptimalDiscriminator:
        return OptimalDiscriminator(config, rng=rng)

    def examples(self, dataset: Dataset) -> np.ndarray:
        """Their first coordinate, (N, 1)."""
        return dataset.train[:, :1]

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """Draws of p_g, drawn again by what the discriminator says of them."""
        return on_host(trained.system.sample(n, rng))

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        system: OptimalDiscriminator = trained.system
        x = LOW + (HIGH - LOW) / CELLS * (np.arange(CELLS) + 0.5)
        area = (HIGH - LOW) / CELLS
        points = active().asarray(x[:, None])
        log_r, log_g = system.p_r().log_prob(points), system.p_g().log_prob(points)
        best = on_host(gan.best_value(log_r, log_g, area))
        logit = on_host(system.logit(points.astype("float32"))).astype(float)
        star = on_host(gan.optimal(log_r, log_g))
        p_r, p_g = np.exp(on_host(log_r)), np.exp(on_host(log_g))
        drawn = np.sort(self.sample(trained, DRAWN, trained.rng(SAMPLES))[:, 0])
        results = Results({"x": x, "logit": logit, "star": star, "p_r": p_r, "p_g": p_g, "drawn": drawn})
        D, D_star = sigmoid(logit), sigmoid(star)
        log_D, log_rest = -gan.non_saturating(logit), gan.minimax(logit)
        results.numbers["value"] = {
            "learnt": area * float((p_r * log_D + p_g * log_rest).sum()),
            "best": float(best), "blind": -log(4),
            "js": (float(best) + log(4)) / 2,
            "error": area * float(((p_r + p_g) / 2 * np.abs(D - D_star)).sum()),
            "blind_error": area * float(((p_r + p_g) / 2 * np.abs(0.5 - D_star)).sum()),
        }  # fmt: skip
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        v = results.numbers["value"]
        rows = [
            ("the best, D*: 2·JS − log 4", f"{v['best']:.5f}", f"{v['js']:.5f}", "0"),
            ("learnt", f"{v['learnt']:.5f}", f"{(v['learnt'] + log(4)) / 2:.5f}", f"{v['error']:.4f}"),
            ("blind, D = ½: −log 4", f"{v['blind']:.5f}", "0", f"{v['blind_error']:.4f}"),
        ]  # fmt: skip
        caption = "By quadrature on the true densities, in nats. What a discriminator reaches is a lower bound of JS."
        head = ("discriminator", "V(D)", "½(V(D) + log 4) ≤ JS", "mean |D − D*|")
        return [Table("Value", caption, head, rows, frozenset({0, 2}))]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        v = results.numbers["value"]
        return [
            ("V(D), learnt", f"{v['learnt']:.4f}"), ("best: 2·JS − log 4", f"{v['best']:.4f}"),
            ("blind: −log 4", f"{v['blind']:.4f}"), ("mean |D − D*|", f"{v['error']:.4f}"),
            ("training steps", f"{trained.step:,}"), ("parameters", f"{trained.size:,}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [_discriminator(trained, results), _again(trained, results), _loss(trained, results)]


def _discriminator(trained: Trained, results: Results) -> Picture:
    a = results.arrays
    fig = pictures.figure(7.2, 5.4)
    above, below = fig.subplots(2, 1, sharex=True)
    for name, color in (("p_r", "tab:blue"), ("p_g", "tab:orange")):
        above.fill_between(a["x"], a[name], alpha=0.35, color=color, lw=0, label=name)
    above.set(ylabel="density", ylim=(0, None))
    below.plot(a["x"], sigmoid(a["star"]), color="k", lw=1, ls="--", label="D* = p_r/(p_r + p_g)")
    below.plot(a["x"], sigmoid(a["logit"]), color="tab:red", lw=1.8, alpha=0.8, label="D, learnt")
    below.set(xlim=(-4, 4.5), ylim=(-0.02, 1.02), xlabel="x", ylabel="probability of being real")
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "discriminator.png")
    return Picture(
        "discriminator.png", "D and D*", "Above: the law of the data and that of the generator. Below: how likely a "
        "point is to be real, by their densities, and as learnt from draws alone. Where neither law has draws, far "
        "outside, the network is free to say anything.",
        "Two densities, and below them the learnt discriminator lying on the exact one.",
    )  # fmt: skip


def _again(trained: Trained, results: Results) -> Picture:
    a = results.arrays
    fig = pictures.figure(7.2, 2.9)
    axes = fig.add_subplot()
    axes.hist(a["drawn"], np.linspace(-4, 4, 81), density=True, color="tab:red", alpha=0.45, label="p_g's, drawn again")
    axes.plot(a["x"], a["p_r"], color="tab:blue", lw=1.5, label="p_r")
    axes.plot(a["x"], a["p_g"], color="tab:orange", lw=1.5, label="p_g")
    axes.set(xlim=(-4, 4.5), xlabel="x", ylabel="density")
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "again.png")
    return Picture(
        "again.png", "Draws of the generator, drawn again", "D knows the ratio of the densities, D/(1 − D) = p_r/p_g: "
        "draws of p_g, drawn again with that for their weights, are draws of p_r.",
        "A histogram of reweighed draws on the density of the data.",
    )  # fmt: skip


def _loss(trained: Trained, results: Results) -> Picture:
    seen = metrics_log.read(trained.run.metrics)
    fig = pictures.figure(7.2, 3.2)
    axes = fig.add_subplot()
    pictures.curve(axes, seen["step"], seen["loss"], "−V(D) of a minibatch")
    axes.axhline(-results.numbers["value"]["best"], color="k", lw=0.8, ls="--", label="−V(D*) = log 4 − 2·JS")
    axes.axhline(log(4), color="k", lw=0.8, ls=":", label="blind: log 4")
    axes.set(xlabel="step", ylabel="nats")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Loss", "What the discriminator descends, −V. It cannot fall below log 4 − 2·JS, but that a "
        "minibatch is luckier than another. Thin: every logged step; thick: its running mean.",
        "The discriminator's loss against the step, falling to the exact floor.",
    )  # fmt: skip
