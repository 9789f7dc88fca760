"""Contractive autoencoders on images: which directions their codes follow, beside those in which images really vary."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.models.latent.contractive import Contractive, ContractiveConfig, contraction
from scratchgen.random import Generator
from scratchgen.recipes import codes, contractive_pictures
from scratchgen.recipes.autoencoder import directions, pca_errors
from scratchgen.recipes.quality import rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig, train
from scratchgen.train.report import Picture, Table

TANGENTS = 8  # directions of each image that are judged
NEIGHBOURS = 16  # training images whose directions from an image are its own by the data alone
JUDGED = 360  # images held out
SHOWN, STEPS = 6, 12  # images, and steps of their walks
MOVES = "sideways", "up and down", "turning", "widening", "heightening"
DIRECTIONS, WALK = range(2)  # purposes of random numbers


class ContractiveRecipe(Recipe):
    """Images; the defaults are for 8×8 digits on two cores."""

    id = "contractive"
    title = "Contractive autoencoder, and the tangents of its code"
    paper = "Rifai, Vincent, Muller, Glorot & Bengio 2011; Rifai, Dauphin, Vincent, Bengio & Muller 2011"
    lectures = "L4"
    file = "scratchgen/models/latent/contractive.py"
    dataset = "digits"
    samplers: ClassVar[dict[str, dict[str, Any]]] = {}  # not in the chart: walks from given images
    config_type = ContractiveConfig
    train = TrainConfig(
        steps=1000, batch_size=64, lr=4e-3, warmup=20, final_lr=0.02, ema_decay=0.98, checkpoint_every=250, log_every=5,
    )  # fmt: skip
    equations = (
        ("L = ‖x − x̂‖² + λ·‖∂c/∂x‖²_F", "the code should tell images apart, and otherwise not move"),
        ("J = ∂c/∂x = U·D·Vᵀ", "what it still moves along: rows of Vᵀ, the tangents"),
        ("c' = c + J·Jᵀ·ε", "a walk along them"),
    )

    def configure(self, dataset: Dataset) -> ContractiveConfig:
        if len(dataset.shape) != 3 or min(dataset.shape[:2]) < 3:
            raise RecipeError(f"{self.id}: needs images; {dataset.name} has examples {dataset.shape}")
        if len(dataset.train) < NEIGHBOURS or prod(dataset.shape) < TANGENTS:
            raise RecipeError(f"{self.id}: {dataset.name} is too small to have tangents")
        return ContractiveConfig(shape=dataset.shape)

    def build(self, config: ContractiveConfig, rng: Generator) -> Contractive:
        return Contractive(config, rng=rng)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """Images where walks from n training images have come."""
        train = trained.dataset.train
        x = active().asarray(train[np.arange(n) * max(1, len(train) // n) % len(train)])
        return rounded(on_host(trained.system.sample(x, rng)), trained.dataset.levels)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        data, model = trained.dataset, trained.system
        plain = self._plain(trained)
        x = data.heldout[:JUDGED]
        up = active().asarray(x)
        chosen = codes.one_of_each(None if data.heldout_labels is None else data.heldout_labels[:JUDGED], SHOWN)
        own, free = (on_host(net.tangents(up, TANGENTS)) for net in (model, plain))
        walk = [x[chosen], *(on_host(one) for one in model.walk(up[chosen], trained.rng(WALK), STEPS - 1))]
        results = Results({
            "original": x[chosen], "tangents": own[chosen], "free": free[chosen], "walk": np.stack(walk, axis=1),
            "singular": singular(model, up), "free_singular": singular(plain, up),
        })  # fmt: skip
        noise = on_host(trained.rng(DIRECTIONS).standard_normal((len(x), x[0].size, TANGENTS), "float64"))
        moved = changes(x)
        results.numbers["shares"] = {
            "random directions": shares(np.swapaxes(np.linalg.qr(noise)[0], 1, 2), moved),
            "without the penalty": shares(free, moved),
            "PCA": shares(directions(data.train).components[None, :TANGENTS], moved),
            "contractive": shares(own, moved),
            f"{NEIGHBOURS} neighbours": shares(neighbourly(x, data.train), moved),
        }
        pixels = prod(data.shape)
        results.numbers["nets"] = {
            name: {"error": float(on_host(net.error(up)).mean()) / pixels,
                   "contraction": float(on_host(contraction(net.jacobian(up))).mean())}
            for name, net in (("contractive", model), ("without the penalty", plain))
        }  # fmt: skip
        results.numbers["pca"] = pca_errors(data.train, x)[:: TANGENTS][:2]
        return results

    def _plain(self, trained: Trained) -> Contractive:
        """The same network from the same start, trained as long without the penalty."""
        config = trained.run.config.train
        net = Contractive(replace(trained.system.config, contraction=0.0), rng=Generator(config.seed))
        net = net.astype(np.dtype(config.dtype))
        result = train(net, trained.dataset.train, config, progress=False, name="without the penalty")
        return net.frozen(result.average)

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        return [share_table(results.numbers["shares"]), net_table(results.numbers)]

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        share = {name: np.mean(row) for name, row in results.numbers["shares"].items()}
        return [
            (f"shifts and turns seen by {TANGENTS} tangents", f"{share['contractive']:.1%}"),
            ("floor: random directions", f"{share['random directions']:.1%}"),
            ("without the penalty", f"{share['without the penalty']:.1%}"),
            (f"ceiling: {NEIGHBOURS} nearest images", f"{share[f'{NEIGHBOURS} neighbours']:.1%}"),
            ("training steps", f"{trained.step:,}"),
            ("parameters", f"{trained.size:,}"),
        ]

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return contractive_pictures.draw(trained, results)


def changes(x: np.ndarray) -> np.ndarray:
    """How images (N, H, W, C) change when they are moved in the ways of `MOVES`, (N, 5, D), by their differences.

    An image moved by s·u(place) is x − s·(u_0·∂x/∂row + u_1·∂x/∂column): for a turn u is at right angles to the place.
    """
    h, w = x.shape[1:3]
    down, right = np.gradient(x.astype(np.float64), axis=(1, 2))
    rows, columns = np.meshgrid(np.arange(h) - (h - 1) / 2, np.arange(w) - (w - 1) / 2, indexing="ij")
    rows, columns = rows[..., None], columns[..., None]
    found = [right, down, rows * right - columns * down, columns * right, rows * down]
    return np.stack(found, axis=1).reshape(len(x), len(MOVES), -1)


def shares(basis: np.ndarray, moved: np.ndarray) -> list[float]:
    """Σ_r (v_r·m)²/‖m‖² for each way to move, over all images in the mean: 1 where every change m lies among the v.

    basis: orthonormal v (N or 1, r, D).  moved: (N, ways, D).  A change that is none is not counted.
    """
    along = np.square(moved @ np.swapaxes(basis, 1, 2)).sum(axis=-1)
    whole = np.square(moved).sum(axis=-1)
    return [float((a[m > 0] / m[m > 0]).mean()) for a, m in zip(along.T, whole.T, strict=True)]


def neighbourly(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The main directions (N, r, D) from each image to the training images nearest to it: tangents by data alone."""
    from scipy.spatial.distance import cdist

    flat, known = (a.reshape(len(a), -1).astype(np.float64) for a in (x, train))
    nearest = np.argsort(cdist(flat, known), axis=1)[:, :NEIGHBOURS]
    return np.linalg.svd(known[nearest] - flat[:, None], full_matrices=False)[2][:, :TANGENTS]


def singular(model: Contractive, x: Any) -> np.ndarray:
    """The singular values of the code's Jacobian, largest first, in the mean over x."""
    return np.linalg.svd(on_host(model.jacobian(x)), compute_uv=False).mean(axis=0)


def share_table(found: dict[str, list[float]]) -> Table:
    """The shares of `evaluate`, a row for each set of directions."""
    return Table(
        "Tangents",
        f"How much of what small moves change in an image lies in {TANGENTS} directions: those in which the code of "
        "that image changes fastest, with the penalty and without; the first principal directions, for all images the "
        "same; those to its nearest training images (the ceiling, from the data alone); random ones (the floor).",
        ("directions", *MOVES, "mean"),
        [(name, *(f"{s:.1%}" for s in row), f"{np.mean(row):.1%}") for name, row in found.items()],
        frozenset({0, len(found) - 1}),
    )  # fmt: skip


def net_table(numbers: dict[str, Any]) -> Table:
    """What the penalty costs."""
    rows = [(name, f"{net['error']:.4f}", f"{net['contraction']:.2f}") for name, net in numbers["nets"].items()]
    whole, pca = numbers["pca"]
    return Table(
        "What it costs",
        "Images held out: the squared error per pixel, and ‖∂c/∂x‖²_F.",
        ("", "error", "contraction"),
        [*rows, (f"PCA, {TANGENTS} numbers", f"{pca:.4f}", "–"), ("the mean image", f"{whole:.4f}", "0")],
        frozenset({2, 3}),
    )
