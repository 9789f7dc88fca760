"""Tensors, the tape they leave behind, and the walk back along it.

    y = f(x₁, …, x_n)        forward:   compute y, remember who made it and of what
    x̄_i = Jᵢᵀ ȳ              backward:  every maker hands its gradient on to its makers

One rule decides what is recorded: **a Tensor is tracked, a plain array is a constant.**  An operation that
meets a Tensor returns a Tensor and leaves a node; one that meets only arrays computes and leaves nothing.
So a gradient that nobody will differentiate again runs on plain arrays at full speed, and one that somebody
will runs through the same lines on tensors and can be differentiated to any order.

Why the walk back needs an order: in `b = a + a; c = b + b` the node of b must wait until both of c's
contributions (1 + 1) have arrived before it hands 2 to a, twice.  Nodes are numbered as they are made, and
a node is younger than all it was made of: going through them from the youngest to the oldest is a
topological order, with no recursion, for chains of any length.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from scratchgen.backend import Array, _by_type, active, backend_of, float32, float64

_next_order = count().__next__
FLOATS = (float32, float64)


class Spec:
    """What a node keeps of an array whose values its gradient does not need."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Node:
    """One step of the tape: which primitive, made from which nodes, and what its gradient needs to know.

    A leaf has no primitive.  Nodes point to their makers and never forward, so there are no cycles: when
    the last tensor of a computation goes, its tape goes with it.
    """

    __slots__ = ("options", "order", "output", "parents", "primitive", "saved", "static")

    def __init__(
        self,
        primitive: Primitive | None,
        parents: tuple[Node | None, ...] = (),
        saved: tuple[Any, ...] = (),
        output: Any = None,
        static: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> None:
        self.primitive = primitive
        self.parents = parents
        self.saved = saved
        self.output = output
        self.static = static
        self.options = options
        self.order = _next_order()

    def pull(self, i: int, g: Any, create_graph: bool) -> Any:
        """The gradient that the i-th argument receives when the output's is g."""
        saved, output = self.saved, self.output
        if create_graph:
            saved = tuple(
                s if p is None or type(s) is Spec else Tensor(s, p)
                for s, p in zip(saved, self.parents, strict=True)
            )
            output = output if type(output) is Spec else Tensor(output, self)
        assert self.primitive is not None
        rule = self.primitive.rules[i if self.primitive.arity is not None else 0]
        if self.primitive.arity is None:
            return rule(i, g, output, saved, *self.static, **(self.options or {}))
        return rule(g, output, *saved, *self.static, **(self.options or {}))


STALE = "changed"


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
        self.node = Node(None) if node is None else node

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)
    size = property(lambda self: self.value.size)

    @property
    def array(self) -> Array:
        """The values as a plain array on their own backend, a constant to every operation; read only."""
        return backend_of(self.value).read_only(self.value)

    def numpy(self) -> np.ndarray:
        """The values in host memory, read only."""
        xp = backend_of(self.value)
        return np.asarray(xp.to_numpy(xp.read_only(self.value)))

    def assign(self, value: Array) -> None:
        """Give a leaf a new value, in its own memory.  What was computed from the old one has no gradient now.

        Raises ValueError if shape or dtype change, or if the tensor is not a leaf.
        """
        if self.node.primitive is not None:
            raise ValueError("assign: only a leaf tensor can be given a new value, not the result of an operation")
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(
                f"assign: {value.shape} {value.dtype} does not fit a tensor of {self.shape} {self.dtype}"
            )
        self.value[...] = value
        self.touched()

    def touched(self) -> None:
        """Say that the memory of a leaf was written to (an optimiser's step): it is a new leaf from here on."""
        self.node.static = (STALE,)
        self.node = Node(None)

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
        raise TypeError("a tensor turned into an array loses its gradient: say t.numpy(), or t.array for a constant")

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.value.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.value.__dlpack_device__()

    def __repr__(self) -> str:
        body = np.array2string(np.asarray(backend_of(self.value).to_numpy(self.value)), separator=", ", prefix="tensor(")
        return f"tensor({body}, {self.dtype})"

    __hash__ = object.__hash__


def value_of(x: Any) -> Any:
    """The plain array behind a tensor; anything else as it is."""
    return x.value if type(x) is Tensor else x


def tensor(x: Any, dtype: Any = None) -> Tensor:
    """A new leaf on the active backend, holding a copy of x.

    Numbers and lists become float32 unless `dtype` says float64; arrays keep their floating type.
    Raises TypeError for arrays of integers: those are constants, and stay plain arrays.
    """
    xp, x = active(), value_of(x)
    if type(x) not in _by_type or isinstance(x, (bool, int, float)):
        x = np.asarray(x, dtype=dtype or float32)
    else:
        x = backend_of(x).to_numpy(x) if backend_of(x) is not xp else x
    value = xp.asarray(x).astype(dtype or x.dtype, copy=True)
    if value.dtype not in FLOATS:
        raise TypeError(f"tensor: {value.dtype} has no gradient; pass dtype=float32 or float64, or keep the array")
    return Tensor(value)


def from_dlpack(x: Any) -> Tensor:
    """A tensor holding a copy of any array that speaks DLPack (PyTorch's, JAX's, CuPy's, NumPy's)."""
    return tensor(np.from_dlpack(x) if active().name != "cupy" else active().from_dlpack(x))


# --- primitives --------------------------------------------------------------------------------------------


class Primitive:
    """An operation with its gradient.  See `primitive`."""

    def __init__(self, forward: Callable[..., Any], rules: Sequence[Callable[..., Any] | None]) -> None:
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.arity = None if variadic else sum(p.kind is p.POSITIONAL_ONLY for p in parameters)
        self.forward = forward
        self.rules = tuple(rules)
        self.__name__ = forward.__name__
        self.__doc__ = forward.__doc__
        self.__module__ = forward.__module__
        self.__signature__ = inspect.Signature(parameters)
        self._needs: dict[int, tuple[bool, tuple[bool, ...]]] = {}
        if self.arity is not None and len(self.rules) != self.arity:
            raise TypeError(f"{self.__name__}: {self.arity} array arguments but {len(self.rules)} gradient rules")

    def __repr__(self) -> str:
        return f"<primitive {self.__name__}>"

    def __call__(self, *args: Any, **options: Any) -> Any:
        arity = len(args) if self.arity is None else self.arity
        raw = list(args)
        tracked = 0
        owner = None
        plain = True
        for i in range(arity):
            a = raw[i]
            if type(a) is Tensor:
                tracked |= 1 << i
                a = raw[i] = a.value
            b = _by_type.get(type(a), plain)
            if b is not owner and b is not None:
                if owner is not None or b is plain:
                    b = backend_of(*map(value_of, raw[:arity]), operation=self.__name__)
                owner = b
        if owner is None:
            owner = active()
            raw[:arity] = [owner.asarray(a, float32) for a in raw[:arity]]
        value = self.forward(owner, *raw, **options)
        if getattr(value, "dtype", None) is float64:
            self._check_precision(raw[:arity])
        if not tracked:
            return value
        return Tensor(value, self._record(args, raw, tracked, arity, owner, value, options))

    def _record(
        self, args: Any, raw: list[Any], tracked: int, arity: int, xp: Any, value: Any, options: dict[str, Any]
    ) -> Node:
        needs_output, needs = self._needs_of(tracked, arity)
        parents: list[Node | None] = []
        saved: list[Any] = []
        for i in range(arity):
            a = raw[i]
            is_tracked = tracked >> i & 1
            parents.append(args[i].node if is_tracked else None)
            if needs[i]:
                saved.append(a if is_tracked or _by_type[type(a)] is None else xp.saved(a))
            else:
                saved.append(Spec(a.shape, a.dtype) if hasattr(a, "shape") else a)
        output = value if needs_output else Spec(value.shape, value.dtype)
        return Node(self, tuple(parents), tuple(saved), output, tuple(raw[arity:]), options)

    def _needs_of(self, tracked: int, arity: int) -> tuple[bool, tuple[bool, ...]]:
        """Whether the gradient rules of the tracked arguments read the output's values, and each argument's."""
        if self.arity is None:
            return False, (False,) * arity
        if tracked not in self._needs:
            names = [
                list(inspect.signature(rule).parameters)[1 : arity + 2]
                for i, rule in enumerate(self.rules)
                if tracked >> i & 1 and rule is not None
            ]
            used = [any(not n[j].startswith("_") for n in names) for j in range(arity + 1)]
            self._needs[tracked] = used[0], tuple(used[1:])
        return self._needs[tracked]

    def _check_precision(self, raw: list[Any]) -> None:
        """A float64 result is right only where every floating operand is float64, and one of them is."""
        kinds = {str(a.dtype) for a in raw if getattr(a, "dtype", None) is not None}
        floating = {k for k in kinds if k.startswith(("float", "complex"))}
        if floating - {"float64", "complex128"} or not floating:
            raise TypeError(
                f"{self.__name__}: operands of {' and '.join(sorted(kinds)) or 'no type'} would give float64; "
                "convert one of them with ops.astype"
            )


def primitive(*rules: Callable[..., Any] | None) -> Callable[[Callable[..., Any]], Primitive]:
    """Make an operation of a forward function on raw arrays and one gradient rule per array argument.

        @primitive(lambda g, y, _x: g * y)
        def exp(xp, x, /):
            \"\"\"y = eˣ.  x̄ = ȳ·y.\"\"\"
            return xp.exp(x)

    forward(xp, x₁, …, /, settings): the positional-only parameters are the arrays.
    rule(g, y, x₁, …, settings) returns x̄ᵢ, written with operations, so that it has gradients itself.
    A parameter whose name begins with an underscore is one whose values the rule does not read: only its
    shape and dtype are kept.  A rule of None: no gradient reaches that argument.
    A forward of (xp, *arrays) takes any number of arrays and one rule(i, g, y, arrays, settings).
    Un-broadcasting is not the rules' business: `gradients` does it for all.
    """
    return lambda forward: Primitive(forward, rules)


@primitive(lambda g, _y, _x, shape: sum_to(g, _x.shape))
def broadcast_to(xp: Any, x: Any, /, shape: tuple[int, ...]) -> Any:
    """y = x repeated along new and length-1 axes.  x̄ = ȳ summed over them."""
    return xp.broadcast_to(x, shape)


@primitive(lambda g, _y, _x, shape: broadcast_to(g, _x.shape))
def sum_to(xp: Any, x: Any, /, shape: tuple[int, ...]) -> Any:
    """y = x summed over the axes along which `shape` was broadcast: the adjoint of `broadcast_to`."""
    lead = x.ndim - len(shape)
    axes = tuple(range(lead))
    axes += tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    return xp.sum(x, axis=axes).reshape(shape)


# --- the walk back -----------------------------------------------------------------------------------------


def _ancestors(start: Node, oldest: int = 0) -> list[Node]:
    """All nodes that `start` was made of, down to the given age, oldest first."""
    found, stack = {start}, [start]
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent.order >= oldest and parent not in found:
                found.add(parent)
                stack.append(parent)
    return sorted(found, key=lambda node: node.order)


def depends_on_others(y: Tensor, own: set[Node]) -> bool:
    """Whether y was made of a leaf outside `own`, so that somebody may want to differentiate again."""
    return any(node.primitive is None and node not in own for node in _ancestors(y.node))


def gradients(y: Tensor, xs: Sequence[Tensor], g: Any = None, create_graph: bool = False) -> list[Any]:
    """x̄ = (∂y/∂x)ᵀ ȳ for each x of xs, of a value already computed.

    y: a tensor; ȳ = g, of y's shape, or 1 where y is a scalar.  xs: tensors that y may depend on.
    Returns one gradient per x, in x's shape and dtype, zeros where y does not depend on x: plain arrays,
    or tensors that can be differentiated again where `create_graph` is true.
    Raises TypeError if an x is not a tensor, ValueError if y is no scalar and g is missing, and
    RuntimeError if a leaf that y was made of has been given a new value since.
    """
    for x in xs:
        if type(x) is not Tensor:
            raise TypeError(f"gradients: with respect to a {type(x).__name__}; only tensors are tracked")
    if type(y) is not Tensor:
        return [_zeros(x, create_graph) for x in xs]
    if g is None:
        if y.shape != ():
            raise ValueError(f"gradients: the value has shape {y.shape}; give g, or reduce it to a scalar")
        g = backend_of(y.value).ones((), y.dtype)
    elif value_of(g).shape != y.shape:
        raise ValueError(f"gradients: g has shape {value_of(g).shape}, the value {y.shape}")
    targets = {x.node for x in xs}
    arrived = _walk(y.node, g, targets, create_graph)
    out = [arrived[x.node] if x.node in arrived else _zeros(x, create_graph) for x in xs]
    return [x if type(x) is Tensor else Tensor(x) for x in out] if create_graph else out


def _walk(start: Node, g: Any, targets: set[Node], create_graph: bool) -> dict[Node, Any]:
    """The gradients that arrive at `targets` when g leaves `start`."""
    if not targets:
        return {}
    nodes = _ancestors(start, min(node.order for node in targets))
    on_the_way = set()
    for node in nodes:
        if node.primitive is None and node.static:
            raise RuntimeError("gradients: a tensor was given a new value after this one was computed from it")
        if node in targets or any(parent in on_the_way for parent in node.parents):
            on_the_way.add(node)
    arrived: dict[Node, Any] = {start: g}
    for node in reversed(nodes):
        if node not in on_the_way or node not in arrived or node.primitive is None:
            continue
        g = arrived[node] if node in targets else arrived.pop(node)
        for i, parent in enumerate(node.parents):
            if parent in on_the_way and node.primitive.rules[i if node.primitive.arity is not None else 0] is not None:
                step = node.pull(i, g, create_graph)
                if step.shape != node.saved[i].shape:
                    step = sum_to(step, node.saved[i].shape)
                arrived[parent] = arrived[parent] + step if parent in arrived else step
    return arrived


def _zeros(x: Tensor, create_graph: bool) -> Any:
    zeros = backend_of(x.value).zeros(x.shape, x.dtype)
    return Tensor(zeros) if create_graph else zeros
