"""A library's handle for each thread on each device, as NVIDIA's libraries ask for, always on the current stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cupy


class Handles(threading.local):
    """make: () ↦ a new handle on the current device, with `follow(stream)`, which makes it work on that stream."""

    def __init__(self, make: Callable[[], Any]) -> None:  # once in each thread that asks
        self.make = make
        self.known: dict[int, Any] = {}

    def existing(self) -> Any:
        """This thread's handle on the current device, as it is; None if there is none yet."""
        return self.known.get(cupy.cuda.runtime.getDevice())

    def current(self) -> Any:
        """This thread's handle on the current device, on the current stream."""
        device = cupy.cuda.runtime.getDevice()
        if device not in self.known:
            self.known[device] = self.make()
        self.known[device].follow(cupy.cuda.get_current_stream().ptr)
        return self.known[device]
