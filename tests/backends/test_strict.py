"""The strict backend refuses what CuPy refuses: one test per item."""

import operator

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import ops
from scratchgen.backend import get
from scratchgen.strict import StrictArray

strict = get("strict")
HOST = np.arange(1.0, 5.0)


@pytest.fixture
def x():
    return strict.asarray(HOST)


def test_a_reduction_gives_an_array_of_no_dimensions(x):
    for y in (
        x.sum(),
        strict.sum(x),
        x.max(),
        x[0],
        strict.linalg.norm(x),
        x @ x,
        x.mean(),
        strict.dot(x, x),
    ):
        assert type(y) is StrictArray
        assert y.shape == ()
    assert float(x.sum()) == 10.0
    assert int(x.max()) == 4
    assert bool(x[0] > 0)
    assert x.sum().item() == 10.0


def test_no_implicit_conversion(x):
    for convert in (
        np.asarray,
        np.array,
        list_of_rows,
        lambda x: np.stack([x, x]),
        lambda x: HOST.__setitem__(slice(None), x),
    ):
        with pytest.raises(TypeError, match=r"device array|implicit conversion"):
            convert(x)


def list_of_rows(x):
    return np.array([x, x])


def test_numpys_functions_do_not_take_device_arrays(x):
    for call in (
        np.sum,
        np.exp,
        np.sqrt,
        np.mean,
        np.concatenate,
        lambda x: np.add(x, x),
        lambda x: np.add.reduce(x),
    ):
        with pytest.raises(TypeError, match="device array"):
            call(x)


@pytest.mark.parametrize(
    "operation",
    [operator.add, operator.mul, operator.sub, operator.truediv, operator.pow, operator.lt, operator.eq],
)
def test_no_lists_and_no_host_arrays_as_operands(x, operation):
    for other in ([1.0, 2.0, 3.0, 4.0], HOST, (1.0, 2.0, 3.0, 4.0)):
        for a, b in ((x, other), (other, x)):
            with pytest.raises(TypeError):
                operation(a, b)


def test_functions_take_no_lists_and_no_host_arrays(x):
    for call in (
        lambda: strict.exp([1.0]),
        lambda: strict.exp(HOST),
        lambda: strict.add(x, HOST),
        lambda: strict.sum([1.0]),
        lambda: strict.sum(HOST),
        lambda: strict.concatenate([x, HOST]),
        lambda: strict.concatenate([x, [1.0]]),
        lambda: strict.where(x > 1, x, HOST),
        lambda: strict.where(HOST > 1, x, x),
        lambda: strict.matmul(x, HOST),
        lambda: strict.einsum("i,i->", x, HOST),
        lambda: strict.linalg.norm(HOST),
        lambda: strict.maximum(x, [0.0]),
        lambda: x.fill(HOST),
        lambda: x.__iadd__(HOST),
        lambda: x.__setitem__(0, HOST),
        lambda: x.__setitem__(0, [1.0]),
    ):
        with pytest.raises(TypeError):
            call()


def test_numbers_are_operands_from_both_sides(x):
    for number in (2, 2.0, np.float64(2.0), np.float32(2.0), np.int64(2)):
        for y, wanted in (
            (x * number, HOST * 2),
            (number * x, HOST * 2),
            (number / x, 2 / HOST),
            (number - x, 2 - HOST),
        ):
            assert type(y) is StrictArray
            np.testing.assert_array_equal(strict.to_numpy(y), wanted)
    np.testing.assert_array_equal(strict.to_numpy(x < np.float64(2.0)), HOST < 2)


def test_an_index_is_no_list_and_no_host_array(x):
    for index in ([0, 1], np.array([0, 1]), ([0],), HOST > 2):
        with pytest.raises(TypeError, match="no index on a device"):
            x[index]
        with pytest.raises(TypeError, match="no index on a device"):
            x[index] = 0.0
    assert strict.to_numpy(x[strict.asarray([0, 1])]).tolist() == [1.0, 2.0]
    assert strict.to_numpy(x[x > 2]).tolist() == [3.0, 4.0]


def test_an_index_out_of_range_raises_where_a_device_would_wrap(x):
    with pytest.raises(IndexError):
        x[strict.asarray([7])]


def test_a_device_array_is_no_index_for_host_code(x):
    with pytest.raises(TypeError, match="no index for host code"):
        range(strict.asarray(3))
    with pytest.raises(TypeError, match="no index for host code"):
        [1, 2][strict.asarray(1)]


def test_writing_twice_to_one_place(x):
    with pytest.raises(TypeError, match="writing twice"):
        x[strict.asarray([0, 0])] = 1.0
    square = strict.zeros((3, 3))
    with pytest.raises(TypeError, match="writing twice"):
        square[strict.asarray([0, 1, 0]), strict.asarray([2, 2, 2])] = 1.0
    square[strict.asarray([0, 1, 0]), strict.asarray([0, 1, 2])] = 1.0
    assert float(square.sum()) == 3.0
    y = strict.zeros((4,))
    strict.add.at(y, strict.asarray([0, 0, 1]), strict.asarray([1.0, 2.0, 3.0]))
    assert strict.to_numpy(y).tolist() == [3.0, 3.0, 0.0, 0.0]


def test_at_and_accumulate_exist_for_add_only():
    assert callable(strict.add.at)
    for missing in (
        lambda: strict.maximum.at,
        lambda: strict.multiply.accumulate,
        lambda: strict.logaddexp.reduce,
    ):
        with pytest.raises(AttributeError):
            missing()


def test_no_memory_order_to_rely_on(x):
    for name in ("flags", "strides", "data", "ctypes", "base", "setflags"):
        with pytest.raises(AttributeError):
            getattr(x, name)


def test_no_random_numbers_of_its_own():
    with pytest.raises(AttributeError, match="has no function 'random'"):
        strict.random  # noqa: B018


@pytest.mark.parametrize(
    "name", ["vectorize", "apply_along_axis", "frompyfunc", "piecewise", "save", "loadtxt", "testing"]
)
def test_no_function_that_cupy_lacks(name):
    with pytest.raises(AttributeError, match="is it one that CuPy has"):
        getattr(strict, name)


def test_in_place_arithmetic_writes_to_the_same_memory(x):
    y = x
    y += 1.0
    y *= strict.asarray(2.0)
    y -= 1
    y /= 2
    np.testing.assert_allclose(strict.to_numpy(x), HOST + 0.5)
    x[1:3] += 1.0
    np.testing.assert_allclose(strict.to_numpy(x), HOST + np.array([0.5, 1.5, 1.5, 0.5]))
    strict.copyto(x, y * 0)
    x.fill(3.0)
    assert strict.to_numpy(x).tolist() == [3.0] * 4


def test_the_way_out_is_a_copy(x):
    out = strict.to_numpy(x)
    out[0] = 100.0
    assert float(x[0]) == 1.0
    inside = strict.asarray(HOST)
    inside[0] = 50.0
    assert HOST[0] == 1.0


def test_methods_and_functions_compute_as_numpy(x):
    cube = np.arange(24.0).reshape(2, 3, 4)
    c = strict.asarray(cube)
    for call in (
        lambda a: a.reshape(3, 8),
        lambda a: a.transpose(2, 0, 1),
        lambda a: a.T,
        lambda a: a.sum(axis=(0, 2)),
        lambda a: -a,
        lambda a: abs(a - 5),
        lambda a: a.max(axis=1, keepdims=True),
        lambda a: a[:, 1:, ::-1],
        lambda a: a.astype(np.float32),
        lambda a: a.ravel(),
        lambda a: a.cumsum(axis=1),
        lambda a: ~(a > 3) & (a < 9) | (a == 20),
        lambda a: a.swapaxes(0, 1),
        lambda a: a // 2 + a % 3,
        lambda a: a.argmax(axis=2),
        lambda a: (a > 2).any(axis=0),
        lambda a: (a > 2).all(axis=0),
        lambda a: a @ a.transpose(0, 2, 1),
        lambda a: a[..., None],
        lambda a: a.copy(),
        lambda a: a.view(),
        lambda a: 2**a,
    ):
        got = call(c)
        assert type(got) is StrictArray
        np.testing.assert_array_equal(strict.to_numpy(got), call(cube))
        assert got.dtype == call(cube).dtype
    assert (len(c), c.ndim, c.size, c.nbytes) == (2, 3, 24, 192)
    assert [type(row) for row in c] == [StrictArray] * 2
    assert repr(strict.asarray([1.0])) == "strictarray([1.])"
    with pytest.raises(TypeError, match="unhashable"):
        hash(c)


def test_functions_that_return_several_arrays():
    a = strict.asarray(np.diag([2.0, 3.0]))
    sign, log = strict.linalg.slogdet(a)
    assert type(sign) is type(log) is StrictArray
    assert all(type(part) is StrictArray for part in strict.linalg.eigh(a))
    assert all(type(part) is StrictArray for part in strict.nonzero(a))


def test_the_out_argument():
    y = strict.zeros((4,))
    assert strict.multiply(strict.asarray(HOST), 2.0, out=y) is y
    assert strict.to_numpy(y).tolist() == [2.0, 4.0, 6.0, 8.0]


def test_operations_take_lists_nowhere_but_as_indices():
    with sg.backend("strict"):
        t = sg.tensor([1.0, 2.0, 3.0])
        assert (t[[0, 2]] * 1.0).numpy().tolist() == [1.0, 3.0]
        for call in (
            lambda: t * [1.0, 1.0, 1.0],
            lambda: ops.exp([1.0]),
            lambda: ops.concatenate([t, [1.0]]),
            lambda: t @ HOST[:3],
        ):
            with pytest.raises(TypeError):
                call()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: strict.sum(x, where=x > 1),
        lambda x: strict.exp(x, where=x > 1),
        lambda x: strict.add(x, 1.0, order="C"),
        lambda x: strict.max(x, initial=0.0),
        lambda x: strict.var(x, correction=1),
        lambda x: strict.zeros(3, device="cpu"),
        lambda x: strict.linalg.pinv(x[None], hermitian=True),
        lambda x: strict.einsum("i,i->", x, x, out=x[0]),
    ],
)
def test_arguments_that_cupys_functions_do_not_take(x, call):
    with pytest.raises(TypeError, match="CuPy's takes no"):
        call(x)


def test_functions_with_cupys_own_ways(x):
    with pytest.raises(ValueError, match="CuPy broadcasts none"):
        strict.linalg.solve(strict.eye(2), strict.ones((3, 2, 1)))
    assert strict.linalg.solve(strict.eye(4), x).shape == (4,)
    with pytest.raises(ValueError, match="kind is 'stable'"):
        strict.argsort(x, kind="quicksort")
    with pytest.raises(NotImplementedError, match="takes no float32"):
        strict.searchsorted(x, np.float32(2.0))
    assert int(strict.searchsorted(x, 2.5)) == 2
    assert type(strict.allclose(x, x)) is type(strict.array_equal(x, x)) is StrictArray
    with pytest.raises(TypeError, match="adds no int64"):
        strict.add.at(strict.zeros(3, "int64"), strict.asarray([0]), 1)
