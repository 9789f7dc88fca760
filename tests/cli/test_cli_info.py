"""What the machine is, what computes on it, and what in the environment holds it back."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import types

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from scratchgen import cli, info
from scratchgen.backend import BackendError
from scratchgen.version import VERSION


def scratchgen(*arguments, **environment):
    """The command line in a process of its own, without the variables that hold BLAS back, but for those given."""
    rest = {name: value for name, value in os.environ.items() if name not in (*info.PINS, "SCRATCHGEN_BACKEND")}
    return subprocess.run([sys.executable, "-m", "scratchgen.cli", *arguments], env=rest | environment,
                          capture_output=True, text=True, encoding="utf-8")  # fmt: skip


@pytest.fixture
def told(capsys):
    """What `info` prints, by label."""

    def call():
        assert cli.run(["info"]) == 0
        rows = [(line[:12].strip(), line[12:]) for line in capsys.readouterr().out.splitlines()]
        return {label: text for label, text in rows if label}

    return call


# --- the whole ----------------------------------------------------------------------------------------------


def test_for_people(told):
    rows = told()
    assert list(rows)[:6] == ["versions", "processor", "memory", "BLAS", "backend", "CUDA"]
    for version in (f"scratchgen {VERSION}", f"Python {platform.python_version()}", f"NumPy {np.__version__}"):
        assert version in rows["versions"]
    assert rows["processor"]
    assert rows["memory"].endswith(" GiB") or rows["memory"] == "unknown"
    assert rows["backend"] == "numpy"


def test_for_programs():
    done = scratchgen("info", "--json", OPENBLAS_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["versions", "processor", "memory", "blas", "backend", "cuda", "environment"]
    assert found["versions"]["NumPy"] == np.__version__
    assert 1 <= found["processor"]["cores"] <= found["processor"]["of"]
    assert found["environment"] is None
    assert found["memory"] is None or found["memory"] > 2**27
    loaded = {entry["filepath"]: entry for entry in threadpool_info() if entry["user_api"] == "blas"}
    for library in found["blas"]:
        if library["file"] is not None:
            assert library["version"] == loaded[library["file"]]["version"]
            assert library["threads"] == 1


def test_no_program_meets_a_terminals_colours():
    assert "\x1b" not in scratchgen("info").stdout


def test_a_backend_that_cannot_be_had_is_one_line():
    done = scratchgen("info", SCRATCHGEN_BACKEND="abacus")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("scratchgen: unknown backend 'abacus'")


# --- what holds BLAS back -----------------------------------------------------------------------------------


def library(kernels, file="libopenblas.so", name="OpenBLAS"):
    return {"library": name, "version": "1", "file": file, "kernels": kernels, "threads": 1, "within": None}


CORE, L2 = info.PINS


@pytest.mark.parametrize(
    ("environment", "here", "free", "l2", "line"),
    [
        ({CORE: "Haswell"}, "Haswell", "SkylakeX", 1024,
         f"{CORE} holds BLAS to Haswell kernels (AVX2); the processor's are SkylakeX (AVX-512): "
         f"env -u {CORE} scratchgen …"),
        ({CORE: "Haswell", L2: "256"}, "Haswell", "SkylakeX", 1024,
         f"{CORE} holds BLAS to Haswell kernels (AVX2); the processor's are SkylakeX (AVX-512): "
         f"env -u {CORE} -u {L2} scratchgen …"),
        ({CORE: "nehalem"}, "Nehalem", "Zen", None,
         f"{CORE} holds BLAS to Nehalem kernels (SSE); the processor's are Zen (AVX2): env -u {CORE} scratchgen …"),
        ({CORE: "ARMV8"}, "armv8", "neoversev1", None,
         f"{CORE} holds BLAS to armv8 kernels (NEON); the processor's are neoversev1 (SVE): "
         f"env -u {CORE} scratchgen …"),
        ({L2: "256"}, "SkylakeX", "SkylakeX", 1024,
         f"{L2} gives BLAS a second cache of 256 KiB; the processor's has 1024: env -u {L2} scratchgen …"),
        ({CORE: "skylakex", L2: "256"}, "SkylakeX", "SkylakeX", 1024,
         f"{L2} gives BLAS a second cache of 256 KiB; the processor's has 1024: env -u {CORE} -u {L2} scratchgen …"),
        # Nothing is held back:
        ({}, "Haswell", "SkylakeX", 1024, None),  # a build with one family of kernels
        ({CORE: ""}, "Haswell", "SkylakeX", 1024, None),
        ({CORE: "Haswell"}, "Haswell", "Haswell", 256, None),  # the processor's own
        ({CORE: "Zen"}, "Zen", "Haswell", 256, None),  # another of the same level
        ({CORE: "SapphireRapids"}, "SapphireRapids", "SkylakeX", 256, None),
        ({CORE: "SkylakeX"}, "SkylakeX", "Haswell", 256, None),  # faster than the processor's: it will not run long
        ({CORE: "Pentium"}, "SkylakeX", "SkylakeX", 256, None),  # not a name that OpenBLAS knows
        ({CORE: "Haswell"}, "new one", "SkylakeX", 256, None),
        ({CORE: "Haswell"}, "Haswell", "newer one", 256, None),
        ({CORE: "Haswell"}, None, None, 256, None),
        ({L2: "1024"}, "SkylakeX", "SkylakeX", 1024, None),
        ({L2: "256"}, "SkylakeX", "SkylakeX", None, None),
        ({L2: "0"}, "SkylakeX", "SkylakeX", 1024, None),  # OpenBLAS takes it as not set
        ({L2: "much"}, "SkylakeX", "SkylakeX", 1024, None),
        ({L2: "256"}, "neoversev1", "neoversev1", 1024, None),  # which does not read it
    ],
)  # fmt: skip
def test_a_variable_that_holds_openblas_back_is_named(environment, here, free, l2, line):
    assert info.held_back(environment, [library(here)], [library(free)], l2, windows=False) == line


@pytest.mark.parametrize("name", ["MKL", "BLIS", "accelerate"])
def test_another_library_ignores_the_variables(name):
    here, free = [library("haswell", name=name)], [library("skylakex", name=name)]
    assert info.held_back({CORE: "Haswell", L2: "256"}, here, free, 1024) is None


def test_each_library_is_compared_with_itself():
    """SciPy's OpenBLAS was built for this family only; NumPy's chooses."""
    one, two = library("Haswell", "numpy.so"), library("Haswell", "scipy.so")
    better = library("SkylakeX", "numpy.so")
    assert info.held_back({CORE: "Haswell"}, [two], [better, two], None) is None
    assert "SkylakeX" in info.held_back({CORE: "Haswell"}, [two, one], [better, two], None)
    assert info.held_back({CORE: "Haswell"}, [one, two], [], None) is None  # it could not be found out


def test_the_command_on_windows():
    line = info.held_back({CORE: "Zen", L2: "1"}, [library("Zen")], [library("Cooperlake")], None, windows=True)
    assert line.endswith(f': set "{CORE}=" & set "{L2}=" & scratchgen …')


def test_kernels_of_another_family_in_a_process_of_its_own():
    free = [library["kernels"] for library in info.blas_without(info.PINS) if library["library"] == "OpenBLAS"]
    faster = [kernels for kernels in free if info.LEVEL.get(kernels.lower()) == info.LEVELS.index("AVX-512")]
    done = scratchgen("info", OPENBLAS_CORETYPE="Haswell")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if CORE in line]
    assert len(lines) == bool(faster)
    for line in lines:
        assert f"holds BLAS to Haswell kernels (AVX2); the processor's are {faster[0]} (AVX-512)" in line
        assert line.endswith(f"env -u {CORE} scratchgen …") or os.name == "nt"
    for unknown_or_own in ("Abacus", *free[:1]):
        assert CORE not in scratchgen("info", OPENBLAS_CORETYPE=unknown_or_own).stdout


# --- other machines -----------------------------------------------------------------------------------------


def nothing_there(*_, **__):
    raise FileNotFoundError("no such program")


@pytest.mark.parametrize("system", ["linux", "darwin", "win32", "aix"])
def test_a_system_that_tells_nothing(system, monkeypatch, told):
    monkeypatch.setattr(info.sys, "platform", system)
    monkeypatch.setattr(info.subprocess, "run", nothing_there)
    monkeypatch.setattr(info, "Path", lambda *_: types.SimpleNamespace(
        read_text=nothing_there, glob=nothing_there, parts=()))  # fmt: skip
    monkeypatch.setattr(info.os, "sysconf", nothing_there, raising=False)
    monkeypatch.setattr(info, "import_module", lambda name: types.ModuleType(name))
    rows = told()
    assert rows["processor"] == (platform.processor() or platform.machine())
    assert rows["memory"] == "unknown"
    assert info.simd() == []
    assert info.l2_size() is None
    assert info.blas_without(info.PINS) == []


def test_macos(monkeypatch):
    said = {"machdep.cpu.brand_string": "Apple M4\n", "hw.l2cachesize": "4194304\n"}
    monkeypatch.setattr(info.sys, "platform", "darwin")
    monkeypatch.setattr(info.subprocess, "run", lambda command, **_: types.SimpleNamespace(stdout=said[command[-1]]))
    assert info.model() == "Apple M4"
    assert info.l2_size() == 4096


def test_windows(monkeypatch):
    key = types.SimpleNamespace(__enter__=None)

    class Key:
        __enter__ = lambda self: key  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

    registry = types.ModuleType("winreg")
    registry.HKEY_LOCAL_MACHINE = 1
    registry.OpenKey = lambda _root, path: Key() if path.endswith(r"CentralProcessor\0") else nothing_there()
    registry.QueryValueEx = lambda found, name: ("AMD EPYC 9654 ", name) if found is key else nothing_there()

    def installed(place):
        place._obj.value = 16 * 2**20
        return 1

    kernel = types.SimpleNamespace(GetPhysicallyInstalledSystemMemory=installed)
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(info.sys, "platform", "win32")
    monkeypatch.setattr(info.ctypes, "windll", types.SimpleNamespace(kernel32=kernel), raising=False)
    assert info.model() == "AMD EPYC 9654"
    assert info.memory() == 16 * 2**30


def test_an_arm_processor_has_no_name_in_cpuinfo(monkeypatch):
    monkeypatch.setattr(info.sys, "platform", "linux")
    monkeypatch.setattr(info.Path, "read_text", lambda *_, **__: "processor\t: 0\nCPU part\t: 0xd40\n")
    monkeypatch.setattr(info.platform, "processor", lambda: "")
    monkeypatch.setattr(info.platform, "machine", lambda: "aarch64")
    assert info.model() == "aarch64"


def test_a_blas_that_threadpoolctl_does_not_know(monkeypatch, told):
    built = {"Build Dependencies": {"blas": {"name": "accelerate", "version": "unknown"}}}
    monkeypatch.setattr(info, "threadpool_info", lambda: [{"user_api": "openmp", "internal_api": "openmp"}])
    monkeypatch.setattr(info.np, "show_config", lambda mode: built)
    assert told()["BLAS"] == "accelerate unknown"
    monkeypatch.setattr(info.np, "show_config", lambda mode: {})
    assert told()["BLAS"] == "unknown"


def test_whose_library(monkeypatch):
    def entry(path):
        return {"user_api": "blas", "internal_api": "openblas", "version": "0.3", "num_threads": 2, "filepath": path}

    paths = {
        "/site-packages/numpy.libs/libscipy_openblas64_-1.so": "NumPy",
        "/site-packages/scipy.libs/libscipy_openblas-2.so": "SciPy",
        "/site-packages/numpy/.dylibs/libscipy_openblas64_.dylib": "NumPy",
        "/home/scipy/me/project/env/lib/libopenblas.so": None,
    }
    for path, owner in paths.items():
        monkeypatch.setattr(info, "threadpool_info", lambda path=path: [entry(path)])
        assert [library["within"] for library in info.blas()] == [owner]
    monkeypatch.setattr(info, "threadpool_info", lambda: [entry(path) for path in paths])
    assert [library["within"] for library in info.blas()] == [None, "NumPy", "NumPy", "SciPy"]


# --- CUDA ---------------------------------------------------------------------------------------------------


def test_a_device(monkeypatch, told):
    runtime = types.SimpleNamespace(
        getDevice=lambda: 1, getDeviceProperties=lambda i: {"name": b"NVIDIA H%d" % i, "totalGlobalMem": 139 * 2**30}
    )
    xp = types.SimpleNamespace(
        cuda=types.SimpleNamespace(runtime=runtime), convolution=types.SimpleNamespace(NAME="products")
    )
    monkeypatch.setattr(info, "get", lambda name: xp if name == "cupy" else None)
    monkeypatch.setattr(info.metadata, "version", lambda name: "14.0.1" if name == "cupy-cuda13x" else missing(name))
    rows = told()
    assert rows["CUDA"] == "NVIDIA H1, 139.0 GiB, convolutions by products"
    assert rows["versions"].endswith(", CuPy 14.0.1")


def missing(name):
    raise info.metadata.PackageNotFoundError(name)


@pytest.mark.parametrize("error", [BackendError("CuPy is not\ninstalled"), RuntimeError("CuPy is not installed")])
def test_no_device(error, monkeypatch, told):
    def get(name):
        raise error

    monkeypatch.setattr(info, "get", get)
    monkeypatch.setattr(info.metadata, "version", missing)
    rows = told()
    assert rows["CUDA"] == "no: CuPy is not installed"
    assert "CuPy" not in rows["versions"]
