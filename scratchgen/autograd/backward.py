"""The walk back along the tape: gradients of a value already computed.

Why it needs an order: in `b = a + a; c = b + b` the node of b must wait until both of c's contributions
(1 + 1) have arrived before it hands 2 to a, twice.  Nodes are numbered as they are made, and a node is
younger than all it was made of: going through them from the youngest to the oldest is a topological order,
with no recursion, for chains of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from scratchgen.autograd.primitive import sum_to
from scratchgen.autograd.tensor import CONSTANT, STALE, Node, Tensor, value_of
from scratchgen.backend import backend_of


def _ancestors(start: Node, oldest: int = 0) -> set[Node]:
    """All nodes that `start` was made of, itself included, down to the given age."""
    found, stack = {start}, [start]
    while stack:
        for parent in stack.pop().parents:
            if parent not in found:
                if parent.output is STALE:
                    raise RuntimeError("gradients: a tensor was given a new value after this one was computed from it")
                if parent.order >= oldest:
                    found.add(parent)
                    stack.append(parent)
    return found


def depends_on_others(y: Tensor, own: set[Node]) -> bool:
    """Whether y was made of a leaf outside `own`, so that somebody may want to differentiate again."""
    nodes = _ancestors(y.node) - own
    return any(node.plan is None and node.output is not CONSTANT for node in nodes)


def retire(variables: Sequence[Tensor]) -> None:
    """Say of leaves that they are constants from here on: who made them is done with them."""
    for x in variables:
        if x.node.plan is None:
            x.node.output = CONSTANT


def gradients(y: Tensor, xs: Sequence[Tensor], g: Any = None, create_graph: bool = False) -> list[Any]:
    """x̄ = (∂y/∂x)ᵀ ȳ for each x of xs, of a value already computed.

    y: a tensor; ȳ = g, of y's shape, or 1 where y is a scalar.  xs: tensors that y may depend on.
    Returns one gradient per x, in x's shape and dtype, zeros where y does not depend on x: plain arrays,
    or tensors that can be differentiated again where `create_graph` is true.
    Raises TypeError if an x is not a tensor, ValueError if y is no scalar and g is missing, and
    RuntimeError if a leaf that y was made of has been given a new value since.  Plain results may share
    memory with one another: copy what you mean to write to.
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
    elif type(g) in (int, float):
        g = backend_of(y.value).full((), g, y.dtype)
    if value_of(g).shape != y.shape:
        raise ValueError(f"gradients: g has shape {value_of(g).shape}, the value {y.shape}")
    if value_of(g).dtype != y.dtype:
        raise TypeError(f"gradients: g is {value_of(g).dtype}, the value {y.dtype}")
    targets = {x.node for x in xs}
    arrived = _walk(y.node, g, targets, create_graph)
    out = [arrived[x.node] if x.node in arrived else _zeros(x, create_graph) for x in xs]
    return [x if type(x) is Tensor else constant(x) for x in out] if create_graph else out


def _walk(start: Node, g: Any, targets: set[Node], create_graph: bool) -> dict[Node, Any]:
    """The gradients that arrive at `targets` when g leaves `start`."""
    # A target younger than y is none of y's makers, unless `assign` has replaced one that was: look at all.
    oldest = min((node.order for node in targets), default=0)
    nodes = sorted(_ancestors(start, oldest if oldest <= start.order else 0), key=attrgetter("order"))
    on_the_way = set(targets)
    path = []
    for node in nodes:
        if not on_the_way.isdisjoint(node.parents):
            on_the_way.add(node)
            path.append(node)
    arrived: dict[Node, Any] = {start: g}
    for node in reversed(path):
        g = arrived.get(node) if node in targets else arrived.pop(node, None)
        if g is None:  # a rule of None stands between
            continue
        if create_graph:
            inputs, output = node.on_tape()
        else:
            inputs, output = node.inputs, node if node.output is None else node.output
        for parent, rule in zip(node.parents, node.plan.rules):  # type: ignore[union-attr]  # noqa: B905
            if rule is not None and parent in on_the_way:
                step = rule(g, output, *inputs, **node.options) if node.options else rule(g, output, *inputs)
                if step.shape != parent.shape:
                    step = sum_to(step, parent.shape)
                arrived[parent] = arrived[parent] + step if parent in arrived else step
    return arrived


def _zeros(x: Tensor, create_graph: bool) -> Any:
    zeros = backend_of(x.value).zeros(x.shape, x.dtype)
    return constant(zeros) if create_graph else zeros


def constant(x: Any) -> Tensor:
    """A tensor without a history that anybody could be asking for."""
    y = Tensor(x)
    retire([y])
    return y
