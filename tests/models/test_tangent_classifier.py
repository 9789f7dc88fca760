"""Tangent Prop at work: its loss by SciPy and differences, its gradient, and what it teaches."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import agree, apart, at_most, host, up
from scipy import special
from system_tools import perceptron

import scratchgen as sg
from reference import tangents as oracle
from reference.derivatives import directional
from scratchgen import ops, optim
from scratchgen.models.latent.tangent_classifier import TangentClassifier, TangentConfig
from scratchgen.random import Generator
from scratchgen.train import TrainConfig, train

TINY = TangentConfig(shape=(2, 2, 1), classes=3, width=5, weight=0.7)
PROP = pytest.mark.equation("tangents.prop")


def make(dtype="float64", **changes):
    return TangentClassifier(replace(TINY, **changes), rng=Generator(0)).astype(np.dtype(dtype))


def batch(n=4, dtype=float):
    rng = np.random.default_rng(1)
    return (rng.standard_normal((n, 2, 2, 1)).astype(dtype), np.arange(n) % 3,
            rng.standard_normal((n, 2, 4)).astype(dtype))  # fmt: skip


@PROP
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_loss_by_scipy_and_by_differences(weight, xp):
    """Extrapolated differences of the logits are good to 1e-10."""
    system, (x, labels, v) = make(weight=weight), batch()
    found = system.loss(up((x, labels, v)), None)
    logits = perceptron(system.net, x)
    surprise = -special.log_softmax(logits, axis=1)[np.arange(4), labels]
    f = lambda row: perceptron(system.net, row[None])[0]  # noqa: E731
    change = [oracle.squared_change(f, row.reshape(-1), vs) for row, vs in zip(x, v, strict=True)]
    agree(system.logits(up(x)), logits, rtol=1e-11)
    agree(found.surprise, surprise, rtol=1e-11)
    agree(found.change, change if weight else 0, rtol=1e-8, atol=1e-9)
    agree(found.loss, surprise + weight * np.array(change), rtol=1e-8)
    assert np.array_equal(host(system.classify(up(x))), logits.argmax(axis=1))


@PROP
def test_the_gradient_is_that_of_the_loss():
    """Second derivatives inside: along a random direction of all weights, by differences."""
    system, given = make(), up(batch())
    named = dict(system.named_parameters())
    flat = optim.Flat(named)
    loss = lambda: ops.mean(system.loss(given, None).loss)  # noqa: E731
    gradients = sg.gradients(loss(), list(named.values()))
    assert min(np.abs(host(g)).max() for g in gradients) > 0
    g, v = host(flat.gather(gradients)), np.random.default_rng(0).normal(size=flat.size)
    start = host(flat.buffer).copy()

    def along(theta):
        flat.write(up(theta))
        return float(loss())

    agree(g @ v, directional(along, start, v), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shards", [1, 2])
def test_replay_changes_no_bit(shards, capsys):
    ends = []
    for replay in (True, False):
        system = make("float32")
        config = TrainConfig(steps=4, batch_size=4, lr=1e-2, ema_decay=0.9, log_every=2, shards=shards, replay=replay)
        ends.append((train(system, batch(12, np.float32), config), system.state_dict()))
    assert "without replay" not in capsys.readouterr().err
    assert ends[0][0].losses == ends[1][0].losses
    assert all(np.array_equal(ends[0][1][name], value) for name, value in ends[1][1].items())


@PROP
def test_tangents_say_what_labels_leave_open():
    """In twenty labelled points both coordinates tell the class; the tangents say that the second does not matter."""
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    x = (np.stack([2.0 * labels - 1, 4.0 * labels - 2], axis=1) + 0.3 * rng.standard_normal((20, 2))).astype(np.float32)
    v = np.tile(np.array([0.0, 1.0], np.float32), (20, 1, 1))
    asked = np.concatenate([x * [1, -1], x]).astype(np.float32)  # where the second says nothing
    share = {}
    for weight in (0.0, 1.0):
        system = TangentClassifier(TangentConfig(shape=(2,), classes=2, width=16, weight=weight), rng=Generator(0))
        train(system, (x, labels, v), TrainConfig(steps=200, batch_size=20, lr=2e-2), progress=False)
        share[weight] = (host(system.classify(up(asked))) == np.tile(labels, 2)).mean()
    at_most(0.95, share[1.0])
    apart(share[0.0], share[1.0], by=0.2)


def test_what_makes_no_classifier_is_refused():
    for wrong in ({"classes": 0}, {"shape": (0,)}, {"weight": -1.0}):
        with pytest.raises(ValueError, match="must be positive, weight not negative"):
            TangentConfig(**wrong)
