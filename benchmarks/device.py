"""Where a benchmark runs: on the cores of the host, or on a device, which has a clock and a memory of its own.

    numpy    the host: a step is finished before the next begins, and the host's clock times it
    cupy     an NVIDIA GPU: the host asks for step after step and waits at the end; events on the device tell when
             each was done, and the libraries' allocators how much of its memory they took
    strict   the same path without a device, for tests: the host's clock stands for events
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from scratchgen.backend import get

PRECISIONS = ("float32", "tf32", "bf16")
MISSED = 0.5
"""A share of the host's time: events that add up to less have not seen the work."""


@dataclass(frozen=True)
class Place:
    """backend: of scratchgen.  precision: of products; everything else is float32."""

    backend: str = "numpy"
    precision: str = "float32"

    @property
    def on_device(self) -> bool:
        """Whether steps are asked for and not waited for."""
        return self.backend != "numpy"

    @property
    def torch(self) -> str:
        """PyTorch's name for it."""
        return "cuda" if self.backend == "cupy" else "cpu"

    @property
    def jax(self) -> str:
        """JAX's name for the platform."""
        return "gpu" if self.backend == "cupy" else "cpu"


HOST = Place()


@dataclass(frozen=True)
class Ticks:
    """stamp: a mark behind all that was asked for so far.  between: seconds from one mark to another, after `finish`.
    finish: waits for all that was asked for.
    """

    stamp: Callable[[], Any]
    between: Callable[[Any, Any], float]
    finish: Callable[[], Any]


STAND_IN = Ticks(time.perf_counter, lambda a, b: b - a, lambda: None)


def ticks(place: Place) -> Ticks:
    """Those of scratchgen's own arrays: CUDA events, on the stream that its operations go to."""
    if place.backend != "cupy":
        return STAND_IN
    cuda = get("cupy").cuda

    def stamp() -> Any:
        event = cuda.Event()
        event.record()
        return event

    return Ticks(stamp, lambda a, b: 1e-3 * cuda.get_elapsed_time(a, b), cuda.runtime.deviceSynchronize)


def by_events(step: Callable[[], Any], ticks: Ticks, steps: int, seconds: float, warm: float) -> list[float]:
    """How long steps took, one by one: at least so many, for at least so long, after some that do not count.

    Raises RuntimeError if the events have not seen the work: on another stream, say.
    """
    warm_up(step, ticks.finish, warm)
    while True:
        began = time.perf_counter()
        stamps = [ticks.stamp()]
        for _ in range(steps):
            step()
            stamps.append(ticks.stamp())
        ticks.finish()
        took = time.perf_counter() - began
        if took >= seconds:
            break
        steps = more(steps, seconds, took)
    found = [ticks.between(a, b) for a, b in pairwise(stamps)]
    if sum(found) < MISSED * took:
        raise RuntimeError(f"events count {sum(found):.3g} s of {took:.3g} s: they have not seen the work")
    return found


def by_span(step: Callable[[], Any], finish: Callable[[], Any], steps: int, seconds: float, warm: float) -> list[float]:
    """The same of a library without events: the host's clock around many steps, and the mean for each of them."""
    warm_up(step, finish, warm)
    while True:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        finish()
        took = time.perf_counter() - began
        if took >= seconds:
            return [took / steps] * steps
        steps = more(steps, seconds, took)


def warm_up(step: Callable[[], Any], finish: Callable[[], Any], warm: float) -> None:
    until = time.perf_counter() + warm
    step()
    finish()
    while time.perf_counter() < until:
        step()
        finish()


def more(steps: int, seconds: float, took: float) -> int:
    """Steps that will last `seconds`, where so many took less."""
    return min(10 * steps, ceil(1.2 * steps * seconds / max(took, 1e-6)) + 1)


def taken() -> float:
    """MiB that CuPy's pools, private ones too, have taken from the device; they give nothing back by themselves."""
    pool = get("cupy").cuda.MemoryPool
    return sum(x.total_bytes() for x in gc.get_objects() if type(x) is pool) / 2**20


# --- what the device is, and what it can do ------------------------------------------------------------------


def facts(place: Place) -> dict[str, Any]:
    """Name, driver, runtime, memory."""
    if place.backend != "cupy":
        return {"name": "no device: the strict backend on the host"}
    runtime = get("cupy").cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "name": properties["name"].decode(), "driver": version(runtime.driverGetVersion()),
        "runtime": version(runtime.runtimeGetVersion()), "memory_GiB": round(properties["totalGlobalMem"] / 2**30, 1),
    }  # fmt: skip


def version(number: int) -> str:
    """CUDA's 13020 is 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


COPIED, SIDE = {"cupy": 1 << 28, "strict": 1 << 16}, {"cupy": 8192, "strict": 64}
"""float32 numbers of the large copy; rows and columns of the large product."""


def ceilings(place: Place) -> dict[str, Any]:
    """What the device reaches at best: GB/s of a large copy, read and written, TFLOP/s of a large product."""
    from scratchgen import ops
    from scratchgen.backend import use

    xp, clock = use(place.backend), ticks(place)
    n, m = COPIED[place.backend], SIDE[place.backend]
    a, b = xp.ones((n,), "float32"), xp.empty((n,), "float32")
    side = xp.arange(m * m, dtype="float32").reshape(m, m) % 17 - 8  # small whole numbers, as bits that change
    with precisely(place):
        copy = min(by_events(lambda: xp.copyto(b, a), clock, 20, 0.2, 0.1))
        product = min(by_events(lambda: ops.matmul(side, side), clock, 10, 0.5, 0.2))
    return {"GB/s": 8 * n / copy / 1e9, "TFLOP/s": 2 * m**3 / product / 1e12, **facts(place)}


def precisely(place: Place) -> Any:
    """scratchgen's products in the precision of the place, for a block of code."""
    from contextlib import nullcontext

    import scratchgen as sg

    return nullcontext() if place.precision == "float32" else sg.precision(place.precision)
