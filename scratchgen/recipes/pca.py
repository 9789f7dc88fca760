"""PCA on digits, or on points of the plane: what its few directions keep, and the Gaussian that they make."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import Any

import numpy as np

from scratchgen.data import Dataset
from scratchgen.models.classical.pca import PCA, PCAConfig
from scratchgen.random import Generator
from scratchgen.recipes import clouds, pca_pictures
from scratchgen.recipes.fitted import FittedRecipe, on_backend, rows
from scratchgen.recipes.quality import JUDGED, judged, quality_table
from scratchgen.recipes.recipe import RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.report import Picture, Table

DRAWN, RULERS, RANDOM = range(3)  # purposes of random numbers


def ranks(features: int) -> list[int]:
    """The numbers of directions that are compared."""
    return [r for r in (1, 2, 4, 8, 16, 32, 64, 128, 256) if r < features] + [features]


class PCARecipe(FittedRecipe):
    """Examples of any shape."""

    id = "pca"
    title = "Principal component analysis, and the Gaussian that it makes"
    paper = "Pearson 1901; Tipping & Bishop 1999"
    lectures = "L4"
    file = "scratchgen/models/classical/pca.py"
    dataset = "digits"
    config_type = PCAConfig
    train = TrainConfig(steps=1, log_every=1)
    unit = "directions"
    bounded = False

    def configure(self, dataset: Dataset) -> PCAConfig:
        features = int(np.prod(dataset.shape))
        if len(dataset.train) <= features:
            raise RecipeError(f"pca: {dataset.name} has {len(dataset.train)} examples of {features} numbers, too few")
        return PCAConfig(features, min(16, features - 1))

    def build(self, config: PCAConfig, rng: Generator) -> PCA:
        return PCA(config)

    def expected(self, system: Any, dataset: Dataset, steps: int) -> int:
        return system.config.rank

    def iterations(self, system: Any, dataset: Dataset, steps: int, rng: Generator) -> Iterator[dict[str, float]]:
        x = rows(dataset.train)
        system.fit(on_backend(x))
        left = total = float(x.var(axis=0, ddof=1).sum())
        for variance in on_host(system.variance.array).tolist():
            left -= variance
            yield {"explained": 1 - left / total, "variance": variance}

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """Draws of the fitted Gaussian."""
        return on_host(trained.system.sample(n, rng)).reshape(n, *trained.dataset.shape).astype(np.float32)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        data, system = trained.dataset, trained.system
        x, held = rows(data.train), rows(data.heldout)
        features = x.shape[1]
        results = Results()
        everything = PCA(PCAConfig(features, features)).fit(on_backend(x))
        results.arrays["variance"] = on_host(everything.variance.array)
        results.numbers["errors"] = [self._errors(trained, x, held, r) for r in (0, *ranks(features))]
        results.numbers["likelihood"] = self._likelihood(trained, x, held)
        drawn = self.sample(trained, 2 * JUDGED if len(data.shape) == 3 else len(data.heldout), trained.rng(DRAWN))
        results.arrays["samples"] = drawn[:1000]
        if len(data.shape) == 3 and data.train_labels is not None:
            results.numbers["quality"] = judged(trained, {"the Gaussian of PCA": drawn}, trained.rng(RULERS))
        elif features == 2:
            results.numbers["clouds"] = clouds.judged(data, {"the Gaussian of PCA": drawn}, trained.rng(RULERS))
        results.arrays["codes"] = on_host(system.transform(on_backend(x)))
        return results

    def _errors(self, trained: Trained, x: np.ndarray, held: np.ndarray, r: int) -> tuple[int, float, float, float]:
        """(r, squared error per number on training and held-out examples, and in r random directions)."""
        mean = x.mean(axis=0)
        error = lambda a, b: float(((a - b) ** 2).mean())  # noqa: E731
        if r == 0:
            return 0, error(x, mean), error(held, mean), error(held, mean)
        system = PCA(PCAConfig(x.shape[1], r)).fit(on_backend(x))
        back = lambda a: on_host(system.inverse_transform(system.transform(on_backend(a))))  # noqa: E731
        noise = on_host(trained.rng(RANDOM).standard_normal((x.shape[1], r), "float64"))
        q, _ = np.linalg.qr(noise)
        random = mean + (held - mean) @ q @ q.T
        return r, error(x, back(x)), error(held, back(held)), error(held, random)

    def _likelihood(self, trained: Trained, x: np.ndarray, held: np.ndarray) -> list[tuple[str, float]]:
        """The mean log-density of held-out examples, in bits per number."""
        features = x.shape[1]
        bits = lambda system: float(on_host(system.log_prob(on_backend(held))).mean()) / features / log(2)  # noqa: E731
        found = []
        for r in ranks(features)[:-1]:
            found.append((f"{r} directions and noise", bits(PCA(PCAConfig(features, r)).fit(on_backend(x)))))
        noise = float(x.var(axis=0).mean())
        alone = -0.5 * (log(2 * np.pi * noise) + float(((held - x.mean(axis=0)) ** 2).mean()) / noise)
        return [("the mean and noise alone", alone / log(2)), *found]

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        errors = results.numbers["errors"]
        tables = [Table(
            "Reconstruction",
            "The mean squared error per number of x̂, from r directions. No other r directions do better on the "
            "training examples. The first row is the ceiling: the mean, whatever is shown.",
            ("directions r", "training examples", "held out", "held out, random directions"),
            [(str(r), f"{a:.4f}", f"{b:.4f}", f"{c:.4f}") for r, a, b, c in errors], frozenset({0, len(errors) - 1}),
        )]  # fmt: skip
        if "quality" in results.numbers:
            tables.append(quality_table(results.numbers["quality"]))
        if "clouds" in results.numbers:
            tables.append(clouds.distance_table(results.numbers["clouds"]))
        tables.append(Table(
            "Likelihood",
            "The mean log-density of held-out examples under N(μ, C), in bits per number: the more the better. Images "
            "with pixels that are always black have no best: the density grows without limit as σ² shrinks.",
            ("the Gaussian has", "log₂ p per number"),
            [(name, f"{b:.3f}") for name, b in results.numbers["likelihood"]], frozenset({0}),
        ))  # fmt: skip
        return tables

    equations = (
        ("X − μ = U·S·Vᵀ", "the rows of Vᵀ are the directions, s²/(n−1) their variances"),
        ("z = Vᵀ(x − μ)", "the code"),
        ("x̂ = μ + V·z", "what the code keeps"),
        ("p(x) = N(μ, V(Λ − σ²I)Vᵀ + σ²I)", "probabilistic PCA, which can be sampled"),
    )

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        rank, errors = trained.system.config.rank, results.numbers["errors"]
        mine = next((row for row in errors if row[0] == rank), errors[-1])
        variance = results.arrays["variance"]
        facts = [
            (f"squared error per number, {mine[0]} directions, held out", f"{mine[2]:.4f}"),
            ("ceiling: the mean", f"{errors[0][2]:.4f}"),
            ("variance kept", f"{variance[:rank].sum() / variance.sum():.1%}"),
        ]
        if "quality" in results.numbers:
            facts.append(("Fréchet, samples", f"{results.numbers['quality'][1]['frechet']:.1f}"))
        return facts

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return pca_pictures.draw(trained, results)
