"""How points of the plane are judged: between points held out, and a Gaussian of the data's mean and covariance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset, toys
from scratchgen.metrics.clouds import energy_distance
from scratchgen.models.exact import Mixture
from scratchgen.random import Generator
from scratchgen.recipes.recipe import on_host
from scratchgen.train.report import Table

FLOOR, CEILING = "data, held out", "a Gaussian"


def pair(dtype: str = "float32") -> Mixture:
    """p of the data set `two_gaussians`, with its score."""
    return Mixture(*(active().asarray(x, dtype) for x in (toys.PAIR_WEIGHTS, toys.PAIR_MEANS, toys.PAIR_COVS)))


def on_points(f: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """f of points on the active backend, as a picture asks for it."""
    return lambda x: on_host(f(active().asarray(x)))


def judged(data: Dataset, samples: Mapping[str, np.ndarray], rng: Generator) -> list[dict[str, Any]]:
    """The energy distance to the training points of points held out, of each set of samples, and of a Gaussian."""
    n = len(data.heldout)
    noise = on_host(rng.standard_normal((n, 2), "float64"))
    spread = np.linalg.cholesky(np.cov(data.train.T.astype(np.float64)))
    gaussian = data.train.mean(axis=0) + noise @ spread.T
    rows = {FLOOR: data.heldout, **samples, CEILING: gaussian}
    return [{"name": name, "distance": energy_distance(x[:n], data.train)} for name, x in rows.items()]


def distance_table(rows: list[dict[str, Any]]) -> Table:
    """Rows of `judged`."""
    return Table(
        "Quality",
        "The energy distance to the training points, 2·E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, × 1000. The first row is the "
        "floor, points held out, of which about half the time it is below 0; the last is the ceiling, a Gaussian with "
        "the data's mean and covariance.",
        ("points", "energy distance × 1000"),
        [(r["name"], f"{1000 * r['distance']:.2f}") for r in rows],
        frozenset({0, len(rows) - 1}),
    )  # fmt: skip
