"""From the first command to the page, on a network small enough for a test; kills and Ctrl-C on the way."""

from __future__ import annotations

import html.parser
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from scratchgen import cli
from scratchgen.models.diffusion import DDPMConfig
from scratchgen.nn import UNetConfig
from scratchgen.train import RunConfig, RunFolder, TrainConfig, as_json

TINY = DDPMConfig(T=12, unet=UNetConfig(base=8, multipliers=(1,), attention=(), groups=4, time=8))
TRAIN = TrainConfig(steps=12, batch_size=8, log_every=2, ema_decay=0.9, checkpoint_every=5)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A run from begin to end: trained, judged, drawn."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    RunFolder.create(path, RunConfig("ddpm", as_json(TINY), TRAIN, "digits"))
    assert cli.run(["train", "ddpm", "--resume", "--out", str(path)]) == 0
    return path


class Links(html.parser.HTMLParser):
    """What a page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.alts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [v for k, v in attrs if k in ("src", "href")]
        self.alts += [v for k, v in attrs if k == "alt" and tag == "img"]


def test_the_page_needs_nothing_but_its_own_folder(judged):
    text = (judged / "index.html").read_text(encoding="utf-8")
    page = Links()
    page.feed(text)
    assert len(page.found) == 6
    assert all((judged / link).is_file() for link in page.found)
    assert all(page.alts)
    assert "http" not in text
    assert 'name="viewport"' in text
    for said in ("Fréchet", "floor", "DDIM η=0, 10", "real, held out", "noise, uniform", "bits per pixel"):
        assert said in text


def test_every_picture_opens_and_shows_something(judged):
    for file in (judged / "pictures").iterdir():
        with Image.open(file) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, file
    with Image.open(judged / "pictures" / "denoising.gif") as film:
        assert film.n_frames == TINY.T + 1


def test_judging_and_drawing_again_gives_the_same(judged):
    page = (judged / "index.html").read_bytes()
    found = (judged / "evaluation.safetensors").read_bytes()
    assert cli.run(["report", str(judged)]) == 0
    assert (judged / "index.html").read_bytes() == page
    assert cli.run(["evaluate", str(judged)]) == 0
    assert (judged / "evaluation.safetensors").read_bytes() == found


def test_sampling_is_decided_by_its_seed(judged, tmp_path):
    files = [tmp_path / f"{i}.npy" for i in range(4)]
    options = [("--seed", "1"), ("--seed", "1"), ("--seed", "2"), ("--seed", "1", "--steps", "4")]
    for file, option in zip(files, options, strict=True):
        assert cli.run(["sample", str(judged), "-n", "3", "--out", str(file), *option]) == 0
    a, b, c, d = (np.load(f) for f in files)
    assert a.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.1
    assert np.abs(a - d).max() > 0.1
    assert cli.run(["sample", str(judged), "-n", "5"]) == 0
    assert (judged / "pictures" / "drawn.png").is_file()


def train(path, *options):
    command = [sys.executable, "-m", "scratchgen.cli", "train", "ddpm", "--no-report", "--out", str(path), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_run_resumes_to_the_same_end(tmp_path, sent, code):
    settings = TrainConfig(steps=30, batch_size=4, log_every=2, ema_decay=0.9, checkpoint_every=6)
    runs = [tmp_path / "stopped", tmp_path / "whole"]
    for path in runs:
        RunFolder.create(path, RunConfig("ddpm", as_json(TINY), settings, "digits"))
    process = train(runs[0], "--resume")
    deadline = time.monotonic() + 60
    while not (runs[0] / "metrics.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (code, 0), err  # 0: it was done before the signal came
    assert "Traceback" not in err
    for path in runs:
        last = train(path, "--resume")
        _, err = last.communicate(timeout=60)
        assert last.returncode == 0, err
    for name in ("checkpoint.safetensors", "metrics.csv"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()
