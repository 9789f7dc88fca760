"""What is said on standard error while a run goes on: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

REFRESH = 0.2  # seconds between two pictures of the bar
QUIET, LONG = 5.0, 60.0  # where there is no terminal: a line each tenth of the run, but no sooner and no
TENTH = 0.1  # later than this many seconds after the last


class Bar:
    """`with Bar(name, total, start) as bar: … bar.update(step, loss)`.

    `loss` is a function that gives a text, called only when there is something to draw: on a GPU reading a
    number waits for everything before it.
    """

    def __init__(self, name: str, total: int, start: int = 0, *, unit: str = "steps", silent: bool = False,
                 console: Console | None = None) -> None:
        self.name, self.total, self.start, self.step, self.silent = name, total, start, start, silent
        self.unit = unit
        self._lock = threading.Lock()
        self.console = console or Console(file=sys.stderr, quiet=silent)
        self._bar = self._make_bar() if self.console.is_terminal and not silent else None
        self._began = self._drawn = time.monotonic()
        self._drawn_step = start

    def _make_bar(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TextColumn("{task.fields[loss]}  {task.fields[rate]} {task.fields[unit]}/s"), TimeRemainingColumn())
        bar = Progress(*columns, console=self.console, auto_refresh=False)
        self._task = bar.add_task(self.name, total=self.total, completed=self.start, loss="…", rate="…",
                                  unit=self.unit)
        return bar

    def __enter__(self) -> Bar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, loss: Callable[[], str]) -> None:
        """Say where the run is, if it is time to say something."""
        self.step = step
        if self.silent:
            return
        now = time.monotonic()
        since = now - self._drawn
        last = step == self.total
        if self._bar is not None:
            if last or since >= REFRESH:
                rate = f"{self._rate(now):.1f}"
                self._bar.update(self._task, completed=step, loss=loss(), rate=rate)
                self._bar.refresh()
                self._drawn = now
        elif last or since >= LONG or (since >= QUIET and step - self._drawn_step >= TENTH * self.total):
            left = (self.total - step) / max(self._rate(now), 1e-9)
            line = f"{self.name}: {self.unit.removesuffix('s')} {step}/{self.total}, {loss()}, "
            line += f"{self._rate(now):.1f} {self.unit}/s, {left:.0f} s left"
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)
            self._drawn, self._drawn_step = now, step

    def say(self, text: str) -> None:
        """A line between the pictures."""
        self.console.print(f"{self.name}: {text}", highlight=False, soft_wrap=True, markup=False)

    def advance(self, n: int, text: str) -> None:
        """n more are done, of what `text` names; several threads may say so."""
        with self._lock:
            self.update(self.step + n, lambda: text)

    def _rate(self, now: float) -> float:
        return (self.step - self.start) / max(now - self._began, 1e-9)
