"""Several GPUs, played by processes of the host: each has its part of a minibatch as one shard, and the whole update,
with the sum over all of them in it, as one graph.

Graphs here do again what was captured, NCCL adds up in the order of ranks, and every process works on the same weights:
with two processes the sum is the one of two shards on the host, and losses differ by the rounding of the kernels alone.
"""

from dataclasses import replace

import host_cuda
import host_graph
import host_nccl
import numpy as np
import pytest
from train_toys import CONFIG, Denoiser, data_for, make

import scratchgen as sg
from scratchgen.models.system import Player
from scratchgen.random import Generator
from scratchgen.train import GroupError, train
from scratchgen.train.group import MPIGroup
from scratchgen.train.state import State

RUN = replace(CONFIG, noise="counter", steps=20, warmup=9, shards=2)


@pytest.fixture
def gpus(cupy, monkeypatch):
    """A function: f(group, world, calls of NCCL) in so many processes."""
    host_cuda.require_compiler()

    def run(f, size=2):
        def member(comm):
            with sg.backend("cupy") as xp:
                world = host_graph.installed(monkeypatch)
                calls = host_nccl.installed(monkeypatch, world, host_nccl.MPI, comm)
                return f(MPIGroup(comm).on(xp), world, calls)

        return host_nccl.apart(size, member)

    return run


def trained(system, name, config, group):
    """What a run ends with: losses, the checkpoint's arrays, where noise and data stand, and notes."""
    notes, ends = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scratchgen.train.loop.Bar.say", lambda self, note: notes.append(note))
        close = State.close
        patch.setattr(State, "close", lambda self: (ends.append(self.contents()), close(self)))
        losses = train(system, data_for(name), config, progress=False, group=group).losses
    ((arrays, meta),) = ends
    return losses, arrays, {k: meta[k] for k in ("rng", "step", "cursor")}, notes


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("name", ["denoiser", "game", "classifier"])
def test_two_gpus_give_the_run_of_two_shards_on_the_host(gpus, name):
    def member(group, world, calls):
        found = trained(make(name), name, RUN, group)
        log = [line.split(": ")[1] for line in world.log]
        return found, [log.count(what) for what in ("end capture", "launch", "all_reduce")], len(calls)

    (one, counts, calls), (two, *others) = gpus(member)
    players, minibatches = (2, 60) if name == "game" else (1, 20)  # a critic moves twice in a turn
    assert counts == [players, minibatches - 2 * players, 3 * players]  # two sums to warm up, one in the capture
    assert calls == minibatches + players
    assert others == [counts, calls]
    assert one[0] == two[0]
    assert same(one[1], two[1])
    assert (one[2], one[3], two[3]) == (two[2], [], [])
    with sg.backend("numpy"):
        losses, arrays, meta, _ = trained(make(name), name, RUN, sg.train.ALONE)
    np.testing.assert_allclose(list(one[0].values()), list(losses.values()), rtol=1e-6)
    assert one[2] == meta
    for key, array in arrays.items():
        np.testing.assert_allclose(one[1][key], array, rtol=1e-4, atol=1e-6, err_msg=key)


def test_a_graph_changes_no_bit(gpus):
    def member(group, world, calls):
        return [trained(make("game"), "game", replace(RUN, replay=replay), group)[:2] for replay in (True, False)]

    for (losses, arrays), (plain, others) in gpus(member):
        assert losses == plain
        assert same(arrays, others)


def test_three_gpus_work_in_three_shards(gpus):
    """Whatever the number of shards that they could share: the run is the one of three, and says so."""
    config = replace(RUN, batch_size=24, shards=6)

    def member(group, world, calls):
        return trained(make("denoiser"), "denoiser", config, group), world.log.count("null: launch")

    found = gpus(member, size=3)
    assert [launches for _, launches in found] == [18] * 3
    (losses, arrays, _, notes), _ = found[0]
    assert notes == ["a device works on its part of a minibatch as a whole: 3 shards, not 6"]
    assert all(same(arrays, other[1]) for other, _ in found)
    with sg.backend("numpy"):
        three, six = (trained(make("denoiser"), "denoiser", replace(config, shards=s), sg.train.ALONE) for s in (3, 6))
    np.testing.assert_allclose(list(losses.values()), list(three[0].values()), rtol=1e-6)
    assert np.abs(np.array(list(six[0].values())) / list(losses.values()) - 1).max() > 1e-3  # other noise


def test_gpus_that_cannot_share_the_shards(gpus):
    found = gpus(lambda group, *_: trained(make("denoiser"), "denoiser", RUN, group), size=3)
    assert [str(error) for error in found] == ["3 processes cannot share 2 shards of a minibatch equally"] * 3


# --- what one process cannot capture, none does --------------------------------------------------------------


class Told(Denoiser):
    """A loss that does something in its n-th call in Python, and what follows a step, likewise."""

    def __init__(self, rng, in_loss=None, in_after=None):
        super().__init__(rng)
        self.in_loss, self.in_after = in_loss, in_after

    def loss(self, x, rng):
        terms = super().loss(x, rng)
        if self.in_loss:
            self.in_loss(terms.loss.array)
        return terms

    def after(self, x, rng):
        if self.in_after:
            self.in_after(self.layers[0].w.array)

    def players(self):
        return [Player("model", dict(self.named_parameters()), self.loss, after=self.after)]


def read(x):
    return float(x.sum())


def elsewhere(rank):
    return f"replay: process {rank} of 2 cannot capture its step"


READ = "replay: read: float() at "
REFUSED = {
    "before the sum, in both": ("in_loss", (0, 1), (READ, READ)),
    "before the sum, in one": ("in_loss", (1,), (elsewhere(1), READ)),
    "before the sum, in the first": ("in_loss", (0,), (READ, elsewhere(0))),
    "after the sum, in both": ("in_after", (0, 1), (READ, READ)),
    "after the sum, in one": ("in_after", (1,), (elsewhere(1), READ)),
    "after the sum, in the first": ("in_after", (0,), (READ, elsewhere(0))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_all_fall_back_together_and_nothing_is_done_twice(gpus, what):
    """Nobody is left waiting for a sum, nobody launches a graph, and the numbers are those without."""
    where, ranks, why = REFUSED[what]

    def member(group, world, calls):
        def run(replay):
            told = {where: read} if group.rank in ranks else {}
            return trained(Told(Generator(7), **told), "denoiser", replace(RUN, replay=replay), group)

        found, log, before = run(True), list(world.log), len(calls)
        return found, log.count("null: launch"), before, run(False)[:3]

    found = gpus(member)
    for ((*ended, notes), launches, calls, plain), said in zip(found, why, strict=True):
        assert launches == 0
        assert calls == 20 + (where == "in_after")  # one in the capture, where all came to it
        assert len(notes) == 1 and notes[0].startswith(said), notes
        assert notes[0].endswith("; trained without replay, which gives the same numbers")
        assert ended[0] == plain[0] and same(ended[1], plain[1]) and ended[2] == plain[2]
    assert same(found[0][0][1], found[1][0][1])


def test_several_players_fall_back_each_for_itself(gpus):
    """The critic's loss is read in one process; the generator's update stays a graph."""

    def member(group, world, calls):
        system = make("game")
        loss = system.critic_loss

        def critic_loss(x, rng):
            terms = loss(x, rng)
            if group.rank == 1:
                read(terms.loss.array)
            return terms

        system.critic_loss = critic_loss
        return len(trained(system, "game", RUN, group)[3]), world.log.count("null: launch")

    assert gpus(member) == [(1, 18), (1, 18)]


def test_an_error_of_one_process_in_the_capture_is_its_own(gpus):
    """No refusal: the others hear nothing more of it, and mpiexec's word ends them."""

    def member(group, world, calls):
        def fail(x):
            if world.current.capture is not None:
                raise ZeroDivisionError("something that nobody foresaw")

        return trained(Told(Generator(7), **({"in_loss": fail} if group.rank else {})), "denoiser", RUN, group)

    one, two = gpus(member)
    assert type(two) is ZeroDivisionError
    assert type(one) in (EOFError, ConnectionResetError, BrokenPipeError)


def test_a_loss_that_sets_the_system_s_memory_is_refused(gpus):
    def member(group, world, calls):
        system = make("denoiser")
        system.seen = sg.tensor(np.zeros((2,), np.float32))
        loss = system.loss

        def setting(x, rng):
            system.seen.assign(system.seen.array + x.sum())
            return loss(x, rng)

        system.loss = setting
        learnt = {k: v for k, v in system.named_parameters() if k != "seen"}
        system.players = lambda: [Player("model", learnt, system.loss)]
        return trained(system, "denoiser", RUN, group)

    found = gpus(member)
    assert [type(error) for error in found] == [GroupError] * 2
    assert "its loss sets the system's memory" in str(found[0])


def test_what_follows_a_step_draws_the_same_in_all(gpus):
    """Noise after the step is of the run's own stream, that of a shard of a stream of its own: as on the host."""

    class Shaken(Told):
        def after(self, x, rng):
            w = self.layers[0].w
            w.assign(w.array + 1e-3 * rng.standard_normal(w.shape, w.dtype))

    def member(group, world, calls):
        return trained(Shaken(Generator(7)), "denoiser", RUN, group), world.log.count("null: launch")

    (one, launches), (two, _) = gpus(member)
    assert launches == 18
    assert same(one[1], two[1])
    with sg.backend("numpy"):
        losses, _, meta, _ = trained(Shaken(Generator(7)), "denoiser", RUN, sg.train.ALONE)
    np.testing.assert_allclose(list(one[0].values()), list(losses.values()), rtol=1e-6)
    assert one[2] == meta


def test_noise_from_the_host_is_that_of_the_shards_too(gpus):
    """No graph draws it: all go on without, with a note, and with the host's numbers."""
    config = replace(RUN, noise="host")
    one, two = gpus(lambda group, *_: trained(make("denoiser"), "denoiser", config, group))
    assert [len(found[3]) for found in (one, two)] == [1, 1]
    assert one[3][0].startswith("replay: noise drawn on the host at ")
    assert same(one[1], two[1])
    with sg.backend("numpy"):
        losses, _, meta, _ = trained(make("denoiser"), "denoiser", config, sg.train.ALONE)
    np.testing.assert_allclose(list(one[0].values()), list(losses.values()), rtol=1e-6)
    assert one[2] == meta
