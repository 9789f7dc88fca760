"""Rows of products and of the factorisations of matrices."""

import numpy as np
from registry import (
    Row,
    distinct,
    normal,
    positive_definite,
    spread_singular,
    spread_symmetric,
    well_conditioned,
)  # fmt: skip

from scratchgen import ops

SQUARE = (((1, 1),), ((3, 3),), ((2, 3, 3),))


def product(name, reference, *shapes, **settings):
    function = settings.pop("function", None)
    variants = settings.pop("variants", ({},))
    return Row(f"ops.{name}", reference, (normal,) * len(shapes[0]), shapes, variants, function, analytic=True)


def einsum(subscripts, *shapes):
    return product(
        "einsum",
        lambda *xs: np.einsum(subscripts, *xs),
        *shapes,
        function=lambda *xs: ops.einsum(subscripts, *xs),
    )


def one(name, reference, *shapes, variants=({},)):
    return Row(f"ops.{name}", reference, (normal,), [(s,) for s in shapes], variants, analytic=True)


def matrix(name, reference, domain, shapes=SQUARE, **settings):
    return Row(f"ops.linalg.{name}", reference, (domain,), shapes, **settings)


def symmetric(x):
    return (x + ops.matrix_transpose(x)) * 0.5


def signless(vectors):
    """Eigenvectors without their sign: the outer product of each with itself."""
    return np.einsum("...ik,...jk->...kij", vectors, vectors)


def projectors(x):
    w, v = np.linalg.eigh(x)
    return w, signless(v)


def our_projectors(x):
    w, v = ops.linalg.eigh(symmetric(x))
    return w, ops.einsum("...ik,...jk->...kij", v, v)


def svd_parts(x):
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return s, np.einsum("...ik,...kj->...kij", u, vh)


def our_svd_parts(x):
    u, s, vh = ops.linalg.svd(x)
    return s, ops.einsum("...ik,...kj->...kij", u, vh)


PRODUCTS = [
    product("matmul", np.matmul, ((3, 1), (1, 2)), ((1,), (1, 3)), ((3, 1), (1,)), ((2, 3, 1), (1, 2)),
            ((2, 3, 1), (2, 1, 4)), ((2, 1, 3, 1), (3, 1, 2)), ((3, 0), (0, 2)), ((0, 1), (1, 2))),
    product("matmul", np.matmul, ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((0, 3), (3, 2)),
            ((2, 0), (0, 2)), ((2, 2, 3), (3, 4)), ((2, 2, 3), (2, 3, 1)), ((2, 1, 2, 3), (3, 3, 2)),
            ((3,), (2, 3, 2)), ((2, 3), (4, 3, 2)), ((0, 2, 3), (3, 2)), ((2, 2, 0), (0, 3)), ((1, 1), (1, 1))),
    product("tensordot", np.tensordot, ((2, 3, 4), (3, 4, 2)), ((0, 3, 4), (3, 4)), variants=({}, {"axes": 2})),
    product("tensordot", np.tensordot, ((2, 3), (3, 2)), variants=({"axes": 0}, {"axes": 1}, {"axes": (1, 0)},
            {"axes": ([0, 1], [1, 0])}, {"axes": (-1, -2)})),
    product("dot", np.dot, ((), ()), ((), (2, 3)), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (3, 2)),
            ((2, 3), (4, 3, 2)), ((0,), (0,))),
    product("inner", np.inner, ((), (3,)), ((3,), (3,)), ((2, 3), (4, 3)), ((2, 3), (3,))),
    product("outer", np.outer, ((), ()), ((0,), (2,)), ((2,), (3,)), ((2, 2), (3,))),
    product("vdot", np.vdot, ((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((2, 3), (6,))),
    product("kron", np.kron, ((), (2,)), ((2,), (3,)), ((2, 1), (2, 3)), ((2,), (2, 3)), ((0,), (2,))),
    einsum("i->", ((3,),)), einsum("ii", ((3, 3),)), einsum("ii->i", ((3, 3),)), einsum("iji->j", ((2, 3, 2),)),
    einsum("ij->ji", ((2, 3),)), einsum("ij,jk", ((2, 3), (3, 4))), einsum("ij,jk->ki", ((2, 3), (3, 4))),
    einsum("...ij,...jk->...ik", ((2, 2, 3), (2, 3, 2)), ((2, 3), (3, 2)), ((2, 1, 2, 3), (3, 3, 2))),
    einsum("i,j->ij", ((2,), (3,))), einsum("i,j->", ((2,), (3,))), einsum("ij,ij,ij->j", ((2, 3),) * 3),
    einsum("ij,kj,kl->il", ((2, 3), (4, 3), (4, 2))), einsum("bii,bi->b", ((2, 3, 3), (2, 3))),
    einsum("...,...->...", ((2, 3), (3,)), ((), ())), einsum("i...->...", ((2, 3),)),
    einsum(" a b , b -> a ", ((2, 3), (3,))),
    one("diagonal", np.diagonal, (2, 3), (3, 2), (0, 2), variants=({}, {"offset": 1}, {"offset": -2}, {"offset": 5})),
    one("diagonal", np.diagonal, (2, 3, 4), variants=(
        {"axis1": 2, "axis2": 0}, {"axis1": 1, "axis2": -1, "offset": 1})),
    one("diag", np.diag, (3,), (0,), (3, 3), (2, 3), variants=({}, {"k": 1}, {"k": -1})),
    one("trace", np.trace, (3, 3), (2, 3), (2, 2, 3), variants=({}, {"offset": 1})),
    one("tril", np.tril, (3, 3), (2, 3), (2, 3, 2), (0, 2), variants=({}, {"k": 1}, {"k": -1})),
    one("triu", np.triu, (3, 3), (2, 3), (2, 3, 2), (0, 2), variants=({}, {"k": 1}, {"k": -1})),
]  # fmt: skip

FACTORISATIONS = [
    matrix("inv", np.linalg.inv, well_conditioned, analytic=True),
    matrix("det", np.linalg.det, well_conditioned, analytic=True),
    matrix("slogdet", lambda x: np.linalg.slogdet(x)[1], well_conditioned,
           function=lambda x: ops.linalg.slogdet(x).logabsdet),
    matrix("slogdet", lambda x: np.linalg.slogdet(x)[0], well_conditioned, constant=True,
           function=lambda x: ops.linalg.slogdet(x).sign),
    Row("ops.linalg.solve", np.linalg.solve, (well_conditioned, normal),
        (((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (2, 3, 1)), ((3, 3), (2, 3, 2))), analytic=True),
    matrix("cholesky", lambda x: np.linalg.cholesky((x + np.swapaxes(x, -1, -2)) / 2), positive_definite,
           function=lambda x: ops.linalg.cholesky(symmetric(x))),
    matrix("eigh", projectors, spread_symmetric, (((3, 3),), ((2, 4, 4),), ((1, 1),)), function=our_projectors,
           tolerance=1e-10),
    matrix("svd", svd_parts, spread_singular, (((3, 3),), ((4, 2),), ((2, 3),), ((2, 3, 2),)), function=our_svd_parts,
           tolerance=1e-10),
    matrix("pinv", np.linalg.pinv, spread_singular, (((3, 3),), ((4, 2),), ((2, 3),), ((2, 3, 2),)), tolerance=1e-10),
    Row("ops.linalg.norm", np.linalg.norm, (normal,), (((3,),), ((2, 3),), ((2, 3, 2),)), analytic=True),
    Row("ops.linalg.norm", np.linalg.norm, (normal,), (((2, 3),),), ({"axis": 1}, {"axis": 0, "keepdims": True},
        {"axis": (0, 1)}, {"ord": "fro", "keepdims": True}, {"ord": 2, "axis": -1}), analytic=True),
    Row("ops.linalg.norm", np.linalg.norm, (distinct,), (((2, 3),),), (
        {"ord": 1, "axis": 1}, {"ord": np.inf, "axis": 0}, {"ord": -np.inf, "axis": 1, "keepdims": True},
        {"ord": 3, "axis": 1}, {"ord": 1}, {"ord": np.inf, "keepdims": True})),
    Row("ops.linalg.norm", np.linalg.norm, (spread_singular,), (((2, 3),), ((3, 3),)), ({"ord": 2}, {"ord": "nuc"},
        {"ord": "nuc", "keepdims": True}), tolerance=1e-10),
    Row("ops.linalg.norm", np.linalg.norm, (spread_singular,), (((2, 3, 3),),), ({"ord": 2, "axis": (1, 2)},
        {"ord": 1, "axis": (0, 2)}), tolerance=1e-10),
]  # fmt: skip

ROWS = PRODUCTS + FACTORISATIONS
