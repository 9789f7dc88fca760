"""The trainer replays its steps: the same numbers as without, and without where it must be."""

from dataclasses import replace

import numpy as np
import pytest
from train_toys import CONFIG, Denoiser, Terms, data_for, make

from scratchgen.random import Generator
from scratchgen.train import train
from scratchgen.train.state import State


def trained(system, name="denoiser", **settings):
    states = []
    init = State.__init__

    def noted(self, *arguments):
        init(self, *arguments)
        states.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(State, "__init__", noted)
        result = train(system, data_for(name), replace(CONFIG, **settings), progress=False)
    return system.state_dict(), result, states[0]


@pytest.mark.parametrize("name", ["denoiser", "game", "classifier"])
@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_replay_changes_no_bit(name, shards, dtype):
    plain, one, state = trained(make(name, dtype), name, shards=shards, dtype=dtype, replay=False)
    assert not any(player.replays for player in state.players)
    fast, two, state = trained(make(name, dtype), name, shards=shards, dtype=dtype)
    assert all(len(player.replays) == shards for player in state.players)
    assert all(replay.plans and all(replay.plans.values()) for player in state.players for replay in player.replays)
    assert all(np.array_equal(plain[key], fast[key]) for key in plain)
    assert one.losses == two.losses


class Reading(Denoiser):
    """A denoiser that decides by its loss, so that its step is no fixed list of calls."""

    def loss(self, x, rng):
        noise = rng.random((len(x), 1))  # must not be drawn twice
        terms = super().loss(x + 0.01 * noise, rng)
        return terms if float(terms.loss.sum()) > 0 else Terms(-terms.loss, terms.error)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_step_that_decides_by_its_numbers_is_trained_without(capsys, shards):
    plain, *_ = trained(Reading(Generator(7)), shards=shards, replay=False)
    capsys.readouterr()
    fast, _, state = trained(Reading(Generator(7)), shards=shards)
    assert state.players[0].replays == []
    assert all(np.array_equal(plain[key], fast[key]) for key in plain)
    train(Reading(Generator(7)), data_for("denoiser"), replace(CONFIG, shards=shards))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "replay" in line]
    assert line.startswith("Reading: replay: float() reads a number of a step that is to be replayed, ")
    assert "the result of add.reduce, at " in line
    assert line.endswith("; trained without replay, which gives the same numbers")
    assert "test_train_replay.py:" in line
