"""Score-based models in continuous time, on images: train, sample in many ways, ask for the likelihood."""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset
from scratchgen.metrics import ClassifierConfig, Reference
from scratchgen.models.flows.dequantise import bits_per_dim
from scratchgen.models.score import matching, samplers
from scratchgen.models.score.score_sde import ScoreSDE, ScoreSDEConfig
from scratchgen.nn import UNetConfig
from scratchgen.random import Generator
from scratchgen.recipes import score_sde_pictures
from scratchgen.recipes.judge import judge
from scratchgen.recipes.quality import JUDGED, histogram_bits, judged, quality_table, rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Table

CHUNK = 60  # images that go through the network together: what they need stays in the cache
FRAMES = 40
PLAN: dict[str, tuple[str, int]] = {
    "PC, 50 steps": ("pc", 50), "Euler–Maruyama, 50 steps": ("em", 50), "ODE, Heun, 10 steps": ("heun", 10),
    "ODE, RK45": ("rk45", 0),
}  # fmt: skip
GRID = {"pc": (5, 10, 25, 50, 100), "em": (10, 20, 50, 100, 200), "euler": (10, 20, 50, 100), "heun": (5, 10, 25, 50)}
BITS_STEPS = 8  # of Runge and Kutta's, for the likelihood
EXACT, PROBES = 2, 16  # images whose trace is taken exactly, and estimated so often
NOISE, INIT, BITS, RULERS, FORWARD = range(5)  # purposes of random numbers


class ScoreSDERecipe(Recipe):
    """Any images (H, W, C) with H and W divisible by 2; the defaults are for 8×8 digits on two cores."""

    id = "score_sde"
    title = "Score-based SDE, variance preserving (VP)"
    paper = "Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2021"
    lectures = "L2"
    file = "scratchgen/models/score/score_sde.py"
    dataset = "digits"
    config_type = ScoreSDEConfig
    noise: ClassVar[str] = "vp"
    train = TrainConfig(
        steps=600, batch_size=80, shards=2, lr=8e-3, warmup=100, final_lr=0.02, clip=1.0, beta2=0.99,
        ema_decay=0.99, checkpoint_every=200, log_every=5,
    )  # fmt: skip
    options = ("steps", "solver")
    repeated = ("net",)
    samplers: ClassVar[dict[str, dict[str, Any]]] = {
        name: {"solver": solver, **({"steps": steps} if steps else {})} for name, (solver, steps) in PLAN.items()
    }
    equations = (
        ("dx = f dt + g dw", "data become noise"),
        ("L = E σ²‖s_θ(x_t, t) + ε/σ‖²", "what is minimised"),
        ("dx = (f − g²·s_θ) dt + g dw̄", "noise becomes data: Euler–Maruyama; PC corrects each step by Langevin's"),
        ("dx/dt = f − ½g²·s_θ = v", "the same densities without noise: the probability flow (ODE)"),
        ("log p_0(x_0) = log p_1(x_1) + ∫ tr ∇v dt", "the likelihood, along the flow"),
    )

    def configure(self, dataset: Dataset) -> ScoreSDEConfig:
        shape = dataset.train.shape[1:]
        if len(shape) != 3 or shape[0] % 2 or shape[1] % 2 or dataset.levels is None:
            raise RecipeError(f"{self.id}: needs images of even height and width; {dataset.name} has {shape}")
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"{self.id}: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        unet = UNetConfig(channels=shape[2], base=16 if shape[0] <= 8 else 32, attention=())
        return ScoreSDEConfig(sde=self.noise, levels=dataset.levels, shape=shape, unet=unet)

    def build(self, config: ScoreSDEConfig, rng: Generator) -> ScoreSDE:
        return ScoreSDE(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """solver: one of `samplers.SOLVERS`; steps: of those that do not choose their own."""
        solver, steps = options.get("solver", "pc"), options.get("steps")
        if solver not in samplers.SOLVERS:
            raise RecipeError(f"{self.id}: --solver {solver} is not one of {', '.join(samplers.SOLVERS)}")
        if solver in samplers.ADAPTIVE and steps is not None:
            raise RecipeError(f"{self.id}: --solver {solver} chooses its steps; it takes no --steps")
        steps = steps or 50
        with Bar("sampling", _work(n, solver, steps), unit="calls") as bar:
            return drawn(trained.system, trained.system.prior(n, rng), rng, solver, steps, bar)[0]

    def evaluate(self, trained: Trained, thorough: bool) -> Results:
        model: ScoreSDE = trained.system
        results, samples = Results(), {}
        heldout = trained.dataset.heldout[:JUDGED]
        n = len(heldout)
        referee = judge(trained.run.path, dataset=trained.dataset)
        x1 = model.prior(n, trained.rng(INIT))
        grid = [(solver, steps) for solver, row in GRID.items() for steps in row] if thorough else []
        work = [*PLAN.values(), *grid]
        total = sum(_work(n, *way) for way in work) + _work(n, "rk4", BITS_STEPS)
        with Bar("evaluation", total, unit="calls") as bar:
            calls = {}
            for name, (solver, steps) in PLAN.items():
                film = 10 if solver == "pc" else 0
                images, frames, calls[name] = drawn(model, x1, trained.rng(NOISE), solver, steps, bar, film)
                samples[name] = results.arrays[name] = images
                if film:
                    results.arrays["film"] = frames
            if grid:
                reference = Reference(trained.dataset.train, referee)
                results.numbers["grid"] = [
                    {"solver": solver, "calls": steps * samplers.CALLS[solver], "frechet": reference.quality(
                        drawn(model, x1, trained.rng(NOISE), solver, steps, bar)[0]).frechet}
                    for solver, steps in grid
                ]  # fmt: skip
            results.numbers["calls"] = calls
            results.numbers["bits"] = self._bits(trained, bar)
        results.arrays = {name: images[:100] for name, images in results.arrays.items()}
        results.arrays["forward"] = self._forward(trained, heldout[:4])
        results.numbers["quality"] = judged(trained, samples, trained.rng(RULERS))
        return results

    def _bits(self, trained: Trained, bar: Bar) -> dict[str, float]:
        """Bits per pixel of the held-out images, and of a few of them with the trace exact and estimated."""
        model, rng = trained.system, trained.rng(BITS)
        heldout = trained.dataset.heldout

        def cost(x0: Any, u: Any, probe: Any) -> np.ndarray:
            return on_host(bits_per_dim(model.code(x0, u, BITS_STEPS, probe).bound, model.dims)).astype(float)

        def one(task: tuple[int, Generator]) -> np.ndarray:
            x0 = active().asarray(heldout[task[0] : task[0] + CHUNK])
            found = cost(x0, task[1].random((1, *x0.shape)), matching.signs(x0, task[1]))
            bar.advance(samplers.CALLS["rk4"] * BITS_STEPS, "the likelihood")
            return found

        pieces = range(0, len(heldout), CHUNK)
        bits = np.concatenate(side_by_side(one, zip(pieces, rng.spawn(len(pieces)), strict=True)))
        few, (child,) = heldout[:EXACT], rng.spawn(1)
        u = on_host(child.random((1, *few.shape)))

        def several(probes: int) -> tuple[Any, Any]:
            return tuple(active().asarray(np.repeat(x, probes, axis)) for x, axis in ((few, 0), (u, 1)))

        axes = sqrt(model.dims) * np.tile(np.eye(model.dims, dtype=few.dtype), (EXACT, 1))  # E v·vᵀ = I: exact
        exact = cost(*several(model.dims), active().asarray(axes.reshape(-1, *few.shape[1:])))
        many, draws = several(PROBES)
        estimated = cost(many, draws, matching.signs(many, child)).reshape(EXACT, PROBES)
        return {
            "bits": float(bits.mean()), "error": float(bits.std(ddof=1) / sqrt(len(bits))), "images": len(bits),
            "exact": float(exact.mean()), "estimated": float(estimated.mean()),
            "spread": float(estimated.std(axis=1, ddof=1).mean() / sqrt(EXACT * PROBES)),
        }  # fmt: skip

    def _forward(self, trained: Trained, x0: np.ndarray, frames: int = 12) -> np.ndarray:
        """Images on their way to noise, one draw of it for all times: (times, n, H, W, C), scaled to their width."""
        model = trained.system
        eps = on_host(trained.rng(FORWARD).standard_normal(x0.shape))
        found = []
        for t in np.linspace(model.t0, 1.0, frames):
            a, sigma = (float(c) for c in model.sde.marginal(float(t)))
            found.append((a * x0 + sigma * eps) / max(1.0, model.width(float(t))))
        return np.array(found, np.float32)

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        numbers = results.numbers
        found = [quality_table(numbers["quality"]), calls_table(numbers["calls"]),
                 bits_table(numbers["bits"], trained.dataset)]  # fmt: skip
        return found + ([grid_table(numbers["grid"], numbers["quality"])] if "grid" in numbers else [])

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality, bits = results.numbers["quality"], results.numbers["bits"]
        return [
            ("Fréchet, PC", f"{quality[1]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: noise", f"{quality[-1]['frechet']:.0f}"),
            ("bits per pixel", f"{bits['bits']:.3f} ± {bits['error']:.3f}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Any]:
        return score_sde_pictures.draw(trained, results)


class ScoreSDEVERecipe(ScoreSDERecipe):
    """The same with noise that explodes."""

    id = "score_sde_ve"
    title = "Score-based SDE, variance exploding (VE)"
    noise = "ve"


class ScoreSDESubVPRecipe(ScoreSDERecipe):
    """The same with less noise on the way."""

    id = "score_sde_subvp"
    title = "Score-based SDE, sub-VP"
    noise = "subvp"


def _work(n: int, solver: str, steps: int) -> int:
    """Network calls that n images take; a guess for those that choose their steps."""
    return -(-n // CHUNK) * (samplers.CALLS[solver] * steps if solver in samplers.CALLS else 50)


def drawn(
    model: ScoreSDE, x1: Any, rng: Generator, solver: str, steps: int, bar: Bar, film: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Images (n, H, W, C) from x1, a chunk at a time; the frames (F, film, H, W, C) of the first; calls of the last."""
    pieces = range(0, x1.shape[0], CHUNK)
    every = max(1, steps // FRAMES)

    def one(task: tuple[int, Generator]) -> tuple[np.ndarray, list[np.ndarray], int]:
        start, child = task
        x = x1[start : start + CHUNK]
        if solver in samplers.ADAPTIVE:
            x, calls = model.jump(solver, x)
            bar.advance(50, f"{solver}, {calls} calls")
            return on_host(x), [], calls
        frames = [on_host(x[:film]) / model.width(1.0)] if film and start == 0 else []
        walk = model.walk(solver, steps, child, x)
        for k in range(1, steps + 1):
            x = next(walk)
            bar.advance(samplers.CALLS[solver], f"{solver}, {steps} steps")
            if frames and (k % every == 0 or k == steps):
                frames.append(on_host(x[:film]) / max(1.0, model.width(1 + k * (model.t0 - 1) / steps)))
        return on_host(x), frames, samplers.CALLS[solver] * steps

    done = side_by_side(one, zip(pieces, rng.spawn(len(pieces)), strict=True))
    images = np.concatenate([images for images, *_ in done])
    return rounded(images, model.config.levels), np.array(done[0][1]), max(calls for *_, calls in done)


def calls_table(calls: dict[str, int]) -> Table:
    """What each sampler costs."""
    return Table(
        "Cost", "How often each sampler asks the network for the score of an image.", ("sampler", "network calls"),
        [(name, str(n)) for name, n in calls.items()],
    )  # fmt: skip


def bits_table(bits: dict[str, float], dataset: Dataset) -> Table:
    """The likelihood beside two codes that are no model of images."""
    levels = dataset.levels or 256
    return Table(
        "Likelihood",
        f"Bits per pixel of {bits['images']:.0f} held-out images (± standard error), an upper limit of the code's "
        "length: grey levels spread over their bins by one draw of noise, the density by the probability flow, the "
        "trace by Hutchinson's estimate, one probe an image. Below, the first "
        f"{EXACT} images alone, with the trace exact, and estimated by {PROBES} probes (± standard error).",
        ("", "bits per pixel"),
        [("the model", f"{bits['bits']:.3f} ± {bits['error']:.3f}"),
         ("a histogram per pixel", f"{histogram_bits(dataset):.3f}"),
         (f"uniform, log₂ {levels}", f"{np.log2(levels):.3f}"),
         (f"{EXACT} images, exact trace", f"{bits['exact']:.3f}"),
         (f"{EXACT} images, estimated", f"{bits['estimated']:.3f} ± {bits['spread']:.3f}")],
        frozenset({1, 2}),
    )  # fmt: skip


def grid_table(grid: list[dict[str, Any]], quality: list[dict[str, Any]]) -> Table:
    """Fréchet distance by sampler and calls."""
    rows = [(r["solver"], str(r["calls"]), f"{r['frechet']:.2f}") for r in grid]
    floor, ceiling = (f"{quality[i]['frechet']:.2f}" for i in (0, -1))
    rows = [("floor: real, held out", "", floor), *rows, ("ceiling: noise", "", ceiling)]
    return Table(
        "Fréchet distance by calls", "All from the same x_1; pc and em draw noise of their own.",
        ("sampler", "network calls", "Fréchet"), rows, frozenset({0, len(rows) - 1}),
    )  # fmt: skip
