"""The measurement: contenders take turns, so that what slows the machine slows all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import check, workloads
from benchmarks.contenders import CONTENDERS, missing
from benchmarks.worker import Failed, Worker
from benchmarks.workload import problem

PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
        "GOTO_NUM_THREADS", "BLIS_NUM_THREADS")  # fmt: skip
"""Variables that would choose slower kernels, or other numbers of threads, than a library does by itself."""
JUDGES = ("torch", "jax", "ours")
"""By whose answer the others are checked: the first of these that takes part."""


@dataclass
class Plan:
    """steps: to time, at least, per contender.  rounds: turns that they are spread over.  seconds: a turn's least
    length.  warm: seconds at the beginning of a turn that do not count: threads wake, caches fill."""

    steps: int = 60
    rounds: int = 10
    seconds: float = 0.3
    warm: float = 0.1
    threads: int = 2


@dataclass
class Row:
    """One workload.  rounds: by contender, the seconds of every step of every turn.  memory: in MiB.
    problems: by contender, why it has no times.  agreement: share of the tolerated difference from the judge."""

    name: str
    title: str
    judge: str = ""
    rounds: dict[str, list[list[float]]] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    load: tuple[float, float] = (0.0, 0.0)


def environment() -> tuple[dict[str, str], dict[str, str]]:
    """The environment of the contenders, and what was taken out of it."""
    lifted = {name: os.environ[name] for name in PINS if name in os.environ}
    return {name: value for name, value in os.environ.items() if name not in lifted}, lifted


def measure(name: str, contenders: Sequence[str], plan: Plan, say: Callable[[str], None]) -> Row:
    """All contenders on one workload."""
    workload = workloads.load(name)
    row, given, workers = Row(name, workload.title), problem(workload), {}
    before = os.getloadavg()[0]
    variables, _ = environment()
    answers: dict[str, check.Answer] = {}
    try:
        for contender in contenders:
            if not CONTENDERS[contender].fits(workload):
                continue
            if (reason := missing(contender)) is not None:
                row.problems[contender] = reason
                continue
            say(f"{contender} gets ready")
            worker = Worker(name, contender, plan.threads, variables)
            workers[contender] = worker
            try:
                worker.ask("begin", tuple(given))
                answers[contender] = worker.ask("answer")
                worker.ask("turn", 3, plan.warm, plan.seconds)
            except Failed as failure:
                row.problems[contender] = str(failure)
        refuse(row, answers)
        timed = [c for c in workers if c not in row.problems]
        for i in range(plan.rounds):
            say(f"round {i + 1} of {plan.rounds}")
            for contender in timed[i % len(timed) :] + timed[: i % len(timed)]:
                take_turn(row, contender, workers[contender], plan)
        for contender in row.rounds:
            row.memory[contender] = workers[contender].ask("memory")
            row.facts[contender] = workers[contender].ask("facts")
    finally:
        for worker in workers.values():
            worker.close()
    row.load = before, os.getloadavg()[0]
    return row


def refuse(row: Row, answers: dict[str, check.Answer]) -> None:
    """Say who disagrees with the judge."""
    row.judge = next((judge for judge in JUDGES if judge in answers), "")
    for contender, answer in answers.items():
        if contender not in row.problems and contender != row.judge:
            row.agreement[contender] = check.distance(answer, answers[row.judge])[1]
            if (reason := check.disagreement(answer, answers[row.judge])) is not None:
                row.problems[contender] = f"not timed, since it disagrees with {row.judge}: {reason}"


def take_turn(row: Row, contender: str, worker: Worker, plan: Plan) -> None:
    if contender in row.problems:
        return
    try:
        times = worker.ask("turn", -(-plan.steps // plan.rounds), plan.seconds, plan.warm)
        row.rounds.setdefault(contender, []).append(times)
    except Failed as failure:
        row.problems[contender] = str(failure)
        row.rounds.pop(contender, None)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float


def spread(numbers: Any) -> Spread:
    return Spread(*(float(q) for q in np.quantile(numbers, (0.25, 0.5, 0.75))))


def times(row: Row, contender: str) -> Spread:
    """Seconds of a step, over all rounds."""
    return spread(np.concatenate(row.rounds[contender]))


def ratio(row: Row, contender: str, reference: str) -> Spread:
    """The contender's time in units of the reference's, round by round: above 1 the reference is faster."""
    pairs = zip(row.rounds[contender], row.rounds[reference], strict=True)
    return spread([np.median(theirs) / np.median(own) for theirs, own in pairs])
