"""What is refused, and in which words."""

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import functional, ops

X = np.arange(1.0, 7.0).reshape(2, 3) / 3

ERRORS = [
    (lambda x: ops.expand_dims(x, 5), ValueError, "axis 5 is out of bounds"),
    (lambda x: ops.squeeze(x, 0), ValueError, "axis 0 has length 2, not 1"),
    (lambda x: ops.take(x, 0, axis=2), ValueError, "out of bounds"),
    (lambda x: ops.transpose(x, (0, 3)), ValueError, "out of bounds"),
    (lambda x: ops.split(x, 2, axis=1), ValueError, "3 does not divide into 2 equal parts"),
    (lambda x: ops.pad(x, 1, mode="mirror"), ValueError, "mode 'mirror' is not one of"),
    (lambda x: ops.repeat(x, [1, 2, 3], axis=0), ValueError, "3 numbers for 2 entries"),
    (lambda x: ops.matmul(x, 2.0 * x[0, 0]), ValueError, "at least one axis"),
    (lambda x: ops.matmul(x, x), ValueError, "(mismatch|not aligned|align)"),
    (lambda x: ops.matmul(x[:, :1], x), ValueError, "(mismatch|not aligned|align)"),
    (lambda x: ops.einsum("ij,jk->ik", x), ValueError, "names 2 operands, 1 given"),
    (lambda x: ops.einsum("ijk->i", x), ValueError, "does not fit an operand of shape"),
    (lambda x: ops.einsum("ij->ii", x), ValueError, "repeats a letter"),
    (lambda x: ops.einsum("ij->k", x), ValueError, "names one of no operand"),
    (lambda x: ops.gradient(x[:1], axis=0), ValueError, "at least 2 points"),
    (lambda x: ops.gradient(x, 1.0, 2.0, 3.0), TypeError, "3 spacings for 2 axes"),
    (lambda x: ops.clip(x), ValueError, "lower or an upper bound"),
    (lambda x: ops.linalg.norm(x, ord=7), ValueError, "ord 7"),
    (lambda x: ops.linalg.norm(ops.stack([x, x]), ord=1), ValueError, "name one or two axes"),
    (lambda x: ops.linalg.svd(x, full_matrices=True), ValueError, "not unique"),
    (lambda x: ops.avg_pool2d(ops.reshape(x, (1, 2, 3, 1)), 3), ValueError, "do not fit images"),
    (lambda x: ops.conv2d(x, x), ValueError, None),
    (
        lambda x: ops.conv2d(x.reshape(1, 2, 3, 1), ops.ones((1, 1, 2, 1), x.dtype)),
        ValueError,
        "do not fit a kernel",
    ),
    (
        lambda x: ops.conv2d(x.reshape(1, 2, 3, 1), ops.ones((3, 1, 1, 1), x.dtype)),
        ValueError,
        "larger than the padded",
    ),
    (
        lambda x: ops.conv2d(x.reshape(1, 2, 3, 1), ops.ones((1, 1, 1, 1), x.dtype), padding="full"),
        ValueError,
        "'full'",
    ),
    (
        lambda x: ops.conv2d_transpose(x.reshape(1, 2, 3, 1), ops.ones((1, 1, 1, 2), x.dtype)),
        ValueError,
        "do not fit",
    ),
    (
        lambda x: ops.conv2d_transpose(x.reshape(1, 2, 3, 1), ops.ones((1, 1, 1, 1), x.dtype), output_padding=1),
        ValueError,
        "output_padding",
    ),
    (lambda x: functional.group_norm(x, 2), ValueError, "3 channels do not divide into 2 groups"),
    (lambda x: x[sg.tensor(1.0)], TypeError, "a tensor is no index"),
    (lambda x: x[5], IndexError, "out of bounds"),
    (lambda x: ops.exp(), TypeError, "1 array arguments, got 0"),
    (lambda x: ops.add(x), TypeError, "2 array arguments, got 1"),
    (lambda x: ops.add(x, [1.0, 2.0, 3.0]), TypeError, "operand of type list"),
    (lambda x: ops.add(x, None), TypeError, "operand of type NoneType"),
    (lambda x: ops.add(x, np.ma.array([1.0, 2.0, 3.0])), TypeError, "operand of type MaskedArray"),
    (lambda x: np.exp(x), TypeError, "does not support ufuncs"),
    (lambda x: np.asarray(x), TypeError, "loses its gradient"),
    (lambda x: np.sum(np.array(x)), TypeError, "loses its gradient"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors_say_what_is_wrong(number):
    call, kind, message = ERRORS[number]
    with pytest.raises(kind, match=message):
        call(sg.tensor(X))
