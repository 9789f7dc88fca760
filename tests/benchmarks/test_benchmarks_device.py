"""The benchmarks' way on a device, on the backend that stands for one: all of it but CUDA's own events and counters."""

import os
import shutil
import subprocess
import sys
import types
import weakref
from pathlib import Path

import host_cudnn
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import check, device, report, work, workloads
from benchmarks.__main__ import can_grow, everything, main
from benchmarks.contenders import CONTENDERS, INSTALL_CUDA
from benchmarks.contenders.ours import Eager, Replayed
from benchmarks.device import HOST, STAND_IN, Place, Ticks
from benchmarks.measure import Plan, Row, Timing, spread
from benchmarks.workload import SIZES, grown, problem
from scratchgen import use
from scratchgen.backend import get

STRICT = Place("strict")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _numpy_again():
    yield
    use("numpy")


def counted(name, times=1):
    workload = grown(workloads.load(name), times)
    return work.of(workload, problem(workload))


def test_the_work_of_a_network_is_the_count_on_paper():
    """VAE 784-512-20: three products a layer, but for the first layer's x̄; Adam's seven passes over the weights."""
    layers, examples = ((784, 512), (512, 40), (20, 512), (512, 784)), 128
    found = counted("vae_mlp")
    assert found.flops == sum(3 * 2 * examples * m * n for m, n in layers) - 2 * examples * 784 * 512
    moved = 3 * sum(examples * (m + n) + m * n for m, n in layers) - (examples * (784 + 512) + 784 * 512)
    weights = sum(m * n + n for m, n in layers)
    assert found.bytes == 4 * (moved + 7 * weights)


def test_memory_taken_is_that_of_all_pools(monkeypatch):
    """Among objects that are no longer there, and would say so if asked what they are."""

    class Pool:
        def total_bytes(self):
            return 3 << 20

    gone = Pool()
    dead = weakref.proxy(gone)
    del gone
    monkeypatch.setattr(device, "get", lambda _: types.SimpleNamespace(cuda=types.SimpleNamespace(MemoryPool=Pool)))
    pools = [Pool(), Pool()]
    assert device.taken() == 3.0 * len(pools)
    with pytest.raises(ReferenceError):
        dead.total_bytes()


def test_the_work_of_convolutions_and_of_sampling():
    found = counted("conv_autoencoder")
    pair = 14 * 14 * 32 * 4 * 4 * 1 + 7 * 7 * 64 * 4 * 4 * 32  # multiplications of the way down; up: as many
    assert found.flops == 64 * 2 * (2 * 3 * pair - 14 * 14 * 32 * 4 * 4)  # x̄ of the first is nobody's
    sampling, step = counted("ddim_sampling"), counted("ddpm_unet_8")
    assert 20 * step.flops / 3.2 < sampling.flops < 20 * step.flops / 2.8
    assert counted("small_ops").flops == 0


@pytest.mark.parametrize("name", ["vae_mlp", "gpt_char", "vqvae", "glow"])
def test_the_work_grows_with_the_examples(name):
    small, large = counted(name), counted(name, 4)
    assert large.flops == pytest.approx(4 * small.flops, rel=0.02)  # Glow's inverses are of no example
    assert small.bytes < large.bytes < 4 * small.bytes


def test_counting_leaves_the_backend_as_it_was():
    xp = get("numpy")
    before = dict(vars(xp))
    with work.counted():
        assert not xp.matmul(np.ones((2, 3)), np.ones((3, 2))).any()
    with pytest.raises(ZeroDivisionError), work.counted():
        _ = 1 // 0
    assert vars(xp) == before and xp.matmul(np.ones((1, 2)), np.ones((2, 1))) == 2


@pytest.mark.parametrize("name", workloads.NAMES)
def test_batches_grow_and_networks_stay(name):
    workload = workloads.load(name)
    bigger = grown(workload, 3)
    assert grown(workload, 1) is workload and can_grow(name) == (name != "small_ops")
    if bigger is not workload:
        given = problem(bigger)
        assert {len(x) for x in (*given.batches[0], *given.noise)} == {3 * workload.examples}
        assert str(3 * workload.examples) in bigger.title and bigger.network is workload.network


# --- clocks ----------------------------------------------------------------------------------------------------


def test_events_are_read_after_the_end_and_one_by_one():
    """A device whose steps last 1, 2, 1, 2, … seconds by its own clock, which cannot be read before `finish`."""
    done, asked, clock = [0.0], [], []

    def stamp():
        asked.append(sum(clock))
        return len(asked) - 1

    def step():
        clock.append(1.0 + len(clock) % 2)

    def finish():
        done[0] = sum(clock)

    def between(a, b):
        assert asked[b] <= done[0]
        return asked[b] - asked[a]

    found = device.by_events(step, Ticks(stamp, between, finish), 6, 0.0, 0.0)
    assert found == [2.0, 1.0, 2.0, 1.0, 2.0, 1.0]  # the first step warmed up


def test_events_that_miss_the_work_are_an_error():
    import time

    with pytest.raises(RuntimeError, match="have not seen the work"):
        device.by_events(lambda: time.sleep(0.01), Ticks(lambda: 0.0, lambda a, b: 0.0, lambda: None), 2, 0.0, 0.0)


@pytest.mark.parametrize("turn", [
    lambda step, seconds: device.by_events(step, STAND_IN, 2, seconds, 0.0),
    lambda step, seconds: device.by_span(step, lambda: None, 2, seconds, 0.0),
])  # fmt: skip
def test_a_turn_lasts_as_long_as_was_asked_for(turn):
    found = turn(lambda: None, 0.02)
    assert len(found) > 2 and sum(found) >= 0.01
    assert len(turn(lambda: None, 0.0)) == 2


def test_the_events_of_cuda(monkeypatch):
    """Milliseconds between events that are recorded in the current stream."""
    calls = []

    class Event:
        def record(self):
            calls.append("record")

    runtime = types.SimpleNamespace(deviceSynchronize=lambda: calls.append("wait"))
    cuda = types.SimpleNamespace(Event=Event, get_elapsed_time=lambda a, b: 250.0, runtime=runtime)
    monkeypatch.setattr(device, "get", lambda name: types.SimpleNamespace(cuda=cuda))
    ticks = device.ticks(Place("cupy"))
    assert ticks.between(ticks.stamp(), ticks.stamp()) == 0.25
    ticks.finish()
    assert calls == ["record", "record", "wait"]
    assert device.version(13020) == "13.2" and device.version(12090) == "12.9"


# --- contenders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Eager, Replayed])
@pytest.mark.parametrize("name", ["realnvp", "wgan_gp_critic"])
def test_the_answer_on_a_device_is_that_of_the_host(name, kind):
    workload = workloads.load(name)
    given = problem(workload)
    expected = Eager(workload, given, 1).answer()
    made = kind(workload, given, 2, place=STRICT)
    assert made.shards == 1 and type(made.batches[0][0][0]) is type(get("strict").zeros(1))
    assert check.disagreement(made.answer(), expected) is None
    made.step()
    assert made.ticks is STAND_IN and made.taken is None


def test_lowered_products_are_given_more_room():
    right = {"loss": np.float32(1.0), "w": np.ones(4, np.float32)}
    near = {"loss": np.float32(1.001), "w": right["w"] * np.float32(1.01)}
    assert check.disagreement(near, right) and check.disagreement(near, right, "tf32") is None
    assert "what bf16 explains" in check.disagreement({**near, "w": -right["w"]}, right, "bf16")


# --- from end to end ---------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), env={"COLUMNS": "220"})


def test_a_run_from_end_to_end(tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(f"before\n{report.BEGIN}\nnot measured\n{report.END}\nafter\n")
    json, picture = tmp_path / "gpu.json", tmp_path / "docs" / "gpu.png"
    shown = run("wgan_gp_critic", "--backend", "strict", "--contenders", "ours,replayed,autograd",
                "--quick", "--sizes", "medium", "--json", json, "--page", page, "--picture", picture)  # fmt: skip
    assert shown.exit_code == 0, shown.output
    about, rows = report.load(json)
    assert [(row.name, row.size, set(row.timings)) for row in rows] == [
        ("wgan_gp_critic", "medium", {"ours", "replayed"})]  # fmt: skip
    assert about["place"] == {"backend": "strict", "precision": "float32"}
    assert about["device"]["GB/s"] > 0 and about["device"]["TFLOP/s"] > 0
    text = page.read_text()
    for part in ("no device: the strict backend", "batch 512 (medium)", "TFLOP/s", "GB/s", "](gpu.png)"):
        assert part in text
    assert "not measured" not in text and picture.read_bytes().startswith(b"\x89PNG")


def test_sizes_go_with_workloads_that_can_grow(monkeypatch):
    asked = []
    monkeypatch.setattr("benchmarks.__main__.measure", lambda name, c, p, s, place, size: asked.append((name, size)))
    everything(("small_ops", "realnvp"), [], Plan(), STRICT, ["medium", "large"])
    assert asked == [("small_ops", "medium"), ("realnvp", "medium"), ("realnvp", "large")]


def test_convolutions_by_cudnn_are_another_contender(cupy, monkeypatch):
    """On a GPU, where there are convolutions: replayed as the other one is, in a process that loads CuPy its way."""
    entry = CONTENDERS["cudnn"]
    assert [name for name in workloads.NAMES if entry.fits(workloads.load(name))] == [
        name for name in workloads.NAMES if workloads.load(name).images]
    assert entry.backends == ("cupy",) and "cudnn13x" in INSTALL_CUDA[entry.package]
    monkeypatch.setenv("SCRATCHGEN_CONVOLUTION", "products")
    host_cudnn.installed(monkeypatch)
    monkeypatch.setattr(sys.modules["cupy"].cuda.runtime, "deviceSynchronize", lambda: None, raising=False)
    del sys.modules["scratchgen.backend"]._loaded["cupy"]
    workload = workloads.load("conv_autoencoder")
    made = entry.load()(workload, problem(workload), 1, Place("cupy"))
    assert made.xp.convolution.NAME == "cuDNN 9.28.0" and isinstance(made, Replayed)


def test_speeds_are_shares_of_the_ceilings():
    timing = Timing(spread([0.002]), 1, [0.002], {"peak": 1.0, "above_imports": 1.0, "device": 12.0}, [])
    row = Row("a", "A", timings={"ours": timing}, size="large", flops=4e10, bytes=2e9)
    ceilings = {"TFLOP/s": 50.0, "GB/s": 4000.0}
    assert report.speed_cell(row, "ours", ceilings) == ("20 TFLOP/s, 40 %", "1e+03 GB/s, 25 %")
    assert report.speed_cell(row, "jax", ceilings) == ("–", "")
    assert report.memory_cell(row, "ours") == "12" and report.title(row) == "A (large)"


@pytest.mark.parametrize("arguments, words", [
    (["--backend", "opencl"], "'opencl' is not numpy or cupy"), (["--sizes", "huge"], "'huge' is not one of small"),
])  # fmt: skip
def test_requests_that_cannot_be_served(arguments, words):
    shown = run(*arguments)
    assert shown.exit_code == 2 and words in shown.output


def test_without_a_device_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules["scratchgen.backend"]._loaded, "cupy", raising=False)
    shown = run("small_ops", "--backend", "cupy")
    assert shown.exit_code == 2 and shown.output.startswith("benchmarks: CuPy is not installed")
    assert shown.output.count("\n") == 1


@pytest.mark.skipif(not shutil.which("make") or bool(shutil.which("nvidia-smi")), reason="needs make, and no GPU")
def test_make_says_so_before_it_installs_anything():
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "bench", "BACKEND=cupy"], cwd=ROOT, env=plain, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == "make bench BACKEND=cupy: there is no NVIDIA GPU here, or no driver: nvidia-smi lists none\n"
    assert not (ROOT / ".venv-bench-cuda").exists()


def test_the_host_is_the_default_and_has_one_size():
    assert HOST.backend == "numpy" and not HOST.on_device and SIZES["small"] == 1
    row = Row("a", "A", load=[0.0])
    assert row.size == "" and report.title(row) == "A"
