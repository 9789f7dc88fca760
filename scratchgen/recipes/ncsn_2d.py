"""A noise-conditional score network of the plane: its scores beside the exact ones, and what walks along both find."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.models.energy import langevin
from scratchgen.models.score import matching
from scratchgen.models.score.ncsn import NCSN, NCSNConfig
from scratchgen.random import Generator
from scratchgen.recipes import clouds, pictures
from scratchgen.recipes.ncsn import NCSNRecipe
from scratchgen.recipes.ncsn_pictures import loss
from scratchgen.recipes.recipe import RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.report import Picture, Table

JUDGED = 4000  # points that figures are made of
ARROWS = (0.1, 0.4, 1.5, 6.0)  # levels of noise whose scores are drawn
STOPS = 5  # levels at which points are drawn
LEARNT, EXACT, ALONE = "NCSN", "annealed, with the exact score", "NCSN, its last level alone"
NOISE, RULERS, LEVELS = range(3)  # purposes of random numbers


class NCSN2DRecipe(NCSNRecipe):
    """The mixture of the data set `two_gaussians`, whose score is known at every level of noise."""

    id = "ncsn_2d"
    title = "A noise-conditional score network (NCSN) of the plane, beside the exact scores"
    dataset = "two_gaussians"
    train = TrainConfig(
        steps=4000, batch_size=256, lr=4e-3, warmup=100, final_lr=0.0, clip=1.0, ema_decay=0.995,
        checkpoint_every=1000, log_every=10,
    )  # fmt: skip
    equations = NCSNRecipe.equations[:3]

    def configure(self, dataset: Dataset) -> NCSNConfig:
        if dataset.name != self.dataset:
            raise RecipeError(f"{self.id}: the score must be known: use {self.dataset}, not {dataset.name}")
        return NCSNConfig(sigma_max=6.0, levels=16, T=40, shape=(2,))

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        return on_host(trained.system.sample(n, rng, options.get("steps")))

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        model, data = trained.system, trained.dataset
        few = Dataset(data.name, data.train[:JUDGED], data.heldout[:JUDGED])
        n = len(few.heldout)
        frames = walked(model, n, trained.rng(NOISE))
        exact = walked(model, n, trained.rng(NOISE), lambda x, sigma: clouds.pair().noisy(1.0, sigma).score(x))
        sets = {LEARNT: frames[-1], EXACT: exact[-1], ALONE: alone(model, n, trained.rng(NOISE))}
        rows = clouds.judged(few, sets, trained.rng(RULERS))
        clouds_by_name = {clouds.FLOOR: few.heldout, **sets}
        for row in rows:
            x = clouds_by_name.get(row["name"])
            row["left"] = None if x is None else float(np.mean(x[:, 0] < 0))
        results = Results({"points": frames[-1], "exact": exact[-1], "alone": sets[ALONE], "film": frames})
        results.numbers = {"quality": rows, "levels": errors(model, few.heldout, trained.rng(LEVELS))}
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        rows, levels = results.numbers["quality"], results.numbers["levels"]
        quality = clouds.distance_table(rows)
        share = ["" if r["left"] is None else f"{r['left']:.3f}" for r in rows]
        body = [(*row, s) for row, s in zip(quality.rows, share, strict=True)]
        return [
            replace(quality, head=(*quality.head, "left of 0"), rows=body),
            Table(
                "Scores",
                "How far the learnt score is off the exact one, in the mean over points held out and noised to the "
                "level σ: half its squared distance, times σ², which is what training could still gain there. Beside "
                "it, the same for a network that always says 0.",
                ("σ", "the network", "a network that says 0"),
                [(f"{r['sigma']:.3g}", f"{r['error']:.5f}", f"{r['zero']:.3f}") for r in levels],
            ),
        ]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        by_name = {r["name"]: f"{1000 * r['distance']:.2f}" for r in results.numbers["quality"]}
        worst = max(results.numbers["levels"], key=lambda r: r["error"])
        return [
            ("energy distance × 1000, NCSN", by_name[LEARNT]), ("floor: data, held out", by_name[clouds.FLOOR]),
            ("with the exact score", by_name[EXACT]), ("ceiling: a Gaussian", by_name[clouds.CEILING]),
            ("largest error of the score, × σ²", f"{worst['error']:.4f} at σ = {worst['sigma']:.2g}"),
            ("training steps", f"{trained.step:,}"), ("parameters", f"{trained.size:,}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [_arrows(trained), _points(trained, results), _annealing(trained, results), loss(trained)]


def walked(model: NCSN, n: int, rng: Generator, score: Any = None) -> np.ndarray:
    """n points at the start, after each level, and at the end: (L + 2, n, 2)."""
    x, T = model.prior(n, rng), model.config.T
    seen = [on_host(x)]
    for k, at in enumerate(model.walk(x, rng, score=score), start=1):
        if k % T == 0 or k > T * model.config.levels:
            seen.append(on_host(at))
    return np.array(seen)


def alone(model: NCSN, n: int, rng: Generator) -> np.ndarray:
    """n points after as many steps as the whole walk has, all of them at its last level: (n, 2)."""
    x, c = model.prior(n, rng), model.config

    def noise(shape: Any) -> Any:
        return rng.standard_normal(shape, x.dtype)

    *_, end = langevin.annealed(
        model.frozen().score, x, model.sigma[-1:], c.step * c.sigma_min**2, c.levels * c.T, noise
    )
    return on_host(end)


def errors(model: NCSN, x0: np.ndarray, rng: Generator) -> list[dict[str, float]]:
    """At every level: σ² times Fisher's divergence of the network, and of 0, from the exact score."""
    rows = []
    for sigma in map(float, model.sigma):
        x = active().asarray(x0) + sigma * rng.standard_normal(x0.shape, model.precision())
        exact, s = clouds.pair().noisy(1.0, sigma).score(x), model.frozen().score(x, sigma)
        far = [sigma**2 * float(on_host(matching.fisher(exact, v)).mean()) for v in (s, 0 * s)]
        rows.append({"sigma": sigma, "error": far[0], "zero": far[1]})
    return rows


def _arrows(trained: Trained) -> Picture:
    net, p = trained.system.frozen(), clouds.pair()
    fig = pictures.figure(8.0, 4.4)
    for column, sigma in zip(fig.subplots(2, len(ARROWS)).T, ARROWS, strict=True):
        blurred = p.noisy(1.0, sigma)
        fields: dict[str, Any] = {"learnt": partial(net.score, sigma=sigma), "exact": blurred.score}
        for axes, (name, field) in zip(column, fields.items(), strict=True):
            pictures.density(axes, clouds.on_points(blurred.log_prob))
            pictures.arrows(axes, clouds.on_points(field), f"{name}, σ = {sigma:g}")
    pictures.save(fig, trained.run.pictures / "scores.png")
    return Picture(
        "scores.png", "Scores", "Blue: the density of the data blurred by noise of deviation σ. Red: the way uphill, "
        "∇log p_σ, above as learnt from points, below exact; long arrows are shortened. With little noise each place "
        "leads to the nearer cloud only, and says nothing of how many belong there; with much, all lead to the middle.",
        "Fields of arrows at four levels of noise, learnt ones above exact ones, and much alike.",
    )  # fmt: skip


def _points(trained: Trained, results: Results) -> Picture:
    left = {r["name"]: r["left"] for r in results.numbers["quality"]}
    sets = [("data, held out", trained.dataset.heldout, clouds.FLOOR), ("NCSN, annealed", results.arrays["points"],
            LEARNT), ("its last level alone", results.arrays["alone"], ALONE)]  # fmt: skip
    fig = pictures.figure(8.0, 3.1)
    for axes, (name, x, key) in zip(fig.subplots(1, 3), sets, strict=True):
        pictures.points(axes, x[:2000], name)
        axes.set_xlabel(f"left of the middle: {left[key]:.1%}", fontsize=9)
    pictures.save(fig, trained.run.pictures / "points.png")
    return Picture(
        "points.png", "Points", "2,000 each. Both walks begin in the same wide cloud and have as many steps. Going "
        "down the levels, the walk finds both clouds and very nearly their shares; with the last level alone its "
        "steps are too short to get far, and each point ends in the cloud that it began nearer to.",
        "Three clouds of points: the data, the walk's, which look alike, and a wider one.",
    )  # fmt: skip


def _annealing(trained: Trained, results: Results) -> Picture:
    film, sigma = results.arrays["film"], [float(s) for s in trained.system.sigma]
    chosen = np.unique(np.linspace(1, len(sigma), STOPS).round().astype(int))
    fig = pictures.figure(8.0, 1.9)
    for axes, k in zip(fig.subplots(1, len(chosen)), chosen, strict=True):
        wide = max(pictures.LIMIT, 2.5 * (1 + sigma[k - 1] ** 2) ** 0.5)
        pictures.points(axes, film[k][:2000], f"σ = {sigma[k - 1]:.2g}", wide)
    pictures.save(fig, trained.run.pictures / "annealing.png")
    return Picture(
        "annealing.png", "Annealing", "The points at the end of some of the levels; the first windows are wider.",
        "A wide cloud that becomes two narrow ones.",
    )  # fmt: skip
