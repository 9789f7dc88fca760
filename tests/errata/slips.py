"""How a misprint is proved.

A slip is a function of drawn arguments that works out three values: the printed form, the form that holds, and
the truth by an oracle that uses neither.

    @slip("id", alpha=floats(0.1, 0.9), …)
    def name(alpha, …):
        return Forms(printed=…, holds=…, truth=…)

What it becomes is a pair of tests: the form that holds meets the truth for everything that hypothesis draws;
and hypothesis finds, and shrinks, arguments for which the printed form does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import evidence
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st


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
    assert np.isfinite(printed).all(), "a printed form that is not even a number needs no proof"
    return bool(np.any(np.abs(printed - truth) > 1000 * (forms.atol + forms.rtol * np.abs(truth))))


def slip(id: str, **arguments: st.SearchStrategy) -> Callable[[Callable[..., Forms]], type]:
    """Turn the three forms into the pair of tests that prove the slip."""

    def prove(forms: Callable[..., Forms]) -> type:
        @pytest.mark.slip(id)
        class TestSlip:
            __doc__ = forms.__doc__

            @given(**arguments)
            def test_what_holds_is_the_truth(self, **drawn: Any) -> None:
                found = forms(**drawn)
                evidence.agree(found.holds, found.truth, found.rtol, found.atol)

            def test_the_printed_form_is_not(self) -> None:
                example = find(
                    st.fixed_dictionaries(arguments), lambda drawn: wrong(forms(**drawn)),
                    settings=settings(max_examples=2000, phases=[Phase.generate, Phase.shrink], derandomize=True, database=None),
                )  # fmt: skip
                found = forms(**example)
                evidence.record.notes["counter_example"] = {k: str(v) for k, v in example.items()}
                evidence.record.notes["printed"] = shown(found.printed)
                evidence.record.notes["truth"] = shown(found.truth)

        TestSlip.__name__ = TestSlip.__qualname__ = "Test_" + id.replace(".", "_")
        TestSlip.__module__ = forms.__module__
        return TestSlip

    return prove


def shown(value: Any) -> str:
    """A value in a few digits."""
    return np.array2string(np.asarray(evidence.host(value), float), precision=4, separator=", ")
