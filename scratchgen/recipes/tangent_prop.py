"""Tangent Prop: a classifier is told how images may move, and asked of images that are moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.models.latent.contractive import Contractive, ContractiveConfig
from scratchgen.models.latent.tangent_classifier import TangentClassifier, TangentConfig
from scratchgen.random import Generator
from scratchgen.recipes import codes, pictures
from scratchgen.recipes.contractive import MOVES, ContractiveRecipe, changes
from scratchgen.recipes.quality import rounded
from scratchgen.recipes.recipe import Recipe, RecipeError, Results, Trained, on_host
from scratchgen.train import TrainConfig, metrics_log, train
from scratchgen.train.report import Picture, Table

UNITS = np.array([0.5, 0.5, 0.15, 0.15, 0.15])
"""Of each of MOVES: half a pixel, or what moves a place by 0.15 of its distance from the middle."""
FAR = 0.0, 0.25, 0.5, 0.75, 1.0, 1.5  # how many units images are moved, in the mean square
ASKED = 2  # of FAR, for the figure
MOVED, RANDOM, MORE = range(3)  # purposes of random numbers
OWN, PLAIN, COPIES = "Tangent Prop", "without the penalty", "taught with moved images"


class TangentPropRecipe(Recipe):
    """Images of classes; the defaults are for 8×8 digits on two cores."""

    id = "tangent_prop"
    title = "Tangent Prop: a classifier that is told how images may move"
    paper = "Simard, Victorri, LeCun & Denker 1992; Rifai, Dauphin, Vincent, Bengio & Muller 2011"
    lectures = "L4"
    file = "scratchgen/models/latent/tangent_classifier.py"
    dataset = "digits"
    samplers: ClassVar[dict[str, dict[str, Any]]] = {}  # not in the chart: moves given images
    config_type = TangentConfig
    train = TrainConfig(steps=800, batch_size=64, lr=3e-3, final_lr=0.02, checkpoint_every=200, log_every=5)
    equations = (
        ("Ω = Σ_j ‖(∂f/∂x)·v_j‖²", "how much the answer f changes along the tangents v"),
        ("L = −log p(y|x) + λ·Ω", "what is minimised"),
    )

    def configure(self, dataset: Dataset) -> TangentConfig:
        if len(dataset.shape) != 3 or min(dataset.shape[:2]) < 3 or dataset.train_labels is None:
            raise RecipeError(f"{self.id}: needs labelled images; {dataset.name} has examples {dataset.shape}")
        if dataset.heldout_labels is None:
            raise RecipeError(f"{self.id}: {dataset.name} holds out no labels")
        return TangentConfig(shape=dataset.shape, classes=int(dataset.train_labels.max()) + 1)

    def build(self, config: TangentConfig, rng: Generator) -> TangentClassifier:
        return TangentClassifier(config, rng=rng)

    def examples(self, dataset: Dataset) -> Any:
        """Images, their labels, and their tangents: how they change when they are moved by a unit."""
        return dataset.train, dataset.train_labels, tangents(dataset.train)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> np.ndarray:
        """No new images, a classifier has none: images held out, really moved, as it is asked of."""
        x = trained.dataset.heldout
        return rounded(moved(x[np.arange(n) % len(x)], FAR[ASKED], rng), trained.dataset.levels)

    def evaluate(self, trained: Trained, thorough: bool = False) -> Results:
        """Accuracies on images held out, further and further moved, of networks that differ in their tangents only."""
        data, config, settings = trained.dataset, trained.system.config, trained.run.config.train
        asked = [moved(data.heldout, far, trained.rng(MOVED)) for far in FAR]
        x, labels, v = self.examples(data)
        noise = on_host(trained.rng(RANDOM).standard_normal(v.shape, "float32"))
        sizes = np.linalg.norm(v, axis=-1, keepdims=True)
        code = sizes * self._code(trained, v.shape[1])
        noise = sizes * noise / np.linalg.norm(noise, axis=-1, keepdims=True)
        more = np.concatenate([moved(x, FAR[ASKED], rng) for rng in trained.rng(MORE).spawn(5)])
        taught = {
            PLAIN: (x, labels, v, 0.0), "random directions": (x, labels, noise, config.weight),
            "tangents of a code": (x, labels, code, config.weight), OWN: None,
            COPIES: (more, np.tile(labels, 5), np.zeros((len(more), 1, x[0].size), x.dtype), 0.0),
        }  # fmt: skip
        found = {}
        for name, lesson in taught.items():
            system = trained.system
            if lesson is not None:
                system = TangentClassifier(replace(config, weight=lesson[3]), rng=Generator(settings.seed))
                train(system, lesson[:3], settings, progress=False, name=name)
            found[name] = [accuracy(system, images, data.heldout_labels) for images in asked]
        chosen = codes.one_of_each(data.train_labels, 5)
        shown = slice(None, 10 * max(1, len(data.heldout) // 10), max(1, len(data.heldout) // 10))
        return Results({
            "images": x[chosen], "tangents": v[chosen].reshape(5, -1, *data.shape), "moved": asked[ASKED][shown],
            "unmoved": data.heldout[shown],
        }, {"accuracy": found})  # fmt: skip

    def _code(self, trained: Trained, r: int) -> np.ndarray:
        """r tangents of each training image, of a contractive autoencoder's code."""
        data, asked = trained.dataset, trained.run.config.train
        steps = max(1, round(ContractiveRecipe.train.steps * min(1.0, asked.steps / self.train.steps)))
        net = Contractive(ContractiveConfig(shape=data.shape), rng=Generator(asked.seed))
        result = train(net, data.train, replace(ContractiveRecipe.train, steps=steps), progress=False, name="code")
        return on_host(net.frozen(result.average).tangents(active().asarray(data.train), r))

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        rows = [(name, *(f"{a:.1%}" for a in row)) for name, row in results.numbers["accuracy"].items()]
        return [Table(
            "Accuracy",
            "Of images held out, really moved (shifted, turned and stretched at random, so many units: half a pixel or "
            "0.15 of the distance from the middle), by the same network, taught with different tangents of the same "
            "images, all of the same lengths. The first row is the floor; the last has seen five moved copies of each "
            "image. The tangents of a contractive autoencoder's code lead from class to class on images as small as "
            "these: not to change along them does harm.",
            ("units", *(f"{far:g}" for far in FAR)), rows, frozenset({0, len(rows) - 1}),
        )]  # fmt: skip

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        found = results.numbers["accuracy"]
        return [
            ("accuracy on moved images", f"{found[OWN][ASKED]:.1%}"),
            ("floor: without the penalty", f"{found[PLAIN][ASKED]:.1%}"),
            ("beside it: taught with moved images", f"{found[COPIES][ASKED]:.1%}"),
            ("accuracy, not moved", f"{found[OWN][0]:.1%}"),
            ("training steps", f"{trained.step:,}"), ("parameters", f"{trained.size:,}"),
        ]  # fmt: skip

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        return [_accuracy(trained, results), _moved(trained, results), _tangents(trained, results), _loss(trained)]


def tangents(x: np.ndarray) -> np.ndarray:
    """How images (N, H, W, C) change, but for the sign, when each of MOVES takes them two units further, (N, 5, D)."""
    return (2 * UNITS[:, None] * changes(x)).astype(x.dtype)


def moved(x: np.ndarray, far: float, rng: Generator) -> np.ndarray:
    """Images (N, H, W, C), each moved in all ways at random, `far` units in the mean square, by interpolation.

    Around an image there is black, as far as one looks.
    """
    from scipy import ndimage

    a = far * UNITS * on_host(rng.standard_normal((len(x), len(MOVES)), "float64"))
    middle = (np.array(x.shape[1:3]) - 1) / 2
    found = np.empty_like(x)
    for i, (right, down, turn, wide, high) in enumerate(a):
        matrix = np.array([[1 + high, turn], [-turn, 1 + wide]])
        offset = middle - matrix @ middle + (down, right)
        for c in range(x.shape[3]):
            found[i, ..., c] = ndimage.affine_transform(x[i, ..., c], matrix, offset, order=1, mode="grid-constant",
                                                        cval=-1)  # fmt: skip
    return found


def accuracy(system: TangentClassifier, x: np.ndarray, labels: Any) -> float:
    """The share of images that are given their class."""
    return float((on_host(system.classify(active().asarray(x))) == labels).mean())


def _tangents(trained: Trained, results: Results) -> Picture:
    images, found = results.arrays["images"].mean(axis=-1), results.arrays["tangents"].mean(axis=-1)
    fig = pictures.figure(7.2, 6.2)
    panels = fig.subplots(len(images), 1 + found.shape[1])
    for i, row in enumerate(panels):
        row[0].imshow(images[i], cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        for axes, v in zip(row[1:], found[i], strict=True):
            axes.imshow(v, cmap="RdBu_r", vmin=-np.abs(v).max(), vmax=np.abs(v).max(), interpolation="nearest")
    for axes, title in zip(panels[0], ("image", *MOVES), strict=True):
        axes.set_title(title, fontsize=10)
    for axes in panels.flat:
        axes.set_axis_off()
    pictures.save(fig, trained.run.pictures / "tangents.png")
    return Picture(
        "tangents.png", "Small moves", "Images, and how each pixel changes when the image is shifted, turned or "
        "stretched a little: red and blue are opposite signs. Along these the classifier is told not to change.",
        "Rows of digits, each followed by five patterns in red and blue.",
    )  # fmt: skip


def _accuracy(trained: Trained, results: Results) -> Picture:
    fig = pictures.figure(7.2, 3.6)
    axes = fig.add_subplot()
    for name, row in results.numbers["accuracy"].items():
        axes.plot(FAR, [100 * a for a in row], "o-", ms=3, lw=2.2 if name == OWN else 1.2, label=name,
                  color={OWN: "C3", COPIES: "k"}.get(name))  # fmt: skip
    axes.set(xlabel="how far images are moved", ylabel="accuracy, in %", ylim=(0, 100))
    axes.set_title("images held out, and moved", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    pictures.save(fig, trained.run.pictures / "accuracy.png")
    return Picture(
        "accuracy.png", "What tangents are worth", "The same network, the same images: told how they change "
        "when they move, it knows moved ones better, as if taught with moved copies. A penalty in random "
        "directions helps too, but less; one along a code's tangents does harm.",
        "Five falling curves; that of Tangent Prop falls later than that without the penalty.",
    )  # fmt: skip


def _moved(trained: Trained, results: Results) -> Picture:
    a = results.arrays
    fig = pictures.figure(8.0, 2.2)
    rows = fig.subplots(2, 1)
    pictures.show(rows[0], pictures.tiles(a["unmoved"], len(a["unmoved"])), "held out")
    pictures.show(rows[1], pictures.tiles(a["moved"], len(a["moved"])), f"moved, {FAR[ASKED]:g} units")
    pictures.save(fig, trained.run.pictures / "moved.png")
    return Picture(
        "moved.png", "What it is asked", "Images held out, and the same a little shifted, turned and stretched.",
        "Two rows of digits that differ a little.",
    )  # fmt: skip


def _loss(trained: Trained) -> Picture:
    pictures.curves(trained.run.pictures / "loss.png", metrics_log.read(trained.run.metrics), "nats; Ω")
    return Picture(
        "loss.png", "Loss", "The loss, −log p(y|x) and Ω as training goes on. Thin: every "
        "logged step; thick: its running mean.",
        "Three curves against the step.",
    )  # fmt: skip
