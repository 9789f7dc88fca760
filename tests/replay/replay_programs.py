"""Random programs on arrays: lists of instructions (name, i, j, k), whose numbers pick operands, axes and slices.

Every instruction works on any arrays, so that any list is a program: what does not fit is cut to fit.  Values stay
moderate, so that nothing overflows.  The same program runs on arrays and on recorded arrays.
"""

from math import prod

import numpy as np
from hypothesis import strategies as st

from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd import Tensor, gradients

LARGEST = 600  # numbers in an array


def pick(items, i):
    return items[i % len(items)]


def tame(x):
    """x within [−4, 4]."""
    return np.minimum(np.maximum(x, -4.0), 4.0)


def fits(a, b):
    """Whether two shapes broadcast, to something not too large."""
    try:
        return prod(np.broadcast_shapes(a, b)) <= LARGEST
    except ValueError:
        return False


def partner(env, a, j):
    """An array that broadcasts with a: a itself at least."""
    return pick([b for b in env if fits(a.shape, b.shape)], j)


def index_of(shape, j, k):
    """Slices with steps of either sign, integers, … and None."""
    index, n = [], j
    for length in shape:
        n, kind = n // 7 + k, n % 7
        start, stop = sorted((n % (length + 1), (n // 3) % (length + 1)))
        index.append([
            slice(None), slice(None, None, -1), slice(None, None, 2), slice(None, None, -2), slice(start, stop),
            slice(start, None), n % length if length else slice(None),
        ][kind])  # fmt: skip
    index = tuple(index)[: 1 + k % (len(shape) + 1)]
    return (..., *index[:0]) if not index else (*index, None) if k % 5 == 4 and len(shape) < 4 else index


def axes_of(x, j):
    """None, one axis, or several."""
    if not x.ndim or j % 4 == 0:
        return None
    if j % 4 == 1:
        return tuple(sorted({j % x.ndim, (j // 2) % x.ndim}))
    return j % x.ndim - (x.ndim if j % 3 == 0 else 0)


UNARY = [
    np.tanh, np.sin, np.negative, np.absolute, np.floor, np.square, np.positive, ops.expit, lambda x: np.exp(-abs(x)),
    lambda x: np.sqrt(np.absolute(x)), lambda x: x**2, lambda x: x**3, lambda x: abs(x) ** 0.5, lambda x: 2 * x - 1,
    lambda x: 1 / (1 + x * x), lambda x: -x, lambda x: x % 2, lambda x: x // 2, lambda x: 0.3 + x, lambda x: x > 0.1,
]  # fmt: skip
BINARY = [
    np.add, np.subtract, np.multiply, np.maximum, np.minimum, np.arctan2, np.hypot, np.copysign,
    lambda a, b: a / (1 + b * b), lambda a, b: np.logaddexp(a, b), lambda a, b: a * b - b, lambda a, b: b - a * 2,
    lambda a, b: ops.where(a > b, a, b), lambda a, b: ops.where(b < 0, 1.5, a), lambda a, b: (a > 0) * b,
]  # fmt: skip


def number(x):
    """A mask as numbers, anything else as it is."""
    return x.astype("float32") if x.dtype.kind != "f" else x


def unary(env, i, j, k):
    return tame(number(pick(UNARY, j)(pick(env, i))))


def bare(env, i, j, k):
    """Without taming: one call only."""
    return number(pick(UNARY[:8], j)(pick(env, i)))


def binary(env, i, j, k):
    a = pick(env, i)
    return tame(number(pick(BINARY, k)(a, partner(env, a, j))))


def reduction(env, i, j, k):
    x = pick(env, i)
    if not x.size:
        return x
    how = pick(["sum", "mean", "max", "min", "sum", "sum"], k)
    return getattr(x, how)(axis=axes_of(x, j), keepdims=bool(k % 2))


def normalised(env, i, j, k):
    """What softmax and norms are made of."""
    x = pick(env, i)
    if not x.size or not x.ndim:
        return x
    axis = (j % x.ndim,) if k % 2 else tuple(range(x.ndim))[-1 - j % x.ndim :]
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    centred = x - x.mean(axis=axis, keepdims=True)
    scale = np.sqrt((centred * centred).mean(axis=axis, keepdims=True) + 1)
    return e / e.sum(axis=axis, keepdims=True) + centred / scale


def reshaped(env, i, j, k):
    x = pick(env, i)
    if not x.size:
        return x.reshape(0, 2)
    first = pick([d for d in range(1, x.size + 1) if x.size % d == 0], j)
    return x.reshape(pick([(-1,), (first, -1), (-1, 1), (1, first, x.size // first), (first, 1, -1)], k))


def transposed(env, i, j, k):
    x = pick(env, i)
    return x.transpose(tuple(np.random.default_rng(j).permutation(x.ndim)))


def sliced(env, i, j, k):
    x = pick(env, i)
    return x[index_of(x.shape, j, k)]


def spread(env, i, j, k):
    x = pick(env, i)
    if prod(x.shape) > LARGEST // 4 or x.ndim > 3:
        return x
    return np.broadcast_to(x, (1 + j % 4, *x.shape)) if k % 2 else x[..., None]


def joined(env, i, j, k):
    a = pick(env, i)
    if not a.ndim:
        return np.stack([a, a * 2])
    axis = j % a.ndim
    others = [b for b in env if b.ndim == a.ndim and all(
        m == n for d, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if d != axis
    ) and b.dtype == a.dtype]  # fmt: skip
    parts = [pick(others, k), a, pick(others, j)][: 2 + k % 2]
    if sum(p.size for p in parts) > LARGEST:
        return a
    return np.concatenate(parts, axis=axis)


def made_and_joined(env, i, j, k):
    """Parts that nobody else needs."""
    a = pick(env, i)
    if not a.ndim or a.size > LARGEST // 3:
        return a
    return np.concatenate([np.tanh(a), a * 2, -a][: 2 + k % 2], axis=j % a.ndim)


def product(env, i, j, k):
    a = pick(env, i)
    if a.ndim < 1:
        return a
    others = [b for b in env if b.ndim >= 1 and b.shape[-1] == a.shape[-1] and (a.ndim <= 2 or b.ndim <= 2)]
    b = pick(others, j) if others else a[(0,) * (a.ndim - 1)]
    if a.ndim == 1 or b.ndim == 1:
        y = np.matmul(a, b.T) if b.ndim <= 2 else np.matmul(b, a)
    else:
        y = np.matmul(a, b.swapaxes(-1, -2)) if k % 3 else np.einsum("...ij,...kj->...ik", a, b)
    return tame(y) if y.size <= LARGEST else a


def chosen(env, i, j, k):
    """Places by numbers: lists, an order that is computed, a mask."""
    x = pick(env, i)
    if not x.ndim or not x.shape[0]:
        return x
    n = x.shape[0]
    ways = [
        lambda: x[[j % n, k % n, 0]], lambda: x[np.array([[0, j % n]])], lambda: ops.sort(x, axis=j % x.ndim),
        lambda: ops.take_along_axis(x, x.argsort(axis=0, kind="stable"), 0), lambda: np.cumsum(x, axis=j % x.ndim),
        lambda: ops.take(x, x.argmax(axis=0).reshape(-1)[:3] % n, 0) if x.size else x, lambda: x[x.argmax() % n],
    ]  # fmt: skip
    y = pick(ways, k)()
    return y if y.size <= LARGEST else x


def padded(env, i, j, k):
    x = pick(env, i)
    y = ops.pad(x, tuple((j % 2, (k + a) % 2) for a in range(x.ndim)), constant_values=float(k % 3)) if x.ndim else x
    return y if y.size <= LARGEST else x


def constant(env, i, j, k):
    x = pick(env, i)
    ways = [
        lambda: np.arange(x.size, dtype=x.dtype).reshape(x.shape) * x, lambda: np.zeros_like(x) + x.sum(),
        lambda: ops.zeros((3, 1)) + j % 5, lambda: np.full_like(x, k % 7), lambda: x * np.float32(0.3),
        lambda: np.array([1, -1], x.dtype)[None] * x.reshape(-1)[:1], lambda: x.astype("float64").astype("float32"),
        lambda: x.astype("int64") * 0.25,
    ]  # fmt: skip
    y = pick(ways, k)()
    return number(y.astype(x.dtype))


def written(env, i, j, k):
    """Writing to an array of one's own, while looks at it are about."""
    x = pick(env, i)
    mine = type(x) is type(env[0])  # not so an array that NumPy made of constants
    y = x.copy() if mine else np.maximum(x, env[0].reshape(-1)[:0].sum().astype(x.dtype) - 9).reshape(x.shape)
    look = y[index_of(y.shape, j, k)]
    fit = [b for b in env if fits(b.shape, look.shape) and np.broadcast_shapes(b.shape, look.shape) == look.shape]
    b = pick(fit, j // 3) if fit else 0.5
    before = y * 2 if j % 2 else None  # must see the old values
    match k % 9:
        case 0:
            y[index_of(y.shape, j, k)] = b
        case 1:
            y[index_of(y.shape, j, k)] *= 0.5
        case 2:
            look -= b
        case 3:
            np.tanh(y, out=y)
        case 4 if y.ndim and y.shape[0] > 1:
            y[1:] += y[:-1]
        case 5 if y.ndim and y.shape[0]:
            y[[0, j % y.shape[0], 0]] = 0.25
        case 6 if y.ndim and y.shape[0]:
            np.add.at(y, [0, j % y.shape[0], 0], 1.0)
        case 7:
            np.multiply(y, 0.5, out=y, where=x > 0)
        case _:
            y *= y
    env.append(y)
    if before is not None:
        env.append(before)
    return tame(look * 1) if look.size <= LARGEST else tame(y)


NAMES = (
    unary, bare, binary, binary, reduction, normalised, reshaped, transposed, sliced, spread, joined, made_and_joined,
    product, chosen, padded, constant, written, unary, binary,
)  # fmt: skip
numbers = st.integers(0, 10**4)
instructions = st.tuples(st.integers(0, len(NAMES) - 1), numbers, numbers, numbers)
programs = st.lists(instructions, min_size=1, max_size=16)
shapes = st.sampled_from([
    ((24, 3), (24, 3)), ((24, 3), (3,)), ((8, 5), (8, 1)), ((40,), (40,)), ((6, 4, 5), (4, 5)), ((6, 4, 5), (6, 4, 1)),
    ((4, 3, 2, 3), (3, 2, 1)), ((2, 9), (9, 2)), ((1, 7), (7, 1)), ((), (5,)), ((0, 3), (3,)), ((30, 1), (1, 3)),
])  # fmt: skip


def run(program, arrays):
    """The results of a program: the arrays that its last instructions left, some of the first, and a nest of looks."""
    env = list(arrays)
    for name, i, j, k in program:
        x = NAMES[name](env, i, j, k)
        x = np.asarray(x) if isinstance(x, np.generic) else x
        env.append(x if isinstance(x, np.ndarray) or x.ndim else x.reshape(()))  # a number as an array
    last = program[-1][1]
    return env[-1], env[-3:], (pick(env, last), {"x": env[0]}), env[-1][..., None]


# --- programs with gradients --------------------------------------------------------------------------------

SMOOTH = [
    ops.tanh, ops.sin, ops.expit, F.softplus, F.silu, F.gelu, F.relu, ops.erf, ops.arctan, ops.absolute, ops.negative,
    ops.square, lambda x: ops.exp(-x), lambda x: ops.sqrt(1 + x * x), lambda x: ops.log(1 + x**2), lambda x: x**3,
    F.leaky_relu, lambda x: ops.clip(x, -0.5, 0.5), lambda x: 1 / (2 + x), lambda x: x * 0.5 - 1, lambda x: 2 - x,
]  # fmt: skip
PAIRS = [
    ops.add, ops.subtract, ops.multiply, ops.maximum, ops.minimum, ops.logaddexp, lambda a, b: a / (1 + b * b),
    lambda a, b: ops.where(ops.greater(a, b), a, b * 2), lambda a, b: ops.where(ops.less(b, 0), a, 0.5),
    lambda a, b: a * a + b, lambda a, b: ops.hypot(a, 1 + ops.absolute(b)),
]  # fmt: skip


def calm(x):
    """x within [−2, 2], smoothly."""
    return 2 * ops.tanh(0.5 * x)


def smooth(env, i, j, k):
    return calm(pick(SMOOTH, j)(calm(pick(env, i))))


def paired(env, i, j, k):
    a = pick(env, i)
    return calm(pick(PAIRS, k)(a, partner(env, a, j)))


def reduced(env, i, j, k):
    x = pick(env, i)
    how = pick([ops.sum, ops.mean, ops.logsumexp, ops.var, ops.max, ops.sum], k)
    return how(x, axis=axes_of(x, j), keepdims=bool(k % 2)) if x.ndim and x.size else x


def standard(env, i, j, k):
    x = pick(env, i)
    if not x.ndim or not x.size:
        return x
    ways = [
        lambda: F.softmax(x, axis=j % x.ndim), lambda: F.log_softmax(x, axis=j % x.ndim), lambda: F.layer_norm(x),
        lambda: F.layer_norm(x, x[..., :1] * 0.1, 1.0), lambda: F.rms_norm(x), lambda: F.group_norm(x, 1),
        lambda: F.cross_entropy(x, np.zeros(x.shape[:-1], int)), lambda: F.binary_cross_entropy(x, 0.3),
    ]  # fmt: skip
    return pick(ways[: 8 if x.ndim > 1 else 5], k)()


def arranged(env, i, j, k):
    x = pick(env, i)
    if not x.ndim or not x.size or x.size > LARGEST // 3:
        return x
    a = j % x.ndim
    ways = [
        lambda: ops.reshape(x, (-1,)), lambda: ops.transpose(x), lambda: ops.moveaxis(x, a, 0), lambda: x[::-1],
        lambda: x[..., ::2], lambda: ops.flip(x, a), lambda: ops.roll(x, 1 + k % 3, a), lambda: ops.repeat(x, 2, a),
        lambda: ops.tile(x, 2), lambda: ops.pad(x, 1), lambda: ops.pad(x, 1, mode="edge"), lambda: ops.cumsum(x, a),
        lambda: ops.sort(x, a), lambda: ops.take(x, [0, 0, x.shape[a] - 1], a), lambda: ops.expand_dims(x, a),
        lambda: ops.concatenate(ops.array_split(x, 2, a)[::-1], a), lambda: ops.stack([x, ops.tanh(x)], a),
        lambda: ops.diff(ops.concatenate([x, x * 2], a), axis=a), lambda: ops.broadcast_to(x, (2, *x.shape)),
        lambda: ops.swapaxes(x, 0, -1), lambda: ops.take_along_axis(x, ops.argsort(x, a), a),
        lambda: ops.tril(x[None] * 1), lambda: ops.where(ops.greater(x, 0.1), x, -ops.sum(x)),
        lambda: x[ops.argmax(x) % x.shape[0]],
    ]  # fmt: skip
    return pick(ways, k)()


def contracted(env, i, j, k):
    a = pick(env, i)
    if not a.ndim or not a.size:
        return a
    b = partner([b for b in env if b.ndim], a, j)
    b = b if b.shape[-1] == a.shape[-1] and b.ndim == a.ndim == 2 else a
    if a.ndim == 1:
        return calm(pick([ops.outer, ops.dot, ops.inner, lambda a, b: a @ b], k)(a, b)) if a.size < 24 else a
    y = pick([
        lambda: ops.matmul(a, ops.swapaxes(b, -1, -2)), lambda: ops.matmul(a, b[(0,) * (b.ndim - 1)]),
        lambda: ops.einsum("...ij,...kj->...ik", a, b), lambda: ops.matmul(ops.swapaxes(a, -1, -2), a),
        lambda: F.attention(a, a, a),
        lambda: ops.matmul(a, ops.reshape(ops.sum(a), (1, 1)) * np.ones((a.shape[-1], 2), a.dtype)),
    ], k)()  # fmt: skip
    return calm(y) if y.size <= LARGEST else a


SMOOTH_NAMES = (smooth, smooth, paired, paired, paired, reduced, standard, arranged, arranged, contracted)
smooth_shapes = shapes.filter(lambda pair: pair[0] != (0, 3))
smooth_programs = st.lists(
    st.tuples(st.integers(0, len(SMOOTH_NAMES) - 1), numbers, numbers, numbers), min_size=1, max_size=10
)


def descent(program, parameters, arrays, twice):
    """The value of a program, its gradients, and those of their squares if `twice`."""
    env = [*parameters, *arrays]
    for name, i, j, k in program:
        env.append(SMOOTH_NAMES[name](env, i, j, k))
    loss = sum((ops.mean(calm(x)) for x in env[-3:]), start=ops.sum(env[-1] * 0.5))
    first = gradients(loss, parameters, create_graph=twice) if type(loss) is Tensor else []
    if twice and first:
        squares = sum((ops.sum(ops.square(g)) for g in first), start=0.0)
        return loss, first, gradients(squares, parameters)
    return loss, first
