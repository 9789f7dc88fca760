"""The names that scientists write, their presence, and that Tensor's operators and methods mean the same."""

import inspect

import numpy as np
import pytest
from registry import resolve

import scratchgen as sg
from scratchgen import functional, ops

SURFACE = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "floor_divide",
    "remainder",
    "mod",
    "fmod",
    "negative",
    "positive",
    "reciprocal",
    "absolute",
    "abs",
    "power",
    "float_power",
    "square",
    "sqrt",
    "cbrt",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "logaddexp",
    "logaddexp2",
    "hypot",
    "copysign",
    "sign",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "arctan2",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "deg2rad",
    "rad2deg",
    "radians",
    "degrees",
    "floor",
    "ceil",
    "trunc",
    "rint",
    "signbit",
    "heaviside",
    "isfinite",
    "isnan",
    "isinf",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_not",
    "logical_xor",
    "sum",
    "prod",
    "mean",
    "var",
    "std",
    "max",
    "min",
    "amax",
    "amin",
    "cumsum",
    "argmax",
    "argmin",
    "any",
    "all",
    "count_nonzero",
    "dot",
    "matmul",
    "einsum",
    "tensordot",
    "outer",
    "inner",
    "vdot",
    "kron",
    "trace",
    "diag",
    "diagonal",
    "tril",
    "triu",
    "reshape",
    "ravel",
    "transpose",
    "swapaxes",
    "moveaxis",
    "squeeze",
    "expand_dims",
    "repeat",
    "tile",
    "roll",
    "flip",
    "fliplr",
    "flipud",
    "rot90",
    "pad",
    "split",
    "array_split",
    "hsplit",
    "vsplit",
    "dsplit",
    "concatenate",
    "stack",
    "vstack",
    "hstack",
    "dstack",
    "column_stack",
    "append",
    "broadcast_to",
    "atleast_1d",
    "atleast_2d",
    "where",
    "clip",
    "sort",
    "argsort",
    "take",
    "take_along_axis",
    "nonzero",
    "gradient",
    "diff",
    "zeros",
    "ones",
    "zeros_like",
    "ones_like",
    "matrix_transpose",
    "permute_dims",
    "concat",
]
LINALG = ["inv", "det", "slogdet", "solve", "cholesky", "eigh", "svd", "norm", "pinv"]
SPECIAL = ["logsumexp", "erf", "erfc", "expit", "logit", "gammaln", "digamma", "polygamma"]
NETWORKS = [
    "softmax",
    "log_softmax",
    "layer_norm",
    "group_norm",
    "rms_norm",
    "attention",
    "relu",
    "silu",
    "gelu",
    "softplus",
    "sigmoid",
]
IMAGES = ["conv2d", "conv2d_transpose", "avg_pool2d", "max_pool2d"]


@pytest.mark.parametrize("name", SURFACE + SPECIAL + IMAGES)
def test_ops_has(name):
    assert callable(getattr(ops, name))
    assert name in ops.__all__


def test_numpy_has_the_names_that_we_took_from_it():
    assert [n for n in SURFACE if not hasattr(np, n)] == []
    assert [n for n in LINALG if not hasattr(np.linalg, n)] == []


@pytest.mark.parametrize("name", LINALG)
def test_linalg_has(name):
    assert callable(getattr(ops.linalg, name))


@pytest.mark.parametrize("name", NETWORKS)
def test_functional_has(name):
    assert callable(getattr(functional, name))


@pytest.mark.parametrize(
    "name", [f"ops.{n}" for n in SURFACE + SPECIAL + IMAGES] + [f"functional.{n}" for n in NETWORKS]
)
def test_every_function_says_what_it_does(name):
    assert inspect.getdoc(resolve(name))


X = np.arange(1.0, 7.0).reshape(2, 3) / 3
Y = X[::-1] - 0.4
UNARY = [
    "sum",
    "mean",
    "var",
    "std",
    "max",
    "min",
    "prod",
    "cumsum",
    "ravel",
    "argmax",
    "argmin",
    "T",
    "mT",
    "trace",
]
ARGUMENTS = [
    ("clip", (0.5, 1.5)),
    ("reshape", (3, 2)),
    ("reshape", ((3, 2),)),
    ("reshape", (-1,)),
    ("transpose", ()),
    ("transpose", (1, 0)),
    ("transpose", ((1, 0),)),
    ("swapaxes", (0, 1)),
    ("squeeze", ()),
    ("repeat", (2, 1)),
    ("diagonal", (1,)),
    ("sum", (0,)),
    ("mean", (1,)),
    ("max", (0,)),
    ("astype", ("float64",)),
    ("dot", (X.T,)),
    ("__getitem__", ((1, slice(0, 2)),)),
    ("__abs__", ()),
    ("__neg__", ()),
    ("__pos__", ()),
    ("item", None),
]


@pytest.mark.parametrize("name", UNARY)
def test_methods_without_arguments(name):
    found, wanted = getattr(sg.tensor(X), name), getattr(X, name)
    found, wanted = (found(), wanted()) if callable(wanted) else (found, wanted)
    np.testing.assert_allclose(found.numpy() if isinstance(found, sg.Tensor) else found, wanted, rtol=1e-14)


@pytest.mark.parametrize(("name", "arguments"), [a for a in ARGUMENTS if a[1] is not None])
def test_methods_with_arguments(name, arguments):
    found = getattr(sg.tensor(X), name)(*arguments)
    np.testing.assert_allclose(found.numpy(), getattr(X, name)(*arguments), rtol=1e-14)


OPERATORS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "remainder": lambda a, b: a % b,
    "matmul": lambda a, b: a @ (b.T if getattr(b, "ndim", 0) else b),
}
COMPARISONS = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "floor_divide": lambda a, b: a // b,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_with_tensors_arrays_and_numbers(name):
    f = OPERATORS[name]
    others = [Y + 2] if name == "matmul" else [Y + 2, 2.0, 3]
    for other in others:
        pairs = [(sg.tensor(X), other), (other, sg.tensor(X))]
        if isinstance(other, np.ndarray):
            pairs += [(sg.tensor(X), sg.tensor(other)), (other, sg.tensor(X))]
        for a, b in pairs:
            y = f(a, b)
            assert isinstance(y, sg.Tensor)
            raw = [v.numpy() if isinstance(v, sg.Tensor) else v for v in (a, b)]
            np.testing.assert_allclose(y.numpy(), f(*raw), rtol=1e-14)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_give_plain_arrays(name):
    f = COMPARISONS[name]
    for a, b in (
        (sg.tensor(X), Y),
        (Y, sg.tensor(X)),
        (sg.tensor(X), sg.tensor(Y)),
        (sg.tensor(X), 1.0),
        (1, sg.tensor(X)),
    ):
        y = f(a, b)
        assert type(y) is np.ndarray
        raw = [v.numpy() if isinstance(v, sg.Tensor) else v for v in (a, b)]
        np.testing.assert_array_equal(y, f(*raw))


def test_a_tensor_is_a_sequence_of_its_rows():
    t = sg.tensor(X)
    assert len(t) == 2
    rows = list(t)
    assert all(isinstance(r, sg.Tensor) for r in rows)
    np.testing.assert_array_equal(rows[1].numpy(), X[1])
    with pytest.raises(TypeError, match="no dimensions"):
        len(sg.tensor(1.0))


def test_a_tensor_is_a_number_when_it_has_one_entry():
    assert float(sg.tensor(2.5)) == 2.5
    assert sg.tensor([2.5]).item() == 2.5
    assert sg.tensor(1.0)
    assert not sg.tensor(0.0)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(sg.tensor([1.0, 2.0]))


def test_a_tensor_says_what_it_is():
    assert repr(sg.tensor([1.0, 2.5])) == "tensor([1. , 2.5], float32)"
    assert len({sg.tensor(1.0), sg.tensor(1.0)}) == 2  # tensors are told apart by identity
