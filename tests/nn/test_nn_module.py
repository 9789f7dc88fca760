"""A module as a tree of tensors: names, copies, saving and loading."""

import gc
from typing import Any

import numpy as np
import pytest
from nn_tools import TINY_UNET, host, randomise

import scratchgen as sg
from scratchgen import nn, ops, optim
from scratchgen.autograd import Tensor
from scratchgen.random import Generator


class Tree(nn.Module):
    """Every kind of child there can be."""

    def __init__(self, seed: int = 0) -> None:
        r = Generator(seed)
        self.first = nn.Linear(2, 3, rng=r)
        self.many: list[Any] = [nn.Linear(3, 3, rng=r, bias=False), {"inner": nn.LayerNorm(3)}]
        self.pair = (nn.RMSNorm(3), sg.tensor([1.0, 2.0]))
        self.named = {"a": nn.Linear(3, 1, rng=r), "b": None}
        self.alone = sg.tensor([[1.0]])
        self.constant = np.arange(3.0)
        self.setting = "text"

    def __call__(self, x):
        y = self.many[1]["inner"](self.many[0](self.first(x)))
        return self.named["a"](self.pair[0](y)) * self.alone + self.pair[1].sum()


NAMES = ["first.w", "first.b", "many.0.w", "many.1.inner.scale", "many.1.inner.shift", "pair.0.scale", "pair.1",
         "named.a.w", "named.a.b", "alone"]  # fmt: skip
X = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)


def test_names_in_the_order_of_definition():
    tree = Tree()
    assert [name for name, _ in tree.named_parameters()] == NAMES
    assert [id(x) for x in tree.parameters()] == [id(x) for _, x in tree.named_parameters()]
    assert tree.named["a"].w is dict(tree.named_parameters())["named.a.w"]
    assert tree.size() == sum(x.size for x in tree.parameters()) == 6 + 3 + 9 + 6 + 3 + 2 + 3 + 1 + 1
    assert "34" in repr(tree)


def test_names_of_the_unet_are_unique_and_reach_every_tensor():
    net = nn.UNet(TINY_UNET, rng=Generator(0))
    names = [name for name, _ in net.named_parameters()]
    assert len(set(names)) == len(names)
    assert "down.1.attention.0.attention.query.w" in names
    x = Generator(1).standard_normal((1, 4, 4, 1))
    y = randomise(net)(x, np.array([1])).sum()
    for name, g in zip(names, sg.gradients(y, net.parameters()), strict=True):
        assert np.any(g != 0), f"{name} is not used"


def test_a_shared_tensor_counts_once_by_its_first_name():
    class Shared(nn.Module):
        def __init__(self):
            self.left = nn.Linear(2, 2, rng=Generator(0), bias=False)
            self.right = nn.Linear(2, 2, rng=Generator(1), bias=False)
            self.right.w = self.left.w
            self.again = self.left

        def __call__(self, x):
            return self.again(self.right(self.left(x)))

    shared = Shared()
    assert [name for name, _ in shared.named_parameters()] == ["left.w"]
    x = X[:, :2]
    for copied in (shared.astype(np.float64), shared.astype(np.float32)):
        assert copied.left.w is copied.right.w
        assert copied.again.w is copied.left.w
        assert copied.left.w is not shared.left.w
    w = host(shared.left.w)
    np.testing.assert_allclose(shared.frozen({"left.w": 2 * w})(x), x @ w @ w @ w * 8, rtol=1e-5)


def test_frozen_records_no_tape(xp):
    tree = Tree()
    x = xp.asarray(X)
    tracked, plain = tree(x), tree.frozen()(x)
    assert type(tracked) is Tensor
    assert type(plain) is type(x)
    assert np.array_equal(host(tracked), host(plain))
    assert not tree.frozen().parameters()
    gc.collect()
    before = sum(type(o) is Tensor for o in gc.get_objects())
    tree.frozen()(x)
    assert sum(type(o) is Tensor for o in gc.get_objects()) == before


def test_frozen_can_still_be_differentiated_by_its_input():
    tree = Tree().frozen()
    g = sg.grad(lambda x: tree(x).sum())(X)
    assert type(g) is np.ndarray
    assert np.any(g != 0)


def test_frozen_follows_training_and_cannot_be_written_to():
    tree = Tree()
    flat = optim.Flat(dict(tree.named_parameters()))
    frozen = tree.frozen()
    before = frozen(X)
    optim.SGD(flat, lr=0.1).step(np.ones_like(flat.buffer))
    after = frozen(X)
    assert not np.array_equal(before, after)
    assert np.array_equal(after, host(tree(X)))
    tree.alone.assign(np.full((1, 1), 5.0, np.float32))
    assert np.array_equal(frozen(X), host(tree(X)))
    with pytest.raises(ValueError, match="read-only"):
        frozen.first.w[...] = 0


def test_frozen_with_arrays_of_its_own(xp):
    """An average in place of the parameters, by name; the module itself is untouched."""
    tree = Tree()
    flat = optim.Flat(dict(tree.named_parameters()))
    ema = optim.EMA(flat, 0.5)
    flat.write(flat.buffer * 3)
    start = host(tree(xp.asarray(X)))
    averaged = tree.frozen(ema.arrays())
    assert np.array_equal(host(averaged(xp.asarray(X))), host(Tree()(xp.asarray(X))))
    ema.update()
    assert not np.array_equal(host(averaged(xp.asarray(X))), host(Tree()(xp.asarray(X))))
    assert np.array_equal(host(tree(xp.asarray(X))), start)
    arrays = ema.arrays()
    del arrays["named.a.b"]
    with pytest.raises(KeyError, match=r"named\.a\.b"):
        tree.frozen(arrays)


def test_astype_copies():
    tree = Tree()
    twin = tree.astype(np.float64)
    assert {x.dtype for x in twin.parameters()} == {np.dtype(np.float64)}
    assert {x.dtype for x in tree.parameters()} == {np.dtype(np.float32)}
    assert [n for n, _ in twin.named_parameters()] == NAMES
    twin.alone.assign(np.zeros((1, 1)))
    assert host(tree.alone) == 1
    same = tree.astype(np.float32)
    same.alone.assign(np.zeros((1, 1), np.float32))
    assert host(tree.alone) == 1
    np.testing.assert_allclose(host(tree.astype(np.float64)(X.astype(np.float64))), host(tree(X)), rtol=1e-5)
    with pytest.raises(TypeError, match="float64"):
        twin(X)


def test_state_dict_round_trip(xp):
    tree, other = Tree(0), Tree(1)
    state = tree.state_dict()
    assert list(state) == NAMES
    assert all(type(a) is np.ndarray for a in state.values())
    x = xp.asarray(X)
    assert not np.array_equal(host(other(x)), host(tree(x)))
    tensors = other.parameters()
    other.load_state_dict(state)
    assert all(a is b for a, b in zip(tensors, other.parameters(), strict=True))
    assert np.array_equal(host(other(x)), host(tree(x)))
    state["alone"][...] = 9  # what was saved is nobody's memory
    assert host(tree.alone) == 1
    assert host(other.alone) == 1


def test_loading_writes_into_a_flat_buffer():
    tree = Tree(1)
    flat = optim.Flat(dict(tree.named_parameters()))
    tree.load_state_dict(Tree(0).state_dict())
    expected = np.concatenate([a.ravel() for a in Tree(0).state_dict().values()])
    assert np.array_equal(flat.buffer, expected)


def spoil(state, how):
    if how == "missing":
        del state["many.0.w"]
    elif how == "unexpected":
        state["more"] = np.zeros(2, np.float32)
    elif how == "shape":
        state["alone"] = np.zeros((1,), np.float32)
    else:
        state["alone"] = state["alone"].astype(np.float64)
    return state


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", r"missing \['many\.0\.w'\]"), ("unexpected", r"unexpected \['more'\]"),
        ("shape", r"alone is \(1,\) float32, the module's is \(1, 1\) float32"), ("dtype", "alone is .* float64"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_loads_nothing(how, says):
    tree = Tree(1)
    before = tree.state_dict()
    with pytest.raises(ValueError, match=says):
        tree.load_state_dict(spoil(Tree(0).state_dict(), how))
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), tree.state_dict().values(), strict=True))


def test_loading_makes_older_results_stale():
    tree = Tree()
    y = tree(X).sum()
    tree.load_state_dict(tree.state_dict())
    with pytest.raises(RuntimeError, match="new value"):
        sg.gradients(y, tree.parameters())


def test_precision_is_that_of_the_parameters():
    layer = nn.Sequential(ops.tanh, nn.Linear(2, 3, rng=Generator(0)))
    assert layer.precision() == layer.frozen().precision() == np.float32
    assert layer.astype(np.float64).precision() == np.float64
    with pytest.raises(ValueError, match="Sequential: has no parameters"):
        nn.Sequential(ops.tanh).precision()
