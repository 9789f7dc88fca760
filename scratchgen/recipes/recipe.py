"""What a recipe is: a system, the data and numbers to train it with, and how its results are judged and drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from scratchgen import data
from scratchgen.backend import active
from scratchgen.cores import side_by_side
from scratchgen.data import Dataset
from scratchgen.models.system import System
from scratchgen.random import Generator
from scratchgen.replayed import replayed
from scratchgen.train import ALONE, Group, RunFolder, TrainConfig, from_json, load_weights, train
from scratchgen.train.config import generator
from scratchgen.train.report import Page, Passage, Picture, Table, write_page

SAMPLING = ("steps", "eta", "solver", "temperature", "top_k", "prompt")
"""All options that samplers have, as the command line offers them."""
KEEPS_CHAINS = "keeps its chains from one minibatch to the next, and every minibatch moves them on"
"""A `Recipe.whole` of systems with a memory."""


class RecipeError(ValueError):
    """A request that a recipe cannot serve; one line."""


@dataclass
class Results:
    """What an evaluation finds: arrays for pictures, numbers for tables, and the tables themselves."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass
class Trained:
    """A run that was trained, as samplers and judges want it: averaged weights, no tape."""

    run: RunFolder
    recipe: Recipe
    dataset: Dataset
    system: Any
    step: int
    size: int

    def rng(self, purpose: int, seed: int | None = None) -> Generator:
        """A generator for one purpose, from the run's seed or another, of the mode that the run was trained with."""
        return generator(self.run.config.train, 1 << 30, purpose, seed=seed)


class Recipe:
    """One system on one kind of data.  A subclass says what and how; the command line does the rest."""

    id: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    lectures: ClassVar[str]
    file: ClassVar[str]
    dataset: ClassVar[str]
    config_type: ClassVar[type]
    train: ClassVar[TrainConfig]
    options: ClassVar[tuple[str, ...]] = ()
    """What its sampler can be asked for, of `SAMPLING`."""
    samplers: ClassVar[dict[str, dict[str, Any]]] = {"": {}}
    """Those worth comparing: a name, and the options it stands for."""
    repeated: ClassVar[tuple[str, ...]] = ()
    """What its samplers ask over and over, to be `replayed`: names of networks or methods of the system."""
    whole: ClassVar[str] = ""
    """Why its minibatches cannot be divided among shards or processes, if they cannot."""
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy")
    """Of the files that its samples go into, the usual one first."""
    equations: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Of the page: (formula, what it says)."""

    def configure(self, dataset: Dataset) -> Any:
        """The system's config for a data set.  Raises RecipeError for data that the system cannot take."""
        raise NotImplementedError

    def build(self, config: Any, rng: Generator) -> System:
        """The untrained system."""
        raise NotImplementedError

    def examples(self, dataset: Dataset) -> Any:
        """What the loss is given minibatches of: an array, or a tuple of arrays of one length."""
        return dataset.train

    def fit(self, system: System, dataset: Dataset, run: RunFolder, group: Group = ALONE) -> None:
        """Train the system, into the run folder; go on where it was stopped."""
        train(system, self.examples(dataset), run.config.train, run, name=self.id, group=group)

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> Any:
        """n samples on the host, images (n, H, W, C), points (n, 2), or a text for each.

        options: some of `self.options`.  Raises RecipeError for a value that makes no sense.
        """
        raise NotImplementedError

    def drawn(self, trained: Trained, n: int, rng: Generator, options: dict[str, Any]) -> Any:
        """`sample`, after a look at the options.  Raises RecipeError for one that this system has not got."""
        unknown = [name for name in options if name not in self.options]
        if unknown:
            has = ", ".join(map(flag, self.options)) if self.options else "none"
            raise RecipeError(f"{self.id}: has no sampling option {', '.join(map(flag, unknown))}; it has {has}")
        return self.sample(trained, n, rng, **options)

    def evaluate(self, trained: Trained, thorough: bool) -> Results:
        """Judge the run.  thorough: also what takes minutes."""
        raise NotImplementedError

    def tables(self, trained: Trained, results: Results) -> list[Table]:
        """The numbers as tables, each with its floor and ceiling."""
        raise NotImplementedError

    def draw(self, trained: Trained, results: Results) -> list[Picture]:
        """Draw all pictures into the run's folder."""
        raise NotImplementedError

    def facts(self, trained: Trained, results: Results) -> list[tuple[str, str]]:
        """The headline numbers, (what, value): the figure of quality first, then its floor."""
        raise NotImplementedError

    def passages(self, trained: Trained, results: Results) -> list[Passage]:
        """Texts for the page; none, where samples are no texts."""
        return []

    def report(self, trained: Trained, results: Results) -> None:
        """Draw the pictures and write the page."""
        page = Page(
            self.title, self.paper, self.equations, self.facts(trained, results), self.tables(trained, results),
            self.draw(trained, results), self.passages(trained, results),
        )  # fmt: skip
        write_page(trained.run, page)

    def restore(self, run: RunFolder) -> System:
        """The untrained system that the run's config describes.  Raises RecipeError if it describes none."""
        try:
            return self.build(from_json(self.config_type, run.config.model), Generator(run.config.train.seed))
        except (ValueError, TypeError, ArithmeticError, IndexError) as error:
            raise RecipeError(f"{run.path}/config.json: describes no {self.id}: {error}") from error

    def load(self, run: RunFolder) -> Trained:
        """The run's system with its averaged weights, on the active backend."""
        dataset = data.load(run.config.dataset, run.config.data_folder)
        system = self.restore(run)
        step = load_weights(system, run.checkpoint)
        repeated = self.repeated if run.config.train.replay else ()
        return Trained(run, self, dataset, replayed(system, *repeated), step, system.size())


def flag(option: str) -> str:
    """An option as the command line spells it."""
    return "--" + option.replace("_", "-")


def on_host(x: Any) -> np.ndarray:
    """A backend's array as NumPy's."""
    return active().to_numpy(x)


def by_chunks(f: Callable[[Any], Any], x: Any, size: int) -> np.ndarray:
    """f of all examples, on the host, so many at a time; x and what f is given are examples by their first axis."""
    parts = [x[i : i + size] for i in range(0, len(x), size)]
    return np.concatenate(side_by_side(lambda part: on_host(f(active().asarray(part))), parts))
