"""What the tape records, what it keeps, and what it refuses: dtypes, mutation, assignment, plain arrays."""

import gc
import weakref

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import functional as F
from scratchgen import ops
from scratchgen.autograd.tensor import Node
from scratchgen.backend import get

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


# --- making tensors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("made_of", [1, 2.0, True, [1, 2], [[1.0], [2.0]], (1.0, 2.0)])
def test_numbers_and_lists_become_float32(made_of):
    assert sg.tensor(made_of).dtype == np.float32
    assert sg.tensor(made_of, dtype=sg.float64).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_keep_their_floating_type(dtype):
    assert sg.tensor(np.ones(3, dtype)).dtype == dtype
    assert sg.tensor(dtype(1.0)).dtype == dtype
    assert sg.tensor(np.ones(3, dtype), dtype="float32").dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8, np.float16, np.complex128])
def test_other_arrays_are_constants(dtype):
    with pytest.raises(TypeError, match="has no gradient"):
        sg.tensor(np.ones(3, dtype))
    if dtype is not np.complex128:
        assert sg.tensor(np.ones(3, dtype), dtype=np.float32).dtype == np.float32


def test_a_memory_map_keeps_its_type_and_computes(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert sg.tensor(mapped).dtype == np.float64
    g = sg.grad(lambda x: (x * mapped).sum())(X)
    np.testing.assert_array_equal(g, X)


def test_a_tensor_is_a_copy_and_its_views_are_read_only():
    x = X.copy()
    t = sg.tensor(x)
    x[:] = 0
    np.testing.assert_array_equal(t.numpy(), X)
    for view in (t.numpy(), t.array, sg.stop_gradient(t)):
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 9.0
    assert sg.stop_gradient(X) is X


def test_dlpack_both_ways(backend):
    t = sg.from_dlpack(X)
    assert isinstance(t, sg.Tensor)
    assert t.dtype == np.float64
    np.testing.assert_array_equal(np.from_dlpack(t), X)
    np.testing.assert_array_equal(np.from_dlpack(t.sum()), X.sum())
    with sg.backend(backend.name):
        u = sg.from_dlpack(np.from_dlpack(t))
        assert sg.from_dlpack(u).dtype == np.float64
        np.testing.assert_array_equal(np.from_dlpack(u * 2), 2 * X)
    assert t.__dlpack_device__() == (1, 0)


# --- precision ----------------------------------------------------------------------------------------------


def test_python_numbers_take_the_type_of_the_array():
    for dtype in (np.float32, np.float64):
        t = sg.tensor(X.astype(dtype))
        for y in (
            t + 1,
            2.0 * t,
            t**2,
            t**0.5,
            1 / t,
            ops.maximum(t, 0.5),
            ops.where(X > 2, t, 0.0),
            ops.clip(t, 0, 1),
        ):
            assert y.dtype == dtype


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t + np.ones(3),
        lambda t: np.float64(2.0) * t,
        lambda t: t + np.arange(3),
        lambda t: t * np.int64(2),
        lambda t: ops.concatenate([t[0], np.ones(2)]),
        lambda t: ops.matmul(t, np.ones((3, 1))),
        lambda t: ops.where(np.ones(3, bool), t, np.ones(3)),
        lambda t: ops.maximum(t, np.zeros(3)),
        lambda t: ops.add(np.ones(3, np.float32), np.ones(3)),
        lambda t: ops.exp(np.arange(3)),
        lambda t: ops.mean(np.arange(3)),
        lambda t: ops.divide(np.arange(3), 2),
        lambda t: F.softmax(np.arange(3)),
        lambda t: sg.gradients(t.sum(), [t], g=np.float64(1.0)),
        lambda t: ops.einsum("ij,j->i", t, np.ones(3)),
        lambda t: ops.conv2d(t.reshape(1, 2, 3, 1), np.ones((1, 1, 1, 1))),
    ],
)
def test_float64_never_comes_unasked(call):
    with pytest.raises(TypeError, match=r"float64"):
        call(sg.tensor(X.astype(np.float32)))


def test_precision_changes_when_asked():
    t = sg.tensor(X.astype(np.float32))
    y = ops.astype(t, np.float64)
    assert y.dtype == np.float64
    (g,) = sg.gradients((y * X).sum(), [t])
    assert g.dtype == np.float32
    np.testing.assert_array_equal(g, X)
    assert ops.astype(np.arange(3), np.float32).dtype == np.float32
    assert (ops.astype(np.arange(3), np.float32) * sg.tensor([1.0, 2.0, 3.0])).dtype == np.float32
    assert (np.array([True, False, True]) * t).dtype == np.float32


# --- plain arrays are constants -----------------------------------------------------------------------------


def test_operations_on_plain_arrays_record_nothing(monkeypatch):
    made = []
    monkeypatch.setattr(Node, "__init__", lambda self, *a, **k: made.append(self))
    x = X.astype(np.float32)
    results = [
        x + x,
        ops.exp(x),
        ops.matmul(x, x.T),
        ops.sum(x, axis=0),
        F.softmax(x),
        F.layer_norm(x),
        ops.concatenate([x, x]),
        ops.conv2d(x.reshape(1, 2, 3, 1), np.ones((2, 2, 1, 1), np.float32)),
        ops.getitem(x, 0),
        ops.prod(x),
        ops.var(x),
        ops.einsum("ij,kj->ik", x, x),
        F.attention(x, x, x),
        ops.max(x),
        ops.linalg.norm(x),
        ops.sort(x),
        ops.pad(x, 1),
    ]
    assert all(isinstance(r, (np.ndarray, np.float32)) and r.dtype == np.float32 for r in results)
    assert made == []
    sg.tensor  # noqa: B018
    monkeypatch.undo()
    assert isinstance(ops.exp(sg.tensor(x)), sg.Tensor)


def test_only_what_gradients_need_is_kept():
    """A sum keeps none of its operands alive, a product both."""

    def freed(f):
        t = sg.tensor(np.ones(1000))
        hidden = t * 2.0
        marker = weakref.ref(hidden.value)
        y = f(hidden)
        del hidden
        gc.collect()
        return marker() is None and y is not None

    assert freed(lambda x: x + 1.0)
    assert freed(lambda x: -x)
    assert freed(lambda x: ops.sum(x))
    assert freed(lambda x: ops.exp(x))  # keeps its output
    assert not freed(lambda x: x * x)
    assert not freed(lambda x: ops.log(x))


def test_a_tensor_cannot_be_a_setting():
    t, n = sg.tensor(X), sg.tensor(2.0)
    for call in (lambda: ops.pad(t, 1, "constant", n), lambda: ops.sum(t, n), lambda: ops.sum(X, n)):
        with pytest.raises(TypeError, match="given for a setting would lose its gradient"):
            call()


# --- mutation -----------------------------------------------------------------------------------------------

MUTATED = {
    "product": lambda t, c: t * c,
    "matmul": lambda t, c: ops.matmul(t, c.T),
    "where": lambda t, c: ops.where(c > 1.0, t, t * 2.0),
    "maximum": lambda t, c: ops.maximum(t * t, c),
    "power": lambda t, c: t**c,
    "einsum": lambda t, c: ops.einsum("ij,ij->i", t, c),
    "a view": lambda t, c: t * c[::-1, ::-1],
    "a broadcast view": lambda t, c: t * np.broadcast_to(c[0], (2, 3)),
    "a read-only view": lambda t, c: t * get("numpy").read_only(c),
    "reshaped": lambda t, c: t * ops.reshape(c, (2, 3)),
}


@pytest.mark.parametrize("name", MUTATED)
def test_changing_an_array_after_it_was_used_changes_no_gradient(name):
    f, c = MUTATED[name], X / 2
    t = sg.tensor(X)
    y = f(t, c)
    (wanted,) = sg.gradients(y.sum(), [t])
    z = f(t, c)
    c[...] = -100.0
    (got,) = sg.gradients(z.sum(), [t])
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("places", "use"),
    [
        (np.array([1, 0, 1]), lambda t, i: t[i]),
        (np.array([1, 0, 1]), lambda t, i: t[:, i]),
        (np.array([1, 0, 1]), lambda t, i: ops.take(t, i, axis=1)),
        (np.array([1, 0, 1]), lambda t, i: F.embedding(t, i)),
        (np.array([[1, 0, 1]]), lambda t, i: ops.take_along_axis(t, i, 0)),
        (np.array([1, 0]), lambda t, i: F.cross_entropy(t, i)),
        (np.array([1, 0]), lambda t, i: ops.scatter_add(t, i, (4, 3))),
        (np.array([True, False]), lambda t, i: t[i]),
    ],
)
def test_changing_an_index_after_it_was_used_changes_no_gradient(places, use):
    t, places = sg.tensor(X), places.copy()
    weight = np.arange(1.0, 1.0 + np.prod(use(X, places).shape)).reshape(use(X, places).shape)
    (wanted,) = sg.gradients((use(t, places) * weight).sum(), [t])
    y = (use(t, places) * weight).sum()
    places[...] = ~places if places.dtype == bool else 0
    (got,) = sg.gradients(y, [t])
    np.testing.assert_array_equal(got, wanted)


def test_changing_a_mask_after_it_was_used_changes_no_gradient():
    t, mask = sg.tensor(X), X > 3
    (wanted,) = sg.gradients((ops.where(mask, t, 0.0) * X).sum(), [t])
    y = (ops.where(mask, t, 0.0) * X).sum()
    mask[...] = True
    np.testing.assert_array_equal(sg.gradients(y, [t])[0], wanted)


# --- assignment ---------------------------------------------------------------------------------------------


def test_assign_gives_a_leaf_a_new_value_and_old_graphs_raise():
    w, x = sg.tensor([2.0]), sg.tensor([3.0])
    y = (w * x).sum()
    w.assign(np.array([5.0], np.float32))
    for wanted in ([w], [x], [w, x], [x, w]):
        with pytest.raises(RuntimeError, match="given a new value"):
            sg.gradients(y, wanted)
    fresh = (w * x).sum()
    assert [float(g[0]) for g in sg.gradients(fresh, [w, x])] == [3.0, 5.0]


def test_old_graphs_raise_also_where_the_leaf_is_far_away_or_younger_things_are_asked_for():
    w = sg.tensor([2.0])
    hidden = ops.exp(w * 1.0)
    x = sg.tensor([3.0])
    y = (hidden * x).sum()
    direct = (ops.exp(w) * x).sum()
    w.assign(np.array([1.0], np.float32))
    for value in (y, direct):
        with pytest.raises(RuntimeError, match="given a new value"):
            sg.gradients(value, [w])
    later = sg.tensor([1.0])
    assert sg.gradients((later * 2).sum(), [w, later])[1] == 2.0


def test_assign_refuses_what_does_not_fit():
    w = sg.tensor([2.0, 3.0])
    with pytest.raises(ValueError, match="does not fit"):
        w.assign(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="does not fit"):
        w.assign(np.ones(2))
    with pytest.raises(ValueError, match="only a leaf"):
        (w * 2).assign(np.ones(2, np.float32))


# --- mixing -------------------------------------------------------------------------------------------------


def test_backends_do_not_mix():
    ours, theirs = sg.tensor(X), get("strict").asarray(X)
    with sg.backend("strict"):
        tracked = sg.tensor(X)
    calls = [
        lambda: ours + tracked,
        lambda: tracked * ours,
        lambda: ops.add(ours, theirs),
        lambda: ops.add(theirs, X),
        lambda: ops.concatenate([ours, tracked]),
        lambda: ops.where(X > 0, tracked, 0.0),
        lambda: ops.maximum(theirs, ours),
        lambda: ours[theirs > 0],
        lambda: tracked[np.array([0, 1])],
        lambda: F.embedding(tracked, np.array([0])),
        lambda: ops.exp(ours) @ tracked.T,
        lambda: ops.take_along_axis(tracked, np.array([[0]]), 0),
        lambda: ops.equal(ours, tracked),
        lambda: np.float64(2.0) * tracked,
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"numpy.*strict|strict.*numpy"):
            call()


def test_a_tensor_moves_between_backends_by_being_made_again():
    t = sg.tensor(X)
    with sg.backend("strict") as strict:
        u = sg.tensor(t)
        assert type(u.value) is type(strict.asarray(0.0))
    np.testing.assert_array_equal(u.numpy(), X)
    assert type(sg.tensor(u).value) is np.ndarray
