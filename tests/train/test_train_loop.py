"""The loop against a transcription of its algorithm, and what it refuses."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from train_toys import CONFIG, LABELS, POINTS, Classifier, Denoiser, Done, Terms, data_for, make, run_in

import scratchgen as sg
from scratchgen import ops
from scratchgen.backend import active
from scratchgen.data.batches import Batches
from scratchgen.models.system import Player, System
from scratchgen.random import Generator
from scratchgen.train import DivergedError, RunFolder, TrainConfig, learning_rate, load_weights, train
from scratchgen.train.checkpoint import CheckpointError
from scratchgen.train.metrics_log import read
from scratchgen.train.run import RunError

# --- the algorithm -----------------------------------------------------------------------------------------


class Mean(System):
    """loss_b = ½‖θ − x_b‖², whose gradient is θ − mean(x): everything about it is known in closed form."""

    def __init__(self, d):
        self.theta = sg.tensor(np.zeros(d))
        self.seen = []

    def loss(self, x, rng):
        self.seen.append(x)
        half = ops.sum((self.theta - x) ** 2, axis=1) / 2
        return Terms(half, ops.sqrt(2 * half))

    def players(self):
        return [Player("mean", {"theta": self.theta}, self.loss, 2)]


def test_the_loop_is_the_algorithm(tmp_path, monkeypatch):
    """Every number it leaves, against plain NumPy: rate, clipping, momentum, average, log, order."""
    x = np.random.default_rng(1).standard_normal((30, 3)) + 2
    config = TrainConfig(steps=40, batch_size=7, lr=0.3, warmup=5, final_lr=0.2, clip=0.9, ema_decay=0.8,
                         optimiser="sgd", momentum=0.5, seed=3, log_every=8, dtype="float64")
    system = Mean(3)
    monkeypatch.setattr("train_toys.data_for", lambda name: x)
    result = run_in(tmp_path / "mean", "mean", config, system)

    theta, velocity, average = np.zeros(3), np.zeros(3), np.zeros(3)
    batches, terms, clipped = Batches(30, 7, seed=3), [], 0
    for k in range(80):  # two minibatches a step
        batch = x[batches(k)]
        square = ((theta - batch) ** 2).sum(1)
        terms.append([(square / 2).mean(), np.sqrt(square).mean()])
        gradient = (theta - batch).mean(0)
        clipped += np.linalg.norm(gradient) > 0.9
        gradient = gradient * min(1, 0.9 / np.linalg.norm(gradient))
        velocity = 0.5 * velocity + gradient
        theta = theta - learning_rate(config, k // 2) * velocity
        decay = min(0.8, (2 + k) / (11 + k))
        average = decay * average + (1 - decay) * theta
    assert 0 < clipped < 80
    assert np.allclose(system.theta.numpy(), theta, rtol=1e-13)
    assert np.allclose(result.average["theta"], average, rtol=1e-13)
    rows = np.array(terms).reshape(5, 16, 2).mean(1)
    log = read(tmp_path / "mean" / "metrics.csv")
    assert log["step"].tolist() == [8, 16, 24, 32, 40]
    assert np.allclose(np.stack([log["loss"], log["error"]], 1), rows, rtol=1e-8)
    assert result.losses == pytest.approx(dict(zip(["loss", "error"], rows[-1], strict=True)), rel=1e-12)
    assert result.step == 40


def test_adam_takes_its_numbers_from_the_config():
    x = np.random.default_rng(1).standard_normal((8, 3))
    config = TrainConfig(steps=3, batch_size=8, lr=0.1, beta1=0.5, beta2=0.7, weight_decay=0.1,
                         dtype="float64")
    system = Mean(3)
    train(system, x, config, progress=False)
    theta, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    for k in range(1, 7):
        g = theta - x.mean(0)
        m, v = 0.5 * m + 0.5 * g, 0.7 * v + 0.3 * g**2
        step = m / (1 - 0.5**k) / (np.sqrt(v / (1 - 0.7**k)) + 1e-8)
        theta = theta - 0.1 * (step + 0.1 * theta)
    assert np.allclose(system.theta.numpy(), theta, rtol=1e-7)


@pytest.mark.parametrize("name", ["denoiser", "game", "classifier"])
def test_training_on_the_strict_backend_is_training(name):
    trained = []
    for backend in ("numpy", "strict"):
        with sg.backend(backend):
            system = make(name)
            train(system, data_for(name), CONFIG, progress=False)
            trained.append(system.state_dict())
    for key, value in trained[0].items():
        assert np.allclose(value, trained[1][key], rtol=1e-5, atol=1e-7)


def test_a_classifier_learns_from_images_and_labels_without_a_run_folder():
    system = make("classifier")
    config = TrainConfig(steps=300, batch_size=25, lr=0.05)
    result = train(system, (POINTS, LABELS), config, progress=False)
    predicted = system.frozen().layer(POINTS).argmax(1)
    assert (predicted == LABELS).mean() > 0.95
    assert result.average is None
    assert result.losses["loss"] < 0.3


def test_labels_stay_integers_and_images_take_the_run_s_dtype():
    seen = []

    class Spy(Classifier):
        def loss(self, batch, rng):
            seen.append([part.dtype for part in batch])
            return super().loss(batch, rng)

    train(Spy(Generator(7)), (POINTS.astype(np.float64), LABELS), replace(CONFIG, steps=1), progress=False)
    assert seen == [[np.float32, np.int64]]


def test_the_average_is_a_network():
    system = make("denoiser")
    result = train(system, POINTS, CONFIG, progress=False)
    averaged = system.frozen(result.average)
    x = active().asarray(POINTS)
    assert not np.allclose(averaged(x), system.frozen()(x))


def test_the_seed_decides_data_and_noise():
    def trained(seed):
        system = make("denoiser")
        train(system, POINTS, replace(CONFIG, seed=seed), progress=False)
        return system.frozen()(POINTS).copy()

    assert np.array_equal(trained(0), trained(0))
    assert not np.array_equal(trained(0), trained(1))


def test_float64():
    system = make("denoiser", "float64")
    train(system, POINTS, replace(CONFIG, dtype="float64"), progress=False)
    assert all(p.dtype == np.float64 for p in system.parameters())


def test_progress_is_told_on_standard_error(capsys):
    train(make("game"), POINTS, CONFIG, name="toy game")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("toy game: step 12/12, critic ")
    assert "generator " in err


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("terms", "why"), [
    (lambda loss: loss, "must be a named tuple"),
    (lambda loss: (loss, loss), "must be a named tuple"),
    (lambda loss: Terms(ops.mean(loss), loss), r"term 'loss' has shape \(\), not \(16,\)"),
    (lambda loss: Terms(loss, ops.reshape(loss, (16, 1))), r"term 'error' has shape \(16, 1\)"),
])
def test_a_loss_of_another_shape_is_refused(terms, why):
    class Wrong(Denoiser):
        def loss(self, x, rng):
            return terms(super().loss(x, rng).loss)

    with pytest.raises(ValueError, match=why):
        train(Wrong(Generator(0)), POINTS, CONFIG, progress=False)


@pytest.mark.parametrize(("players", "why"), [
    (lambda own: [Player("a", own, None), Player("a", own, None)], "two players have one name: a, a"),
    (lambda own: [Player("a", own, None), Player("b", own, None)], "belongs to another player already"),
    (lambda own: [Player("a", {"x": next(iter(own.values()))}, None)], "has no such parameter 'x'"),
])
def test_players_that_get_in_each_other_s_way_are_refused(players, why):
    class Wrong(Denoiser):
        def players(self):
            return players(dict(self.named_parameters()))

    with pytest.raises(ValueError, match=why):
        train(Wrong(Generator(0)), POINTS, CONFIG, progress=False)


def test_another_dtype_is_refused_not_converted():
    with pytest.raises(ValueError, match=r"is float32, to be trained in float64: use system\.astype"):
        train(make("denoiser"), POINTS, replace(CONFIG, dtype="float64"), progress=False)


@pytest.mark.parametrize(("data", "error", "why"), [
    ((POINTS, LABELS[:-1]), ValueError, r"arrays of different lengths \[50, 49\]"),
    (POINTS[:3], ValueError, "batch_size"),
    (POINTS.tolist(), TypeError, "a list is no NumPy array"),
])
def test_data_that_does_not_fit_is_refused(data, error, why):
    with pytest.raises(error, match=why):
        train(make("classifier"), data, CONFIG, progress=False)


def test_a_folder_in_use_is_refused(tmp_path):
    run_in(tmp_path, "denoiser")
    with RunFolder.open(tmp_path).lock(), pytest.raises(RunError, match="another process is writing"):
        run_in(tmp_path, "denoiser")


@pytest.mark.parametrize(("name", "change", "why"), [
    ("denoiser", {"lr": 0.02}, "it was trained with lr = 0.01, not 0.02"),
    ("denoiser", {"seed": 5}, "it was trained with seed = 0, not 5"),
    ("game", {}, "it holds a run of denoiser, not of game"),
])
def test_a_run_is_continued_by_its_own_numbers(tmp_path, name, change, why):
    run_in(tmp_path, "denoiser")
    system = make(name)
    before = system.state_dict()
    with pytest.raises(CheckpointError, match=why):
        run_in(tmp_path, name, replace(CONFIG, **change), system)
    assert all(np.array_equal(system.state_dict()[k], v) for k, v in before.items())


def test_another_network_does_not_fit(tmp_path):
    run_in(tmp_path, "denoiser")
    other = make("denoiser")
    other.layers = other.layers[:1]
    with pytest.raises(CheckpointError, match=r"does not fit this run: .*unexpected"):
        run_in(tmp_path, "denoiser", system=other)
    with pytest.raises(CheckpointError, match=r"does not fit this system: .*unexpected"):
        load_weights(other, tmp_path / "checkpoint.safetensors")


def test_a_damaged_checkpoint_loads_nothing_in_part(tmp_path):
    run_in(tmp_path, "denoiser")
    path = tmp_path / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    system = make("denoiser")
    before = system.state_dict()
    with pytest.raises(CheckpointError, match="damaged"):
        run_in(tmp_path, "denoiser", replace(CONFIG, steps=20), system)
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(system, path)
    assert all(np.array_equal(system.state_dict()[k], v) for k, v in before.items())
    assert path.read_bytes() == data


def test_a_checkpoint_that_is_gone_is_not_taken_for_a_beginning(tmp_path):
    run_in(tmp_path, "denoiser")
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(RunError, match=r"checkpoint.safetensors: is gone"):
        run_in(tmp_path, "denoiser")


def test_weights_for_sampling(tmp_path):
    trained = make("denoiser")
    result = run_in(tmp_path, "denoiser", system=trained)
    system = make("denoiser")
    assert load_weights(system, tmp_path / "checkpoint.safetensors", averaged=False) == 12
    assert all(np.array_equal(v, trained.state_dict()[k]) for k, v in system.state_dict().items())
    load_weights(system, str(tmp_path / "checkpoint.safetensors"))
    assert all(np.array_equal(v, result.average[k]) for k, v in system.state_dict().items())


# --- divergence --------------------------------------------------------------------------------------------


class Spoiled(Denoiser):
    """A denoiser whose loss goes wrong at its 8th minibatch, in a way to be chosen."""

    def __init__(self, way):
        super().__init__(Generator(7))
        self.fault, self.how = way
        self.calls = 0
        self.factor = Done(self.spoil)

    def spoil(self):
        self.calls += 1
        return active().asarray(np.array(self.fault if self.calls == 8 else 1, np.float32))

    def loss(self, x, rng):
        return self.how(super().loss(x, rng), self.factor())


WAYS = {
    "loss is nan": (np.nan, lambda terms, f: Terms(terms.loss * f, terms.error)),
    "loss is inf": (1e38, lambda terms, f: Terms(terms.loss * f * f, terms.error)),
    "error is nan": (np.nan, lambda terms, f: Terms(terms.loss, sg.stop_gradient(terms.error) * f)),
    "gradient norm is inf": (1e30, lambda terms, f: Terms(terms.loss * f, terms.error)),
}


@pytest.mark.parametrize("what", WAYS)
@pytest.mark.parametrize("on_host", [True, False])
def test_what_is_not_finite_is_named_and_never_saved(tmp_path, what, on_host):
    """At the 8th step; or, where every look would wait for a device, when the next row is due."""
    with sg.backend("numpy" if on_host else "strict"):
        system = Spoiled(WAYS[what])
        with pytest.raises(DivergedError) as caught:
            run_in(tmp_path, "denoiser", replace(CONFIG, replay=on_host), system)
    step = 8 if on_host else 9
    message = str(caught.value)
    assert message.endswith(f" at step {step} of player 'model'; the checkpoint of step 5 stays")
    assert message.startswith(f"denoiser: {what} at step" if on_host else "denoiser: ")
    assert (caught.value.step, caught.value.player, caught.value.saved) == (step, "model", 5)
    assert load_weights(make("denoiser"), tmp_path / "checkpoint.safetensors") == 5
    assert read(tmp_path / "metrics.csv")["step"].tolist() == [3, 6]
    if on_host:  # the weights in memory are those before the bad step
        assert all(np.isfinite(v).all() for v in system.state_dict().values())


def test_a_run_continues_past_a_fault_that_has_gone(tmp_path):
    run_in(tmp_path / "whole", "denoiser")
    with pytest.raises(DivergedError):
        run_in(tmp_path / "run", "denoiser", system=Spoiled(WAYS["loss is nan"]))
    run_in(tmp_path / "run", "denoiser")
    for file in ("checkpoint.safetensors", "metrics.csv"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_parameters_that_overflow_are_not_saved(tmp_path):
    config = TrainConfig(steps=9, batch_size=16, lr=3e38, optimiser="sgd", checkpoint_every=1)
    why = r"a parameter is not finite at step 1 .*; the checkpoint of step 0 stays"
    with pytest.raises(DivergedError, match=why):
        run_in(tmp_path, "denoiser", config)


def test_divergence_without_a_folder():
    with pytest.raises(DivergedError) as caught:
        train(Spoiled(WAYS["loss is nan"]), POINTS, CONFIG, progress=False)
    assert str(caught.value) == "Spoiled: loss is nan at step 8 of player 'model'"


def test_without_a_folder_signals_are_left_alone():
    class Struck(Denoiser):
        def loss(self, x, rng):
            os.kill(os.getpid(), signal.SIGINT)
            return super().loss(x, rng)

    with pytest.raises(KeyboardInterrupt):
        train(Struck(Generator(7)), POINTS, CONFIG, progress=False)
