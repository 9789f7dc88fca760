"""What a system remembers besides its parameters: begun from the first minibatch, kept, saved, and replayed."""

from dataclasses import replace

import numpy as np
import pytest
from train_toys import CONFIG, POINTS, Denoiser, Terms

from scratchgen import ops, stop_gradient
from scratchgen.autograd.tensor import Tensor
from scratchgen.models.system import Player
from scratchgen.random import Generator
from scratchgen.train import RunConfig, RunFolder, train


class Remembering(Denoiser):
    """Centres its data by a moving mean, which begins at the first minibatch's, and follows every step."""

    def __init__(self, rng):
        super().__init__(rng)
        self.mean = Tensor(np.zeros(2, np.float32))

    def start(self, batch, rng):
        self.mean.assign(batch.mean(axis=0) + 0.1 * rng.standard_normal(2, "float32"))

    def loss(self, x, rng):
        return super().loss(x - self.mean.array, rng)

    def follow(self, batch, rng):
        target = batch.mean(axis=0) + 0.01 * rng.standard_normal(2, "float32")
        self.mean.assign(0.9 * self.mean.array + 0.1 * target)

    def players(self):
        learnt = {k: v for k, v in self.named_parameters() if k != "mean"}
        return [Player("model", learnt, self.loss, after=self.follow)]


class Chain(Remembering):
    """The memory is set in the loss itself, as a persistent Markov chain is."""

    def loss(self, x, rng):
        self.mean.assign(0.9 * stop_gradient(self.mean) + 0.1 * ops.mean(x, axis=0))
        return super().loss(x, rng)

    def players(self):
        return [super().players()[0]._replace(after=None)]


class Deciding(Chain):
    """The same in a loss that cannot be replayed, which is found out after the memory was set."""

    def loss(self, x, rng):
        terms = super().loss(x, rng)
        return terms if float(ops.sum(terms.loss)) > 0 else Terms(-terms.loss, terms.error)


def weights(system, **settings):
    result = train(system, POINTS, replace(CONFIG, **settings), progress=False)
    return {**system.state_dict(), **{f"average/{k}": v for k, v in result.average.items()}}


@pytest.mark.parametrize("kind, shards", [(Remembering, 1), (Remembering, 2), (Chain, 1), (Deciding, 1)])
def test_memory_is_the_same_replayed(kind, shards):
    plain = weights(kind(Generator(7)), shards=shards, replay=False)
    fast = weights(kind(Generator(7)), shards=shards)
    assert not np.array_equal(plain["mean"], np.zeros(2))
    assert "average/mean" not in plain
    assert all(np.array_equal(plain[key], fast[key]) for key in plain)


def test_memory_follows_every_step():
    """Against the recurrence, walked over the same minibatches."""
    seen, system = [], Remembering(Generator(7))
    follow = system.follow
    system.follow = lambda batch, rng: (seen.append((np.array(batch), rng.state())), follow(batch, rng))
    start = []
    begin = system.start
    system.start = lambda batch, rng: (begin(batch, rng), start.append(system.state_dict()["mean"]))
    train(system, POINTS, CONFIG, progress=False)
    (mean,) = start
    assert len(seen) == CONFIG.steps
    for batch, state in seen:
        noise = Generator.from_state(state).standard_normal(2, "float32")
        mean = 0.9 * mean + 0.1 * (batch.mean(axis=0) + 0.01 * noise)
    np.testing.assert_allclose(system.state_dict()["mean"], mean, rtol=1e-6)


@pytest.mark.parametrize("kind", [Remembering, Chain])
def test_memory_is_saved(kind, tmp_path):
    """Stopped and continued: the same numbers, and no second beginning."""
    steady = replace(CONFIG, final_lr=1.0)  # a rate that does not depend on the number of steps
    train(whole := kind(Generator(7)), POINTS, steady, progress=False)
    run = RunFolder.create(tmp_path / "run", RunConfig("toy", {}, steady, "points", None, "numpy"))
    train(kind(Generator(7)), POINTS, replace(steady, steps=7), run, progress=False)
    system = kind(Generator(7))
    system.start = None
    assert train(system, POINTS, steady, run, progress=False).step == steady.steps
    state = system.state_dict()
    assert all(np.array_equal(state[key], value) for key, value in whole.state_dict().items())
