"""Recipes of systems that are not trained by descent on minibatches: a rule of their own fits them to all examples."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from scratchgen.backend import active
from scratchgen.data import Dataset
from scratchgen.models.system import System
from scratchgen.random import Generator
from scratchgen.recipes.recipe import Recipe, RecipeError, Trained
from scratchgen.train import ALONE, CheckpointError, Group, RunFolder, TrainConfig, as_json, checkpoint
from scratchgen.train.config import generator
from scratchgen.train.metrics_log import MetricsLog
from scratchgen.train.progress import Bar

NOISE = (1 << 31) + 2  # this child of the seed makes what the fit draws
IGNORED = ("batch_size", "lr")  # of the training numbers, what a fit has no use for


class FittedRecipe(Recipe):
    """`fit` runs the system's own rule, an iteration a row of the log, and saves once, at the end.

    A run that is done is left as it is; one that was stopped in the middle, or is asked for another number of steps,
    is fitted again from the start, from the same random numbers.
    """

    unit = "steps"
    """What an iteration is called."""
    bounded = True
    """Whether `steps` bounds the iterations."""

    @abstractmethod
    def iterations(self, system: Any, dataset: Dataset, steps: int, rng: Generator) -> Iterator[dict[str, float]]:
        """Fit the system; after each iteration, at most `steps` where that means something, a row of numbers.

        The first of the numbers is what the progress bar shows.
        """

    def expected(self, system: Any, dataset: Dataset, steps: int) -> int:
        """How many iterations there are at most."""
        return steps

    whole = "is fitted by a rule of its own, to all examples at once"

    def fit(self, system: System, dataset: Dataset, run: RunFolder, group: Group = ALONE) -> None:
        config = run.config.train
        with run.lock():
            if run.checkpoint.exists() and not self._is_stale(run):
                return
            rng = generator(config, NOISE)
            total = self.expected(system, dataset, config.steps)
            step = 0
            with ExitStack() as stack:
                bar = stack.enter_context(Bar(self.id, total, unit=self.unit))
                for note in self._notes(config):
                    bar.say(note)
                log: list[MetricsLog] = []
                began = time.monotonic()
                for step, row in enumerate(self.iterations(system, dataset, config.steps, rng), start=1):
                    if not log:
                        log.append(MetricsLog(run.metrics, list(row), 0))
                        log.append(MetricsLog(run.timing, ["seconds"], 0))
                        for each in log:
                            stack.callback(each.close)
                    log[0].append(step, list(row.values()))
                    log[1].append(step, [time.monotonic() - began])
                    bar.update(step, lambda row=row: _told(row))  # type: ignore[misc]
                if step < total:  # it came to rest before
                    bar.total = step
                    bar.update(step, lambda: _told(row))
                for each in log:
                    each.sync()
            arrays = {f"system/{k}": v for k, v in system.state_dict().items()}
            checkpoint.save(run.checkpoint, arrays, {"system": self.id, "step": step, "train": as_json(config)})

    def _is_stale(self, run: RunFolder) -> bool:
        """Whether another fit was saved than is asked for.  Raises CheckpointError for a damaged file."""
        _, meta = checkpoint.load(run.checkpoint)
        if meta.get("system") != self.id:
            raise CheckpointError(f"{run.checkpoint}: holds a run of {meta.get('system')}, not of {self.id}")
        return self.bounded and meta.get("train") != as_json(run.config.train)

    def _notes(self, config: TrainConfig) -> list[str]:
        """What the user asked for and has no meaning here."""
        ignored = [name for name in IGNORED if getattr(config, name) != getattr(self.train, name)]
        if not self.bounded and config.steps != self.train.steps:
            ignored.insert(0, "steps")
        return [f"--{name.replace('_', '-')} has no meaning for a fit of this kind, and none here" for name in ignored]

    def sample(self, trained: Trained, n: int, rng: Generator, **options: Any) -> Any:
        raise RecipeError(f"{self.id}: {self.silent}")

    silent = "describes its examples, and has no distribution to draw new ones from"
    """Why it cannot be sampled."""


def _told(row: dict[str, float]) -> str:
    name, value = next(iter(row.items()))
    return f"{name} {value:.4g}"


def rows(images: np.ndarray) -> np.ndarray:
    """Examples (n, …) as rows (n, D) of float64, on the host."""
    return images.reshape(len(images), -1).astype(np.float64)


def on_backend(x: np.ndarray) -> Any:
    """Rows on the active backend."""
    return active().asarray(x)

