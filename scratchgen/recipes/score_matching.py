"""Score matching on points of the plane: how far each objective's score is off the exact one, and where it leads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset, toys
from scratchgen.models.score import matching
from scratchgen.models.score.score_matching import OBJECTIVES, ScoreMatching, ScoreMatchingConfig
from scratchgen.random import Generator
from scratchgen.recipes import pictures
from scratchgen.recipes.clouds import on_points
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig, metrics_log
from scratchgen.train.report import Picture, Table

WALKS, STEPS = 4000, 400  # how many, and of how many steps each
NAMES = {"told": "told the score", "exact": "exact trace", "hutchinson": "Hutchinson", "sliced": "sliced"}
EXACT = "the exact score"
NOISE = 0  # a purpose of random numbers


class ScoreMatchingRecipe(Recipe):
    """The mixture of the data set `two_gaussians`, whose score is known."""

    id = "score_matching"
    title = "Score matching: exact trace, Hutchinson's and sliced"
    paper = "Hyvärinen 2005; Song, Garg, Shi & Ermon 2019"
    lectures = "L2"
    file = "scratchgen/models/score/score_matching.py"
    dataset = "two_gaussians"
    config_type = ScoreMatchingConfig
    train = TrainConfig(
        steps=1500, batch_size=256, lr=4e-3, warmup=100, final_lr=0.0, clip=5.0, ema_decay=0.995,
        checkpoint_every=500, log_every=10,
    )  # fmt: skip
    options = ("steps",)
    repeated = ("score",)
    equations = (
        ("½E‖∇log p − s‖² = E[½‖s‖² + tr ∇s] + ½E‖∇log p‖²", "Fisher's divergence, by parts: no ∇log p is needed"),
        ("tr ∇s = E vᵀ∇s·v", "Hutchinson: one walk back instead of one per dimension"),
        ("E[½(vᵀs)² + vᵀ∇s·v]", "sliced: all of it along one random direction"),
    )

    def configure(self, dataset: Dataset) -> ScoreMatchingConfig:
        if dataset.name != self.dataset:
            raise RecipeError(f"{self.id}: the score must be known: use {self.dataset}, not {dataset.name}")
        weights, means, covs = (x.tolist() for x in (toys.PAIR_WEIGHTS, toys.PAIR_MEANS, toys.PAIR_COVS))
        return ScoreMatchingConfig(tuple(weights), tuple(map(tuple, means)),
                                   tuple(tuple(map(tuple, cov)) for cov in covs))  # fmt: skip

    def build(self, config: ScoreMatchingConfig, rng: Generator) -> ScoreMatching:
        return ScoreMatching(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """steps: of Langevin's, along the score with the exact trace."""
        return on_host(trained.system.sample(n, rng, options.get("steps") or STEPS))

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        model, data = trained.system, trained.dataset
        net, x = model.frozen(), active().asarray(data.heldout)
        exact = model.p().score(x)
        half = float(on_host(matching.fisher(exact, 0 * exact)).mean())  # the constant, ½E‖∇log p‖²
        rows = []
        for name in OBJECTIVES:
            s, trace = matching.divergence(partial(model.score, name=name), x)
            rows.append(row(NAMES[name], exact, on_host(s), float(np.mean(on_host(trace)))))
        rows.append(row("a network that says 0", exact, on_host(0 * exact), 0.0))
        fields: dict[str, Any] = {NAMES[name]: partial(net.score, name=name) for name in OBJECTIVES[1:]}
        fields[EXACT] = model.p().score

        def ends(field: Callable[[Any], Any]) -> np.ndarray:
            rng = trained.rng(NOISE)
            *_, end = model.walk(field, model.prior(WALKS, rng), STEPS, rng)
            return on_host(end)

        sets = dict(zip(fields, side_by_side(ends, fields.values()), strict=True))
        return Results(sets, {"fisher": rows, "half": half})

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        half = results.numbers["half"]
        body = [
            (r["name"], f"{r['fisher']:.4f}", f"{r['implicit'] + half:.4f}", f"{r['implicit']:.4f}")
            for r in results.numbers["fisher"]
        ]  # fmt: skip
        return [
            Table(
                "Scores",
                "On points held out. Fisher's divergence ½E‖∇log p − s‖², with the exact score, and by score matching, "
                f"which does not know it: E[½‖s‖² + tr ∇s], to which ½E‖∇log p‖² = {half:.4f} is added; in the mean "
                "over all of p the two columns would be one. The first row is the floor, a network that was told the "
                "score; the last is one that learnt nothing.",
                ("trained by", "Fisher divergence", "by score matching", "its objective"), body,
                frozenset({0, len(body) - 1}),
            ),
        ]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        told, *others, zero = results.numbers["fisher"]
        return [
            (f"Fisher divergence, {others[0]['name']}", f"{others[0]['fisher']:.4f}"),
            ("floor: told the score", f"{told['fisher']:.4f}"),
            *((f"Fisher divergence, {r['name']}", f"{r['fisher']:.4f}") for r in others[1:]),
            ("ceiling: says 0", f"{zero['fisher']:.3f}"),
            ("training steps", f"{trained.step:,}"), ("parameters", f"{trained.size:,}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [_arrows(trained, results), _points(trained, results), _loss(trained, results)]


def row(name: str, exact: Any, s: Any, trace: float) -> dict[str, Any]:
    """Fisher's divergence of s from the exact score, and its objective."""
    far = on_host(matching.fisher(exact, active().asarray(s))).mean()
    return {"name": name, "fisher": float(far), "implicit": float((s**2).sum(axis=1).mean() / 2) + trace}


def _arrows(trained: Trained, results: Results) -> Picture:
    net, p = trained.system.frozen(), trained.system.p()
    far = {r["name"]: r["fisher"] for r in results.numbers["fisher"]}
    panels = [("exact", p.score, "∇log p itself"),
              *((name, partial(net.score, name=name), f"Fisher {far[NAMES[name]]:.3f}")
                for name in OBJECTIVES[1:])]  # fmt: skip
    fig = pictures.figure(6.6, 7.2)
    for axes, (name, score, said) in zip(fig.subplots(2, 2).flat, panels, strict=True):
        pictures.density(axes, on_points(p.log_prob))
        title = "the exact score" if score == p.score else f"learnt: {NAMES[name]}"
        pictures.arrows(axes, on_points(score), title)
        axes.set_xlabel(said, fontsize=9)
    pictures.save(fig, trained.run.pictures / "scores.png")
    return Picture(
        "scores.png", "Scores", "Blue: p. Red: the way uphill, ∇log p, exact and as learnt from points alone; long "
        "arrows are shortened. Near the data they agree. Far from them, and on the ridge between the clouds, hardly a "
        "point says what the score is.",
        "Four fields of arrows, exact and learnt ones, alike where the data are.",
    )  # fmt: skip


def _points(trained: Trained, results: Results) -> Picture:
    sets = [("data, held out", trained.dataset.heldout), (f"walk along {EXACT}", results.arrays[EXACT]),
            *((f"walk: {NAMES[name]}", results.arrays[NAMES[name]]) for name in OBJECTIVES[1:])]  # fmt: skip
    fig = pictures.figure(8.0, 5.6)
    panels = list(fig.subplots(2, 3).flat)
    for axes, (name, x) in zip(panels, sets, strict=False):
        pictures.points(axes, x[:2000], name)
        axes.set_xlabel(f"left of the middle: {np.mean(x[:, 0] < 0):.1%}", fontsize=9)
    panels[-1].set_axis_off()
    pictures.save(fig, trained.run.pictures / "points.png")
    return Picture(
        "points.png", "Points", f"2,000 each, after {STEPS} steps of Langevin's from one wide cloud, and what share of "
        "all is left of the middle. Each walk ends in the cloud that is nearer to its start, even along the exact "
        "score: without levels of noise it does not learn how many belong where.",
        "Five clouds of points, of the data and of walks along exact and learnt scores, much alike.",
    )  # fmt: skip


def _loss(trained: Trained, results: Results) -> Picture:
    seen, half = metrics_log.read(trained.run.metrics), results.numbers["half"]
    fig = pictures.figure(7.2, 3.6)
    axes = fig.add_subplot()
    for name in OBJECTIVES:
        pictures.curve(axes, seen["step"], seen[f"{name}.loss"] + (0 if name == "told" else half), NAMES[name])
    axes.axhline(0, color="k", lw=0.8, ls="--", label="the exact score")
    axes.set(xlabel="step", ylabel="Fisher divergence", ylim=(-2, 1.2 * half))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Loss", "Each objective, with the constant that makes it Fisher's divergence in the mean. The "
        "fewer directions it looks in, the noisier it is; below 0 a minibatch is lucky, or the network has begun "
        "to know its points one by one. Thin: every logged step; thick: its running mean.",
        "Four curves falling to nothing, one of them smooth and three noisy.",
    )  # fmt: skip
