"""Ctrl-C and `kill` as a wish that the loop looks at between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop: it finished its step, saved, and can be continued.

    code: what a process should exit with, 128 + signal: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, code: int, step: int) -> None:
        super().__init__(f"interrupted; saved at step {step}")
        self.code = code
        self.step = step


class StopSignals:
    """`with StopSignals() as stop:` notes SIGINT and SIGTERM in `stop.received`, and does nothing else.

    Nothing is raised inside the block, so a signal, and a second one, cannot break a save.  A signal the
    process was started with ignored (nohup, a script's background job) stays ignored.  Outside the main
    thread, where Python allows no handlers, the block does nothing.  Afterwards the old handlers are back,
    and a signal nobody acted on is delivered to them.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self.received is not None and kind is None:
            signal.raise_signal(self.received)

    @property
    def code(self) -> int:
        """128 + the signal's number, as a shell reports it."""
        return 128 + int(self.received or 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
