"""k-means on digits, or on points of the plane: fit it, hold its groups against the classes, and draw them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchgen.data import Dataset
from scratchgen.metrics.partitions import adjusted_rand, purity
from scratchgen.models.classical import kmeans
from scratchgen.models.classical.kmeans import KMeans, KMeansConfig
from scratchgen.random import Generator
from scratchgen.recipes import kmeans_pictures
from scratchgen.recipes.fitted import FittedRecipe, on_backend, rows
from scratchgen.recipes.recipe import RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

BY_CLUSTERS = (1, 2, 5, 10, 20, 40, 80)
CHANCE, STARTS, OTHERS = range(3)  # purposes of random numbers


class KMeansRecipe(FittedRecipe):
    """Examples of any shape.  Labels, where there are some, judge the groups; they are never fitted to."""

    id = "kmeans"
    title = "k-means, from k-means++"
    paper = "Lloyd 1982; Arthur & Vassilvitskii 2007"
    lectures = "L4"
    file = "scratchgen/models/classical/kmeans.py"
    dataset = "digits"
    config_type = KMeansConfig
    train = TrainConfig(steps=1000, log_every=1)
    unit = "rounds"
    silent = "finds groups, and has no distribution to draw from: a centre is the mean of its group, no example"

    def configure(self, dataset: Dataset) -> KMeansConfig:
        labels = dataset.train_labels
        clusters = 8 if labels is None else int(labels.max()) + 1
        n = len(dataset.train)
        if n < clusters:
            raise RecipeError(f"kmeans: {dataset.name} has {n} examples, too few for {clusters} groups")
        return KMeansConfig(features=int(np.prod(dataset.shape)), clusters=clusters)

    def build(self, config: KMeansConfig, rng: Generator) -> KMeans:
        return KMeans(config)

    def iterations(self, system: Any, dataset: Dataset, steps: int, rng: Generator) -> Iterator[dict[str, float]]:
        x, start, before = on_backend(rows(dataset.train)), 0, np.inf
        for step in system.descend(x, rng, steps):
            mean = step.inertia / x.shape[0]
            start += mean > before * (1 + 1e-9) or before == np.inf  # it only rises where the next start begins
            before = mean
            yield {"inertia": mean, "start": float(start)}

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        data, system = trained.dataset, trained.system
        x, held = (on_backend(rows(part)) for part in (data.train, data.heldout))
        k = system.config.clusters
        mean = lambda points, centres: float(kmeans.inertia(points, centres).mean())  # noqa: E731
        both = lambda centres: (mean(x, centres), mean(held, centres))  # noqa: E731
        chosen = trained.rng(CHANCE).choice(x.shape[0], (k,), replace=False)
        found = {"one centre, the mean": both(x.mean(axis=0)[None]), f"{k} examples, drawn evenly": both(x[chosen]),
                 f"{k} examples, k-means++": both(system.starts(x, trained.rng(STARTS))),
                 "k-means": both(system.centres)}  # fmt: skip
        groups = on_host(system.predict(x))
        results = Results({"groups": groups, "centres": on_host(system.centres)})
        if data.train_labels is not None:
            classes = data.train_labels
            found["class means, labels known"] = both(kmeans.means(x, on_backend(classes), x[:k]))
            results.numbers["agreement"] = self._agreement(trained, groups, on_host(system.predict(held)))
        results.numbers["inertia"] = found
        sizes = [c for c in BY_CLUSTERS if c <= x.shape[0]]
        curve = []
        with Bar("other numbers of clusters", len(sizes), unit="fits") as bar:
            for c in sizes:
                other = KMeans(KMeansConfig(system.config.features, c, starts=2))
                other.fit(x, trained.rng(OTHERS))
                curve.append(both(other.centres.array))
                bar.advance(1, f"k = {c}")
        results.numbers["curve"] = {"clusters": sizes, "train": [a for a, _ in curve], "heldout": [b for _, b in curve]}
        return results

    def _agreement(self, trained: Trained, groups: np.ndarray, held: np.ndarray) -> list[tuple[Any, ...]]:
        """(name, purity, adjusted Rand index, share of held-out examples whose group's commonest class is theirs)."""
        data = trained.dataset
        classes, asked = data.train_labels, data.heldout_labels
        assert classes is not None
        assert asked is not None
        rng = trained.rng(CHANCE)
        k = trained.system.config.clusters
        random = [on_host(rng.integers(0, k, (len(c),))) for c in (classes, asked)]
        found = []
        judged = {"chance: random groups": random, "k-means": [groups, held], "the classes": [classes, asked]}
        for name, (mine, theirs) in judged.items():
            commonest = {g: np.bincount(classes[mine == g]).argmax() for g in np.unique(mine)}
            right = [commonest.get(g) == c for g, c in zip(theirs, asked, strict=True)]
            found.append((name, purity(mine, classes), adjusted_rand(mine, classes), float(np.mean(right))))
        return found

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        inertia = results.numbers["inertia"]
        ceiling = next(iter(inertia.values()))[1]
        tables = [Table(
            "Inertia",
            "The mean squared distance to the nearest centre. The first row is the ceiling: one centre for all. The "
            "class means, where labels are known, are no floor: they are not chosen to lie near the points.",
            ("centres", "training examples", "held out", "of the ceiling"),
            [(name, f"{a:.3f}", f"{b:.3f}", f"{b / ceiling:.1%}") for name, (a, b) in inertia.items()],
            frozenset({0, 1, 2, 4} & set(range(len(inertia)))),
        )]  # fmt: skip
        if "agreement" in results.numbers:
            tables.append(Table(
                "Groups and classes",
                "k-means has seen no label. Purity: the share of examples that are of their group's commonest class; "
                "adjusted Rand index: 0 for chance, 1 for the same partition; held out: the share of unseen examples "
                "that are of the commonest class of the group nearest to them.",
                ("partition", "purity", "adjusted Rand", "held out"),
                [(name, f"{p:.3f}", f"{r:.3f}", f"{h:.3f}") for name, p, r, h in results.numbers["agreement"]],
                frozenset({0, 2}),
            ))  # fmt: skip
        return tables

    equations = (
        ("J = Σ_i min_k ‖x_i − μ_k‖²", "what is minimised, the inertia"),
        ("c_i = argmin_k ‖x_i − μ_k‖²", "each point to its nearest centre"),
        ("μ_k = mean of {x_i : c_i = k}", "each centre to the mean of its points"),
        ("P(x_i is the next start) ∝ D_i²", "k-means++: starts far from one another"),
    )

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        inertia = results.numbers["inertia"]
        facts = [
            ("mean squared distance to the nearest centre, held out", f"{inertia['k-means'][1]:.3f}"),
            ("ceiling: one centre", f"{inertia['one centre, the mean'][1]:.3f}"),
        ]
        if "agreement" in results.numbers:
            _, pure, rand, _ = results.numbers["agreement"][1]
            facts += [("adjusted Rand index with the classes", f"{rand:.3f}"), ("purity", f"{pure:.3f}")]
        return [*facts, ("clusters", str(trained.system.config.clusters)), ("rounds", f"{trained.step:,}")]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return kmeans_pictures.draw(trained, results)
