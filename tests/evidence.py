"""What the test of an equation leaves behind: examples tried, the largest error beside its tolerance, where it ran.

    agree(found, expected, rtol, atol)     asserts |found − expected| ≤ atol + rtol·|expected|, and remembers how near
    at_most(found, limit)                  asserts found ≤ limit, and remembers how near
    apart(found, expected, by)             a negative control: asserts that they differ by more, somewhere
    lifted(module), lowered(function)      the library as NumPy sees it: arrays go up to the active backend and come
                                           back down, so that one test serves every backend

`tests/conftest.py` hands what was remembered to whoever asks (`--evidence FILE`, `scratchgen verify`).
"""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

from scratchgen.autograd import Tensor, value_of
from scratchgen.backend import active, backend_of

LOOSE = 1e-3
"""A tolerance above this is that of a statistic or of a limit, not of arithmetic."""


class Record:
    """What one test has shown so far."""

    def __init__(self) -> None:
        self.examples = 0
        self.nearest: dict[str, tuple[float, float, float]] = {}
        """By dtype: error, tolerance and their ratio where a comparison of values came nearest to failing."""
        self.share = -1.0
        """How much of its room was used by what is no value: an inequality, a statistic, a limit not quite reached."""
        self.backends: set[str] = set()
        self.notes: dict[str, Any] = {}

    def compare(self, error: np.ndarray, tolerance: np.ndarray, dtype: Any, value: bool = True) -> None:
        """One more comparison: keep the place where the error is the largest share of its tolerance."""
        self.backends.add(active().name)
        error, tolerance = np.broadcast_arrays(np.atleast_1d(error), np.atleast_1d(tolerance))
        if not error.size:
            return
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(error == 0, 0.0, error / tolerance)  # an exact hit passes a tolerance of zero
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        worst = int(ratio.argmax())
        if not value or tolerance.flat[worst] > LOOSE:
            self.share = max(self.share, float(ratio.flat[worst]))
        elif ratio.flat[worst] > self.nearest.get(str(dtype), (0.0, 0.0, -1.0))[2]:
            place = error.flat[worst], tolerance.flat[worst], ratio.flat[worst]
            self.nearest[str(dtype)] = tuple(map(float, place))  # type: ignore[assignment]


record = Record()
"""Of the test that is running."""


def begin() -> None:
    """A new test starts: forget the last one."""
    record.__init__()  # type: ignore[misc]


def host(x: Any) -> np.ndarray:
    """The values of a tensor, an array of any backend, a number or a sequence of them, in host memory."""
    if isinstance(x, list | tuple):
        return np.array([host(item) for item in x])
    x = value_of(x)
    return np.asarray(backend_of(x).to_numpy(x)) if hasattr(x, "dtype") else np.asarray(x)


def agree(found: Any, expected: Any, rtol: float = 0.0, atol: Any = 0.0) -> None:
    """|found − expected| ≤ atol + rtol·|expected| everywhere; NaN agrees with nothing.  By default: exactly.

    Both must have one shape, or one of them must be a single number: (B,) against (B, 1) is an error.
    """
    found, expected = host(found), host(expected)
    assert found.shape == expected.shape or 1 in (found.size, expected.size), (found.shape, expected.shape)
    with np.errstate(invalid="ignore"):  # ∞ − ∞: equal infinities agree, and with nothing else
        error = np.where(found == expected, 0.0, np.abs(found - expected))
        tolerance = np.where(np.isfinite(expected), atol + rtol * np.abs(expected), 0.0)
    size = np.maximum(1.0, np.abs(np.where(np.isfinite(expected), expected, 1.0)))  # what is large is told in shares
    record.compare(error / size, tolerance / size, found.dtype)
    if not np.all(error <= tolerance):
        where = np.argmax(np.where(error <= tolerance, -1.0, np.where(np.isnan(error), np.inf, error)))
        raise AssertionError(
            f"off by {error.flat[where]:.3g}, allowed {np.broadcast_to(tolerance, error.shape).flat[where]:.3g}"
            f"\n found    {found}\n expected {expected}"
        )


def at_most(found: Any, limit: Any) -> None:
    """found ≤ limit everywhere; NaN is not.  For inequalities: remembered as an error beside its tolerance."""
    found = host(found)
    limit = host(limit)
    if np.all(limit > 0):  # a share of it can be told
        record.compare(found, limit.astype(float), found.dtype, value=False)
    assert np.all(found <= limit), f"not at most {limit}:\n {found}"


def apart(found: Any, expected: Any, by: float) -> None:
    """A negative control: somewhere found and expected differ by more than `by`.  NaN is no difference."""
    distance = np.abs(host(found) - host(expected)).max()
    assert distance > by, f"a wrong formula would not be seen: it differs by {distance:.3g} only"


# --- one test, every backend ------------------------------------------------------------------------------------


def _each(convert, x: Any) -> Any:
    """`convert` applied to the leaves of nested tuples, named tuples, lists and dictionaries."""
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(_each(convert, item) for item in x))
    if isinstance(x, list | tuple):
        return type(x)(_each(convert, item) for item in x)
    if isinstance(x, dict):
        return {key: _each(convert, item) for key, item in x.items()}
    if isinstance(x, types.GeneratorType):
        return (_each(convert, item) for item in x)
    return convert(x)


def _up(x: Any) -> Any:
    return active().asarray(x) if isinstance(x, np.ndarray | np.generic) else x


def _down(x: Any) -> Any:
    if isinstance(x, Tensor) or not hasattr(x, "dtype"):
        return x
    return backend_of(x).to_numpy(x)


def up(x: Any) -> Any:
    """NumPy arrays, also those inside tuples and lists, as arrays of the active backend."""
    return _each(_up, x)


def down(x: Any) -> Any:
    """Arrays of any backend, also those inside tuples and lists, as NumPy arrays; tensors stay."""
    return _each(_down, x)


def lowered(function):
    """A function of NumPy arrays, as the library would call it: for exact scores and networks in tests."""

    @functools.wraps(function)
    def on_backend(*args: Any, **kwargs: Any) -> Any:
        return up(function(*down(args), **down(kwargs)))

    return on_backend


class _Lifted:
    """A module whose functions take and give NumPy arrays, and compute on the active backend."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return lifted(getattr(self._module, name))


def lifted(target: Any) -> Any:
    """A module or a function of the library, taking and giving NumPy arrays, computing on the active backend.

    Tensors pass through in both directions; other objects (a schedule, a generator) are left as they are.
    """
    if isinstance(target, types.ModuleType):
        return _Lifted(target)
    if not callable(target) or isinstance(target, type):
        return target

    @functools.wraps(target)
    def from_host(*args: Any, **kwargs: Any) -> Any:
        return down(target(*up(args), **up(kwargs)))

    return from_host
