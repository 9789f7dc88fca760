"""How a misprint is proved.

A slip is a function of drawn arguments that works out three values: the printed form, the form that holds, and
the truth by an oracle that uses neither.

    @slip("id", alpha=TENTHS, …)
    def name(alpha, …):
        return Forms(printed=…, holds=…, truth=…)

What it becomes is a pair of tests: the form that holds meets the truth for everything that hypothesis draws;
and hypothesis finds, and shrinks, arguments for which the printed form does not.  Strategies that begin with
the plain values (TENTHS, small integers) make counter-examples that can be checked by hand.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import evidence
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

TENTHS = st.sampled_from([k / 10 for k in range(1, 10)])
"""0.1 … 0.9, of which 0.1 counts as the simplest."""

SEARCH = settings(
    max_examples=2000, phases=[Phase.generate, Phase.shrink], derandomize=True, database=None, deadline=None
)


class Forms(NamedTuple):
    """Numbers or arrays of one shape.  For a claim that is true or false: truth = 1.0, and float(claim)."""

    printed: Any
    holds: Any
    truth: Any
    rtol: float = 1e-9
    atol: float = 1e-9


def wrong(forms: Forms) -> bool:
    """Whether the printed form misses the truth by more than a thousand times what rounding may do."""
    printed, truth = np.asarray(evidence.host(forms.printed), float), np.asarray(evidence.host(forms.truth), float)
    assert printed.shape == truth.shape or 1 in (printed.size, truth.size), (printed.shape, truth.shape)
    assert np.isfinite(printed).all(), "a printed form that is not even a number needs no proof"
    return bool(np.any(np.abs(printed - truth) > 1000 * (forms.atol + forms.rtol * np.abs(truth))))


def slip(id: str, **arguments: st.SearchStrategy) -> Callable[[Callable[..., Forms]], Callable[..., Forms]]:
    """Put the pair of tests that prove the slip beside the function of its three forms, which stays as it is."""

    def prove(forms: Callable[..., Forms]) -> Callable[..., Forms]:
        @functools.lru_cache(maxsize=1)
        def counter_example() -> dict[str, Any]:
            return find(st.fixed_dictionaries(arguments), lambda drawn: wrong(forms(**drawn)), settings=SEARCH)

        @pytest.mark.slip(id)
        class TestSlip:
            __doc__ = forms.__doc__

            @given(**arguments)
            def test_what_holds_is_the_truth(self, **drawn: Any) -> None:
                found = forms(**drawn)
                evidence.agree(found.holds, found.truth, found.rtol, found.atol)

            def test_the_printed_form_is_not(self) -> None:
                example = counter_example()
                found = forms(**example)
                assert wrong(found)
                evidence.agree(found.holds, found.truth, found.rtol, found.atol)  # there, too, the other one holds
                evidence.record.notes["counter_example"] = {name: str(value) for name, value in example.items()}
                evidence.record.notes["printed"] = shown(found.printed)
                evidence.record.notes["truth"] = shown(found.truth)

        name = "Test_" + id.replace(".", "_")
        assert name not in forms.__globals__, f"{id} is proved twice in {forms.__module__}"
        TestSlip.__name__ = TestSlip.__qualname__ = name
        TestSlip.__module__ = forms.__module__
        forms.__globals__[name] = TestSlip  # where pytest looks for tests
        return forms

    return prove


def shown(value: Any) -> str:
    """A value in a few digits."""
    return np.array2string(np.asarray(evidence.host(value), float), precision=4, separator=", ")
