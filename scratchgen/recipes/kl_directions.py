"""One Gaussian for two, by either direction of KL: what is found, beside the exact moments and the exact minima."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from scipy.optimize import minimize

from scratchgen import ops
from scratchgen.autograd import value_and_grad, value_of
from scratchgen.backend import backend
from scratchgen.data import Dataset, toys
from scratchgen.distributions import divergence
from scratchgen.models.directions import Directions, DirectionsConfig, Normal
from scratchgen.random import Generator
from scratchgen.recipes import pictures
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig, metrics_log
from scratchgen.train.report import Picture, Table

CELLS, LIMIT = 160, 7.0  # of the quadrature: midpoints of a square
COLORS = ("tab:red", "tab:green", "tab:purple")


class KLDirectionsRecipe(Recipe):
    """The mixture of the data set `two_gaussians`, whose density is known."""

    id = "kl_directions"
    title = "One Gaussian for two, by either direction of KL"
    paper = "Bishop 2006, §10.1.2"
    lectures = "L3 L4"
    file = "scratchgen/models/directions.py"
    dataset = "two_gaussians"
    config_type = DirectionsConfig
    train = TrainConfig(
        steps=1500, batch_size=256, lr=2e-2, final_lr=0.0, ema_decay=0.98, checkpoint_every=500, log_every=5,
    )  # fmt: skip
    equations = (
        ("KL(p‖q) = E_{x~p} (log p(x) − log q(x))", "forward: maximum likelihood on draws of p"),
        ("KL(q‖p) = E_ε (log q(x) − log p(x)),  x = μ + L·ε", "reverse: on draws of q, which follow μ and L"),
    )

    def configure(self, dataset: Dataset) -> DirectionsConfig:
        if dataset.name != self.dataset:
            raise RecipeError(f"{self.id}: the density must be known: use {self.dataset}, not {dataset.name}")
        weights, means, covs = (x.tolist() for x in (toys.PAIR_WEIGHTS, toys.PAIR_MEANS, toys.PAIR_COVS))
        return DirectionsConfig(tuple(weights), tuple(map(tuple, means)),
                                tuple(tuple(map(tuple, cov)) for cov in covs))  # fmt: skip

    def build(self, config: DirectionsConfig, rng: Generator) -> Directions:
        return Directions(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        return on_host(trained.system.sample(n, rng))

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """By quadrature on the host, in float64."""
        found = [(on_host(q.mu), on_host(q.factor())) for q in (trained.system.forward, *trained.system.reverse)]
        with backend("numpy"):
            return judge(trained.system.p("float64"), [at(*q) for q in found], trained.dataset)

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        rows = results.numbers["rows"]
        body = [(r["name"], *gaussian(r), f"{r['forward']:.3f}", f"{r['reverse']:.3f}") for r in rows]
        data = results.numbers["data"]
        body.insert(2, ("the data's moments", *gaussian(data), "", ""))
        w = trained.system.config.weights
        modes = ", ".join(f"{-log(x):.3f}" for x in w)
        marked = frozenset(i for i, r in enumerate(body) if "found" not in r[0])
        return [Table(
            "The Gaussians",
            "Divergences by quadrature, in nats. The forward fit has the moments of its data, and p's but for the "
            "accident of the draws. Each reverse fit sits on one mode, where it leaves about −log of that mode's "
            f"weight: {modes}. The rows in grey are exact: moments, and minima found by another search on the "
            "integral itself.",
            ("q", "mean", "deviations", "correlation", "KL(p‖q)", "KL(q‖p)"), body, marked,
        )]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        exact, found, *reverse = results.numbers["rows"]
        return [
            ("KL(p‖q), forward", f"{found['forward']:.4f}"), ("floor: p's moments", f"{exact['forward']:.4f}"),
            *((f"KL(q‖p), {r['name']}", f"{r['reverse']:.4f}") for r in reverse),
            ("training steps", f"{trained.step:,}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [_fits(trained, results), _loss(trained, results)]


def judge(p: Any, fits: list[Normal], dataset: Dataset) -> Results:
    """Both divergences of each Gaussian, forward and reverse ones, and of those that are exact."""
    line = (np.arange(CELLS) + 0.5) * (2 * LIMIT / CELLS) - LIMIT
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    area = (2 * LIMIT / CELLS) ** 2
    log_p = p.log_prob(points)

    def row(name: str, q: Any, exact: bool) -> dict[str, Any]:
        log_q = value_of(q.log_prob(points))
        return {
            "name": name, "exact": exact, "mu": value_of(q.mu).tolist(), "cov": value_of(q.cov()).tolist(),
            "forward": float(divergence.kl(log_p, log_q, area)), "reverse": float(divergence.kl(log_q, log_p, area)),
        }  # fmt: skip

    moments = divergence.moment_match(points, log_p, area)
    forward, *reverse = fits
    rows = [row("p's moments", at(moments.mu, np.linalg.cholesky(moments.cov)), True),
            row("forward, found", forward, False)]  # fmt: skip
    for i, q in enumerate(reverse, start=1):
        best = least(q, lambda q: divergence.kl(q.log_prob(points), log_p, area))
        rows += [row(f"reverse {i}, minimum", best, True), row(f"reverse {i}, found", q, False)]
    data = dataset.train.astype(float)
    return Results(numbers={
        "rows": rows, "data": {"mu": data.mean(axis=0).tolist(), "cov": np.cov(data.T, bias=True).tolist()},
    })  # fmt: skip


def at(mean: Any, factor: Any) -> Normal:
    """N(μ, L·Lᵀ) in float64."""
    q = Normal([0.0] * len(mean))
    q.mu, q.root = mean.astype(float), (np.tril(factor, -1) + np.diag(np.log(np.diag(factor)))).astype(float)
    return q


def least(q: Normal, divergence_of: Any) -> Normal:
    """The Gaussian of least divergence downhill from q, by BFGS on the integral and its gradient."""
    def unpack(v: Any) -> Normal:
        made = Normal([0.0, 0.0])
        made.mu, made.root = v[:2], ops.reshape(v[2:], (2, 2))
        return made

    slope = value_and_grad(lambda v: divergence_of(unpack(v)))

    def both(v: np.ndarray) -> tuple[float, np.ndarray]:
        y, g = slope(v)
        return float(y), g

    start = np.concatenate([q.mu, np.ravel(q.root)])
    v = minimize(both, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return unpack(v)


def gaussian(row: dict[str, Any]) -> tuple[str, str, str]:
    """Mean, deviations and correlation, in words."""
    mu, cov = np.array(row["mu"]), np.array(row["cov"])
    s = np.sqrt(np.diag(cov))
    return f"({mu[0]:.3f}, {mu[1]:.3f})", f"{s[0]:.3f}, {s[1]:.3f}", f"{cov[0, 1] / s.prod():.3f}"


def _fits(trained: Trained, results: Results) -> Picture:
    system: Directions = trained.system
    found = [r for r in results.numbers["rows"] if not r["exact"]]
    names = ["KL(p‖q): covers both"] + ["KL(q‖p): sits on one"] * (len(found) - 1)
    fig = pictures.figure(7.2, 2.9)
    for axes, row, name, color in zip(fig.subplots(1, len(found)), found, names, COLORS, strict=False):
        pictures.density(axes, lambda x: on_host(system.p().log_prob(x)), name)
        angle = np.linspace(0, 2 * np.pi, 200)
        circle = np.stack([np.cos(angle), np.sin(angle)])
        for radius in (1, 2):
            x = np.array(row["mu"])[:, None] + radius * np.linalg.cholesky(np.array(row["cov"])) @ circle
            axes.plot(*x, color=color, lw=1.6 if radius == 1 else 1.0)
        axes.plot(*row["mu"], "+", color=color)
        axes.set_xlabel(f"KL(p‖q) {row['forward']:.2f}, KL(q‖p) {row['reverse']:.2f}", fontsize=8)
    pictures.save(fig, trained.run.pictures / "fits.png")
    return Picture(
        "fits.png", "The two directions", "Blue: p. Lines: q at one and two deviations. The forward direction punishes "
        "q for lacking mass where p has it, and so it covers both; the reverse punishes mass where p has none, and so "
        "it takes the mode that is nearest to where it began.",
        "Three panels: a wide ellipse over both clouds, and a narrow one on either.",
    )  # fmt: skip


def _loss(trained: Trained, results: Results) -> Picture:
    seen = metrics_log.read(trained.run.metrics)
    fig = pictures.figure(7.2, 3.4)
    axes = fig.add_subplot()
    for column in seen:
        if column != "step":
            pictures.curve(axes, seen["step"], seen[column], column.removesuffix(".loss").replace("_", " "))
    exact = [r for r in results.numbers["rows"] if r["exact"]]
    for i, row in enumerate(exact):
        height = row["forward" if i == 0 else "reverse"]
        axes.axhline(height, color="k", lw=0.8, ls="--", label=None if i else "exact minima")
    axes.set(xlabel="step", ylabel="divergence, nats", ylim=(0, 3))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    pictures.save(fig, trained.run.pictures / "loss.png")
    return Picture(
        "loss.png", "Loss", "Each divergence, estimated on a minibatch, against its exact minimum. Thin: every logged "
        "step; thick: its running mean.",
        "Three curves falling to three dashed levels.",
    )  # fmt: skip
