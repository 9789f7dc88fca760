"""The measurement: contenders take turns, so that what slows the machine down slows all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from benchmarks import check, work, workloads
from benchmarks.contenders import CONTENDERS
from benchmarks.device import HOST, Place
from benchmarks.worker import Failed, Worker
from benchmarks.workload import SIZES, Problem, grown, problem

LIFTED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS",
          "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "SCRATCHGEN_CONVOLUTION")  # fmt: skip
"""Variables that choose other kernels, or other numbers of threads, than a library does by itself."""
JUDGES = ("torch", "jax", "ours")
"""By whose answer the others are checked: the first of these that takes part."""


@dataclass(frozen=True)
class Plan:
    """steps: to time, at least, of each contender.  rounds: turns that they are spread over.
    seconds: a turn's least length.  warm: seconds before it that do not count: threads wake, caches fill.
    threads: of each contender.
    """

    steps: int = 60
    rounds: int = 10
    seconds: float = 0.3
    warm: float = 0.1
    threads: int = 2

    @property
    def steps_per_turn(self) -> int:
        return -(-self.steps // self.rounds)


class Spread(NamedTuple):
    """Median and quartiles."""

    low: float
    median: float
    high: float


def spread(numbers: Any) -> Spread:
    return Spread(*np.quantile(numbers, (0.25, 0.5, 0.75)).tolist())


@dataclass
class Timing:
    """seconds: of a step, over all steps.  steps: how many.  rounds: the median of each round.
    memory: MiB, the peak and how far above that of the imports.  pools: the threads of its BLAS.
    """

    seconds: Spread
    steps: int
    rounds: list[float]
    memory: dict[str, float]
    pools: list[dict[str, Any]]


@dataclass
class Row:
    """One workload.  judge: by whose answer the others were checked.  agreement: the largest difference from it, as a
    share of what is tolerated.  problems: why a contender has no times.  load: the machine's, before and after.
    size, flops, bytes: on a device, which size it is, and what a step must compute and move at least (`work`).
    """

    name: str
    title: str
    judge: str = ""
    timings: dict[str, Timing] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    size: str = ""
    flops: float = 0.0
    bytes: float = 0.0

    @property
    def reference(self) -> str:
        """Whose time is the unit of the others'."""
        return next((c for c in ("replayed", "ours", *self.timings) if c in self.timings), "")

    def ratio(self, contender: str) -> Spread:
        """The contender's time in units of the reference's, round by round: above 1 the reference is faster."""
        theirs, own = self.timings[contender].rounds, self.timings[self.reference].rounds
        return spread([a / b for a, b in zip(theirs, own, strict=True)])


def environment() -> tuple[dict[str, str], dict[str, str]]:
    """The environment of the contenders, and what was taken out of it."""
    lifted = {name: os.environ[name] for name in LIFTED if name in os.environ}
    return {name: value for name, value in os.environ.items() if name not in lifted}, lifted


def measure(
    name: str, contenders: Sequence[str], plan: Plan, say: Callable[[str], None], place: Place = HOST,
    size: str = "small",
) -> Row:  # fmt: skip
    """All contenders on one workload.  say: is told what is going on.  size: of the batches, on a device."""
    workload = grown(workloads.load(name), SIZES[size])
    row, workers = Row(name, workload.title, load=[os.getloadavg()[0]]), {}
    given = problem(workload)
    if place.on_device:
        found = work.of(workload, given)
        row.size, row.flops, row.bytes = size, found.flops, found.bytes
    try:
        for contender in contenders:
            entry = CONTENDERS[contender]
            if not entry.fits(workload) or place.backend not in entry.backends:
                continue
            if (reason := entry.missing(place)) is not None:
                row.problems[contender] = reason
                continue
            workers[contender] = Worker(name, contender, plan.threads, environment()[0], place, size)
        get_ready(row, workers, given, plan, say, place.precision)
        take_turns(row, workers, plan, say)
    finally:
        for worker in workers.values():
            worker.close()
    row.load.append(os.getloadavg()[0])
    return row


def ceilings(place: Place, plan: Plan) -> dict[str, Any]:
    """What the device is, and what it reaches at best.  Raises Failed."""
    worker = Worker("small_ops", "ours", plan.threads, environment()[0], place)
    try:
        return worker.ask("ceilings")
    finally:
        worker.close()


def get_ready(
    row: Row, workers: dict[str, Worker], given: Problem, plan: Plan, say: Callable[[str], None],
    precision: str = "float32",
) -> None:  # fmt: skip
    """Build, check, and run each contender until its compilers are done."""
    answers: dict[str, check.Answer] = {}
    for contender, worker in workers.items():
        say(f"{CONTENDERS[contender].label} gets ready")
        try:
            worker.ask("begin", tuple(given))
            answers[contender] = worker.ask("answer")
            worker.ask("turn", 3, plan.warm, plan.warm)
        except Failed as failure:
            row.problems[contender] = str(failure)
    row.judge = next((judge for judge in JUDGES if judge in answers), "")
    for contender, answer in answers.items():
        if contender != row.judge:
            row.agreement[contender] = check.distance(answer, answers[row.judge], precision)[1]
            if (reason := check.disagreement(answer, answers[row.judge], precision)) is not None:
                row.problems[contender] = f"disagrees with {CONTENDERS[row.judge].label}, so it is not timed: {reason}"


def take_turns(row: Row, workers: dict[str, Worker], plan: Plan, say: Callable[[str], None]) -> None:
    """The rounds.  Each begins with another contender."""
    rounds: dict[str, list[list[float]]] = {contender: [] for contender in workers if contender not in row.problems}
    for i in range(plan.rounds):
        say(f"round {i + 1} of {plan.rounds}")
        order = list(rounds)
        for contender in order[i % max(1, len(order)) :] + order[: i % max(1, len(order))]:
            try:
                rounds[contender].append(
                    workers[contender].ask("turn", plan.steps_per_turn, plan.seconds, plan.warm)
                )
            except Failed as failure:
                row.problems[contender] = str(failure)
                del rounds[contender]
    for contender, found in rounds.items():
        steps = np.concatenate(found)
        medians = [float(np.median(times)) for times in found]
        worker = workers[contender]
        row.timings[contender] = Timing(spread(steps), steps.size, medians, worker.ask("memory"), worker.ask("pools"))
