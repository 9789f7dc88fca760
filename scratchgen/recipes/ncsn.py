"""Noise-conditional score networks on images: train one, judge what annealed Langevin dynamics draws, and inpaint."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset
from scratchgen.metrics import ClassifierConfig
from scratchgen.models.score.ncsn import NCSN, NCSNConfig
from scratchgen.nn import UNetConfig
from scratchgen.random import Generator
from scratchgen.recipes import ncsn_pictures
from scratchgen.recipes.judge import judge
from scratchgen.recipes.quality import JUDGED, judged, quality_table, rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig
from scratchgen.train.progress import Bar
from scratchgen.train.report import Picture, Table

CHUNK = 60  # images that go through the network together: what they need stays in the cache
COMPLETED = 120  # held-out images of which one half is drawn anew
SHOWN, AGAIN = 10, 4  # of them in the picture, and how often each is drawn
NOISE, FILLED, RULERS = range(3)  # purposes of random numbers


class NCSNRecipe(Recipe):
    """Any images (H, W, C) with H and W divisible by 2; the defaults are for 8×8 digits on two cores."""

    id = "ncsn"
    title = "A noise-conditional score network (NCSN) with annealed Langevin dynamics"
    paper = "Song & Ermon 2019"
    lectures = "L2"
    file = "scratchgen/models/score/ncsn.py"
    dataset = "digits"
    config_type = NCSNConfig
    train = TrainConfig(
        steps=800, batch_size=80, shards=2, lr=8e-3, warmup=100, final_lr=0.02, clip=1.0, beta2=0.99,
        ema_decay=0.99, checkpoint_every=200, log_every=5,
    )  # fmt: skip
    options = ("steps",)
    repeated = ("net",)
    equations: ClassVar[tuple[tuple[str, str], ...]] = (
        ("σ_i = σ_1·(σ_L/σ_1)^((i−1)/(L−1))", "the levels of noise"),
        ("L = E σ²·½‖s_θ(x + σε, σ) + ε/σ‖²", "what is minimised: the score of the data at every level"),
        ("x ← x + α_i/2·s_θ(x, σ_i) + √α_i·z,  α_i = ε·σ_i²/σ_L²", "noise becomes data, one level after the other"),
        ("x ← m⊙(y + σ_i·z_i) + (1 − m)⊙x", "after each step, where y is known: inpainting"),
    )

    def configure(self, dataset: Dataset) -> NCSNConfig:
        shape = dataset.train.shape[1:]
        if len(shape) != 3 or shape[0] % 2 or shape[1] % 2:
            raise RecipeError(f"{self.id}: needs images of even height and width; {dataset.name} has {shape}")
        if len(dataset.heldout) <= ClassifierConfig().width:
            raise RecipeError(f"{self.id}: {dataset.name} holds out {len(dataset.heldout)} images, too few to judge by")
        unet = UNetConfig(channels=shape[2], base=16 if shape[0] <= 8 else 32, attention=())
        return NCSNConfig(shape=shape, unet=unet)

    def build(self, config: NCSNConfig, rng: Generator) -> NCSN:
        return NCSN(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """steps: T, at each level."""
        steps = options.get("steps") or trained.system.config.T
        with Bar("sampling", _work(n, trained.system, steps), unit="calls") as bar:
            images, _ = drawn(trained.system, n, rng, bar, steps)
        return rounded(images, trained.dataset.levels)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """thorough: with ten times the samples, in groups of the same size."""
        model, data = trained.system, trained.dataset
        referee = judge(trained.run.path, dataset=data)
        n = min(JUDGED, len(data.heldout)) * (10 if thorough else 1)
        known = data.heldout[:COMPLETED]
        shown = np.repeat(known[:SHOWN], AGAIN, axis=0)
        halves = halves_of(data.shape)
        results = Results({"real": known[:SHOWN], "masks": np.stack(list(halves.values()))})
        work = _work(n, model) + len(halves) * (_work(len(known), model) + _work(len(shown), model))
        with Bar("evaluation", work, unit="calls") as bar:
            images, frames = drawn(model, n, trained.rng(NOISE), bar, film=8)
            right = {"real, whole": _right(referee, trained, known)}
            for name, mask in halves.items():
                rng = trained.rng(FILLED)
                results.arrays[name] = filled(model, shown, mask, rng, bar).reshape(SHOWN, AGAIN, *data.shape)
                ends = rounded(filled(model, known, mask, rng, bar), data.levels)
                right[f"{name} half real, the rest drawn"] = _right(referee, trained, ends)
            for name, mask in halves.items():
                other = np.where(mask > 0, known, np.roll(known, 1, axis=0))
                right[f"{name} half real, the rest of another digit"] = _right(referee, trained, other)
        images = rounded(images, data.levels)
        results.arrays |= {"drawn": images[:100], "film": frames}
        results.numbers["right"] = right
        results.numbers["quality"] = judged(trained, {"NCSN": images}, trained.rng(RULERS))
        return results

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        right = results.numbers["right"]
        return [quality_table(results.numbers["quality"]), Table(
            "Inpainting",
            f"One half of each of {COMPLETED} held-out images is kept, the other drawn. How many of them the judge's "
            "classifier then takes for the digit that they were: the first row is what it can do at best, the last "
            "rows are what half a digit is worth to it.",
            ("images", "taken for the true digit"), [(name, f"{share:.1%}") for name, share in right.items()],
            frozenset({0, len(right) - 2, len(right) - 1}),
        )]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        quality, config = results.numbers["quality"], trained.system.config
        return [
            ("Fréchet, NCSN", f"{quality[1]['frechet']:.2f}"),
            ("floor: real, held out", f"{quality[0]['frechet']:.2f}"),
            ("ceiling: noise", f"{quality[-1]['frechet']:.0f}"),
            ("network calls", str(calls(config.levels, config.T))),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return ncsn_pictures.draw(trained, results)


def halves_of(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Masks (H, W, C), 1 where an image is known: in its left half, or its upper one."""
    left, upper = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    left[:, : shape[1] // 2], upper[: shape[0] // 2] = 1, 1
    return {"left": left, "upper": upper}


def _right(referee: Any, trained: Trained, images: np.ndarray) -> float:
    """The share of held-out images, so changed, that the classifier takes for what they were."""
    labels = trained.dataset.heldout_labels
    assert labels is not None  # the judge has refused data without
    return float(referee.accuracy(images, labels[: len(images)]))


def calls(levels: int, T: int) -> int:
    """How often the network is asked for each image: for every step, and for the last of the noise."""
    return levels * T + 1


def _work(n: int, model: NCSN, T: int | None = None) -> int:
    """Network calls that n images take, a chunk at a time."""
    return -(-n // CHUNK) * calls(model.config.levels, T or model.config.T)


def drawn(
    model: NCSN, n: int, rng: Generator, bar: Bar, T: int | None = None, film: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """n images, a chunk at a time; and the first `film` of them at the end of every level (L + 2, film, H, W, C).

    In the film they are scaled to their deviation, the first frame is the start, and the last what (4) makes of them.
    """
    starts = range(0, n, CHUNK)
    T = T or model.config.T
    sigma = [model.config.sigma_max, *model.sigma.tolist(), 0.0] if film else []

    def one(task: tuple[int, Generator]) -> tuple[np.ndarray, list[np.ndarray]]:
        start, child = task
        x = model.prior(min(CHUNK, n - start), child)
        seen = [x[:film]] if film and start == 0 else []
        end = x
        for k, end in enumerate(model.walk(x, child, T), start=1):
            bar.advance(1, "annealing")
            if seen and (k % T == 0 or k > T * model.config.levels):
                seen.append(end[:film])
        return on_host(end), [on_host(x) / (1 + s**2) ** 0.5 for x, s in zip(seen, sigma, strict=False)]

    done = side_by_side(one, zip(starts, rng.spawn(len(starts)), strict=True))
    return np.concatenate([images for images, _ in done]), np.array(done[0][1], np.float32)


def filled(model: NCSN, y: np.ndarray, mask: np.ndarray, rng: Generator, bar: Bar) -> np.ndarray:
    """Images like y that are y where the mask (H, W, C) is 1, drawn elsewhere; a chunk at a time."""
    starts = range(0, len(y), CHUNK)

    def one(task: tuple[int, Generator]) -> np.ndarray:
        known = active().asarray(y[task[0] : task[0] + CHUNK])
        where = active().asarray(np.ascontiguousarray(np.broadcast_to(mask, known.shape)))
        found = on_host(model.inpaint(known, where, task[1]))
        bar.advance(calls(model.config.levels, model.config.T), "inpainting")
        return found

    return np.concatenate(side_by_side(one, zip(starts, rng.spawn(len(starts)), strict=True)))
