"""Where the time of a replayed step goes, call by call: python -m benchmarks WORKLOAD --profile

A replay is a list of array calls, so its profile is the list with a clock between them.  Of each kind of call: its
time, its share, how many there are, the bytes of the arrays that they read and write, and for products and convolutions
the multiplications and additions, 2·m·k·n of a product (m, k)·(k, n), and as many as windows have of a convolution,
however it is done.  The clock itself costs some tenths of a microsecond a call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import workloads
from benchmarks.contenders.ours import Replayed, mean
from benchmarks.measure import environment
from benchmarks.work import of_convolution, of_product
from benchmarks.worker import Worker
from benchmarks.workload import problem
from scratchgen.planning import Run, is_elementwise, parts, touched
from scratchgen.recorded import Call
from scratchgen.recording import is_reduce

KINDS = (
    "products", "convolutions", "elementwise in blocks", "elementwise", "sums", "noise", "other calls",
    "adding shards' gradients", "optimiser",
)  # fmt: skip


@dataclass
class Share:
    """What the calls of one kind cost: seconds in each step that was timed, and counts of one step."""

    seconds: list[float] = field(default_factory=list)
    calls: int = 0
    bytes: int = 0
    flop: int = 0


def measured(name: str, steps: int, threads: int) -> dict[str, Share]:
    """The profile of a workload, from a process of its own, as its times are.  Raises worker.Failed."""
    worker = Worker(name, "replayed", threads, environment()[0])
    try:
        worker.ask("begin", tuple(problem(workloads.load(name))))
        return worker.ask("profile", steps)
    finally:
        worker.close()


def profile(ours: Replayed, steps: int) -> dict[str, Share]:
    """The kinds of calls of the first shard's replay, and of what follows the shards."""
    for _ in range(ours.RECORDINGS + 1):
        ours.step()
    ((plan,),) = ours.fast[0].plans.values()
    found = {kind: Share() for kind in KINDS}
    kinds = list(map(kind, plan.steps))
    functions = list(zip(kinds, parts(plan, 1), strict=True))
    for name, step in zip(kinds, plan.steps, strict=True):
        share = found[name]
        share.calls += len(step.calls)
        share.bytes += sum(slot.nbytes for call in step.calls for slot in touched(call))
        share.flop += sum(map(flop, step.calls))
    batch = ours.batches[0][0]
    with np.errstate(all="ignore"):
        for _ in range(steps):
            for place, array in zip(plan.inputs, batch, strict=True):
                np.copyto(place, array)
            spent = dict.fromkeys(KINDS, 0.0)
            for name, function in functions:
                begin = time.perf_counter()
                function()
                end = time.perf_counter()
                spent[name] += end - begin
            for name, seconds in (spent | dict(_after(ours))).items():
                found[name].seconds.append(seconds)
    return {name: share for name, share in found.items() if median(share.seconds)}


def _after(ours: Replayed) -> Iterator[tuple[str, float]]:
    """What a step takes when its shards are done."""
    if ours.shards == 1 or ours.workload.kind != "training":
        return
    gradients = [np.zeros_like(ours.flat.buffer) for _ in range(ours.shards)]
    begin = time.perf_counter()
    total = mean(gradients)
    between = time.perf_counter()
    ours.optimiser.step(total)
    yield "adding shards' gradients", between - begin
    yield "optimiser", time.perf_counter() - between


def kind(step: Run) -> str:
    """One of KINDS."""
    call = step.calls[0] if step.calls else Call("only", None, (), {})
    if step.rows:
        return "elementwise in blocks"
    if call.name == "matmul":
        return "products"
    if call.name in CONVOLUTIONS:
        return "convolutions"
    if call.out is not None and is_elementwise(call):
        return "elementwise"
    if is_reduce(call.function):
        return "sums"
    if call.always:
        return "optimiser" if call.name == "step" else "noise"
    return "other calls"


CONVOLUTIONS: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "_conv": lambda _, w, y: (y, w),
    "_conv_adjoint_x": lambda h, w, _: (h, w),
    "_conv_adjoint_w": lambda _, h, w: (h, w),
}
"""Of each, y and w among its two operands and its result."""


def flop(call: Call) -> int:
    """Multiplications and additions of a product or a convolution."""
    out: Any = call.out
    if call.name == "matmul":
        return 2 * of_product(call.args[0].shape, out.shape)
    if call.name in CONVOLUTIONS:
        y, w = CONVOLUTIONS[call.name](*call.args[1:3], out)
        return 2 * of_convolution(y.shape, w.shape)
    return 0


def show(console: Console, title: str, found: dict[str, Share]) -> None:
    """The table."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "ms", "share", "calls", "MB", "GB/s", "GFLOP/s"):
        table.add_column(column, justify="left" if not column else "right")
    for row in lines(found):
        table.add_row(*row)
    console.print(table)


def lines(found: dict[str, Share]) -> Iterator[tuple[str, ...]]:
    """The most time first, then all of it."""
    whole = sum(median(share.seconds) for share in found.values())
    for name, share in sorted(found.items(), key=lambda item: -median(item[1].seconds)):
        yield (name, *_numbers(share, whole))
    total: Any = Share([whole], *(sum(getattr(s, x) for s in found.values()) for x in ("calls", "bytes", "flop")))
    yield ("all", *_numbers(total, whole))


def _numbers(share: Share, whole: float) -> tuple[str, ...]:
    seconds = median(share.seconds)
    rate = f"{share.flop / seconds / 1e9:.0f}" if share.flop else ""
    counted = [""] * 3
    if share.calls:
        counted = [str(share.calls), f"{share.bytes / 1e6:.1f}", f"{share.bytes / seconds / 1e9:.1f}"]
    return f"{seconds * 1e3:.2f}", f"{seconds / whole:.0%}", *counted, rate
