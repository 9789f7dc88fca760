"""What recipes of flows of images have in common: what an image costs in bits, temperatures, ways between images."""

from __future__ import annotations

from math import log2, sqrt
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset
from scratchgen.metrics import ClassifierConfig
from scratchgen.models.flows.density import Density
from scratchgen.models.flows.dequantise import bits_per_dim
from scratchgen.random import Generator
from scratchgen.recipes import flow_pictures
from scratchgen.recipes.quality import JUDGED, histogram_bits, judged, quality_table, rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, by_chunks, on_host
from scratchgen.train.report import Picture, Table

CHUNK = 90  # images that go through the network together
DRAWS = 16  # of noise in a bin, for the tighter bound
HEATS = 0.0, 0.3, 0.5, 0.7, 0.8, 1.0, 1.2  # temperatures of the picture
WARM = 0.7  # the paper's, of the table
ROWS, STOPS = 8, 12  # of the picture of ways between images
NOISE, BITS, RULERS, HEAT = range(4)  # purposes of random numbers


class FlowRecipe(Recipe):
    """Images (H, W, C) of some grey levels, H and W divisible by 4; the defaults are for 8×8 digits on two cores."""

    lectures = "L3 L4"
    dataset = "digits"
    name: ClassVar[str]
    """What its samples are called in tables."""
    system: ClassVar[type]
    variant: ClassVar[dict[str, Any]] = {}
    """Settings of the system in which this recipe differs from its config's defaults."""
    options = ("temperature",)
    samplers: ClassVar[dict[str, dict[str, Any]]] = {"": {}, f"τ = {WARM}": {"temperature": WARM}}

    def configure(self, dataset: Dataset) -> Any:
        shape = dataset.shape
        if len(shape) != 3 or shape[0] % 4 or shape[1] % 4 or dataset.levels is None:
            raise RecipeError(f"{self.id}: needs images whose sides are divisible by 4; {dataset.name} has {shape}")
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"{self.id}: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        return self.config_type(shape=shape, levels=dataset.levels, **self.variant)

    def build(self, config: Any, rng: Generator) -> Density:
        return self.system(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        z = options.get("temperature", 1.0) * rng.standard_normal((n, *trained.system.noise))
        return decoded(trained.system, z)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: with ten times the samples, in groups of the same size."""
        model, data = trained.system, trained.dataset
        n = min(JUDGED, len(data.heldout))
        many = (20 if thorough else 2) * n
        sets = {f"{self.name}, τ = {tau:g}": self.sample(trained, many, trained.rng(NOISE), temperature=tau)
                for tau in (1.0, WARM)}  # fmt: skip
        z = trained.rng(HEAT).standard_normal((10, *model.noise))
        results = Results({
            "drawn": sets[f"{self.name}, τ = 1"][:n], "warm": sets[f"{self.name}, τ = {WARM}"][:n],
            "heats": np.stack([decoded(model, tau * z) for tau in HEATS]), "between": between(model, data),
        })  # fmt: skip
        results.numbers["quality"] = judged(trained, sets, trained.rng(RULERS))
        results.numbers["bits"] = self._bits(trained)
        return results

    def _bits(self, trained: Trained) -> dict[str, float]:
        """Bits per pixel: the bound by one draw, of images held out and of as many trained on; and by more draws."""
        data, rng = trained.dataset, trained.rng(BITS)
        held, _ = bits(trained.system, data.heldout, 1, rng)
        seen, _ = bits(trained.system, data.train[: len(data.heldout)], 1, rng)
        _, many = bits(trained.system, data.heldout, DRAWS, rng)
        return {
            "heldout": float(held.mean()), "error": float(held.std(ddof=1) / sqrt(len(held))), "images": len(held),
            "train": float(seen.mean()), "importance": float(many.mean()), "histogram": histogram_bits(data),
            "uniform": log2(trained.system.config.levels),
        }  # fmt: skip

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [bits_table(results.numbers["bits"], self.name), quality_table(results.numbers["quality"])]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality, found = results.numbers["quality"], results.numbers["bits"]
        return [
            (f"bits per pixel, held out, {self.name}", f"{found['heldout']:.3f} ± {found['error']:.3f}"),
            ("ceiling: a histogram per pixel", f"{found['histogram']:.3f}"),
            (f"Fréchet, {self.name}", f"{quality[1]['frechet']:.2f}"),
            (f"Fréchet, τ = {WARM}", f"{quality[2]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: noise", f"{quality[-1]['frechet']:.0f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return flow_pictures.draw(trained, results, self.name, HEATS)


def decoded(model: Density, z: Any) -> np.ndarray:
    """Images of noise z (n, D), at the nearest grey levels, a chunk at a time."""
    return rounded(by_chunks(model.decode, z, CHUNK), model.levels)


def between(model: Density, data: Dataset) -> np.ndarray:
    """From one held-out image to another of another class, straight through the noise: (ROWS, STOPS, H, W, C)."""
    ends = np.resize(np.arange(len(data.heldout)), 2 * ROWS)
    if data.heldout_labels is not None:
        first = [int(np.flatnonzero(data.heldout_labels == k)[0]) for k in np.unique(data.heldout_labels)]
        ends = np.concatenate([np.resize(first, ROWS), np.resize(np.roll(first, -3), ROWS)])
    z = model.encode(active().asarray(data.heldout[ends]))
    steps = np.linspace(0, 1, STOPS, dtype=np.float32)
    way = [decoded(model, (1 - float(t)) * z[:ROWS] + float(t) * z[ROWS:]) for t in steps]
    return np.stack(way, axis=1)


def bits(model: Density, x: np.ndarray, draws: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bits per pixel of each image, (N,) and (N,): the mean of so many draws, and the tighter bound by all of them."""

    def one(task: tuple[np.ndarray, Generator]) -> np.ndarray:
        part = active().asarray(task[0])
        code = model.code(part, task[1].random((draws, *part.shape)))
        return np.stack([on_host(bits_per_dim(log_P, part[0].size)) for log_P in code])

    parts = [x[i : i + CHUNK] for i in range(0, len(x), CHUNK)]
    bound, importance = np.concatenate(side_by_side(one, zip(parts, rng.spawn(len(parts)), strict=True)), axis=1)
    return bound.astype(np.float64), importance.astype(np.float64)


def bits_table(found: dict[str, float], name: str) -> Table:
    """The likelihood, beside two codes that are no model of images."""
    return Table(
        "Likelihood",
        f"What one of {found['images']:.0f} held-out images costs, in bits per pixel (± standard error), an upper "
        "limit of the code's length: grey levels spread over their bins by one draw of noise, the density exact. "
        f"{DRAWS} draws give a tighter limit: what lies between is what noise without a pattern costs. The ceiling is "
        "a code that knows each pixel's histogram and nothing of its neighbours; how much less training images cost "
        "says how much of them was learnt by heart.",
        ("", "bits per pixel"),
        [(f"{name}, held out", f"{found['heldout']:.3f} ± {found['error']:.3f}"),
         (f"{name}, held out, {DRAWS} draws", f"{found['importance']:.3f}"),
         (f"{name}, training images", f"{found['train']:.3f}"),
         ("a histogram per pixel", f"{found['histogram']:.3f}"),
         ("all levels equally likely", f"{found['uniform']:.3f}")],
        frozenset({3, 4}),
    )  # fmt: skip
