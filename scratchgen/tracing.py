"""Where somebody may listen to what a step computes.  `replay` does; by default nobody does.

    recorder      who listens, or None.  Operations show it their arguments first (`lift`)
    effect        marks what must be done anew in every step: drawing noise, an optimiser's step
    whole         marks a forward function that is heard as one call, not as the calls that it makes

A whole function takes `out`, an array of the result's shape and type that it fills instead of making one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import get_ident
from typing import Any

recorder: Any = None


def listener() -> Any:
    """Who listens to this thread, or None."""
    here = recorder  # another thread may take it away meanwhile
    return here if here is not None and here.thread == get_ident() else None


def effect(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method with consequences beyond its result."""

    @wraps(method)
    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        here = listener()
        return method(owner, *args, **kwargs) if here is None else here.effect(method, owner, args, kwargs)

    return call


def whole(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward function (xp, *arrays, out=None, **settings) that is recorded as one call."""

    @wraps(forward)
    def call(xp: Any, *arrays: Any, **settings: Any) -> Any:
        here = listener()
        return forward(xp, *arrays, **settings) if here is None else here.whole(forward, xp, arrays, settings)

    return call


def filled(out: Any, result: Any) -> Any:
    """What such a function returns: the result, written to `out` if there is one."""
    if out is None:
        return result
    out[...] = result
    return out
