"""A deep energy model of the plane: its density, with the constant a sum over a grid, and what four samplers make."""

from __future__ import annotations

from dataclasses import replace
from math import log, pi
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset, toys
from scratchgen.models.energy import EBM, EBMConfig
from scratchgen.models.energy.deep import KERNELS
from scratchgen.random import Generator
from scratchgen.recipes import clouds, ebm_2d_pictures, pictures
from scratchgen.recipes.recipe import KEEPS_CHAINS, Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

CELLS, REACH = 300, 5.0  # of the grid: a square of [−5, 5]²
JUDGED = 2000  # chains, and points of the data, that figures are made of
STEPS = 100  # of a chain, for a sample
LENGTHS = (0.002, 0.005, 0.01, 0.02, 0.05)  # ε, tried out
TRIED, TRIES = 1000, 50  # chains from the model's own law, and their steps, for each ε
PATHS = 6  # chains whose way is drawn
NAMES = {"langevin": "Langevin", "mala": "MALA", "jump": "MALA with jumps", "metropolis": "Metropolis"}
NOISE, INIT, GRID, LENGTH, RULERS, WAYS = range(6)  # purposes of random numbers


class EBM2DRecipe(Recipe):
    """Any toy of the plane."""

    id = "ebm_2d"
    title = "A deep energy model of the plane"
    paper = "Du & Mordatch 2019; Nijkamp et al. 2019; Roberts & Tweedie 1996"
    lectures = "L2"
    file = "scratchgen/models/energy/deep.py"
    dataset = "eight_gaussians"
    config_type = EBMConfig
    train = TrainConfig(
        steps=1500, batch_size=256, lr=3e-3, final_lr=0.02, beta1=0.5, ema_decay=0.99, checkpoint_every=500,
        log_every=10,
    )  # fmt: skip
    whole = KEEPS_CHAINS
    options = ("steps", "solver")
    repeated = ("f", "score")
    samplers: ClassVar[dict[str, dict[str, Any]]] = {name: {"solver": kernel} for kernel, name in NAMES.items()}
    equations = (
        ("p(x) = e^f(x)/Z,  f(x) = g_θ(x) − ‖x‖²/(2s²)", "any network g_θ; its constant Z is not needed to learn"),
        ("∇log p(x) = ∇f(x) − E ∇f(x⁻)", "in θ: up at the data, down where the chains are"),
        ("x' = x + ε·∇f(x) + √(2ε)·z", "a step of a chain: Langevin's; refused as often as it must be, MALA's"),
        ("a = min(1, p(x')·q(x|x') / (p(x)·q(x'|x)))", "how often a step is taken: Z is gone from the quotient"),
    )

    def configure(self, dataset: Dataset) -> EBMConfig:
        if dataset.shape != (2,):
            raise RecipeError(f"{self.id}: needs points of the plane; {dataset.name} has examples of {dataset.shape}")
        return EBMConfig(shape=(2,))

    def build(self, config: EBMConfig, rng: Generator) -> EBM:
        return EBM(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """solver: langevin, mala, jump or metropolis; steps: of the chain, from N(0, s²I)."""
        kernel = options.get("solver", "jump")
        if kernel not in KERNELS:
            raise RecipeError(f"{self.id}: --solver {kernel} is not one of {', '.join(KERNELS)}")
        return on_host(trained.system.sample(n, rng, options.get("steps", STEPS), kernel))

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: chains of ten times the length."""
        model: EBM = trained.system
        data, results = trained.dataset, Results()
        steps = 10 * STEPS if thorough else STEPS
        few = replace(data, train=data.train[: 2 * JUDGED], heldout=data.heldout[:JUDGED])
        law = Law(model, trained.rng(GRID))
        samples = {"EBM, drawn on the grid": law.draw(JUDGED)}
        accepted: dict[str, float | None] = {}
        begin = model.prior(JUDGED, trained.rng(INIT))
        with Bar("evaluation", len(NAMES) * steps + 2 * TRIES * len(LENGTHS), unit="steps") as bar:
            for kernel, name in NAMES.items():
                shares = []
                for state in model.walk(begin, trained.rng(NOISE), steps, kernel):
                    shares.append(float(state.accepted.mean()))
                    bar.advance(1, name)
                samples[f"EBM, {name}"] = results.arrays[name] = on_host(state.x)
                accepted[f"EBM, {name}"] = None if kernel == "langevin" else float(np.mean(shares))
            results.numbers["lengths"] = [self._length(trained, law, epsilon, bar) for epsilon in LENGTHS]
        results.numbers["likelihood"] = likelihood(model, law, data)
        results.numbers["distance"] = clouds.judged(few, samples, trained.rng(RULERS))
        results.numbers["accepted"], results.numbers["steps"] = accepted, steps
        start = model.prior(PATHS, trained.rng(WAYS))
        ways = [on_host(state.x) for state in model.walk(start, trained.rng(WAYS), STEPS, "langevin")]
        results.arrays["paths"] = np.array([on_host(start), *ways])
        return results

    def _length(self, trained: Trained, law: Law, epsilon: float, bar: Bar) -> dict[str, Any]:
        """Chains from the model's own law: how often a step of this length is taken, and where f goes."""
        found: dict[str, Any] = {"epsilon": epsilon}
        model = EBM(replace(trained.system.config, epsilon=epsilon), rng=Generator(0))
        model.net = trained.system.net
        begin = active().asarray(law.draw(TRIED))
        for kernel in ("langevin", "mala"):
            shares, height = [], []
            for i, state in enumerate(model.walk(begin, trained.rng(LENGTH), TRIES, kernel)):
                shares.append(float(state.accepted.mean()))
                if i >= TRIES // 2:
                    height.append(float(trained.system.f(state.x).mean()))
                bar.advance(1, f"ε = {epsilon}")
            found[kernel] = {"accepted": float(np.mean(shares)), "gap": float(np.mean(height)) - law.mean_f}
        return found

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        numbers = results.numbers
        distances = clouds.distance_table(numbers["distance"])
        accepted = numbers["accepted"]
        share = lambda name: "" if accepted.get(name) is None else f"{accepted[name]:.0%}"  # noqa: E731
        rows = [(*row, share(row[0])) for row in distances.rows]
        caption = (f"{distances.caption} Chains: {JUDGED:,}, of {numbers['steps']} steps from N(0, s²I). The grid's "
                   "draws have no chain's faults, only the network's.")  # fmt: skip
        return [likelihood_table(numbers["likelihood"]),
                replace(distances, caption=caption, head=(*distances.head, "steps taken"), rows=rows),
                length_table(numbers["lengths"])]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        found, rows = results.numbers["likelihood"], {r["name"]: r["distance"] for r in results.numbers["distance"]}
        taken = results.numbers["accepted"]["EBM, MALA"]
        exact = [] if found["exact"] is None else [("the data's own density", f"{found['exact']:.3f}")]
        return [
            ("energy distance × 1000, MALA with jumps", f"{1000 * rows['EBM, MALA with jumps']:.2f}"),
            ("floor: data, held out", f"{1000 * rows[clouds.FLOOR]:.2f}"),
            ("log p, held out, nats", f"{found['model']:.3f}"), *exact,
            ("a Gaussian", f"{found['gaussian']:.3f}"), ("MALA: steps taken", f"{taken:.0%}"),
            ("training steps", f"{trained.step:,}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [ebm_2d_pictures.energy(trained, results), ebm_2d_pictures.by_kernel(trained, results, NAMES),
                ebm_2d_pictures.lengths(trained, results), ebm_2d_pictures.learning(trained)]  # fmt: skip


class Law:
    """e^f/Z on a grid, with Z the sum over it.  log_Z; mean_f: E f under p, in nats."""

    def __init__(self, model: EBM, rng: Generator) -> None:
        self.points = pictures.grid(CELLS, REACH)
        f = on_host(model.f(active().asarray(self.points))).astype(np.float64)
        self.width = 2 * REACH / (CELLS - 1)
        self.log_Z = float(np.logaddexp.reduce(f) + 2 * log(self.width))
        self.p = np.exp(f - np.logaddexp.reduce(f))
        self.mean_f = float(self.p @ f)
        self.rng = rng

    def draw(self, n: int) -> np.ndarray:
        """n points of the plane, each somewhere in the cell that was drawn."""
        chosen = np.searchsorted(np.cumsum(self.p), on_host(self.rng.random((n,), "float64")))
        within = on_host(self.rng.random((n, 2), "float64")) - 0.5
        return (self.points[np.minimum(chosen, len(self.p) - 1)] + self.width * within).astype(np.float32)


def likelihood(model: EBM, law: Law, data: Dataset) -> dict[str, Any]:
    """The mean of log p of the held-out points: the model's, the data's own where it is known, and a Gaussian's."""
    f = on_host(model.f(active().asarray(data.heldout)))
    exact = toys.LOG_DENSITY.get(data.name)
    cov = np.cov(data.train.T.astype(np.float64))
    apart = data.heldout - data.train.mean(axis=0)
    quadratic = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(cov), apart).mean()
    return {
        "model": float(f.mean()) - law.log_Z, "log_Z": law.log_Z,
        "exact": None if exact is None else float(exact(data.heldout).mean()),
        "gaussian": float(-0.5 * (quadratic + np.linalg.slogdet(cov)[1]) - log(2 * pi)),
    }  # fmt: skip


def likelihood_table(found: dict[str, Any]) -> Table:
    """Between the data's own density and a Gaussian."""
    own = [] if found["exact"] is None else [("the density that the data were drawn from", f"{found['exact']:.3f}")]
    rows = [*own, ("EBM", f"{found['model']:.3f}"), ("a Gaussian", f"{found['gaussian']:.3f}")]
    return Table(
        "Likelihood",
        f"The mean of log p(x) of points held out, in nats. The model's Z is the sum over a grid of {CELLS}² points: "
        "in the plane that can be done, and only here is it used. The marked rows are what can be reached, and a "
        "Gaussian with the data's mean and covariance.",
        ("", "log p"), rows, frozenset({len(rows) - 1, *range(len(own))}),
    )  # fmt: skip


def length_table(rows: list[dict[str, Any]]) -> Table:
    """What a step's length does to Langevin's chains, and to MALA's."""
    return Table(
        "Langevin and MALA by step",
        f"{TRIED:,} chains that start from the model's own law, drawn on the grid; {TRIES} steps. E f should stay what "
        "it is. Langevin's steps of finite length lead away from it, the farther the longer; MALA's do not, but the "
        "longer they are, the fewer are taken.",
        ("ε", "Langevin: E f off by", "MALA: E f off by", "MALA: steps taken"),
        [(f"{r['epsilon']:g}", f"{r['langevin']['gap']:+.3f}", f"{r['mala']['gap']:+.3f}",
          f"{r['mala']['accepted']:.0%}") for r in rows],
    )  # fmt: skip
