"""Every operation has a row, and the checks notice a gradient that is wrong."""

import importlib
import pkgutil

import checks
import numpy as np
import pytest
from registry import Row, elementwise, normal, positive, resolve
from rows import ROWS

import scratchgen
import scratchgen as sg
from scratchgen import functional, ops
from scratchgen.autograd.primitive import Primitive, primitive
from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import get


def all_primitives():
    names = [m.name for m in pkgutil.walk_packages(scratchgen.__path__, "scratchgen.")]
    no_module = ("scratchgen.__main__", "scratchgen.cuda.")  # a command, and what needs CuPy
    modules = [importlib.import_module(name) for name in names if not name.startswith(no_module)]
    return {id(p): p for m in modules for p in vars(m).values() if isinstance(p, Primitive)}


def met_by(rows):
    """The primitives whose gradients the rows' checks compare: those on the tapes of values and of gradients."""
    found, seen = set(), set()
    for row in rows:
        for shapes, settings in row.cases():
            tensors = checks.placed(row.arguments(shapes), get("numpy"))
            y = [p for p in checks.parts(row.call(*tensors, **settings)) if isinstance(p, Tensor)]
            floats = [t for t in tensors if isinstance(t, Tensor)]
            for p in list(y):
                y += sg.gradients(p, floats, g=np.ones(p.shape), create_graph=True)
            stack = [p.node for p in y]
            while stack:
                node = stack.pop()
                if node.plan is not None and node not in seen:
                    seen.add(node)
                    found.add(id(node.plan.primitive))
                    stack.extend(node.parents)
    return found


def without_row(rows):
    met = met_by(rows)
    return sorted(f"{p.__module__}.{p.__name__}" for i, p in all_primitives().items() if i not in met)


def test_every_primitive_is_met_by_a_row():
    assert without_row([r for r in ROWS if not r.constant]) == []


def test_a_primitive_without_a_row_is_noticed():
    rows = [r for r in ROWS if not r.constant and not r.name.startswith("ops.linalg")]
    assert "scratchgen.ops.linalg.inv" in without_row(rows)


def public():
    for prefix, module in (("ops", ops), ("ops.linalg", ops.linalg), ("functional", functional)):
        for name in module.__all__:
            if callable(getattr(module, name)) and not isinstance(getattr(module, name), type):
                yield f"{prefix}.{name}"


@pytest.mark.parametrize("name", list(public()))
def test_every_public_function_has_a_row(name):
    covered = {id(resolve(r.name)) for r in ROWS if r.name.startswith(("ops.", "functional."))}
    assert id(resolve(name)) in covered


def test_nothing_leaks_into_the_public_names():
    for module in (ops, ops.linalg, functional):
        assert sorted(set(module.__all__)) == sorted(module.__all__)
        for name in module.__all__:
            found = getattr(module, name)
            assert name == "linalg" or found.__module__.startswith("scratchgen."), name


# --- negative controls: wrong gradients ---------------------------------------------------------------------


@primitive(lambda g, _y, x: g * ops.sin(x))
def cos_with_the_sign_flipped(xp, x, /):
    return xp.cos(x)


@primitive(lambda g, y, _x: g / y)
def sqrt_without_the_half(xp, x, /):
    return xp.sqrt(x)


@primitive(lambda _g, y, _x: y * (1 - ops.sum(y, axis=-1, keepdims=True)))
def softmax_of_an_upstream_of_ones(xp, x, /):
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


@primitive(lambda g, _y, _a, b: g * b, lambda g, _y, _a, b: g * b)
def product_with_the_second_argument_wrong(xp, a, b, /):
    return xp.multiply(a, b)


@primitive(lambda g, _y, x: g * (3 * checks.value_of(x) ** 2))
def cube_that_forgets_its_tape(xp, x, /):
    return x * x * x


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


WRONG = [
    elementwise("cos", np.cos, normal, function=cos_with_the_sign_flipped, analytic=True),
    elementwise("sqrt", np.sqrt, positive, function=sqrt_without_the_half, analytic=True),
    Row("softmax", softmax, (normal,), (((2, 3),),), function=softmax_of_an_upstream_of_ones, analytic=True),
    elementwise("product", np.multiply, normal, normal, function=product_with_the_second_argument_wrong),
]


@pytest.mark.parametrize("row", WRONG, ids=[r.name for r in WRONG])
def test_a_wrong_gradient_is_noticed(row):
    shapes, settings = row.cases()[-1]
    args = row.arguments(shapes)
    checks.forward(row, row.call, args, settings, get("numpy"))
    with pytest.raises(AssertionError, match="first order"):
        checks.first_order(row, row.call, args, settings, get("numpy"))


def test_a_gradient_without_a_gradient_is_noticed():
    row = elementwise("cube", lambda x: x**3, normal, function=cube_that_forgets_its_tape, analytic=True)
    args = row.arguments(((3,),))
    checks.first_order(row, row.call, args, {}, get("numpy"))
    with pytest.raises(AssertionError, match="second order"):
        checks.second_order(row, row.call, args, {}, get("numpy"))


def test_nan_is_close_to_nothing():
    for actual, wanted in ((np.nan, np.nan), (np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (np.inf, -np.inf)):
        with pytest.raises(AssertionError):
            checks.assert_close(np.array([0.0, actual]), np.array([0.0, wanted]), 1e-6, "control")
    checks.assert_close(np.array(np.inf), np.array(np.inf), 1e-6, "control")


def test_a_written_input_and_a_wrong_value_are_noticed():
    def writes(x):
        if not isinstance(x, Tensor):
            x[...] = 0.0
        return x * 1.0

    row = elementwise("writes", lambda x: 0 * x, normal, function=writes)
    with pytest.raises(AssertionError, match="written to"):
        checks.forward(row, row.call, [np.ones(2)], {}, get("numpy"))
    row = elementwise("exp", lambda x: np.exp(x) + 1e-9, normal, function=ops.exp)
    with pytest.raises(AssertionError, match="forward"):
        checks.forward(row, row.call, [np.ones(2)], {}, get("numpy"))
