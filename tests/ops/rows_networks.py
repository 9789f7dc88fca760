"""Rows of convolution, pooling, and `functional`, judged by nested loops."""

import numpy as np
from registry import Row, away, distinct, elementwise, integers, normal, unit
from scipy import special

from reference import layers
from scratchgen import functional, ops

CONV = [{"stride": s, "padding": p} for s in (1, 2) for p in (0, 1)]


def rows_of(f):
    """A function of one row as a function along the last axis."""
    return lambda x: np.apply_along_axis(lambda row: np.asarray(f(row)), -1, x)


def log_softmax(x):
    return np.log(rows_of(layers.softmax)(x))


def along(f):
    return lambda x, axis=-1: np.moveaxis(f(np.moveaxis(x, axis, -1)), -1, axis)


def same_conv(x, w):
    kh, kw = w.shape[:2]
    return layers.conv2d(np.pad(x, ((0, 0), ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2), (0, 0))), w)


def conv_in_groups(x, w, groups, padding):
    """A convolution of each group's channels, side by side."""
    pairs = zip(np.split(x, groups, axis=3), np.split(w, groups, axis=3), strict=True)
    return np.concatenate([layers.conv2d(part, kernel, 1, padding) for part, kernel in pairs], axis=3)


def conv_transpose(h, w, stride=1, padding=0, output_padding=0):
    y = layers.conv2d_transpose(h, np.swapaxes(w, 2, 3), stride, padding)
    if output_padding:  # the rows and columns that no stamp reaches, or that the padding cut off
        wide = layers.conv2d_transpose(
            np.pad(h, ((0, 0), (0, 1), (0, 1), (0, 0))), np.swapaxes(w, 2, 3), stride, padding
        )
        y = wide[:, : y.shape[1] + output_padding, : y.shape[2] + output_padding]
    return y


def windows(x, kernel, stride):
    b, h, w, c = x.shape
    y = np.zeros((b, (h - kernel) // stride + 1, (w - kernel) // stride + 1, kernel, kernel, c))
    for n, i, j, u, v, k in np.ndindex(y.shape):
        y[n, i, j, u, v, k] = x[n, i * stride + u, j * stride + v, k]
    return y


def overlap_add(x, shape, stride):
    y = np.zeros(shape)
    for n, i, j, u, v, k in np.ndindex(x.shape):
        y[n, i * stride + u, j * stride + v, k] += x[n, i, j, u, v, k]
    return y


def cross_entropy(logits, labels):
    table = log_softmax(logits)
    return np.array([-table[i][labels[i]] for i in np.ndindex(labels.shape)]).reshape(labels.shape)


def bernoulli(logits, x):
    p = special.expit(logits)
    return -(x * np.log(p) + (1 - x) * np.log(1 - p))


def group_mean(x, groups):
    """What second derivatives of `group_standardise` are made of."""
    b, p, c = x.shape
    means = x.reshape(b, p, groups, c // groups).mean(axis=(1, 3))
    return np.repeat(means, c // groups, axis=1)[:, None]


def group_standardise(x, groups, tiny):
    c = x.shape[-1]
    return layers.group_norm(x, groups, np.ones(c), np.zeros(c), tiny)


def visible(rng, shape):
    """A mask under which every query sees the first key at least."""
    return (rng.random(shape) < 0.5) | (np.arange(shape[1]) == 0)


CONVOLUTIONS = [
    Row("ops.conv2d", layers.conv2d, (normal, normal), (((2, 5, 4, 2), (3, 2, 2, 3)),), CONV, analytic=True),
    Row("ops.conv2d", layers.conv2d, (normal, normal), (((2, 3, 3, 2), (1, 1, 2, 3)),), CONV, analytic=True),
    Row("ops.conv2d", layers.conv2d, (normal, normal), (((0, 3, 3, 2), (2, 2, 2, 1)),), analytic=True),
    Row("ops.conv2d", same_conv, (normal, normal), (((1, 4, 3, 2), (3, 3, 2, 2)), ((1, 4, 3, 1), (2, 4, 1, 2))),
        function=lambda x, w: ops.conv2d(x, w, padding="same"), analytic=True),
    Row("ops.conv2d", conv_in_groups, (normal, normal), (((2, 4, 3, 4), (3, 2, 2, 6)),),
        ({"groups": 2, "padding": 0}, {"groups": 2, "padding": 1}), analytic=True),
    Row("ops.conv2d_transpose", conv_transpose, (normal, normal), (((2, 3, 2, 3), (3, 2, 2, 3)),), CONV, analytic=True),
    Row("ops.conv2d_transpose", conv_transpose, (normal, normal), (((1, 3, 2, 3), (1, 1, 2, 3)),), analytic=True),
    Row("ops.conv2d_transpose", conv_transpose, (normal, normal), (((1, 3, 2, 1), (3, 3, 2, 1)),),
        ({"stride": 2, "output_padding": 1}, {"stride": 2, "padding": 1, "output_padding": 1}), analytic=True),
    Row("ops.windows", windows, (normal,), (((2, 4, 5, 2),),), ({"kernel": 2, "stride": 1}, {"kernel": 3, "stride": 2}),
        function=lambda x, kernel, stride: ops.windows(x, kernel, stride), analytic=True),
    Row("ops.overlap_add", overlap_add, (normal,), (((2, 3, 2, 2, 2, 1),),), ({"shape": (2, 4, 3, 1), "stride": 1},
        {"shape": (2, 7, 5, 1), "stride": 2}), function=lambda x, shape, stride: ops.overlap_add(x, shape, stride),
        analytic=True),
    Row("ops.avg_pool2d", lambda x, kernel=2, stride=None: layers.avg_pool2d(x, kernel, stride), (normal,),
        (((2, 5, 4, 2),),), ({}, {"kernel": 3, "stride": 1}), analytic=True),
    Row("ops.max_pool2d", lambda x, kernel=2, stride=None: layers.max_pool2d(x, kernel, stride), (distinct,),
        (((2, 5, 4, 2),),), ({}, {"kernel": 3, "stride": 1})),
]  # fmt: skip

SOFT = {"analytic": True, "exponential": True, "saturates": True}
FUNCTIONAL = [
    elementwise("functional.relu", lambda x: np.where(x > 0, x, 0.0), away, exponential=True, saturates=True),
    elementwise("functional.leaky_relu", lambda x, slope=0.2: np.where(x > 0, x, slope * x), away,
                variants=({}, {"slope": 0.01})),
    elementwise("functional.silu", lambda x: x * special.expit(x), normal, exponential=True, saturates=True),
    elementwise("functional.silu_slope", lambda x: special.expit(x) * (1 + x * special.expit(-x)), normal,
                exponential=True, saturates=True),
    elementwise("functional.gelu", lambda x: x * special.ndtr(x), normal, analytic=True,
                exponential=True, saturates=True),
    elementwise("functional.softplus", lambda x: np.logaddexp(0, x), normal, exponential=True, saturates=True),
    elementwise("functional.log_sigmoid", special.log_expit, normal, exponential=True, saturates=True),
    elementwise("functional.binary_cross_entropy", bernoulli, normal, unit, exponential=True, saturates=True),
    Row("functional.softmax", along(rows_of(layers.softmax)), (normal,), (((1,),), ((4,),), ((2, 3),)), **SOFT),
    Row("functional.softmax", along(rows_of(layers.softmax)), (normal,), (((3, 2),),), ({"axis": 0},), **SOFT),
    Row("functional.log_softmax", along(log_softmax), (normal,), (((1,),), ((4,),), ((2, 3),)), **SOFT),
    Row("functional.log_softmax", along(log_softmax), (normal,), (((3, 2),),), ({"axis": 0},), **SOFT),
    Row("functional.cross_entropy", cross_entropy, (normal, integers(0, 3)),
        (((2, 3), (2,)), ((2, 2, 3), (2, 2)), ((3,), ())), analytic=True),
    Row("functional.standardise", lambda x, axis, tiny: (x - x.mean(axis, keepdims=True))
        / np.sqrt(x.var(axis, keepdims=True) + tiny), (normal,), (((2, 4),), ((2, 3, 2),)),
        ({"axis": -1, "tiny": 1e-5}, {"axis": (0, 1), "tiny": 1e-2}), analytic=True,
        function=lambda x, axis, tiny: functional.standardise(x, axis, tiny)),
    Row("functional.group_standardise", group_standardise, (normal,), (((2, 3, 4),),),
        ({"groups": 2, "tiny": 1e-5}, {"groups": 4, "tiny": 1e-2}), analytic=True,
        function=lambda x, groups, tiny: functional.group_standardise(x, groups, tiny)),
    Row("functional._group_mean", group_mean, (normal,), (((2, 3, 4),),), ({"groups": 2}, {"groups": 4}),
        analytic=True),
    Row("functional.layer_norm", layers.layer_norm, (normal, normal, normal),
        (((2, 4), (4,), (4,)), ((2, 3, 4), (4,), (4,))), analytic=True),
    Row("functional.layer_norm", lambda x: layers.layer_norm(x, np.ones(4), np.zeros(4)), (normal,), (((2, 4),),),
        analytic=True),
    Row("functional.group_norm", lambda x, a, b: layers.group_norm(x, 2, a, b), (normal, normal, normal),
        (((2, 2, 3, 4), (4,), (4,)), ((2, 4), (4,), (4,)), ((0, 2, 2, 4), (4,), (4,))),
        function=lambda x, a, b: functional.group_norm(x, 2, a, b), analytic=True),
    Row("functional.rms_norm", lambda x, a: layers.rms_norm(x, a, 1e-6), (normal, normal), (((2, 4), (4,)),),
        analytic=True),
    Row("functional.attention", layers.attention, (normal, normal, normal),
        (((3, 2), (4, 2), (4, 3)), ((2, 3, 2), (2, 4, 2), (2, 4, 1))), analytic=True),
    Row("functional.attention", layers.attention, (normal, normal, normal, visible),
        (((3, 2), (4, 2), (4, 3), (3, 4)),), analytic=True),
    Row("functional.embedding", lambda table, i: table[i], (normal, integers(0, 4)),
        (((4, 2), (3,)), ((4, 2), (5, 2)), ((4, 2), ())), analytic=True),
    Row("functional.one_hot", lambda i: np.eye(4, dtype="float32")[i], (integers(0, 4),), (((3,),), ((2, 2),)),
        constant=True, function=lambda i: functional.one_hot(i, 4)),
    Row("functional.causal_mask", lambda x: np.tril(np.ones((3, 3))) > 0, (normal,), (((3,),),), constant=True,
        function=lambda x: functional.causal_mask(3, like=x)),
]  # fmt: skip

ROWS = CONVOLUTIONS + FUNCTIONAL
