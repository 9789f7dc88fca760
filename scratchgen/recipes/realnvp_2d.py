"""Flows of couplings on points of the plane: train them, ask what held-out points cost, and watch them bend noise."""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset, toys
from scratchgen.models.flows import CouplingConfig, CouplingFlow
from scratchgen.models.flows.change import Permutation
from scratchgen.models.flows.coupling import Coupling
from scratchgen.random import Generator
from scratchgen.recipes import clouds, pictures, realnvp_2d_pictures
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.report import Picture, Table

JUDGED, FOLLOWED, STOPS = 4000, 2500, 6  # points that figures are made of; that are watched; pictures of their way
CELLS = 240  # of the picture of the density, along each side
DRAWN, WATCHED, RULERS = range(3)  # purposes of random numbers


class RealNVP2DRecipe(Recipe):
    """Any points of the plane; where their density is known, the figure of quality has an exact floor."""

    id = "realnvp_2d"
    title = "RealNVP: bending a Gaussian of the plane"
    paper = "Dinh, Sohl-Dickstein & Bengio 2016"
    lectures = "L3 L4"
    file = "scratchgen/models/flows/coupling.py"
    dataset = "eight_gaussians"
    config_type = CouplingConfig
    name: ClassVar[str] = "RealNVP"
    affine: ClassVar[bool] = True
    train = TrainConfig(
        steps=6000, batch_size=256, lr=3e-3, warmup=50, final_lr=0.01, clip=5.0, beta2=0.99, ema_decay=0.99,
        checkpoint_every=1000, log_every=20,
    )  # fmt: skip
    options = ("temperature",)
    equations: ClassVar[tuple[tuple[str, str], ...]] = (
        ("log p(x) = log N(g(x); 0, I) + log |det J_g(x)|", "exact, and what is climbed"),
        ("z_a = x_a,  z_b = e^s(x_a)⊙x_b + t(x_a)", "one coupling: half of the numbers says how the other half moves"),
        ("log |det J| = Σ_i s_i(x_a)", "of each; they add up"),
        ("x = g⁻¹(τ·ε),  ε ~ N(0, I)", "sampling, in one pass"),
    )

    def configure(self, dataset: Dataset) -> CouplingConfig:
        if dataset.shape != (2,):
            raise RecipeError(f"{self.id}: needs points of the plane; {dataset.name} has shape {dataset.shape}")
        return CouplingConfig(shape=(2,), affine=self.affine, couplings=12)

    def build(self, config: CouplingConfig, rng: Generator) -> CouplingFlow:
        return CouplingFlow(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        return on_host(trained.system.sample(n, rng, options.get("temperature", 1.0)))

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: on all held-out points."""
        data = trained.dataset
        judged = data if thorough else Dataset(data.name, data.train[:JUDGED], data.heldout[:JUDGED])
        drawn = self.sample(trained, len(judged.heldout), trained.rng(DRAWN))
        results = Results({"drawn": drawn, "way": way(trained.system, FOLLOWED, trained.rng(WATCHED))})
        results.arrays["encoded"] = on_host(trained.system.encode(active().asarray(data.heldout[:FOLLOWED])))
        results.arrays["log_p"] = nats(trained.system, pictures.grid(CELLS))
        results.numbers["distance"] = clouds.judged(judged, {self.name: drawn}, trained.rng(RULERS))
        results.numbers["nats"] = cost(trained.system, data)
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [nats_table(results.numbers["nats"], self.name), clouds.distance_table(results.numbers["distance"])]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        n, rows = results.numbers["nats"], results.numbers["distance"]
        distance = [(f"energy distance × 1000, {self.name}", f"{1000 * rows[1]['distance']:.2f}"),
                    ("floor: points held out", f"{1000 * rows[0]['distance']:.2f}"),
                    ("ceiling: a Gaussian", f"{1000 * rows[-1]['distance']:.2f}")]  # fmt: skip
        likelihood = [(f"nats, held out, {self.name}", f"{n['heldout']:.3f} ± {n['error']:.3f}")]
        if "truth" in n:
            likelihood.append(("floor: the true density", f"{n['truth']:.3f}"))
        likelihood.append(("ceiling: a Gaussian", f"{n['gaussian']:.3f}"))
        size = [("training steps", f"{trained.step:,}"), ("parameters", f"{trained.size:,}")]
        return [*likelihood, *distance[:2], *size] if "truth" in n else [*distance[:2], *likelihood, *size]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return realnvp_2d_pictures.draw(trained, results, self.name)


class NICE2DRecipe(RealNVP2DRecipe):
    """The same with additive couplings, which keep every volume as it is, and one factor for each coordinate."""

    id = "nice_2d"
    title = "NICE: bending a Gaussian of the plane without pressing it"
    paper = "Dinh, Krueger & Bengio 2014"
    name = "NICE"
    affine = False
    equations = (
        ("log p(x) = log N(g(x); 0, I) + log |det J_g(x)|", "exact, and what is climbed"),
        ("z_a = x_a,  z_b = x_b + t(x_a)", "one coupling, |det J| = 1"),
        ("z = e^s⊙h,  log |det J| = Σ_i s_i", "at the end: the only place where volume changes, and everywhere alike"),
        ("x = g⁻¹(τ·ε),  ε ~ N(0, I)", "sampling, in one pass"),
    )


def nats(model: CouplingFlow, x: np.ndarray) -> np.ndarray:
    """log p(x) of points (N, 2): (N,) float64."""
    return on_host(model.log_prob(active().asarray(x))).astype(np.float64)


def cost(model: CouplingFlow, data: Dataset) -> dict[str, float]:
    """−log p, in nats: of held-out and of training points, and what other densities say of the same held-out points."""
    held = -nats(model, data.heldout)
    found = {
        "heldout": float(held.mean()), "error": float(held.std(ddof=1) / sqrt(len(held))), "points": len(held),
        "train": float(-nats(model, data.train).mean()), "gaussian": gaussian_cost(data),
    }  # fmt: skip
    if data.name in toys.LOG_DENSITY:
        truth = -toys.LOG_DENSITY[data.name](data.heldout)
        found["truth"] = float(truth.mean())
        found["kl_error"] = float((held - truth).std(ddof=1) / sqrt(len(held)))
    return found


def gaussian_cost(data: Dataset) -> float:
    """The same of the Gaussian with the training points' mean and covariance."""
    cov = np.cov(data.train.T.astype(np.float64))
    gap = data.heldout - data.train.mean(axis=0, dtype=np.float64)
    square = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(cov), gap)
    return float(0.5 * (square.mean() + np.linalg.slogdet(2 * np.pi * cov)[1]))


def nats_table(n: dict[str, float], name: str) -> Table:
    """The likelihood between the best there is and a Gaussian."""
    truth = [("the true density, on the same points", f"{n['truth']:.3f}", "0")] if "truth" in n else []
    own = f"{n['heldout'] - n['truth']:.3f} ± {n['kl_error']:.3f}" if truth else ""
    above = f"{n['gaussian'] - n['truth']:.3f}" if truth else ""
    rows = [*truth, (f"{name}, held out", f"{n['heldout']:.3f} ± {n['error']:.3f}", own),
            (f"{name}, training points", f"{n['train']:.3f}", ""), ("a Gaussian", f"{n['gaussian']:.3f}", above)]
    return Table(
        "Likelihood",
        f"−log p(x) in nats, the mean over {n['points']:,.0f} held-out points (± standard error): less is better. The "
        "floor, where the true density is known, is what it says of the same points, an estimate of its entropy; what "
        "is above it is KL(data‖model). The ceiling is a Gaussian of the data's mean and covariance.",
        ("", "nats", "above the floor"), rows, frozenset({0, len(rows) - 1} if truth else {len(rows) - 1}),
    )  # fmt: skip


def way(model: CouplingFlow, n: int, rng: Generator) -> np.ndarray:
    """Noise on its way to data: (stops, n, 2), evenly chosen among the states that couplings leave, noise first.

    Exchanges that are still to come are made at once, so that nothing is mirrored from one picture to the next.
    """
    flows = model.flow.flows[::-1]
    after = {i for i, flow in enumerate(flows) if isinstance(flow, Coupling)}
    states, z = [], rng.standard_normal((n, *model.noise), model.precision())
    for i, flow in enumerate(flows):
        if i == 0 or i - 1 in after:
            states.append(on_host(_exchanged(z, flows[i:])))
        z = flow.inverse(z)
    states.append(on_host(z))
    chosen = np.linspace(0, len(states) - 1, STOPS).round().astype(int)
    return np.stack([states[i] for i in chosen])


def _exchanged(z: Any, flows: list[Any]) -> Any:
    for flow in flows:
        z = flow.inverse(z) if isinstance(flow, Permutation) else z
    return z
