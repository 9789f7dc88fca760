"""The checks that every row of the registry goes through.  Each raises AssertionError with the numbers."""

import numpy as np

import scratchgen as sg
from scratchgen.autograd.tensor import Tensor, value_of
from scratchgen.backend import active, backend_of, get

COMPLEX_STEP = 1e-20
STEP = 1e-5


def host(y):
    """A result as NumPy arrays in a tuple, whatever it is made of."""
    if isinstance(y, (tuple, list)):
        return tuple(a for part in y for a in host(part))
    y = value_of(y)
    return (np.asarray(backend_of(y).to_numpy(y)),)


def is_float(a):
    return a.dtype.kind == "f"


def placed(args, xp, dtype=None, tensors=True):
    """Arguments on a backend: floats as tensors, integers and booleans as plain arrays."""
    out = []
    for a in args:
        array = xp.asarray(a.astype(dtype) if dtype is not None and is_float(a) else a.copy())
        out.append(Tensor(array) if tensors and is_float(a) else array)
    return out


def assert_close(actual, wanted, tolerance, what):
    """|actual − wanted| ≤ tolerance·(1 + |wanted|) everywhere; nan is never close to anything."""
    actual, wanted = np.asarray(actual), np.asarray(wanted)
    assert actual.shape == wanted.shape, f"{what}: shape {actual.shape}, wanted {wanted.shape}"
    good = actual == wanted  # infinities, integers, booleans
    if wanted.dtype.kind in "fc":
        with np.errstate(invalid="ignore"):
            near = np.abs(actual - wanted) <= tolerance * (1 + np.abs(wanted))
        good = good | (near & np.isfinite(actual) & np.isfinite(wanted))
    if not np.all(good):
        worst = np.argwhere(~np.atleast_1d(good))[0]
        a, w = np.atleast_1d(actual)[tuple(worst)], np.atleast_1d(wanted)[tuple(worst)]
        raise AssertionError(f"{what}: {a!r} at {worst}, wanted {w!r} within {tolerance}")


def weights(outputs, seed):
    """Random g for every output of floats, None for the others."""
    rng = np.random.default_rng([seed, 77])
    return [rng.standard_normal(y.shape) if y.dtype.kind in "fc" else None for y in outputs]


def parts(y):
    if isinstance(y, (tuple, list)):
        return [p for part in y for p in parts(part)]
    return [y]


def pairing(function, gs, xp):
    """x ↦ Σ ⟨g, f(x)⟩ over f's outputs: a scalar whose derivative sees every entry of the Jacobian."""

    def scalar(*args):
        total = 0.0
        for y, g in zip(parts(function(*args)), gs, strict=True):
            if g is not None:
                total = total + (xp.asarray(g) * y).sum()
        return total

    return scalar


def directions(args, seed):
    rng = np.random.default_rng([seed, 99])
    return [rng.standard_normal(a.shape) if is_float(a) else None for a in args]


# --- the checks ---------------------------------------------------------------------------------------------


def forward(row, function, args, settings, xp):
    """Equals the reference in value, shape and dtype, for tensors and plain arrays; leaves its inputs alone."""
    wanted = host(row.reference(*args, **settings))
    for tensors in (False, True):
        placed_args = placed(args, xp, tensors=tensors)
        before = [host(a)[0].copy() for a in placed_args]
        y = function(*placed_args, **settings)
        got = host(y)
        assert len(got) == len(wanted), f"{len(got)} outputs, wanted {len(wanted)}"
        for a, w in zip(got, wanted, strict=True):
            assert a.dtype == w.dtype, f"dtype {a.dtype}, wanted {w.dtype}"
            assert_close(a, w, row.tolerance, "forward")
        for a, b in zip(placed_args, before, strict=True):
            assert np.array_equal(host(a)[0], b), "an input was written to"
        tracked = any(isinstance(a, Tensor) for a in placed_args) and not row.constant
        for part in parts(y):
            assert isinstance(part, Tensor) == tracked, f"gave a {type(part).__name__}"
            home = backend_of(value_of(part))
            assert home is xp or (row.constant and home is active()), "moved to another backend"


def numeric(scalar, args, i, v, analytic):
    """d/dt of a scalar function along v in argument i: complex step, or central differences."""

    def at(x):
        return scalar(*[x if j == i else a for j, a in enumerate(args)])

    if analytic:
        return np.imag(at(args[i] + 1j * COMPLEX_STEP * v)) / COMPLEX_STEP
    return (at(args[i] + STEP * v) - at(args[i] - STEP * v)) / (2 * STEP)


def first_order(row, function, args, settings, xp):
    """⟨g, Jv⟩ = ⟨Jᵀg, v⟩ for every float argument, g and v random."""
    numpy = get("numpy")
    gs = weights(host(function(*placed(args, numpy, tensors=False), **settings)), 1)
    vs = directions(args, 2)
    tensors = placed(args, xp)
    y = pairing(lambda *a: function(*a, **settings), gs, xp)(*tensors)
    scalar = pairing(lambda *a: function(*a, **settings), gs, numpy)
    floats = [i for i, a in enumerate(args) if is_float(a)]
    found = sg.gradients(y, [tensors[i] for i in floats])
    for i, g in zip(floats, found, strict=True):
        assert g.shape == args[i].shape, f"argument {i}: gradient of shape {g.shape}"
        assert g.dtype == np.float64, f"argument {i}: gradient of {g.dtype}"
        wanted = numeric(scalar, args, i, vs[i], row.analytic)
        got = np.sum(host(g)[0] * vs[i])
        assert_close(got, wanted, 1e-8 if row.analytic else 1e-6, f"argument {i}: first order")


def second_order(row, function, args, settings, xp):
    """The same of M = Σ_i ⟨Jᵀ_i g, v_i⟩: its gradient against central differences of itself."""
    numpy = get("numpy")
    gs = weights(host(function(*placed(args, numpy, tensors=False), **settings)), 3)
    vs, ws = directions(args, 4), directions(args, 5)
    floats = [i for i, a in enumerate(args) if is_float(a)]

    def first(where, arrays, create_graph):
        tensors = placed(arrays, where)
        y = pairing(lambda *a: function(*a, **settings), gs, where)(*tensors)
        found = sg.gradients(y, [tensors[i] for i in floats], create_graph=create_graph)
        return tensors, sum((where.asarray(vs[i]) * g).sum() for i, g in zip(floats, found, strict=True))

    tensors, m = first(xp, args, True)
    found = sg.gradients(m, [tensors[i] for i in floats])
    for i, g in zip(floats, found, strict=True):
        wanted = numeric(lambda *a: first(numpy, a, False)[1], args, i, ws[i], False)
        assert_close(np.sum(host(g)[0] * ws[i]), wanted, 1e-5, f"argument {i}: second order")


def single_precision(row, function, args, settings, xp):
    """float32 in, float32 out, forward and gradient, close to float64."""
    if settings.get("dtype") == "float64":
        settings = {**settings, "dtype": "float32"}
    numpy = get("numpy")
    results = []
    for where, dtype in ((numpy, np.float64), (xp, np.float32)):
        tensors = placed(args, where, dtype)
        y = function(*tensors, **settings)
        gs = weights(host(y), 6)
        total = 0.0
        for part, g in zip(parts(y), gs, strict=True):
            if g is not None and isinstance(part, Tensor):
                assert part.dtype == dtype or "dtype" in settings, f"{np.dtype(dtype)} in, {part.dtype} out"
                total = total + (where.asarray(g.astype(str(part.dtype))) * part).sum()
        floats = [t for t in tensors if isinstance(t, Tensor)]
        found = sg.gradients(total, floats)
        for g in found:
            assert g.dtype == dtype, f"gradient of {g.dtype} for {np.dtype(dtype)}"
        results.append([*host(y), *(host(g)[0] for g in found)])
    for exact, rough in zip(*results, strict=True):
        assert_close(rough, exact, row.compare32, "float32")


def layouts(row, function, args, settings, xp):
    """Strided, reversed and Fortran-ordered arguments mean the same numbers."""

    def result(arrays):
        tensors = placed_as_they_are(arrays, xp)
        y = function(*tensors, **settings)
        if row.constant:
            return host(y)
        total = pairing(lambda: y, weights(host(y), 7), xp)()
        floats = [t for t in tensors if isinstance(t, Tensor)]
        return [*host(y), *(host(g)[0] for g in sg.gradients(total, floats))]

    wanted = result(args)
    for view in (strided, backwards, np.asfortranarray):
        for got, want in zip(result([view(a) if a.ndim else a for a in args]), wanted, strict=True):
            assert_close(got, want, max(row.tolerance, 1e-11), view.__name__)


def placed_as_they_are(arrays, xp):
    """Without the copy that would straighten a view."""
    from scratchgen.strict import StrictArray

    place = {"strict": StrictArray, "numpy": lambda a: a}.get(xp.name, xp.asarray)
    raw = [place(a) for a in arrays]
    return [Tensor(r) if is_float(a) else r for r, a in zip(raw, arrays, strict=True)]


def strided(a):
    wide = np.repeat(a, 2, axis=-1)
    return wide[..., ::2]


def backwards(a):
    return a[::-1].copy()[::-1]


def twice(row, function, args, settings, xp):
    """The gradient of x ↦ f(x, x) is the sum of both arguments' gradients."""
    x = args[0]
    gs = weights(host(function(*placed([x, x], xp, tensors=False), **settings)), 8)
    both = placed([x, x], xp)
    y = pairing(lambda *a: function(*a, **settings), gs, xp)(*both)
    wanted = sum(host(g)[0] for g in sg.gradients(y, both))
    (t,) = placed([x], xp)
    (got,) = sg.gradients(pairing(lambda a: function(a, a, **settings), gs, xp)(t), [t])
    assert_close(host(got)[0], wanted, 1e-12, "f(x, x)")


def numbers(row, function, args, settings, xp):
    """A Python number in place of an array: it takes the array's dtype, and no detour through another one."""
    for i in (0, 1):
        number = float(np.ravel(args[i])[0])
        results = []
        for operand in (number, xp.asarray(np.float64(number))):
            (t,) = placed([args[1 - i]], xp)
            y = function(*((operand, t) if i == 0 else (t, operand)), **settings)
            gs = weights(host(y), 9)
            (g,) = sg.gradients(pairing(lambda y=y: y, gs, xp)(), [t], create_graph=True)
            (second,) = sg.gradients((g * g).sum(), [t])
            results.append([host(y)[0], host(g)[0], host(second)[0]])
        for got, wanted in zip(*results, strict=True):
            assert got.dtype == wanted.dtype
            assert_close(got, wanted, 1e-14, f"Python number as argument {i}")


def far_out(row, function, args, settings, xp, dtype=np.float64):
    """At ±700 nothing overflows on the way: value, gradient and second derivative are finite."""
    x = np.array([-700.0, -30.0, 0.5, 30.0, 700.0])
    grids = [x] if len(args) == 1 else [np.repeat(x, 5), np.tile(x, 5)]
    if row.name.endswith("cross_entropy"):
        grids[1] = np.full(25, 0.3)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        tensors = placed(grids, xp, dtype)
        y = function(*tensors, **settings)
        found = sg.gradients(y.sum(), tensors, create_graph=True)
        second = sg.gradients(sum(g.sum() for g in found), tensors)
    for a in (y, *found, *second):
        assert np.isfinite(host(a)[0]).all(), f"{host(a)[0]} at {grids}"
