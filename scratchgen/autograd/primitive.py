"""Operations: a forward function on raw arrays, with one gradient rule per array argument beside it."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np

from scratchgen import tracing
from scratchgen.autograd.tensor import Node, Spec, Tensor, value_of
from scratchgen.backend import Backend, _by_type, active, backend_of, float32, float64


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call of a primitive with arguments of certain types comes down to, worked out once."""

    primitive: Primitive
    arity: int
    rules: tuple[Callable[..., Any] | None, ...]  # of the arguments that are tensors
    tracked: tuple[int, ...]  # which those are
    owner: Backend | None  # of all arrays; None where there are only numbers
    nodes: tuple[int, ...]  # tensors whose values no rule reads: their nodes are kept in their place
    plain: tuple[tuple[int, bool], ...]  # plain arrays, and whether some rule reads their values
    keeps_output: bool


class Primitive:
    """An operation with its gradient.  See `primitive`."""

    def __init__(
        self, forward: Callable[..., Any], rules: Sequence[Any], casts: bool = False, whole: bool = False
    ) -> None:
        parameters = [p for p in inspect.signature(forward).parameters.values() if p.name != "out"][1:]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.arity = sum(p.kind is p.POSITIONAL_ONLY for p in parameters)
        self.forward = tracing.whole(forward) if whole else forward
        self.rules = tuple(rules)
        self.casts = casts
        self.__name__ = forward.__name__
        self.__doc__ = forward.__doc__
        self.__module__ = forward.__module__
        self.__signature__ = inspect.Signature(parameters)
        self._plans = _tree()  # by the arguments' types, a tensor's followed by its array's; the plan is at None
        if len(self.rules) != (1 if self.variadic else self.arity):
            raise TypeError(f"{self.__name__}: {self.arity} arguments but {len(self.rules)} gradient rules")

    def __repr__(self) -> str:
        return f"<primitive {self.__name__}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method of Tensor: the tensor is the first argument."""
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: Any, **options: Any) -> Any:
        if tracing.recorder is not None and (here := tracing.listener()) is not None:
            args = here.lift(args)
        raw, parents, branch = [], [], self._plans
        for x in args:
            branch = branch[type(x)]
            if type(x) is Tensor:
                parents.append(x.node)
                x = x.value
                branch = branch[type(x)]
            raw.append(x)
        plan = branch.get(None) or self._plan(args, branch)
        xp = plan.owner
        if xp is None:
            xp = active()
            raw[: plan.arity] = [xp.asarray(a, float32) for a in args[: plan.arity]]
        value = self.forward(xp, *raw, **options) if options else self.forward(xp, *raw)
        if value.dtype is float64 and not self.casts:
            self._check_precision(raw[: plan.arity])
        if not parents:
            return value
        for i in plan.nodes:
            raw[i] = args[i].node
        for i, read in plan.plain:
            raw[i] = xp.saved(raw[i]) if read else Spec(raw[i])  # its owner may write to it
        return Tensor(value, Node(value, plan, parents, raw, value if plan.keeps_output else None, options or None))

    def _plan(self, args: tuple[Any, ...], branch: dict[Any, Any]) -> Plan:
        arity = len(args) if self.variadic else self.arity
        if len(args) < arity:
            raise TypeError(f"{self.__name__}: takes {arity} array arguments, got {len(args)}")
        if any(type(x) is Tensor for x in args[arity:]):
            raise TypeError(f"{self.__name__}: a tensor given for a setting would lose its gradient")
        tracked = tuple(i for i in range(arity) if type(args[i]) is Tensor)
        numbers = [i for i in range(arity) if _by_type.get(type(args[i]), args) is None]
        plain = [i for i in range(arity) if i not in tracked and i not in numbers]
        arrays = [value_of(x) for i, x in enumerate(args[:arity]) if i not in numbers]
        owner = backend_of(*arrays, operation=self.__name__) if arrays else None
        if self.variadic:
            rules: Any = [_for_argument(i, self.rules[0]) for i in tracked]
            read = [False] * (arity + 1)
        else:
            rules = [self.rules[i] for i in tracked]
            names = [list(inspect.signature(r).parameters)[1 : arity + 2] for r in rules if r is not None]
            read = [any(not n[j].startswith("_") for n in names) for j in range(arity + 1)]
        branch[None] = plan = Plan(
            self,
            arity,
            tuple(rules),
            tracked,
            owner,
            nodes=tuple(i for i in tracked if not read[i + 1]),
            plain=tuple((i, read[i + 1]) for i in plain),
            keeps_output=read[0],
        )
        return plan

    def _check_precision(self, operands: Sequence[Any]) -> None:
        """A float64 result is right only where every floating operand is float64, and one of them is."""
        for a in operands:
            if getattr(a, "dtype", float64) is not float64:
                break
        else:
            return
        types = [a.dtype for a in operands if hasattr(a, "dtype")]
        floating = [t for t in types if t.kind in "fc"]
        if not floating or any(t not in (float64, np.complex128) for t in floating):
            given = " and ".join(sorted({str(t) for t in types}))
            raise TypeError(f"{self.__name__}: operands of {given} would give float64; convert one with ops.astype")


def _tree() -> defaultdict[Any, Any]:
    return defaultdict(_tree)


def _for_argument(i: int, rule: Any) -> Callable[..., Any]:
    """The rule of a variadic primitive for its i-th argument."""
    return lambda g, y, *xs, **options: rule(i, g, y, xs, **options)


def primitive(
    *rules: Callable[..., Any] | None, casts: bool = False, whole: bool = False
) -> Callable[[Callable[..., Any]], Primitive]:
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
    With `casts` it may give float64 of float32 operands; otherwise that raises TypeError.
    With `whole` it takes `out` as well, an array to write the result to, and a recorder hears one call.
    Un-broadcasting is not the rules' business: `gradients` does it for all.
    """
    return lambda forward: Primitive(forward, rules, casts, whole)


@primitive(lambda g, _y, _x, shape: sum_to(g, _x.shape))
def broadcast_to(xp: Any, x: Any, /, shape: tuple[int, ...]) -> Any:
    """y = x repeated along new and length-1 axes.  x̄ = ȳ summed over them."""
    return xp.broadcast_to(x, shape)


@primitive(lambda g, _y, _x, shape: broadcast_to(g, _x.shape))
def sum_to(xp: Any, x: Any, /, shape: tuple[int, ...]) -> Any:
    """y = x summed over the axes along which `shape` was broadcast: the adjoint of `broadcast_to`."""
    lead = x.ndim - len(shape)
    axes = tuple(range(lead))
    if x.shape[lead:] != shape:
        axes += tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    return xp.sum(x, axis=axes).reshape(shape)
