"""What `scratchgen info` tells: the processor, the libraries that compute on it, the backend, and what holds them back.

OpenBLAS brings kernels for many families of processors and chooses at start.  OPENBLAS_CORETYPE takes the choice from
it: set for another machine, it can cost half the speed without a word.  What OpenBLAS would choose is found by asking:
a second process loads the same libraries without the variable.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from threadpoolctl import threadpool_info

from scratchgen.backend import active, get
from scratchgen.cores import cores
from scratchgen.version import VERSION

Facts = dict[str, Any]
WINDOWS = os.name == "nt"


def facts() -> Facts:
    """All that is told, as `--json` prints it.  Raises BackendError if the environment names an unknown backend."""
    libraries = blas()
    return {
        "versions": versions(),
        "processor": {"model": model(), "cores": cores(), "of": os.cpu_count(), "simd": simd()},
        "memory": memory(),
        "blas": libraries,
        "backend": backend(gpu := cuda()),
        "cuda": gpu,
        "environment": held_back(os.environ, libraries, blas_without(PINS) if pins(os.environ) else [], l2_size()),
    }


def lines(found: Facts) -> list[tuple[str, str]]:
    """The same for people: label and text."""
    cpu, gpu = found["processor"], found["cuda"]
    told = [
        ("versions", ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)),
        ("processor", cpu["model"]),
        ("", f"{cpu['cores']} of {cpu['of'] or '?'} cores, {' '.join(cpu['simd']) or 'SIMD unknown'}"),
        ("memory", gibibytes(found["memory"])),
    ]
    for i, library in enumerate(found["blas"]):
        parts = [f"{library['library']} {library['version'] or ''}".strip()]
        parts += [f"{library['kernels']} kernels"] if library["kernels"] else []
        parts += [f"{n} thread{'s' * (n != 1)}"] if (n := library["threads"]) else []
        parts += [f"in {library['within']}"] if library["within"] else []
        told.append(("" if i else "BLAS", ", ".join(parts)))
    told.append(("backend", found["backend"]))
    there = "{device}, {}, convolutions by {convolution}" if gpu["usable"] else "no: {why}"
    told.append(("CUDA", there.format(gibibytes(gpu.get("memory")), **gpu)))
    if found["environment"]:
        told.append(("environment", found["environment"]))
    return told


def gibibytes(n: int | None) -> str:
    return f"{n / 2**30:.1f} GiB" if n else "unknown"


def versions() -> dict[str, str | None]:
    return {
        "scratchgen": VERSION, "Python": platform.python_version(), "NumPy": np.__version__,
        "SciPy": scipy.__version__, "CuPy": _cupy_version(),
    }  # fmt: skip


def _cupy_version() -> str | None:
    for name in ("cupy-cuda12x", "cupy-cuda13x", "cupy"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


# --- the machine --------------------------------------------------------------------------------------------


def model() -> str:
    """The processor's name, as its maker gives it where the system passes that on."""
    try:
        if found := _model():
            return found
    except (ImportError, OSError, subprocess.SubprocessError):
        pass
    return platform.processor() or platform.machine() or "unknown"


def _model() -> str:
    if sys.platform == "darwin":
        return _said_by("sysctl", "-n", "machdep.cpu.brand_string")
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "cpu model", "cpu"):
            return value.strip()
    return ""


def _said_by(*command: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


FEATURES = {
    "SSE42": "SSE4.2", "AVX": "AVX", "AVX2": "AVX2", "FMA3": "FMA", "AVX512F": "AVX-512", "NEON": "NEON", "SVE": "SVE",
    "VSX": "VSX", "VX": "VX", "LSX": "LSX", "RVV": "RVV",
}  # fmt: skip
"""Families of vector instructions, by NumPy's names for them."""


def simd() -> list[str]:
    """The families of vector instructions that processor and system offer; NumPy has looked."""
    found = getattr(import_module("numpy._core._multiarray_umath"), "__cpu_features__", {})
    return [shown for name, shown in FEATURES.items() if found.get(name)]


def memory() -> int | None:
    """The machine's memory in bytes."""
    try:
        if sys.platform == "win32":
            kibibytes = ctypes.c_ulonglong(0)
            ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kibibytes))
            return kibibytes.value * 1024 or None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def l2_size() -> int | None:
    """KiB of each core's second cache."""
    try:
        if sys.platform == "darwin":
            return int(_said_by("sysctl", "-n", "hw.l2cachesize")) // 1024
        for cache in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
            if (cache / "level").read_text().strip() == "2":
                return int((cache / "size").read_text().strip().removesuffix("K"))
    except (OSError, ValueError, subprocess.SubprocessError):
        pass
    return None


def backend(gpu: Facts) -> str:
    """The active backend; where the environment asks for CuPy in vain, that too is told: the CUDA line says why."""
    asked = os.environ.get("SCRATCHGEN_BACKEND")
    return "none: cupy cannot be used" if asked == "cupy" and not gpu["usable"] else active().name


def cuda() -> Facts:
    """Whether CuPy and a device can be used, and if not, why."""
    try:
        xp = get("cupy")
        device = xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())
    except Exception as error:  # a driver may fail in ways of its own
        return {"usable": False, "why": " ".join(str(error).split()) or type(error).__name__}
    return {
        "usable": True, "device": device["name"].decode(), "memory": int(device["totalGlobalMem"]),
        "convolution": xp.convolution.NAME,
    }  # fmt: skip


# --- BLAS ---------------------------------------------------------------------------------------------------

LIBRARIES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS"}


def blas() -> list[Facts]:
    """Every BLAS that is loaded, since NumPy and SciPy may each bring one; else what NumPy was built with."""
    if found := _libraries(threadpool_info()):
        return found
    built: Any = np.show_config(mode="dicts")
    library = built.get("Build Dependencies", {}).get("blas", {})
    return _libraries([{"user_api": "blas", "internal_api": library.get("name"), "version": library.get("version")}])


def _libraries(entries: list[Facts]) -> list[Facts]:
    """What threadpoolctl says, of BLAS only and in our words."""
    found = []
    for entry in entries:
        if entry["user_api"] == "blas":
            name, file = entry["internal_api"] or "unknown", entry.get("filepath")
            found.append({
                "library": LIBRARIES.get(name, name), "version": entry.get("version"), "file": file,
                "kernels": entry.get("architecture"), "threads": entry.get("num_threads"), "within": _within(file),
            })  # fmt: skip
    return sorted(found, key=lambda library: library["within"] or "")


def _within(file: str | None) -> str | None:
    """The package that brought a library in: …/numpy.libs/libopenblas.so, …/numpy/.dylibs/libopenblas.dylib."""
    folders = [part.partition(".")[0] for part in Path(file or "").parts[-3:-1]]
    return next((name for part, name in (("numpy", "NumPy"), ("scipy", "SciPy")) if part in folders), None)


def blas_without(variables: Sequence[str]) -> list[Facts]:
    """What `blas` would say without some environment variables; nothing, if it cannot be found out."""
    code = "import json, numpy, scipy.special, threadpoolctl; print(json.dumps(threadpoolctl.threadpool_info()))"
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    try:
        return _libraries(json.loads(_said_by(sys.executable, "-c", code, environment=environment)))
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


# --- what holds BLAS back -----------------------------------------------------------------------------------

PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
KERNELS = {
    "SSE": "katmai coppermine northwood prescott banias core2 penryn dunnington nehalem athlon opteron opteron_sse3 "
           "barcelona bobcat atom nano",
    "AVX": "sandybridge bulldozer piledriver steamroller excavator",
    "AVX2": "haswell zen",
    "AVX-512": "skylakex cooperlake sapphirerapids",
    "NEON": "armv8 cortexa53 cortexa57 cortexa72 cortexa73 cortexa76 cortexx1 neoversen1 thunderx thunderx2t99 tsv110",
    "SVE": "armv8sve a64fx neoversev1 neoversen2 cortexa510 cortexa710 cortexx2",
}  # fmt: skip
"""OpenBLAS's families of kernels by what they compute with, from slow to fast."""
LEVELS = tuple(KERNELS)
LEVEL = {family: LEVELS.index(level) for level, families in KERNELS.items() for family in families.split()}


def pins(environment: Mapping[str, str]) -> list[str]:
    return [name for name in PINS if environment.get(name)]


def held_back(
    environment: Mapping[str, str], here: list[Facts], free: list[Facts], l2: int | None, windows: bool = WINDOWS
) -> str | None:
    """One line on a variable that holds OpenBLAS back, with the command that lifts it; None where none does.

    here, free: `blas` with the variables and without.  l2: KiB of the processor's second cache, if known.
    OPENBLAS_CORETYPE does where the kernels are of a lower level than OpenBLAS's own choice: not where another library
    computes, where no kernels have that name, or where they are of the processor's own level.
    OPENBLAS_L2_SIZE is named where it is not the processor's.  It matters less: of the kernels for x86 only those older
    than Nehalem's cut their blocks by it, and AMD's with AVX-512 forgo blocks of their own.
    """
    own = {library["file"]: _level(library) for library in free}
    kernels = {library["file"]: library["kernels"] for library in free}
    without = _command(pins(environment), windows)
    for library in here if environment.get("OPENBLAS_CORETYPE") else []:
        level, better = _level(library), own.get(library["file"], -1)
        if 0 <= level < better:
            return (
                f"OPENBLAS_CORETYPE holds BLAS to {library['kernels']} kernels ({LEVELS[level]}); the processor's are "
                f"{kernels[library['file']]} ({LEVELS[better]}): {without}"
            )
    size, x86 = environment.get("OPENBLAS_L2_SIZE", ""), range(LEVELS.index("NEON"))
    if size.isdecimal() and l2 and int(size) not in (0, l2) and any(level in x86 for level in own.values()):
        return f"OPENBLAS_L2_SIZE gives BLAS a second cache of {size} KiB; the processor's has {l2}: {without}"
    return None


def _level(library: Facts) -> int:
    return LEVEL.get((library["kernels"] or "").lower(), -1) if library["library"] == "OpenBLAS" else -1


def _command(names: list[str], windows: bool) -> str:
    if windows:
        return " & ".join(f'set "{name}="' for name in names) + " & scratchgen …"
    return "env " + " ".join(f"-u {name}" for name in names) + " scratchgen …"
