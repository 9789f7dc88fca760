"""The checks of `checks`, generated from the registry, on both test backends."""

from collections import Counter

import checks
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rows import ROWS

SMOOTH = [r for r in ROWS if not r.constant]


def named(rows):
    seen: Counter = Counter()
    ids = []
    for r in rows:
        ids.append(f"{r.name}-{seen[r.name]}" if seen[r.name] else r.name)
        seen[r.name] += 1
    return pytest.mark.parametrize("row", rows, ids=ids)


def run(check, row, backend, **extra):
    for number, (shapes, settings) in enumerate(row.cases()):
        args = row.arguments(shapes, seed=number)
        try:
            check(row, row.call, args, settings, backend, **extra)
        except Exception as error:
            error.add_note(f"{row.name} at shapes {shapes} with {settings} on {backend.name}")
            raise


@named(ROWS)
def test_forward_equals_the_reference(row, backend):
    run(checks.forward, row, backend)


@named(SMOOTH)
def test_gradient(row, backend):
    run(checks.first_order, row, backend)


@named(SMOOTH)
def test_second_order(row, backend):
    run(checks.second_order, row, backend)


@named(SMOOTH)
def test_single_precision(row, backend):
    run(checks.single_precision, row, backend)


@named([r for r in ROWS if any(len(s) for shapes in r.shapes for s in shapes)])
def test_memory_layouts(row, backend):
    run(checks.layouts, row, backend)


@named([r for r in SMOOTH if r.elementwise and len(r.domains) == 2])
def test_both_arguments_the_same(row, backend):
    run(checks.twice, row, backend)


@named([r for r in SMOOTH if r.elementwise and len(r.domains) == 2 and r.name.startswith("ops.")])
def test_python_numbers(row, backend):
    shapes = ((2, 3), (2, 3))
    checks.numbers(row, row.call, row.arguments(shapes), {}, backend)


@named([r for r in SMOOTH if r.exponential])
def test_exponentials_far_out(row, backend):
    checks.far_out(row, row.call, row.domains, row.variants[0], backend)


@named([r for r in SMOOTH if r.saturates])
def test_saturating_exponentials_far_out_in_single_precision(row, backend):
    checks.far_out(row, row.call, row.domains, row.variants[0], backend, dtype=np.float32)


BINARIES = [r for r in SMOOTH if r.elementwise and len(r.domains) == 2]
SHAPES = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0)


@named(BINARIES)
@given(shapes=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_any_two_shapes_that_broadcast(row, backend, shapes, seed):
    args = row.arguments(shapes.input_shapes, seed)
    checks.forward(row, row.call, args, {}, backend)
    checks.first_order(row, row.call, args, {}, backend)
