"""Tensors, and the tape they leave behind.

    y = f(x₁, …, x_n)        forward:   compute y, remember who made it and of what
    x̄_i = Jᵢᵀ ȳ              backward:  every maker hands its gradient on to its makers

One rule decides what is recorded: **a Tensor is tracked, a plain array is a constant.**  An operation that
meets a Tensor returns a Tensor and leaves a node; one that meets only arrays computes and leaves nothing.
So a gradient that nobody will differentiate again runs on plain arrays at full speed, and one that somebody
will runs through the same lines on tensors and can be differentiated to any order.

`primitive` makes the operations, `backward` walks the tape.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen import tracing
from scratchgen.backend import Array, active, backend_of, float32, float64, get

if TYPE_CHECKING:
    from scratchgen.autograd.primitive import Plan

_next_order = count().__next__
FLOATS = (float32, float64)


class Spec:
    """What the tape keeps of an array whose values no gradient needs: its shape and type."""

    __slots__ = ("dtype", "shape")

    def __init__(self, array: Array) -> None:
        self.shape = array.shape
        self.dtype = array.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Node(Spec):
    """One step of the tape: how it was made (`plan`), from which nodes, and what its gradient needs to know.

    A leaf has no plan.  Nodes point to their makers and never forward, so there are no cycles: when the last
    tensor of a computation goes, its tape goes with it.  A node can stand for its array as a `Spec`.
    """

    __slots__ = ("inputs", "options", "order", "output", "parents", "plan")

    def __init__(
        self, value: Array, plan: Plan | None = None, parents: Sequence[Node] = (), inputs: Any = (),
        output: Any = None, options: Any = None,
    ) -> None:  # fmt: skip
        self.shape = value.shape
        self.dtype = value.dtype
        self.plan = plan
        self.parents = parents
        self.inputs = inputs
        self.output = output
        self.options = options
        self.order = _next_order()

    def on_tape(self) -> tuple[list[Any], Any]:
        """Inputs and output as tensors with their history, so that the rules leave a tape of their own."""
        assert self.plan is not None
        inputs = list(self.inputs)
        for i, parent in zip(self.plan.tracked, self.parents, strict=True):
            if not isinstance(inputs[i], Spec):
                inputs[i] = Tensor(inputs[i], parent)
        return inputs, self if self.output is None else Tensor(self.output, self)


# What a leaf's `output` may say, having none:
STALE = object()  # it was written to
CONSTANT = object()  # nobody can ask for its gradient any more: a transform made it, and is done with it


class Tensor:
    """An array whose history is remembered.  Tensors are never written to.

        >>> a = tensor([3.0])
        >>> gradients((a * a + a).sum(), [a])
        [array([7.], dtype=float32)]

    The operators, and methods such as `sum` and `reshape`, are those of `scratchgen.ops`.
    """

    __slots__ = ("__weakref__", "node", "value")
    __array_ufunc__ = None  # array ∘ tensor is answered by the tensor's reflected operator
    __array_priority__ = 1000.0

    def __init__(self, value: Array, node: Node | None = None) -> None:
        self.value = value
        self.node = Node(value) if node is None else node

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)
    size = property(lambda self: self.value.size)

    @property
    def array(self) -> Array:
        """The values as a plain array on their own backend, a constant to every operation; read only."""
        value = value_of(self)
        return backend_of(value).read_only(value)

    def numpy(self) -> np.ndarray:
        """The values in host memory, read only."""
        xp = backend_of(self.value)
        return np.asarray(xp.to_numpy(xp.read_only(self.value)))

    def assign(self, value: Array) -> None:
        """Give a leaf a new value, in its own memory.

        What was computed from the old one can no longer be differentiated: `gradients` raises RuntimeError.
        Raises ValueError if shape or dtype change, or if the tensor is not a leaf.
        """
        if self.node.plan is not None:
            raise ValueError("assign: only a leaf can be given a new value, not the result of an operation")
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(f"assign: {value.shape} {value.dtype} does not fit a tensor of {self.shape} {self.dtype}")
        self.value[...] = value
        self.touched()

    def touched(self) -> None:
        """Say that a leaf's memory was written to (an optimiser's step): it is a new leaf from here on."""
        self.node.output = STALE
        self.node = Node(self.value)

    def item(self) -> float:
        return self.value.item()

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of no dimensions has no length")
        return self.shape[0]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("a tensor turned into an array loses its gradient: say t.numpy(), or t.array")

    def __dlpack__(self, **kwargs: Any) -> Any:
        return backend_of(self.value).asarray(self.value).copy().__dlpack__(**kwargs)  # theirs to write to

    def __dlpack_device__(self) -> Any:
        return backend_of(self.value).asarray(self.value).__dlpack_device__()

    def __repr__(self) -> str:
        body = np.array2string(self.numpy(), separator=", ", prefix="tensor(")
        return f"tensor({body}, {self.dtype})"

    __hash__ = object.__hash__


def value_of(x: Any) -> Any:
    """The plain array behind a tensor; anything else as it is."""
    if tracing.recorder is not None and (here := tracing.listener()) is not None:
        (x,) = here.lift((x,))
    return x.value if type(x) is Tensor else x


def tensor(x: Any, dtype: Any = None) -> Tensor:
    """A new leaf on the active backend, holding a copy of x.

    Numbers and lists become float32 unless `dtype` says float64; arrays keep their floating type.
    Raises TypeError for arrays of integers: those are constants, and stay plain arrays.
    """
    xp, x = active(), value_of(x)
    if type(x) in (bool, int, float, list, tuple):
        x = np.asarray(x, dtype=dtype or float32)
    owner = backend_of(x, operation="tensor")
    value = xp.asarray(x if owner is xp else owner.to_numpy(x)).astype(dtype or x.dtype, copy=True)
    if value.dtype not in FLOATS:
        raise TypeError(f"tensor: {value.dtype} has no gradient; pass dtype=float32, or keep the array")
    return Tensor(value)


def from_dlpack(x: Any) -> Tensor:
    """A tensor holding a copy of any array that speaks DLPack (PyTorch's, JAX's, CuPy's, NumPy's)."""
    on_host = x.__dlpack_device__()[0] == 1
    return tensor(np.from_dlpack(x) if on_host else get("cupy").from_dlpack(x))
