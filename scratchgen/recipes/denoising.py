"""A denoising autoencoder of points of the plane, beside the exact answer: what it takes away is the score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset, toys
from scratchgen.models.exact import Mixture
from scratchgen.models.latent.denoising import Denoising, DenoisingConfig
from scratchgen.models.score.denoising import score_from_denoiser
from scratchgen.random import Generator
from scratchgen.recipes import clouds, denoising_pictures
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.report import Picture, Table

NOISES = 5  # of each point held out
DRAWN = 2000
NOISE, WALK, GAUSSIAN = range(3)  # purposes of random numbers


class DenoisingRecipe(Recipe):
    """Points of the plane whose density is a mixture of Gaussians, so that the best r is known."""

    id = "denoising"
    title = "Denoising autoencoder, and the score that it learns"
    paper = "Vincent, Larochelle, Bengio & Manzagol 2008; Vincent 2011; Alain & Bengio 2014"
    lectures = "L4"
    file = "scratchgen/models/latent/denoising.py"
    dataset = "eight_gaussians"
    config_type = DenoisingConfig
    train = TrainConfig(
        steps=4000, batch_size=500, lr=3e-3, warmup=50, final_lr=0.01, ema_decay=0.995, checkpoint_every=1000,
        log_every=20,
    )  # fmt: skip
    repeated = ("score",)
    equations = (
        ("L = ‖x − r(x + σ·ε)‖²", "noise is added; what comes back should be x"),
        ("r*(x̃) = E[x | x̃]", "the best that can come back"),
        ("(r*(x̃) − x̃)/σ² = ∇log q(x̃)", "what it takes away is the score of the noised data"),
    )

    def configure(self, dataset: Dataset) -> DenoisingConfig:
        if dataset.name not in MIXTURES:
            known = " or ".join(MIXTURES)
            raise RecipeError(f"{self.id}: the density must be known: use {known}, not {dataset.name}")
        return DenoisingConfig(shape=dataset.shape)

    def build(self, config: DenoisingConfig, rng: Generator) -> Denoising:
        return Denoising(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """Points of the noised law, by Langevin dynamics along the learnt score."""
        return on_host(trained.system.sample(n, rng))

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: with ten times the noises of each point."""
        model: Denoising = trained.system
        data, sigma = trained.dataset, model.config.sigma
        exact = mixture(data.name)
        x = np.repeat(data.heldout, NOISES * (10 if thorough else 1), axis=0)
        xt = x + np.float32(sigma) * on_host(trained.rng(NOISE).standard_normal(x.shape, "float32"))
        spread = np.cov(data.train.T.astype(np.float64))
        mean = data.train.mean(axis=0, dtype=np.float64)
        line = mean + (xt - mean) @ np.linalg.solve(spread + sigma**2 * np.eye(2), spread)
        best = on_host(exact.denoiser(active().asarray(xt.astype(np.float64)), 1.0, sigma))
        answers = {"the exact conditional mean": best,
                   "denoising autoencoder": on_host(model.rebuild(active().asarray(xt))).astype(np.float64),
                   "the best affine map": line, "x̃ as it is": xt.astype(np.float64)}  # fmt: skip
        score = score_from_denoiser(best, xt.astype(np.float64), sigma)
        whole = np.square(score).sum(axis=1).mean()
        results = Results()
        results.numbers["rows"] = [
            {"name": name, "loss": float(np.square(r - x).sum(axis=1).mean()),
             "missed": float(np.square((r - best) / sigma**2).sum(axis=1).mean() / whole)}
            for name, r in answers.items()
        ]  # fmt: skip
        drawn = self.sample(trained, DRAWN, trained.rng(WALK))
        noised = replace(data, train=xt[1::NOISES][:DRAWN], heldout=xt[::NOISES][-DRAWN:])
        results.numbers["distance"] = clouds.judged(noised, {"walks along the learnt score": drawn},
                                                    trained.rng(GAUSSIAN))  # fmt: skip
        results.arrays |= {"drawn": drawn, "noised": noised.heldout, "paths": paths(model)}
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [loss_table(results.numbers["rows"]), clouds.distance_table(results.numbers["distance"])]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        best, own, line, _ = results.numbers["rows"]
        return [
            ("‖x − r(x̃)‖², held out", f"{own['loss']:.4f}"),
            ("floor: the exact conditional mean", f"{best['loss']:.4f}"),
            ("ceiling: the best affine map", f"{line['loss']:.4f}"),
            ("share of the score that is missed", f"{own['missed']:.2%}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return denoising_pictures.draw(trained, results, mixture(trained.dataset.name))


def _eight() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    angle = np.arange(8) * np.pi / 4
    means = toys.MODE_RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.full(8, 1 / 8), means, np.tile(toys.MODE_STD**2 * np.eye(2), (8, 1, 1))


MIXTURES = {"eight_gaussians": _eight(), "two_gaussians": (toys.PAIR_WEIGHTS, toys.PAIR_MEANS, toys.PAIR_COVS)}
"""Weights, means and covariances of the toys that are mixtures of Gaussians."""


def mixture(name: str) -> Mixture:
    """The law of a toy, on the active backend."""
    return Mixture(*map(active().asarray, MIXTURES[name]))


def paths(model: Denoising, steps: int = 30) -> np.ndarray:
    """Where points of an even grid go if r is applied again and again, (1 + steps, N, 2)."""
    line = np.linspace(-3.5, 3.5, 12, dtype=np.float32)
    x = active().asarray(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2))
    found = [on_host(x)]
    for _ in range(steps):
        x = model.rebuild(x)
        found.append(on_host(x))
    return np.stack(found)


def loss_table(rows: list[dict[str, Any]]) -> Table:
    """What each r loses, and what it misses of the score."""
    return Table(
        "Denoising",
        "‖x − r(x̃)‖² on points held out, each noised several times; and of (r(x̃) − x̃)/σ², E‖· − ∇log q(x̃)‖² as a "
        "share of E‖∇log q(x̃)‖². The first row is the floor, the exact conditional mean; the last two know nothing of "
        "the modes.",
        ("r", "squared error", "missed of the score"),
        [(r["name"], f"{r['loss']:.4f}", f"{r['missed']:.2%}") for r in rows],
        frozenset({0, 2, 3}),
    )  # fmt: skip
