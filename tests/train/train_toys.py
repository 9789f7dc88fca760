"""Toy systems, small enough to train in a second, and a process that trains one in a run folder.

    python train_toys.py FOLDER SYSTEM [settings as JSON]

creates the run, or resumes it, and exits with the code that the command line would exit with.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratchgen import functional as F
from scratchgen import nn, ops
from scratchgen.models.system import Player, System
from scratchgen.random import Generator
from scratchgen.tracing import effect
from scratchgen.train import ALONE, Interrupted, RunConfig, RunFolder, TrainConfig, TrainResult, train

POINTS = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
LABELS = (POINTS[:, 0] > 0).astype(np.int64)
ROOT = Path(__file__).parents[2]


class Terms(NamedTuple):
    loss: object
    error: object


class Denoiser(System):
    """x̂(x + ε): one player, with noise."""

    def __init__(self, rng):
        self.layers = [nn.Linear(2, 8, rng=rng), nn.Linear(8, 2, rng=rng)]

    def __call__(self, x):
        return self.layers[1](ops.tanh(self.layers[0](x)))

    def loss(self, x, rng):
        square = ops.sum((self(x + rng.standard_normal(x.shape, x.dtype)) - x) ** 2, axis=1)
        return Terms(square, ops.sqrt(square))


class CriticTerms(NamedTuple):
    loss: object
    real: object
    fake: object


class Game(System):
    """Two players: a critic that takes two minibatches a turn, and a generator that takes one."""

    def __init__(self, rng):
        self.generator = nn.Linear(2, 2, rng=rng)
        self.critic = nn.Linear(2, 1, rng=rng)

    def score(self, x):
        return self.critic(x)[:, 0]

    def critic_loss(self, x, rng):
        fake = self.generator(rng.standard_normal(x.shape, x.dtype))
        real, fake = F.softplus(-self.score(x)), F.softplus(self.score(fake))
        return CriticTerms(real + fake, real, fake)

    def generator_loss(self, x, rng):
        loss = F.softplus(-self.score(self.generator(rng.standard_normal(x.shape, x.dtype))))
        return Terms(loss, loss)

    def players(self):
        own = dict(self.named_parameters())
        return [
            Player("critic", {k: v for k, v in own.items() if "critic" in k}, self.critic_loss, 2),
            Player("generator", {k: v for k, v in own.items() if "generator" in k}, self.generator_loss),
        ]


class Classifier(System):
    """A batch that is a tuple: points and labels."""

    def __init__(self, rng):
        self.layer = nn.Linear(2, 2, rng=rng)

    def loss(self, batch, rng):
        x, labels = batch
        losses = F.cross_entropy(self.layer(x), labels)
        return Terms(losses, losses)


class Done:
    """Something to be done in every step, replayed or not."""

    def __init__(self, what):
        self.what = what

    __call__ = effect(lambda self: self.what())


SYSTEMS = {"denoiser": Denoiser, "game": Game, "classifier": Classifier}
CONFIG = TrainConfig(steps=12, batch_size=16, lr=0.01, warmup=3, final_lr=0.1, clip=1.0, ema_decay=0.9,
                     checkpoint_every=5, log_every=3)


def make(name, dtype="float32"):
    system = SYSTEMS[name](Generator(7))
    return system if dtype == "float32" else system.astype(np.dtype(dtype))


def data_for(name):
    return (POINTS, LABELS) if name == "classifier" else POINTS


def run_in(folder, name, config=CONFIG, system=None, group=ALONE) -> TrainResult:
    """Create the run or resume it."""

    def folder_of_run():
        if (Path(folder) / "config.json").exists():
            return RunFolder.open(folder)
        return RunFolder.create(folder, RunConfig(name, {}, config, "points"))

    run = group.first(folder_of_run)
    return train(system or make(name), data_for(name), config, run, name=name, progress=False, group=group)


def left_by(folder) -> dict[str, bytes]:
    """What must be the same, byte for byte, however often the run was killed."""
    return {name: (Path(folder) / name).read_bytes() for name in ("metrics.csv", "checkpoint.safetensors")}


def command(folder, name, **settings) -> list[str]:
    return [sys.executable, "-W", "error", __file__, str(folder), name, json.dumps(settings)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def main(folder: str, name: str, text: str) -> int:
    settings = json.loads(text)
    delay = settings.pop("delay", 0.0)  # seconds that a loss takes
    limit = settings.pop("limit", None)  # bytes that a file may have
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job would ignore
    tell = settings.pop("tell", False)  # whether to say when a step begins, and wait for leave
    if tell:
        sync = os.fsync
        os.fsync = lambda file: (time.sleep(0.004), sync(file))  # a slow disk: most of the time is saving
    system = make(name)
    first = "critic_loss" if name == "game" else "loss"
    quick = getattr(system, first)

    def wait():
        time.sleep(delay)
        if tell:
            print("step", flush=True)
            sys.stdin.readline()

    waiting = Done(wait)

    def slow(x, rng):
        waiting()
        return quick(x, rng)

    setattr(system, first, slow)
    print("ready", flush=True)
    try:
        run_in(folder, name, replace(CONFIG, **settings), system)
    except Interrupted as stop:
        print(stop.step, flush=True)
        return stop.code
    except ValueError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(*sys.argv[1:]))
