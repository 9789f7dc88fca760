"""Several processes on one minibatch, played by threads: the run of one process with the same shards.

The threads add up in the order of their ranks.  With as many shards as threads that is one process's own order, so the
runs are the same, byte for byte.  With more, sums are bracketed in another way: float32 then differs in its last bits
(2⁻²⁴ = 6e-8), and after a dozen steps of Adam, whose m̂/√v̂ is of the size of 1 however small a gradient is, by less
than 1e-6 of a loss.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from group_tools import together
from train_toys import CONFIG, POINTS, Denoiser, data_for, left_by, make, run_in

import scratchgen as sg
from scratchgen import nn, ops
from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import active
from scratchgen.models.system import Player, System
from scratchgen.random import Generator
from scratchgen.train import ALONE, DivergedError, GroupError, RunConfig, RunFolder, checkpoint, load_weights, train

STEADY = replace(CONFIG, batch_size=24, final_lr=1.0)
TOYS = ["denoiser", "game", "classifier"]


class Loss(NamedTuple):
    loss: object


# --- what a group does -------------------------------------------------------------------------------------


def test_shares_are_contiguous_and_equal():
    assert together(3, lambda group: list(group.share(range(6)))) == [[0, 1], [2, 3], [4, 5]]
    found = together(2, lambda group: group.share([1, 2, 3]))
    assert [str(error) for error in found] == ["2 processes cannot share 3 shards of a minibatch equally"] * 2
    assert list(ALONE.share([1, 2, 3])) == [1, 2, 3]


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_gradients_are_added_up_and_terms_put_side_by_side(name):
    def member(group):
        with sg.backend(name) as xp:
            terms = [xp.asarray(np.array([k, group.rank], np.float32)) for k in (5, 7)]
            found, gradient = group.add_up(terms, xp.asarray(np.array([1, group.rank, -2], np.float32)))
            return [xp.to_numpy(x).tolist() for x in (*found, gradient)], group.reduced

    assert together(3, member) == [([[5, 0, 5, 1, 5, 2], [7, 0, 7, 1, 7, 2], [3, 3, -6]], 1)] * 3


def test_no_number_at_all_of_one_process_is_one_of_all():
    def member(group):
        bad = np.float32(np.nan if group.rank else 1)
        (term,), gradient = group.add_up([np.array([bad])], np.array([bad, 1]))
        return np.isnan(term).tolist(), np.isnan(gradient).tolist()

    assert together(2, member) == [([False, True], [True, False])] * 2


def test_the_first_process_acts_for_all():
    calls = []

    def member(group):
        return group.first(lambda: calls.append(group.rank) or "done")

    assert together(3, member) == ["done"] * 3
    assert calls == [0]


def test_what_the_first_process_raises_all_raise():
    found = together(3, lambda group: group.first(lambda: 1 // 0))
    assert [type(error) for error in found] == [ZeroDivisionError] * 3


def test_numbers_that_agree():
    assert together(2, lambda group: (group.agree(5), group.agree(group.rank), group.agree(-group.rank))) == [
        (True, False, False)] * 2  # fmt: skip


def test_one_process_is_a_group():
    assert (ALONE.rank, ALONE.size, ALONE.broadcast("x"), ALONE.largest(3), ALONE.agree(3)) == (0, 1, "x", 3, True)
    assert ALONE.on(active()) is ALONE
    assert ALONE.first(lambda: 4) == 4


# --- training ----------------------------------------------------------------------------------------------


def rows(folder):
    return np.loadtxt(folder / "metrics.csv", delimiter=",", skiprows=1)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("size", [2, 4])
def test_as_many_shards_as_processes_give_the_run_of_one(tmp_path, name, size):
    config = replace(STEADY, shards=size)
    run_in(tmp_path / "one", name, config)
    found = together(size, lambda group: run_in(tmp_path / "several", name, config, group=group))
    assert left_by(tmp_path / "several") == left_by(tmp_path / "one")
    assert all(result.step == 12 and result.losses == found[0].losses for result in found)


@pytest.mark.parametrize("name", TOYS)
def test_more_shards_than_processes_give_the_losses_of_one(tmp_path, name):
    config = replace(STEADY, shards=6, replay=False)
    run_in(tmp_path / "one", name, config)
    together(2, lambda group: run_in(tmp_path / "several", name, config, group=group))
    np.testing.assert_allclose(rows(tmp_path / "several"), rows(tmp_path / "one"), rtol=1e-6)


def test_every_process_has_noise_of_its_own(tmp_path):
    """Negative control: with the noise of another shard, losses differ by far more than that."""
    config = replace(STEADY, shards=2)
    run_in(tmp_path / "one", "denoiser", config)

    def member(group):
        system = make("denoiser")
        loss, same = system.loss, Generator(3).state()
        system.loss = lambda x, rng: loss(x, Generator.from_state(same))
        return run_in(tmp_path / "several", "denoiser", replace(config, replay=False), system, group)

    together(2, member)
    assert np.abs(rows(tmp_path / "several") / rows(tmp_path / "one") - 1).max() > 1e-2


def test_on_a_device(tmp_path):
    """The strict backend in its place: buffers that no NumPy function takes, and NumPy's numbers up to rounding."""

    def trained(group):
        with sg.backend("strict"):
            return train(make("game"), data_for("game"), replace(STEADY, shards=2), progress=False, group=group).losses

    alone = train(make("game"), data_for("game"), replace(STEADY, shards=2), progress=False).losses
    one, two = together(2, trained)
    assert one == two
    np.testing.assert_allclose(list(one.values()), list(alone.values()), rtol=1e-6)


def test_one_all_reduce_for_each_minibatch_of_a_player():
    def member(group):
        train(make("game"), data_for("game"), replace(STEADY, shards=2, steps=5), progress=False, group=group)
        return group.reduced

    assert together(2, member) == [15, 15]  # five turns: two minibatches for the critic, one for the generator


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    config = replace(STEADY, shards=2)
    run_in(tmp_path / "one", "game", config)
    for first, then in ((2, 1), (1, 2)):
        folder = tmp_path / f"{first}"
        together(first, lambda group, f=folder: run_in(f, "game", replace(config, steps=7), group=group))
        together(then, lambda group, f=folder: run_in(f, "game", config, group=group))
        assert left_by(folder) == left_by(tmp_path / "one")


def test_processes_that_do_not_divide_the_shards(tmp_path):
    found = together(3, lambda group: run_in(tmp_path, "denoiser", replace(STEADY, shards=2), group=group))
    assert [str(error) for error in found] == ["3 processes cannot share 2 shards of a minibatch equally"] * 3


def test_only_the_first_process_writes(tmp_path):
    """The others need not even see the folder."""
    config = replace(STEADY, shards=2)
    run_in(tmp_path / "one", "denoiser", config)

    def member(group):
        run = group.first(lambda: RunFolder.create(tmp_path / "two", RunConfig("denoiser", {}, config, "points")))
        own = run if group.rank == 0 else RunFolder(tmp_path / "elsewhere", run.config)
        return train(make("denoiser"), POINTS, config, own, name="denoiser", progress=False, group=group).step

    assert together(2, member) == [12, 12]
    assert left_by(tmp_path / "two") == left_by(tmp_path / "one")
    assert not (tmp_path / "elsewhere").exists()


def test_processes_that_start_from_other_weights_start_from_the_first_one_s(tmp_path):
    def member(group):
        system = Denoiser(Generator(7 + group.rank))
        run_in(tmp_path / "several", "denoiser", replace(STEADY, shards=2), system, group)
        return system.state_dict()

    one, two = together(2, member)
    run_in(tmp_path / "one", "denoiser", replace(STEADY, shards=2))
    assert left_by(tmp_path / "several") == left_by(tmp_path / "one")
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in two.items()}


def test_processes_that_come_apart_are_found_out(tmp_path):
    """One process's weight is moved by a hair in the seventh step: the checkpoint of the fifth stays."""

    def member(group):
        system = make("denoiser")
        quick, calls = system.loss, iter(range(100))

        def loss(x, rng):
            if next(calls) == 6 and group.rank == 1:
                bias = system.layers[1].b
                bias.assign(np.nextafter(bias.array, np.float32(9)))
            return quick(x, rng)

        system.loss = loss
        return run_in(tmp_path, "denoiser", replace(STEADY, shards=2, replay=False), system, group)

    found = together(2, member)
    assert [type(error) for error in found] == [GroupError, GroupError]
    assert str(found[0]) == (
        "denoiser: processes have come to different numbers by step 10; the checkpoint of step 5 stays")
    assert load_weights(make("denoiser"), tmp_path / "checkpoint.safetensors") == 5


def test_a_loss_that_is_not_finite_in_one_process_stops_all(tmp_path):
    def member(group):
        system = make("denoiser")
        quick = system.loss
        system.loss = lambda x, rng: quick(x * np.float32(np.inf if group.rank else 1), rng)
        return run_in(tmp_path, "denoiser", replace(STEADY, shards=2, replay=False), system, group)

    found = together(2, member)
    assert [type(error) for error in found] == [DivergedError, DivergedError]
    assert str(found[0]) == f"{found[1]}; the checkpoint of step 0 stays"


# --- memory ------------------------------------------------------------------------------------------------


class Follower(System):
    """Memory that follows the data after every step, with noise: of the whole minibatch, in every process."""

    def __init__(self, rng):
        self.layer = nn.Linear(2, 2, rng=rng)
        self.mean = Tensor(active().zeros((2,), "float32"))

    def start(self, batch, rng):
        self.mean.assign(ops.mean(batch, axis=0) + rng.standard_normal((2,)))

    def loss(self, x, rng):
        return Loss(ops.sum((self.layer(x) - self.mean.array) ** 2, axis=1))

    def after(self, x, rng):
        self.mean.assign(0.9 * self.mean.array + 0.1 * ops.mean(x, axis=0) + 0.01 * rng.standard_normal((2,)))

    def players(self):
        learnt = {name: x for name, x in self.named_parameters() if x is not self.mean}
        return [Player("model", learnt, self.loss, after=self.after)]


class Chained(Follower):
    """Memory that the loss itself moves on."""

    def loss(self, x, rng):
        found = super().loss(x, rng)
        self.mean.assign(self.mean.array + rng.standard_normal((2,)))
        return found

    def players(self):
        return [super().players()[0]._replace(after=None)]


def test_memory_that_is_set_after_a_step_is_the_same_in_all(tmp_path):
    config = replace(STEADY, shards=2)
    run_in(tmp_path / "one", "follower", config, Follower(Generator(1)))
    together(2, lambda group: run_in(tmp_path / "two", "follower", config, Follower(Generator(1)), group))
    assert left_by(tmp_path / "two") == left_by(tmp_path / "one")
    arrays, _ = checkpoint.load(tmp_path / "two" / "checkpoint.safetensors")
    assert np.abs(arrays["system/mean"]).max() > 0


@pytest.mark.parametrize("replay", [True, False])
def test_memory_that_a_loss_sets_needs_one_shard(tmp_path, replay):
    config = replace(STEADY, shards=2, replay=replay)
    found = together(2, lambda group: run_in(tmp_path / "two", "x", config, Chained(Generator(1)), group))
    assert [str(error) for error in found] == [
        "player 'model': its loss sets the system's memory, which several shards of a minibatch would do each in its "
        "own way: train it by one process, in one shard"] * 2  # fmt: skip
    with pytest.raises(GroupError, match="its loss sets the system's memory"):
        run_in(tmp_path / "one", "x", config, Chained(Generator(1)))
    run_in(tmp_path / "whole", "x", replace(config, shards=1), Chained(Generator(1)))
