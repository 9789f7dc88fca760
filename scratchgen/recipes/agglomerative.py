"""Agglomerative clustering on digits, or on points of the plane: the tree, and how its groups fit the classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchgen.data import Dataset
from scratchgen.metrics.partitions import adjusted_rand, purity
from scratchgen.models.classical import kmeans
from scratchgen.models.classical.agglomerative import (
    METHODS,
    Agglomerative,
    AgglomerativeConfig,
    cut,
    distances,
    merges,
)
from scratchgen.random import Generator
from scratchgen.recipes import agglomerative_pictures
from scratchgen.recipes.fitted import FittedRecipe, on_backend, rows
from scratchgen.recipes.recipe import RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

MOST = 1500  # points: the table of their distances has the square of it
CHANCE, STARTS = range(2)  # purposes of random numbers


def chosen(dataset: Dataset, n: int) -> np.ndarray:
    """The places of the n training examples that are clustered, evenly spread."""
    return np.linspace(0, len(dataset.train) - 1, n).round().astype(int)


def groups_of(dataset: Dataset) -> int:
    """How many groups the tree is cut into: as many as classes, or 8 where there are none."""
    return 8 if dataset.train_labels is None else int(dataset.train_labels.max()) + 1


class AgglomerativeRecipe(FittedRecipe):
    """At most 1,500 examples of any shape.  Labels, where there are some, judge the groups."""

    id = "agglomerative"
    title = "Agglomerative clustering: single, complete, average and Ward's linkage"
    paper = "Lance & Williams 1967; Ward 1963"
    lectures = "L4"
    file = "scratchgen/models/classical/agglomerative.py"
    dataset = "digits"
    config_type = AgglomerativeConfig
    train = TrainConfig(steps=MOST, log_every=1)
    unit = "merges"
    bounded = False
    silent = "knows distances between its examples, and has no distribution to draw from"

    def configure(self, dataset: Dataset) -> AgglomerativeConfig:
        n, k = min(MOST, len(dataset.train)), groups_of(dataset)
        if n <= k:
            raise RecipeError(f"agglomerative: {dataset.name} has {n} examples, too few for {k} groups")
        return AgglomerativeConfig(examples=n)

    def build(self, config: AgglomerativeConfig, rng: Generator) -> Agglomerative:
        return Agglomerative(config)

    def points(self, trained: Trained) -> np.ndarray:
        """The examples that were clustered, as rows."""
        return rows(trained.dataset.train)[chosen(trained.dataset, trained.system.config.examples)]

    def expected(self, system: Any, dataset: Dataset, steps: int) -> int:
        return system.config.examples - 1

    def iterations(self, system: Any, dataset: Dataset, steps: int, rng: Generator) -> Iterator[dict[str, float]]:
        x = rows(dataset.train)[chosen(dataset, system.config.examples)]
        for merge in system.grow(on_backend(x)):
            yield {"height": merge.height, "size": float(merge.size)}

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        data, config = trained.dataset, trained.system.config
        k, x = groups_of(data), self.points(trained)
        table = distances(on_backend(x))
        results = Results({"tree": on_host(trained.system.tree)})
        found: dict[str, np.ndarray] = {"all in one group": np.zeros(len(x), int)}
        found["chance: random groups"] = on_host(trained.rng(CHANCE).integers(0, k, (len(x),)))
        with Bar("the other linkages", 3 * (len(x) - 1), unit="merges") as bar:
            for method in METHODS:
                tree = trained.system.tree
                if method != config.method:
                    others = []
                    for merge in merges(table, method):
                        others.append(merge)
                        bar.advance(1, method)
                    tree = on_backend(np.array(others, np.float64))
                found[f"{method} linkage"] = on_host(cut(tree, k))
        means = kmeans.KMeans(kmeans.KMeansConfig(x.shape[1], k, starts=5))
        found["k-means"] = on_host(means.fit(on_backend(x), trained.rng(STARTS)).predict(on_backend(x)))
        labels = data.train_labels
        if labels is not None:
            found["the classes"] = labels[chosen(data, len(x))]
        results.arrays["groups"] = found[f"{config.method} linkage"]
        results.numbers["partitions"] = [
            {"name": name, "inertia": _spread(x, groups), "largest": float(np.bincount(groups).max() / len(x)),
             "purity": None if labels is None else purity(groups, found["the classes"]),
             "rand": None if labels is None else adjusted_rand(groups, found["the classes"])}
            for name, groups in found.items()
        ]  # fmt: skip
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        partitions = results.numbers["partitions"]
        labelled = partitions[0]["rand"] is not None
        rest = ("purity", "adjusted Rand") if labelled else ()
        return [Table(
            f"The tree cut into {groups_of(trained.dataset)} groups",
            "Inertia: the mean squared distance of an example to its group's mean, which Ward's linkage keeps low at "
            "every merge, and k-means lowers from its start. Single linkage joins nearly everything into one chain "
            "and leaves outliers alone. " + ("No linkage has seen a label; adjusted Rand index: 0 for chance, 1 for "
            "the classes." if labelled else ""),
            ("groups", "inertia", "in the largest", *rest),
            [(p["name"], f"{p['inertia']:.3f}", f"{p['largest']:.1%}",
              *((f"{p['purity']:.3f}", f"{p['rand']:.3f}") if labelled else ())) for p in partitions],
            frozenset({0, 1, 6, 7} & set(range(len(partitions)))),
        )]  # fmt: skip

    equations = (
        ("d(k, i∪j) = α_i·d_ik + α_j·d_jk + β·d_ij + γ·|d_ik − d_jk|", "distances of a group from its parts'"),
        ("single min · complete max · average mean", "of the distances between members"),
        ("Ward: √(2|A||B|/(|A|+|B|))·‖mean A − mean B‖", "what a merge adds to the sum of squares"),
    )

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        by_name = {p["name"]: p for p in results.numbers["partitions"]}
        mine, chance = by_name[f"{trained.system.config.method} linkage"], by_name["chance: random groups"]
        key, what, digits = ("inertia", "inertia", 2) if mine["rand"] is None else ("rand", "adjusted Rand index", 3)
        return [
            (f"{what}, {trained.system.config.method} linkage", f"{mine[key]:.{digits}f}"),
            ("random groups", f"{chance[key]:.{digits}f}"),
            ("k-means", f"{by_name['k-means'][key]:.{digits}f}"),
            ("groups", str(groups_of(trained.dataset))),
            ("examples", f"{trained.system.config.examples:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return agglomerative_pictures.draw(trained, results, self.points(trained), groups_of(trained.dataset))


def _spread(x: np.ndarray, groups: np.ndarray) -> float:
    """The mean squared distance of the points to their groups' means."""
    centres = {g: x[groups == g].mean(axis=0) for g in np.unique(groups)}
    return float(np.mean([((point - centres[g]) ** 2).sum() for point, g in zip(x, groups, strict=True)]))
