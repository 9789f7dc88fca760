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

import numpy as np


class Failed(Exception):
    """A contender that could not do what it was asked; one line."""


class Worker:
    """The parent's end."""

    def __init__(self, workload: str, contender: str, threads: int, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", workload, contender, str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self.last: list[bytes] = []  # of what it wrote to standard error
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        for line in self.process.stderr:  # type: ignore[union-attr]
            self.last = [*self.last, line][-20:]

    def ask(self, request: str, *arguments: Any, timeout: float = 900.0) -> Any:
        """The worker's answer.  Raises Failed if there is none, or none in time."""
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        try:
            pickle.dump((request, arguments), self.process.stdin)  # type: ignore[arg-type]
            self.process.stdin.flush()  # type: ignore[union-attr]
            kind, value = pickle.load(self.process.stdout)  # type: ignore[arg-type]
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            late = not timer.is_alive()
            said = self.last[-1].decode(errors="replace").strip() if self.last else "without a word"
            raise Failed(f"no answer within {timeout:.0f} s" if late else f"the process ended: {said}") from error
        finally:
            timer.cancel()
        if kind == "failed":
            raise Failed(value)
        return value

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Server:
    """The worker's end."""

    def __init__(self, workload: str, contender: str, threads: int) -> None:
        self.workload, self.name, self.threads = workload, contender, threads

    def begin(self, problem: Any) -> None:
        """Import, note the memory, build."""
        from benchmarks import memory, workloads
        from benchmarks.contenders import CONTENDERS
        from benchmarks.workload import Problem

        workload = workloads.load(self.workload)
        make = CONTENDERS[self.name].make
        idle(self.name)
        self.before = memory.peak()
        self.contender = make(workload, Problem(*problem), self.threads)

    def answer(self) -> dict[str, np.ndarray]:
        return self.contender.answer()

    def turn(self, steps: int, seconds: float, warm: float) -> list[float]:
        """How long steps took, one by one: at least so many, for at least so long, after some that do not count."""
        until = time.perf_counter() + warm
        self.contender.step()
        while time.perf_counter() < until:
            self.contender.step()
        found: list[float] = []
        began = now = time.perf_counter()
        while len(found) < steps or now - began < seconds:
            self.contender.step()
            before, now = now, time.perf_counter()
            found.append(now - before)
        return found

    def memory(self) -> dict[str, float]:
        """Peak in MiB, and how far it is above that after the imports."""
        from benchmarks import memory

        peak = memory.peak()
        return {"peak": peak, "above_imports": peak - self.before}

    def facts(self) -> dict[str, Any]:
        """The BLAS libraries and thread pools that this process has loaded."""
        from threadpoolctl import threadpool_info

        keep = ("internal_api", "version", "architecture", "num_threads", "threading_layer")
        return {"pools": [{key: pool.get(key) for key in keep} for pool in threadpool_info()]}


def idle(contender: str) -> None:
    """Load the contender's library and let it do something, so that what it needs for itself is there."""
    module = {"ours": "ours", "replayed": "ours", "jax": "jaxed", "autograd": "hips"}.get(contender, "pytorch")
    __import__(f"benchmarks.contenders.{module}")


def serve(workload: str, contender: str, threads: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server = Server(workload, contender, int(threads))
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
