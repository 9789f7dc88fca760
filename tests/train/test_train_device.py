"""Training where a player's whole update is replayed: the strict backend holds each one against a graph's rules."""

import re
from dataclasses import replace

import numpy as np
import pytest
from train_toys import CONFIG, POINTS, Denoiser, Terms, data_for, left_by, make, run_in

import scratchgen as sg
from scratchgen import strict
from scratchgen.models.adversarial import GAN, WGAN, GANConfig, WGANConfig
from scratchgen.models.diffusion import DDPM, DDPMConfig
from scratchgen.models.latent.vae import VAE, VAEConfig
from scratchgen.models.latent.vqvae import VQVAE, VQVAEConfig
from scratchgen.models.system import Player
from scratchgen.nn import UNetConfig
from scratchgen.random import Generator
from scratchgen.rehearsal import WARM_UPS
from scratchgen.train import TrainConfig, train
from scratchgen.train.state import State

IMAGES = (np.random.default_rng(0).integers(0, 17, (40, 4, 4, 1)) / 8 - 1).astype(np.float32)
SHAPE = {"shape": (4, 4, 1)}
UNET = UNetConfig(base=4, multipliers=(1,), attention=(0,), groups=2, time=8)
SYSTEMS = {
    "vae": lambda rng: VAE(VAEConfig(latent=2, widths=(5,), **SHAPE), rng=rng),
    "gan": lambda rng: GAN(GANConfig(width=5, depth=1, latent=2, k=2, **SHAPE), rng=rng),
    "wgan with a penalty": lambda rng: WGAN(WGANConfig(width=5, depth=1, latent=2, **SHAPE), rng=rng),
    "wgan that clips": lambda rng: WGAN(WGANConfig(width=5, depth=1, latent=2, penalty=None, **SHAPE), rng=rng),
    "vqvae with memory": lambda rng: VQVAE(VQVAEConfig(
        codes=5, dims=3, width=4, groups=2, decay=0.9, prior_width=4, prior_layers=1, prior_dropout=0.0, **SHAPE,
    ), rng=rng),
    "ddpm": lambda rng: DDPM(DDPMConfig(T=9, unet=UNET, **SHAPE), rng=rng),
}  # fmt: skip
RUN = TrainConfig(steps=30, batch_size=6, warmup=9, final_lr=0.1, clip=0.5, ema_decay=0.9, weight_decay=0.01,
                  noise="counter", log_every=7)  # fmt: skip


@pytest.fixture(autouse=True)
def on_strict():
    with sg.backend("strict"):
        yield


@pytest.fixture
def ends(monkeypatch):
    """What runs end with, as they end: how many captures each player has, and the checkpoint's arrays."""
    found, close = [], State.close

    def closing(self):
        captures = [sum(g.graph.captured is not None for one in p.replays for g in one.graphs.values())
                    for p in self.players]  # fmt: skip
        found.append((captures, self.arrays() | {"rng": np.array(self.rng.state()["counter"])}))
        close(self)

    monkeypatch.setattr(State, "close", closing)
    return found


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k], equal_nan=False) for k in one)


@pytest.mark.parametrize("name", [*(n for n in SYSTEMS if n != "ddpm"), pytest.param("ddpm", marks=pytest.mark.long)])
def test_replay_changes_no_bit(name, ends, capsys):
    """Thirty steps with it and without: losses, weights, averages, optimisers, noise; and nobody fell back."""
    results = [train(SYSTEMS[name](Generator(3)), IMAGES, replace(RUN, replay=replay)) for replay in (False, True)]
    assert "replay" not in capsys.readouterr().err
    assert results[0].losses == results[1].losses
    (captures, plain), (more, replayed) = ends
    assert set(captures) == {0}
    assert set(more) == {1}
    assert same(plain, replayed)


def test_another_number_would_be_seen(ends):
    """Negative control of the comparison: a rate that is a millionth larger."""
    for lr in (RUN.lr, RUN.lr * (1 + 1e-6)):
        train(SYSTEMS["gan"](Generator(3)), IMAGES, replace(RUN, lr=lr), progress=False)
    assert not same(ends[0][1], ends[1][1])


@pytest.mark.parametrize("name", ["denoiser", "game", "classifier"])
@pytest.mark.parametrize("stop", [1, 2, 5, 6])
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(tmp_path, name, stop):
    """Before the capture and after it, with and without sums waiting for the log."""
    config = replace(CONFIG, noise="counter", checkpoint_every=12, log_every=4)
    run_in(tmp_path / "whole", name, config)
    run_in(tmp_path / "parts", name, replace(config, steps=stop, final_lr=1.0))
    for part in ("whole", "parts"):
        assert (tmp_path / part / "checkpoint.safetensors").exists()
    config = replace(config, final_lr=1.0)
    run_in(tmp_path / "straight", name, config)
    run_in(tmp_path / "parts", name, config)
    assert left_by(tmp_path / "parts") == left_by(tmp_path / "straight")
    assert left_by(tmp_path / "parts") != left_by(tmp_path / "whole")


@pytest.mark.parametrize("name", ["denoiser", "game", "classifier"])
def test_nothing_is_read_but_for_a_row_or_a_checkpoint(name):
    """Twice the steps, with as many rows and checkpoints: no more reads or copies out."""
    found = []
    for steps in (20, 40):
        config = replace(CONFIG, noise="counter", steps=steps, log_every=steps, checkpoint_every=steps)
        with strict.watched() as seen:
            train(make(name), data_for(name), config, progress=False)
        found.append((seen.reads, seen.copies_out))
    assert found[0] == found[1]
    assert found[0][0] + found[0][1] > 0


# --- what no graph can hold: one line, and trained without -------------------------------------------------------


class Deciding(Denoiser):
    def loss(self, x, rng):
        terms = super().loss(x, rng)
        return terms if float(terms.loss.sum()) > 0 else Terms(-terms.loss, terms.error)


class Counting(Denoiser):
    """A weight that grows with the steps: a number of the host."""

    def __init__(self, rng):
        super().__init__(rng)
        self.steps = 0

    def loss(self, x, rng):
        self.steps += 1
        terms = super().loss(x, rng)
        return Terms(terms.loss * (1 + self.steps), terms.error)


class Shrinking(Denoiser):
    """Of the examples, those that are worst off."""

    def loss(self, x, rng):
        terms = super().loss(x, rng)
        chosen = terms.loss.array > 0
        return Terms(terms.loss[chosen], terms.error[chosen])


class Rebinding(Denoiser):
    """An average of the loss, in a new array each time."""

    seen = 0.0

    def loss(self, x, rng):
        terms = super().loss(x, rng)
        self.seen = self.seen * 0.9 + sg.stop_gradient(terms.loss).sum() * 0.1
        return Terms(terms.loss / (1 + self.seen), terms.error)


class Choosing(Denoiser):
    """A choice with probabilities: of the host, in any mode."""

    def loss(self, x, rng):
        return super().loss(x + 0.1 * rng.choice(2, x.shape, p=[0.3, 0.7]).astype(x.dtype), rng)


class Reading(Denoiser):
    """What follows a step decides by a weight."""

    def after(self, x, rng):
        w = self.layers[0].w
        if float(w.array[0, 0]) > -9:
            w.assign(w.array * 0.999)

    def players(self):
        return [Player("model", dict(self.named_parameters()), self.loss, after=self.after)]


REFUSED = {
    "a read": (Deciding, r"read: float\(\) at \S*test_train_device\.py:\d+"),
    "a number of the host": (Counting, rf"a number is baked in, {WARM_UPS + 2}, then {WARM_UPS + 3}: .* of multiply "),
    "a shape of numbers": (Shrinking, r"read: a boolean mask as an index at \S*test_train_device\.py:\d+"),
    "an array replaced": (Rebinding, r"another array in the next step.* at \S*test_train_device\.py:\d+"),
    "noise of the host": (Choosing, r"noise drawn on the host at \S*test_train_device\.py:\d+"),
    "a read after the step": (Reading, r"read: float\(\) at \S*test_train_device\.py:\d+"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_graph_can_hold_is_named_and_trained_without(what, ends, capsys):
    system, why = REFUSED[what]
    config = replace(CONFIG, noise="counter")
    for replay in (False, True):
        train(system(Generator(7)), POINTS, replace(config, replay=replay))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "replay" in line]
    assert line.startswith(f"{system.__name__}: replay: ")
    assert line.endswith("; trained without replay, which gives the same numbers")
    assert re.search(why, line), line
    assert ends[1][0] == [0]
    by_itself = system in (Counting, Rebinding)  # what a system keeps in Python, a step done again changes twice
    assert same(ends[0][1], ends[1][1]) is not by_itself
