"""One contender in a process of its own: its own threads, its own heap, its own peak of memory.

The parent writes pickled requests to standard input and reads pickled answers from standard output; what a library
prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.device import HOST, Place, by_events, by_span, ceilings
from benchmarks.memory import Meter

PATIENCE = 900.0  # seconds: compilers take their time


class Failed(Exception):
    """A contender that could not do what it was asked; one line."""


class Worker:
    """The parent's end."""

    def __init__(
        self, workload: str, contender: str, threads: int, environment: dict[str, str], place: Place = HOST,
        size: str = "small",
    ) -> None:  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.worker", workload, contender, str(threads), place.backend,
                   place.precision, size]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self.said = ""  # the last line that it wrote to standard error
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said = line.decode(errors="replace").strip() or self.said

    def ask(self, request: str, *arguments: Any) -> Any:
        """The worker's answer.  Raises Failed if there is none, or none in time."""
        assert self.process.stdin is not None and self.process.stdout is not None
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            pickle.dump((request, arguments), self.process.stdin)
            self.process.stdin.flush()
            kind, value = pickle.load(self.process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            in_time = timer.is_alive()
            self.listener.join(5)  # what it said last may still be on its way
            raise Failed(f"its process ended: {self.said}" if in_time else f"no answer in {PATIENCE:.0f} s") from error
        finally:
            timer.cancel()
        if kind == "failed":
            raise Failed(value)
        return value

    def close(self) -> None:
        """End the process: by itself, or after ten seconds by force."""
        pipes = self.process.stdin, self.process.stdout, self.process.stderr
        with contextlib.suppress(OSError):
            pipes[0].close()  # type: ignore[union-attr]
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.listener.join(10)
        for pipe in pipes[1:]:
            pipe.close()  # type: ignore[union-attr]


class Server:
    """The worker's end: one method for each request."""

    def __init__(self, workload: str, contender: str, threads: int, place: Place, size: str) -> None:
        self.workload, self.name, self.threads, self.place, self.size = workload, contender, threads, place, size
        self.meter = Meter()

    def begin(self, problem: tuple[Any, ...]) -> None:
        """Import, note the memory, build."""
        from benchmarks import workloads
        from benchmarks.contenders import CONTENDERS
        from benchmarks.workload import SIZES, Problem, grown

        workload, entry = grown(workloads.load(self.workload), SIZES[self.size]), CONTENDERS[self.name]
        kind = entry.load()
        self.before = self.meter.look()
        self.contender = kind(workload, Problem(*problem), self.threads, place=self.place, **entry.options)

    def answer(self) -> dict[str, Any]:
        return self.contender.answer()

    def turn(self, steps: int, seconds: float, warm: float) -> list[float]:
        """How long steps took, one by one: at least so many, for at least so long, after some that do not count."""
        self.meter.look()
        if self.place.on_device:
            return self.device_turn(steps, seconds, warm)
        step, clock = self.contender.step, time.perf_counter
        until = clock() + warm
        step()
        while clock() < until:
            step()
        found: list[float] = []
        began = now = clock()
        while len(found) < steps or now - began < seconds:
            step()
            before, now = now, clock()
            found.append(now - before)
        return found

    def profile(self, steps: int) -> Any:
        """Where the time of so many steps goes; of our replay alone."""
        from benchmarks.profile import profile

        return profile(self.contender, steps)

    def device_turn(self, steps: int, seconds: float, warm: float) -> list[float]:
        """The same, timed on the device where the library can."""
        made = self.contender
        if made.ticks is None:
            return by_span(made.step, made.finish, steps, seconds, warm)
        return by_events(made.step, made.ticks, steps, seconds, warm)

    def memory(self) -> dict[str, float]:
        """The peak in MiB, and how far it is above that of the imports; on a device, what was taken of its memory."""
        peak = self.meter.look()
        found = {"peak": peak, "above_imports": peak - self.before}
        if self.place.on_device:
            found["device"] = (self.contender.taken and self.contender.taken()) or 0.0
        return found

    def ceilings(self) -> dict[str, Any]:
        """What the device is, and what it reaches at best."""
        return ceilings(self.place)

    def pools(self) -> list[dict[str, Any]]:
        """The BLAS and OpenMP libraries that this process has loaded, and their threads."""
        from threadpoolctl import threadpool_info

        keep = ("internal_api", "version", "architecture", "num_threads", "threading_layer")
        return [{key: pool[key] for key in keep if key in pool} for pool in threadpool_info()]


def serve(workload: str, contender: str, threads: str, backend: str, precision: str, size: str) -> None:
    """Answer requests until there are no more."""
    if hasattr(os, "sched_setaffinity"):  # on so many cores every library chooses so many threads by itself
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if backend == "cupy":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the device for itself
    server = Server(workload, contender, int(threads), Place(backend, precision), size)
    while True:
        try:
            request, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: Any = "done", getattr(server, request)(*arguments)
        except Exception as error:
            answer = "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve(*sys.argv[1:])
