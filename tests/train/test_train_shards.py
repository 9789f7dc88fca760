"""A minibatch in shards: the same gradient when the noise is the same, the same run whatever the cores."""

import threading
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from train_toys import CONFIG, POINTS, Denoiser

from scratchgen import cores, nn, ops
from scratchgen.cores import side_by_side
from scratchgen.models.system import System
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train


class Loss(NamedTuple):
    loss: object


class Regression(System):
    """No noise, so that shards change nothing but the order of sums."""

    def __init__(self, rng):
        self.layer = nn.Linear(2, 2, rng=rng)

    def loss(self, x, rng):
        return Loss(ops.sum(ops.square(ops.tanh(self.layer(x)) - x), axis=1))


def weights(system_type, config, dtype="float64"):
    system = system_type(Generator(0)).astype(dtype)
    result = train(system, POINTS, replace(config, dtype=dtype), progress=False)
    return system.state_dict(), result.losses


def test_shards_do_not_change_what_has_no_noise():
    config = replace(CONFIG, steps=6, batch_size=12, log_every=1)
    whole, loss = weights(Regression, config)
    for shards in (2, 3, 12):
        parts, same = weights(Regression, replace(config, shards=shards))
        for name, value in whole.items():
            np.testing.assert_allclose(parts[name], value, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(same["loss"], loss["loss"], rtol=1e-12)


def test_the_sum_of_gradients_would_be_noticed(monkeypatch):
    """Negative control: with the mean over shards left out, the weights differ."""
    config = replace(CONFIG, steps=2, batch_size=12, optimiser="sgd", lr=0.1, clip=None)
    whole, _ = weights(Regression, config)
    parts, _ = weights(Regression, replace(config, shards=2, lr=0.2))
    assert any(np.abs(parts[name] - value).max() > 1e-4 for name, value in whole.items())


def test_the_number_of_cores_changes_nothing(monkeypatch):
    config = replace(CONFIG, steps=5, batch_size=12, shards=3)
    many, _ = weights(Denoiser, config, "float32")
    monkeypatch.setattr(cores, "cores", lambda: 1)
    one, _ = weights(Denoiser, config, "float32")
    for name, value in many.items():
        np.testing.assert_array_equal(one[name], value)


def test_shards_that_do_not_divide_the_minibatch():
    with pytest.raises(ValueError, match="no 3 equal shards"):
        TrainConfig(batch_size=10, shards=3)


def test_side_by_side_keeps_the_order_and_the_backend():
    from scratchgen import backend
    from scratchgen.backend import active

    with backend("strict"):
        assert side_by_side(lambda i: (i, active().name), range(9)) == [(i, "strict") for i in range(9)]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda i: 1 // i, [1, 0])


@pytest.mark.skipif(cores.cores() == 1, reason="needs two cores")
def test_side_by_side_raises_only_once_nobody_is_at_work():
    """Or the next attempt would find the last one's tasks still drawing from its generators."""
    begun, done = threading.Event(), []

    def task(i):
        if i == 0:
            begun.wait(10)
            raise ValueError("the first")
        begun.set()
        time.sleep(0.2)
        done.append(i)

    with pytest.raises(ValueError, match="the first"):
        side_by_side(task, [0, 1])
    assert done == [1]
