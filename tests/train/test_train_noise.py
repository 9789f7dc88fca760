"""Which noise a run is trained with: said in its configuration, kept when it goes on, the same on every backend."""

import json
from dataclasses import replace

import numpy as np
import pytest
from train_toys import CONFIG, data_for, left_by, make, run_in

import scratchgen as sg
from scratchgen import cli
from scratchgen.backend import get
from scratchgen.train import CheckpointError, RunFolder, TrainConfig, train
from scratchgen.train.config import from_json, settled

COUNTER = replace(CONFIG, noise="counter", final_lr=1.0)


def trained(config, name="denoiser"):
    system = make(name)
    losses = train(system, data_for(name), config, progress=False).losses
    return losses, {k: p.numpy() for k, p in system.named_parameters()}


@pytest.mark.parametrize("first", [1, 7])
@pytest.mark.parametrize("name", ["denoiser", "game"])
@pytest.mark.parametrize("shards", [1, 2])
def test_counter_noise_resumes_to_the_same_end(tmp_path, name, first, shards):
    config = replace(COUNTER, shards=shards)
    run_in(tmp_path / "whole", name, config)
    run_in(tmp_path / "parts", name, replace(config, steps=first))
    run_in(tmp_path / "parts", name, config)
    assert left_by(tmp_path / "whole") == left_by(tmp_path / "parts")


def test_counter_noise_is_another_noise_and_replay_changes_nothing():
    """From the same weights, which are drawn on the host."""
    (a, theta), (b, other), (c, eager) = map(trained, (COUNTER, replace(COUNTER, noise="host"),
                                                      replace(COUNTER, replay=False)))  # fmt: skip
    assert a != b
    assert a == c
    for k in theta:
        assert theta[k].tobytes() == eager[k].tobytes()
        assert not np.array_equal(theta[k], other[k])


@pytest.mark.parametrize("noise", ["host", "counter"])
def test_the_same_noise_on_another_backend(noise):
    """In one shard: a device takes a minibatch as one."""
    config = replace(COUNTER, noise=noise, dtype="float64")
    found = []
    for name in ("numpy", "strict"):
        with sg.backend(name):
            system = make("denoiser", "float64")
            data = data_for("denoiser").astype(np.float64)
            found.append(train(system, data, config, progress=False).losses)
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_without_a_word_it_is_the_backends_own(monkeypatch):
    assert TrainConfig().noise is None
    assert settled(TrainConfig(), "counter").noise == "counter"
    assert settled(TrainConfig(noise="host"), "counter").noise == "host"
    silent, host, counter = (replace(COUNTER, noise=noise) for noise in (None, "host", "counter"))
    assert trained(silent)[0] == trained(host)[0]
    monkeypatch.setattr(get("numpy"), "own_noise", "counter", raising=False)
    assert trained(silent)[0] == trained(counter)[0]


def test_a_run_goes_on_with_its_own_noise(tmp_path):
    run_in(tmp_path, "denoiser", replace(COUNTER, steps=3))
    with pytest.raises(CheckpointError, match="trained with noise = counter, not host"):
        run_in(tmp_path, "denoiser", replace(COUNTER, noise="host"))


def test_a_run_from_before_there_was_a_choice_had_the_hosts(tmp_path):
    from scratchgen.train import checkpoint

    for name in ("whole", "old"):
        run_in(tmp_path / name, "denoiser", replace(CONFIG, noise="host", steps=3, final_lr=1.0))
    file = tmp_path / "old" / "checkpoint.safetensors"
    arrays, meta = checkpoint.load(file)
    del meta["train"]["noise"]
    checkpoint.save(file, arrays, meta)
    for name in ("whole", "old"):
        run_in(tmp_path / name, "denoiser", replace(CONFIG, noise="host", final_lr=1.0))
    assert left_by(tmp_path / "old") == left_by(tmp_path / "whole")
    assert from_json(TrainConfig, {"steps": 3}).noise is None


def test_an_unknown_noise_is_refused():
    with pytest.raises(ValueError, match="noise is 'host' or 'counter', not 'gpu'"):
        TrainConfig(noise="gpu")


def test_the_command_line_says_which(tmp_path, capsys):
    given = ["train", "realnvp_2d", "--no-report", "--steps", "2", "--batch-size", "16"]
    for name, noise, wanted in (("own", [], "host"), ("asked", ["--noise", "counter"], "counter")):
        out = tmp_path / name
        assert cli.run([*given, "--out", str(out), *noise]) == 0
        assert f", numpy, noise by {wanted}\n" in capsys.readouterr().out
        assert json.loads((out / "config.json").read_text())["train"]["noise"] == wanted
        assert RunFolder.open(out).config.train.noise == wanted
    assert cli.run(["train", "realnvp_2d", "--resume", "--out", str(tmp_path / "asked"), "--noise", "host"]) == 2
    assert "the run has --noise counter, not host" in capsys.readouterr().err
