"""What a user asks of a run beside what its recipe says: the training settings of a new one, how one goes on."""

from __future__ import annotations

import dataclasses
from math import gcd, lcm
from pathlib import Path
from typing import Any

from scratchgen.recipes.recipe import Recipe, RecipeError, flag
from scratchgen.train import RunFolder, TrainConfig, checkpoint


def settings(recipe: Recipe, given: dict[str, Any], examples: int, processes: int = 1) -> TrainConfig:
    """The recipe's training settings with what the user gave.

    A minibatch has the recipe's shards, or the next number that the processes can share.
    Raises RecipeError for what makes no sense.
    """
    train = recipe.train
    if given.get("batch_size", 1) > examples:
        raise RecipeError(f"--batch-size {given['batch_size']}: there are {examples} examples")
    size = given.get("batch_size", min(train.batch_size, examples))
    shards = given.get("shards", lcm(gcd(train.shards, size), processes))
    if shards % processes:
        raise RecipeError(f"--shards {shards}: {processes} processes cannot share them equally")
    if size % shards:
        who = f"{processes} processes" if size % processes else f"{shards} shards"
        raise RecipeError(f"{who} cannot share a minibatch of {size} equally: choose another --batch-size")
    if shards > 1 and recipe.whole:
        raise RecipeError(f"{recipe.id}: {recipe.whole}: one process trains it, in one shard")
    found = dataclasses.replace(train, **{**given, "batch_size": size, "shards": shards})
    return dataclasses.replace(found, log_every=min(found.log_every, found.steps))


def extend(run: RunFolder, steps: int) -> RunFolder:
    """The run with another number of steps.  Raises RecipeError if it has gone further already."""
    with run.lock():
        done = checkpoint.load(run.checkpoint)[1]["step"] if run.checkpoint.exists() else 0
        if steps < done:
            raise RecipeError(f"--steps {steps}: the run is at step {done} already")
        if steps != run.config.train.steps:
            longer = dataclasses.replace(run.config.train, steps=steps)
            run.write_config(dataclasses.replace(run.config, train=longer))
    return run


def check_resume(run: RunFolder, id: str, given: dict[str, Any], dataset: str | None, folder: str | None) -> None:
    """Raises RecipeError for a run of something else than is asked for."""
    config = run.config
    if config.system != id:
        raise RecipeError(f"--resume: {run.path} is a run of {config.system}, not of {id}")
    for key, value in given.items():
        if key != "steps" and getattr(config.train, key) != value:
            raise RecipeError(f"--resume: the run has {flag(key)} {getattr(config.train, key)}, not {value}")
    if dataset is not None and dataset != config.dataset:
        raise RecipeError(f"--resume: the run's data are {config.dataset}, not {dataset}")
    if folder is not None and str(Path(folder).resolve()) != config.data_folder:
        theirs = config.data_folder or "the package"
        raise RecipeError(f"--resume: the run's data come from {theirs}, not {folder}")
