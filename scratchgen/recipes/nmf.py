"""NMF on images: the parts they are made of; and what it guesses of pixels, and of ratings, that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from scratchgen.data import Dataset
from scratchgen.models.classical import pca
from scratchgen.models.classical.nmf import NMF, NMFConfig
from scratchgen.random import Generator
from scratchgen.recipes import nmf_pictures, ratings
from scratchgen.recipes.fitted import FittedRecipe, on_backend, rows
from scratchgen.recipes.recipe import RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

RANK = 16
MOST = 3000  # images: each has its row of W
HIDDEN = 0.3  # of all pixels, where some are hidden
FEWER = 12  # parts, where some are: there is less to tell them by
HIDING, STARTS, RATINGS = range(3)  # purposes of random numbers


def ink(images: np.ndarray) -> np.ndarray:
    """Images in [−1, 1] as rows of numbers from 0, no ink, to 1."""
    return np.clip((rows(images) + 1) / 2, 0, 1)


class NMFRecipe(FittedRecipe):
    """Images of any size: the first 3,000 of them."""

    id = "nmf"
    title = "Non-negative matrix factorisation, also of tables with holes"
    paper = "Lee & Seung 1999, 2001"
    lectures = "L4"
    file = "scratchgen/models/classical/nmf.py"
    dataset = "digits"
    config_type = NMFConfig
    train = TrainConfig(steps=400, log_every=1)
    unit = "updates"
    silent = "says how much of each part an image has, and has no distribution of these amounts to draw from"

    def configure(self, dataset: Dataset) -> NMFConfig:
        if len(dataset.shape) != 3:
            raise RecipeError(f"nmf: needs images, whose ink is never negative; {dataset.name} has {dataset.shape}")
        features = int(np.prod(dataset.shape))
        return NMFConfig(min(MOST, len(dataset.train)), features, min(RANK, features))

    def build(self, config: NMFConfig, rng: Generator) -> NMF:
        return NMF(config)

    def images(self, trained: Trained) -> np.ndarray:
        """X: what was factorised."""
        return ink(trained.dataset.train[: trained.system.config.examples])

    def iterations(self, system: Any, dataset: Dataset, steps: int, rng: Generator) -> Iterator[dict[str, float]]:
        x = on_backend(ink(dataset.train[: system.config.examples]))
        for divergence in system.descend(x, system.starts(x, rng), steps):
            yield {"divergence": divergence / x.size}

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        system, steps = trained.system, trained.run.config.train.steps
        x, held = self.images(trained), ink(trained.dataset.heldout)
        config = system.config
        results = Results({"parts": on_host(system.H)})
        with Bar("evaluation", 4, unit="fits") as bar:
            codes = system.transform(on_backend(held), steps=steps)
            results.arrays["codes"] = on_host(codes)
            back = on_host(system.inverse_transform(codes))
            results.arrays["held"], results.arrays["reconstructed"] = held, back
            bar.advance(1, "held-out images")
            second = NMF(replace(config, loss="kl" if config.loss == "frobenius" else "frobenius"))
            second.fit(on_backend(x), trained.rng(STARTS), steps=steps)
            bar.advance(1, "the other divergence")
            results.numbers["errors"] = self._errors(trained, x, held, back, second)
            results.numbers["hidden"] = self._hidden(trained, x, results)
            bar.advance(1, "hidden pixels")
            results.numbers["ratings"], found = ratings.judged(trained.rng(RATINGS))
            results.arrays |= found
            bar.advance(1, "ratings")
        return results

    def _errors(
        self, trained: Trained, x: np.ndarray, held: np.ndarray, back: np.ndarray, second: NMF
    ) -> list[tuple[str, float, float]]:
        """(name, squared error per pixel of what was fitted, and of held-out images)."""
        system, r = trained.system, trained.system.config.rank
        error = lambda a, b: float(((a - b) ** 2).mean())  # noqa: E731
        u, s, v = np.linalg.svd(x, full_matrices=False)
        axes = pca.components(on_backend(x))
        kept = pca.Axes(axes.mean, axes.components[:r], axes.variance[:r])
        by_pca = lambda a: on_host(pca.reconstruct(pca.transform(on_backend(a), kept), kept))  # noqa: E731
        mine = on_host(system.inverse_transform(system.W))
        theirs = [on_host(second.inverse_transform(w))
                  for w in (second.W.array, second.transform(on_backend(held), steps=trained.run.config.train.steps))]
        losses = {"frobenius": "squared error", "kl": "Kullback–Leibler"}
        return [
            ("the mean image", error(x, x.mean(axis=0)), error(held, x.mean(axis=0))),
            (f"NMF, {losses[second.config.loss]}", error(x, theirs[0]), error(held, theirs[1])),
            (f"NMF, {losses[system.config.loss]}", error(x, mine), error(held, back)),
            (f"SVD, {r} terms of any sign", error(x, u[:, :r] * s[:r] @ v[:r]), error(held, held @ v[:r].T @ v[:r])),
            (f"PCA, the mean and {r} directions", error(x, by_pca(x)), error(held, by_pca(held))),
        ]

    def _hidden(self, trained: Trained, x: np.ndarray, results: Results) -> list[tuple[str, float]]:
        """(name, squared error on pixels that were hidden from the fit)."""
        known = on_host(trained.rng(HIDING).random(x.shape)) >= HIDDEN
        mask = known.astype(np.float64)
        config = trained.system.config
        system = NMF(replace(config, rank=min(FEWER, config.rank)))
        system.fit(on_backend(x), trained.rng(STARTS), steps=trained.run.config.train.steps, mask=on_backend(mask))
        guess = np.clip(on_host(system.inverse_transform(system.W.array)), 0, 1)  # more than full ink there is not
        mean = (x * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
        results.arrays |= {"known": known[:16], "shown": x[:16], "filled": np.where(known, x, guess)[:16]}
        error = lambda guess: float(((guess - x) ** 2)[~known].mean())  # noqa: E731
        seen = on_host(trained.system.inverse_transform(trained.system.W))
        guesses = {"0, as if there were no ink": 0 * x, "the pixel's mean over all images": mean + 0 * x,
                   f"NMF of the known pixels, {system.config.rank} parts": guess,
                   f"NMF of all pixels, {config.rank} parts": seen}  # fmt: skip
        return [(name, error(guess)) for name, guess in guesses.items()]

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        errors, hidden = results.numbers["errors"], results.numbers["hidden"]
        return [
            Table(
                "Reconstruction",
                "Mean squared error per pixel, ink from 0 to 1. The truncated SVD is the floor: of all products of "
                "such matrices it is nearest to X, but it takes away as well as it adds. PCA has the mean besides.",
                ("model", "fitted images", "held out"),
                [(name, f"{a:.5f}", f"{b:.5f}") for name, a, b in errors], frozenset({0, 3, 4}),
            ),
            Table(
                "Hidden pixels",
                f"{HIDDEN:.0%} of all pixels are hidden from the fit: the squared error of what is guessed for them. "
                "The last row has seen them.",
                ("guess", "squared error"), [(name, f"{e:.4f}") for name, e in hidden], frozenset({0, 1, 3}),
            ),
            ratings.table(results.numbers["ratings"]),
        ]  # fmt: skip

    equations = (
        ("min ‖X − W·H‖², W ≥ 0, H ≥ 0", "parts H, and how much of each is in every image, W"),
        ("W ← W ∘ ((M∘X)·Hᵀ) / ((M∘WH)·Hᵀ)", "an update that keeps W positive and never raises the error"),
        ("M_ij = 1 where X_ij is known, else 0", "collaborative filtering: what is missing is left out"),
    )

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        errors, stars = results.numbers["errors"], results.numbers["ratings"]
        parts = results.arrays["parts"]
        empty = float((parts < 0.01 * parts.max(axis=1, keepdims=True)).mean())
        return [
            (f"squared error per pixel, {trained.system.config.rank} parts", f"{errors[2][1]:.5f}"),
            ("floor: SVD", f"{errors[3][1]:.5f}"),
            ("ceiling: the mean image", f"{errors[0][1]:.5f}"),
            ("hidden pixels, error against the mean's", f"{results.numbers['hidden'][2][1]:.4f} : "
             f"{results.numbers['hidden'][1][1]:.4f}"),
            ("missing ratings, stars off", f"{stars[-2][1]:.3f}"),
            ("pixels that a part leaves empty", f"{empty:.0%}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return nmf_pictures.draw(trained, results)
