"""Two experts of the plane and their product: an AND, exactly and by chains that know the sum of their scores."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.metrics.clouds import energy_distance
from scratchgen.models.energy import ExpertsConfig, ProductOfExperts, ais, densities, experts, metropolis
from scratchgen.models.exact import Mixture
from scratchgen.random import Generator
from scratchgen.recipes import experts_pictures, pictures
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

DRAWN = 1200  # points that figures are made of
MOMENTS = (0, 1, 3, 10, 30, 100, 300)  # of the chains, judged
EPSILON, SIGMA = 0.003, 0.08  # steps of Langevin and MALA, and of the random walk
STEPS = 60  # of MALA, for a sample
ANNEALING = 200  # steps, for the constant
CELLS = 300  # of the grid, a side
METHODS = ("Langevin", "Metropolis", "MALA")
EXACT, FLOOR, START, WALKS, ANNEAL, EITHER, NEVER = range(7)  # purposes of random numbers


class HalfPlane:
    """An expert that says no to the left: p = 1 for x_1 ≥ 0 (up to a constant), else 0."""

    def log_prob(self, x: Any) -> Any:
        """0, or −∞, (B,)."""
        return active().where(x[:, 0] < 0, -float("inf"), 0.0).astype(x.dtype)


class ProductOfExpertsRecipe(Recipe):
    """Points of the plane, and the same after a quarter turn; the defaults are for two moons."""

    id = "product_of_experts"
    title = "Product of two experts, each trained by itself"
    paper = "Hinton 2002; Du et al. 2020"
    lectures = "L2"
    file = "scratchgen/models/energy/experts.py"
    dataset = "moons"
    config_type = ExpertsConfig
    train = TrainConfig(
        steps=1200, batch_size=256, lr=1e-2, warmup=100, final_lr=0.02, ema_decay=0.98,
        checkpoint_every=500, log_every=10,
    )  # fmt: skip
    options = ("steps",)
    equations = (
        ("p(x) = p_1(x)·p_2(x)/Z", "an AND: where one expert says no, so does the product"),
        ("∇log p = ∇log p_1 + ∇log p_2", "all that a chain must know; Z is not"),
        ("C⁻¹ = C_1⁻¹ + C_2⁻¹,  C⁻¹·μ = C_1⁻¹·μ_1 + C_2⁻¹·μ_2", "of Gaussians: precisions add up"),
        ("Σ_ij w_i·v_j·Z_ij·N(μ_ij, C_ij)", "of mixtures: a part for every pair, exactly"),
    )

    def configure(self, dataset: Dataset) -> ExpertsConfig:
        if dataset.shape != (2,):
            raise RecipeError(f"{self.id}: needs points of the plane; an example of {dataset.name} has shape "
                              f"{dataset.shape}")  # fmt: skip
        return ExpertsConfig()

    def build(self, config: ExpertsConfig, rng: Generator) -> ProductOfExperts:
        return ProductOfExperts(config)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """steps: of MALA, after draws of the first expert have been weighed by the second."""
        steps = options.get("steps", STEPS)
        if steps < 1:
            raise RecipeError(f"{self.id}: --steps {steps} should be at least 1")
        return on_host(trained.system.sample(n, rng, steps, EPSILON))

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        system: ProductOfExperts = trained.system
        results, parts, exact = Results(), system.parts(), system.exact()
        truth, floor = (on_host(exact.p.sample(trained.rng(purpose), DRAWN)) for purpose in (EXACT, FLOOR))
        with Bar("evaluation", len(METHODS) + 3, unit="parts") as bar:
            either = trained.rng(EITHER)
            alone = [on_host(part.sample(either, DRAWN)) for part in parts]
            clouds = {"exact draws": floor, **self._chains(trained, truth, results, bar)}
            clouds["weighed draws, then MALA"] = self.sample(trained, DRAWN, trained.rng(ANNEAL))
            bar.advance(1, "weighed draws")
            clouds |= {"the first expert alone": alone[0], "the second alone": alone[1],
                       "either, evenly: OR": np.concatenate([alone[0][::2], alone[1][1::2]])}  # fmt: skip
            results.numbers["distances"] = {name: energy_distance(x, truth) for name, x in clouds.items()}
            results.arrays |= {f"drawn/{name}": x for name, x in clouds.items()}
            results.numbers["constant"] = self._constant(trained, exact)
            bar.advance(1, "log Z")
            data = trained.dataset
            results.numbers["experts"] = [likelihood(part, *(turn(x) for x in (data.train, data.heldout)))
                                          for part, turn in zip(parts, (upright, turned), strict=True)]  # fmt: skip
            results.arrays["never"] = self._never(trained, clouds["weighed draws, then MALA"])
            bar.advance(1, "an expert that says no")
        return results

    def _chains(self, trained: Trained, truth: np.ndarray, results: Results, bar: Bar) -> dict[str, np.ndarray]:
        """Where chains from the first expert's draws are in the end; their distances on the way, and acceptance."""
        system, curves, ends, accepted = trained.system, {}, {}, {}
        start = system.parts()[0].sample(trained.rng(START), DRAWN)
        for name in METHODS:
            rng, seen, taken = trained.rng(WALKS), {0: start}, []
            if name == "Langevin":
                x = start
                for before, after in pairwise(MOMENTS):
                    x = seen[after] = system.langevin(x, rng, after - before, EPSILON)
            else:
                walk = system.mala(start, rng, MOMENTS[-1], EPSILON) if name == "MALA" else \
                    system.metropolis(start, rng, MOMENTS[-1], SIGMA)
                for k, state in enumerate(walk, start=1):
                    taken.append(float(state.accepted.mean()))
                    if k in MOMENTS:
                        seen[k] = state.x
            curves[name] = [energy_distance(on_host(seen[k]), truth) for k in MOMENTS]
            ends[name], accepted[name] = on_host(seen[MOMENTS[-1]]), float(np.mean(taken)) if taken else None
            bar.advance(1, name)
        results.numbers |= {"curves": curves, "accepted": accepted}
        return ends

    def _constant(self, trained: Trained, exact: experts.Product) -> dict[str, float]:
        """log Z from pairs of parts, from a grid, and from annealing."""
        limit = pictures.LIMIT
        x = active().asarray(pictures.grid(CELLS, limit).astype(np.float64))
        parts = [as_double(part) for part in trained.system.parts()]
        area = (2 * limit / (CELLS - 1)) ** 2
        log_w, _ = trained.system.anneal(DRAWN, trained.rng(ANNEAL), ANNEALING, EPSILON)
        w = np.exp(on_host(log_w).astype(np.float64))
        return {"pairs": float(exact.log_Z), "grid": float(densities.log_Z(experts.product(parts, x), area)),
                "annealed": float(ais.log_Z(log_w, 0.0)), "error": float(w.std() / w.mean() / sqrt(len(w))),
                "effective": float(w.sum() ** 2 / (w**2).sum() / len(w))}  # fmt: skip

    def _never(self, trained: Trained, x: np.ndarray) -> np.ndarray:
        """A third expert says no to the left: chains of the product of three, from where it says yes."""
        parts = [*trained.system.parts(), HalfPlane()]
        start = active().asarray(x[x[:, 0] >= 0] if (x[:, 0] >= 0).any() else np.abs(x))
        log_p = lambda x: experts.product(parts, x)  # noqa: E731
        *_, last = metropolis.random_walk(log_p, start, SIGMA, MOMENTS[-1], trained.rng(NEVER))
        return on_host(last.x)

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        distances, constant = results.numbers["distances"], results.numbers["constant"]
        accepted = results.numbers["accepted"]
        rows = [(name, f"{1000 * d:.2f}", f"{accepted[name]:.0%}" if accepted.get(name) else "")
                for name, d in distances.items()]  # fmt: skip
        last = len(rows)
        return [
            Table(
                "Draws of the product",
                "The energy distance to exact draws of the product of the two experts, × 1000; the first row is the "
                "floor, other exact draws, of which about half the time it is below 0, the last rows the ceilings. The "
                f"chains made {MOMENTS[-1]} steps from draws of the first expert. How many end at which crossing is "
                "decided on the way, and hardly changes later. Weighed draws have that right from the start: of 16 "
                "times as many draws of the first expert each is taken as often as the second says, and then moves "
                f"{STEPS} steps of MALA.",
                ("points", "energy distance × 1000", "accepted"), rows, frozenset({0, last - 3, last - 2, last - 1}),
            ),
            Table(
                "The constant",
                "log Z, in nats: by pairs of parts, each a product of two Gaussians; added up on a grid of "
                f"{CELLS} × {CELLS} points; and from annealing in {ANNEALING} steps (± standard error; weights worth "
                f"{constant['effective']:.0%} of as many free draws), which knows nothing but densities.",
                ("", "log Z"),
                [("pairs of parts, exactly", f"{constant['pairs']:.5f}"), ("grid", f"{constant['grid']:.5f}"),
                 ("annealing", f"{constant['annealed']:.3f} ± {constant['error']:.3f}")],
                frozenset({0}),
            ),
            Table(
                "The experts",
                "The mean of log p_k over points held out, in nats, between a Gaussian and nothing: each expert has "
                "seen its own points only.",
                ("expert", "held out", "training", "a Gaussian, held out"),
                [(name, f"{e['heldout']:.3f}", f"{e['train']:.3f}", f"{e['gaussian']:.3f}")
                 for name, e in zip(("the points", "after a quarter turn"), results.numbers["experts"], strict=True)],
            ),
        ]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        d, constant = results.numbers["distances"], results.numbers["constant"]
        show = lambda name: f"{1000 * d[name]:.2f}"  # noqa: E731
        return [
            ("energy distance × 1000, weighed draws", show("weighed draws, then MALA")),
            ("floor: exact draws", show("exact draws")), ("ceiling: the first expert", show("the first expert alone")),
            *((name, show(name)) for name in METHODS),
            ("log Z, annealed", f"{constant['annealed']:.3f} (exact: {constant['pairs']:.3f})"),
            ("training steps", f"{trained.step:,}"), ("parameters", f"{trained.size:,}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return experts_pictures.draw(trained, results)


def upright(x: np.ndarray) -> np.ndarray:
    """The first expert's points."""
    return x


def turned(x: np.ndarray) -> np.ndarray:
    """The second's, on the host."""
    return on_host(ProductOfExperts.turned(active().asarray(x)))


def as_double(p: Mixture) -> Mixture:
    """A mixture in float64."""
    return Mixture(*(x.astype("float64") for x in (p.weights, p.means, p.covs)))


def likelihood(part: Mixture, train: np.ndarray, heldout: np.ndarray) -> dict[str, float]:
    """The mean of log p of an expert's own points, and of a Gaussian with their mean and covariance."""
    x, held = (np.asarray(points, np.float64) for points in (train, heldout))
    centred, cov = held - x.mean(axis=0), np.cov(x.T)
    square = (centred @ np.linalg.inv(cov) * centred).sum(axis=1)
    gaussian = -0.5 * (square + np.linalg.slogdet(2 * np.pi * cov)[1])
    mean = lambda points: float(on_host(as_double(part).log_prob(active().asarray(points))).mean())  # noqa: E731
    return {"train": mean(x), "heldout": mean(held), "gaussian": float(gaussian.mean())}
