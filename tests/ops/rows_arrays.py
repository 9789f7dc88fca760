"""Rows of reductions, of rearrangements, and of indexing."""

import numpy as np
from registry import Row, booleans, distinct, integers, normal, positive
from scipy import special

from scratchgen import ops

AXES = ({}, {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (0, 2)}, {"axis": (), "keepdims": False})
CUBE = (((2, 3, 2),),)
LESS = (((),), ((0,),), ((1,),), ((3,),))


def several(f):
    """A function of a list of arrays as a function of arrays."""
    return lambda *xs, **settings: f(list(xs), **settings)


def as_tuple(f):
    return lambda *xs, **settings: tuple(f(*xs, **settings))


def shaped(name, reference, *shapes, **settings):
    """A rearrangement: analytic, of one argument."""
    variants = settings.pop("variants", ({},))
    return Row(f"ops.{name}", reference, (normal,), [(s,) for s in shapes], variants, analytic=True, **settings)


def joined(name, reference, *shapes, **settings):
    """A function of several arrays."""
    function = settings.pop("function", None) or several(getattr(ops, name))
    domains = (normal,) * len(shapes[0])
    return Row(f"ops.{name}", several(reference), domains, shapes, function=function, analytic=True, **settings)


def indexed(index):
    """One kind of index, as rows of getitem."""
    return Row(
        "ops.getitem", lambda x: x[index], (normal,), (((4, 3, 2),),), function=lambda x: ops.getitem(x, index),
        analytic=True,
    )  # fmt: skip


def masked(x, mask):
    return x[mask]


def put(values, index, shape):
    out = np.zeros(shape, values.dtype)
    for i, k in np.ndenumerate(index):
        out[k] = out[k] + values[i]
    return out


REDUCTIONS = [
    Row("ops.sum", np.sum, (normal,), LESS, analytic=True),
    Row("ops.sum", np.sum, (normal,), CUBE, AXES, analytic=True),
    Row("ops.mean", np.mean, (normal,), (((),), ((1,),), ((3,),)), analytic=True),
    Row("ops.mean", np.mean, (normal,), CUBE, AXES, analytic=True),
    Row("ops.var", np.var, (normal,), CUBE, (*AXES[:4], {"axis": 1, "ddof": 1}), analytic=True),
    Row("ops.std", np.std, (normal,), CUBE, (*AXES[:4], {"axis": 1, "ddof": 1}), analytic=True),
    Row("ops.max", np.max, (distinct,), (((),), ((1,),), ((3,),))),
    Row("ops.max", np.max, (distinct,), CUBE, AXES),
    Row("ops.min", np.min, (distinct,), CUBE, AXES),
    Row("ops.prod", np.prod, (normal,), LESS, analytic=True),
    Row("ops.prod", np.prod, (normal,), (((2, 5, 3),),), AXES, analytic=True),
    Row("ops.cumsum", np.cumsum, (normal,), LESS, analytic=True),
    Row("ops.cumsum", np.cumsum, (normal,), CUBE, ({}, {"axis": 0}, {"axis": -1}), analytic=True),
    Row("ops.logsumexp", special.logsumexp, (normal,), (((),), ((1,),), ((3,),)), analytic=True, exponential=True,
        saturates=True),
    Row("ops.logsumexp", special.logsumexp, (normal,), CUBE, AXES[:4], analytic=True),
    Row("ops.diff", np.diff, (normal,), (((4,),), ((1,),), ((0,),)), analytic=True),
    Row("ops.diff", np.diff, (normal,), (((4, 3),),), ({"n": 2, "axis": 0}, {"n": 0}, {"n": 4}), analytic=True),
    Row("ops.gradient", np.gradient, (normal,), (((4,),), ((2,),), ((3, 4),)), analytic=True),
    Row("ops.gradient", np.gradient, (normal,), (((3, 4),),), ({"axis": 1}, {"axis": (1, 0)}), analytic=True),
    Row("ops.gradient", lambda x: np.gradient(x, 0.5, 2.0), (normal,), (((3, 4),),),
        function=lambda x: ops.gradient(x, 0.5, 2.0), analytic=True),
    Row("ops.gradient", lambda x, h: np.gradient(x, np.cumsum(h), axis=0), (normal, positive), (((5, 2), (5,)),),
        function=lambda x, h: ops.gradient(x, ops.cumsum(h), axis=0), analytic=True),
    Row("ops.argmax", np.argmax, (distinct,), CUBE, ({}, {"axis": 1}, {"axis": 0, "keepdims": True}), constant=True),
    Row("ops.argmin", np.argmin, (distinct,), CUBE, ({}, {"axis": 1}, {"axis": 0, "keepdims": True}), constant=True),
    Row("ops.any", np.any, (normal,), CUBE, AXES[:4], constant=True),
    Row("ops.all", np.all, (normal,), CUBE, AXES[:4], constant=True),
    Row("ops.count_nonzero", np.count_nonzero, (normal,), CUBE, AXES[:4], constant=True),
]  # fmt: skip

REARRANGEMENTS = [
    shaped("reshape", lambda x, shape: np.reshape(x, shape), (2, 3), variants=({"shape": (3, 2)}, {"shape": -1})),
    shaped("reshape", lambda x, shape: np.reshape(x, shape), (), (1,), variants=({"shape": (1, 1)}, {"shape": ()})),
    shaped("ravel", np.ravel, (), (0,), (2, 3)),
    shaped("transpose", np.transpose, (), (0,), (3,), (2, 3, 4)),
    shaped("transpose", np.transpose, (2, 3, 4), variants=({"axes": (1, 2, 0)}, {"axes": (-1, 0, 1)})),
    shaped("swapaxes", np.swapaxes, (2, 3, 4), variants=({"axis1": 0, "axis2": -1},)),
    shaped("moveaxis", np.moveaxis, (2, 3, 4), variants=(
        {"source": 0, "destination": -1}, {"source": (0, 1), "destination": (2, 0)})),
    shaped("matrix_transpose", np.matrix_transpose, (2, 3), (2, 3, 4)),
    shaped("squeeze", np.squeeze, (), (1,), (1, 3, 1)),
    shaped("squeeze", np.squeeze, (1, 3, 1), variants=({"axis": 0}, {"axis": (0, -1)})),
    shaped("expand_dims", np.expand_dims, (), (0,), variants=({"axis": 0}, {"axis": -1})),
    shaped("expand_dims", np.expand_dims, (2, 3), variants=({"axis": (0, 2)}, {"axis": (-1, 1)})),
    shaped("atleast_1d", np.atleast_1d, (), (0,), (2, 3)),
    shaped("atleast_2d", np.atleast_2d, (), (0,), (3,), (2, 3)),
    shaped("broadcast_to", np.broadcast_to, (), (1,), (2, 1), (2, 3), variants=({"shape": (4, 2, 3)},)),
    shaped("broadcast_to", np.broadcast_to, (), (1,), variants=({"shape": 2}, {"shape": (0,)})),
    shaped("repeat", np.repeat, (), (2, 3), variants=({"repeats": 2}, {"repeats": 0})),
    shaped("repeat", np.repeat, (2, 3), variants=({"repeats": 2, "axis": -1}, {"repeats": [1, 3], "axis": 0})),
    shaped("tile", np.tile, (), (0,), (2, 3), variants=({"reps": 2}, {"reps": (2, 1, 3)}, {"reps": ()})),
    shaped("flip", np.flip, (), (0,), (2, 3), (2, 3, 2)),
    shaped("flip", np.flip, (2, 3), variants=({"axis": 1}, {"axis": (0, 1)})),
    shaped("fliplr", np.fliplr, (2, 3)),
    shaped("flipud", np.flipud, (2, 3)),
    shaped("rot90", np.rot90, (2, 3), variants=({}, {"k": 2}, {"k": -1}, {"k": 4}, {"axes": (1, 0)})),
    shaped("roll", np.roll, (3, 4), variants=(
        {"shift": 2}, {"shift": -1, "axis": 1}, {"shift": (1, 2), "axis": (0, 1)}, {"shift": 5, "axis": (0, 1)})),
    shaped("roll", np.roll, (), (0,), (3,), variants=({"shift": 1},)),
    shaped("pad", np.pad, (3, 2), variants=(
        {"pad_width": 1}, {"pad_width": (1, 2)}, {"pad_width": ((0, 2), (1, 0))}, {"pad_width": ((1, 2),)},
        {"pad_width": 1, "constant_values": 3.0})),
    shaped("pad", np.pad, (3, 2), variants=tuple(
        {"pad_width": ((2, 1), (0, 1)), "mode": mode} for mode in ("edge", "reflect", "symmetric", "wrap"))),
    shaped("array_split", as_tuple(np.array_split), (7, 2), function=as_tuple(ops.array_split), variants=(
        {"indices_or_sections": 3}, {"indices_or_sections": [1, 4]}, {"indices_or_sections": 3, "axis": 1})),
    shaped("split", as_tuple(np.split), (6, 2), (6,), function=as_tuple(ops.split), variants=(
        {"indices_or_sections": 3}, {"indices_or_sections": [2, 2]})),
    shaped("hsplit", as_tuple(np.hsplit), (6,), (2, 6), function=as_tuple(ops.hsplit), variants=(
        {"indices_or_sections": 2},)),
    shaped("vsplit", as_tuple(np.vsplit), (6, 2), function=as_tuple(ops.vsplit), variants=(
        {"indices_or_sections": 2},)),
    shaped("dsplit", as_tuple(np.dsplit), (2, 3, 4), function=as_tuple(ops.dsplit), variants=(
        {"indices_or_sections": 2},)),
    joined("concatenate", np.concatenate, ((2, 3), (1, 3), (0, 3)), variants=({}, {"axis": None})),
    joined("concatenate", np.concatenate, ((2, 3), (2, 1)), variants=({"axis": 1}, {"axis": -1})),
    joined("append", lambda xs, axis=None: np.append(*xs, axis), ((2, 3), (1, 3)),
           function=lambda x, y, axis=None: ops.append(x, y, axis), variants=({}, {"axis": 0})),
    joined("stack", np.stack, ((), ()), ((0,), (0,)), ((3,), (3,))),
    joined("stack", np.stack, ((2, 3), (2, 3)), variants=({"axis": 1}, {"axis": -1})),
    joined("vstack", np.vstack, ((), ()), ((3,), (3,)), ((2, 3), (1, 3))),
    joined("hstack", np.hstack, ((), ()), ((3,), (2,)), ((2, 3), (2, 1))),
    joined("dstack", np.dstack, ((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((2, 3, 1), (2, 3, 2))),
    joined("column_stack", np.column_stack, ((3,), (3,)), ((3,), (3, 2))),
    Row("ops.zeros_like", np.zeros_like, (normal,), (((2, 3),),), constant=True),
    Row("ops.ones_like", np.ones_like, (normal,), (((2, 3),),), constant=True),
    Row("ops.zeros", lambda x: np.zeros(x.shape), (normal,), (((2, 3),),), constant=True,
        function=lambda x: ops.zeros(x.shape, x.dtype)),
    Row("ops.ones", lambda x: np.ones(x.shape), (normal,), (((2, 3),),), constant=True,
        function=lambda x: ops.ones(x.shape, x.dtype)),
]  # fmt: skip

INDICES = [
    indexed(1), indexed(-1), indexed((1, 2, 0)), indexed(slice(1, 3)), indexed((slice(None, None, -2), 1)),
    indexed((..., 0)), indexed((None, 1, ..., None)), indexed([0, 0, 2]), indexed((slice(None), [1, 1, 0, 1])),
    indexed(([0, 3, 0], [1, 1, 1])), indexed(([[0], [2]], [0, 1], 1)), indexed((0, slice(None), [1, 0])), indexed([]),
    indexed([True, False, True, False]), indexed(True), indexed(slice(2, 2)), indexed(()),
    Row("ops.getitem", masked, (normal, booleans), (((3, 2), (3, 2)), ((3, 2), (3,)), ((), ()))),
    Row("ops.getitem", masked, (normal, integers(-3, 3)), (((3, 2), (4, 2)), ((3,), ()), ((3,), (0,)))),
    Row("ops.scatter_add", put, (normal, integers(-3, 3)), (((4, 2), (4,)), ((0, 2), (0,))), ({"shape": (3, 2)},),
        analytic=True),
    Row("ops.scatter_add", put, (normal, integers(-3, 3)), (((2, 3), (2, 3)),), ({"shape": (3,)},), analytic=True),
    Row("ops.take", np.take, (normal, integers(-2, 2)), (((2, 3), (4,)), ((2,), ()), ((2,), (2, 2))), analytic=True),
    Row("ops.take", np.take, (normal, integers(-2, 2)), (((2, 3), (5,)),), ({"axis": 1}, {"axis": -2}), analytic=True),
    Row("ops.take_along_axis", np.take_along_axis, (normal, integers(0, 2)),
        (((2, 3), (2, 3)), ((2, 3), (4, 3)), ((2, 3), (1, 3))), ({"axis": 0},), analytic=True),
    Row("ops.take_along_axis", np.take_along_axis, (normal, integers(0, 2)), (((2, 2), (2, 5)),), ({"axis": -1},)),
    Row("ops.sort", np.sort, (distinct,), (((0,),), ((1,),), ((2, 5),)), ({}, {"axis": 0})),
    Row("ops.argsort", np.argsort, (distinct,), (((0,),), ((1,),), ((2, 5),)), ({}, {"axis": 0}), constant=True),
    Row("ops.nonzero", np.nonzero, (normal,), (((2, 5),),), constant=True),
]  # fmt: skip

ROWS = REDUCTIONS + REARRANGEMENTS + INDICES
