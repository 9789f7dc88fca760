"""A network is a tree: its leaves are tensors, its branches modules, and calling it computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import backend_of


class Module:
    """Base of all networks and systems.

    Attributes that are tensors are its parameters; attributes that are modules, or lists, tuples and
    dictionaries of modules and tensors, are its children.  Plain arrays are constants.
    """

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, tensor) in the order of definition; a shared tensor once, by its first name."""
        seen: set[int] = set()
        found: list[tuple[str, Tensor]] = []

        def visit(name: str, x: Tensor) -> Tensor:
            if id(x) not in seen:
                seen.add(id(x))
                found.append((name, x))
            return x

        _map(self, "", visit)
        return iter(found)

    def parameters(self) -> list[Tensor]:
        """All parameters, in the order of definition."""
        return [x for _, x in self.named_parameters()]

    def size(self) -> int:
        """How many numbers the parameters are."""
        return sum(int(x.size) for x in self.parameters())

    def precision(self) -> Any:
        """The dtype of the first parameter, frozen or not.  Raises ValueError where there is none."""
        for leaf in _leaves(self):
            return leaf.dtype
        raise ValueError(f"{type(self).__name__}: has no parameters, and so no precision")

    def frozen(self, arrays: Mapping[str, Any] | None = None) -> Self:
        """The same module with plain arrays for parameters: it computes, and records no tape.

        arrays: by parameter name (an optimiser's average, say); by default the module's own values, read
        only, which follow the module as it is trained (but not into the buffer of a `Flat` made afterwards).
        Raises KeyError if a name is missing.
        """
        named = {id(x): name for name, x in self.named_parameters()}
        return _map(self, "", lambda _, x: x.array if arrays is None else arrays[named[id(x)]])

    def astype(self, dtype: Any) -> Self:
        """A copy of the module, its parameters in another precision."""
        made: dict[int, Tensor] = {}

        def convert(_: str, x: Tensor) -> Tensor:
            return made.setdefault(id(x), Tensor(x.value.astype(dtype)))

        return _map(self, "", convert)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The parameters' values in host memory, by name."""
        return {name: np.array(x.numpy()) for name, x in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Set all parameters.  Raises ValueError, and changes nothing, if names, shapes or dtypes differ."""
        parameters = dict(self.named_parameters())
        missing, unexpected = sorted(parameters.keys() - state.keys()), sorted(state.keys() - parameters.keys())
        if missing or unexpected:
            raise ValueError(f"load_state_dict: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}")
        for name, x in parameters.items():
            if (x.shape, x.dtype) != (state[name].shape, state[name].dtype):
                raise ValueError(
                    f"load_state_dict: {name} is {state[name].shape} {state[name].dtype}, "
                    f"the module's is {x.shape} {x.dtype}"
                )
        for name, x in parameters.items():
            x.assign(backend_of(x.value).asarray(state[name]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size():,} parameters)"


def _map(x: Any, name: str, f: Callable[[str, Tensor], Any]) -> Any:
    """A copy of the tree below x with every tensor replaced by f(its name, it)."""
    if isinstance(x, Tensor):
        return f(name, x)
    if isinstance(x, Module):
        twin = copy.copy(x)
        for key, value in vars(x).items():
            setattr(twin, key, _map(value, f"{name}.{key}" if name else key, f))
        return twin
    if isinstance(x, dict):
        return {key: _map(value, f"{name}.{key}", f) for key, value in x.items()}
    if isinstance(x, (list, tuple)) and type(x) in (list, tuple):
        return type(x)(_map(value, f"{name}.{i}", f) for i, value in enumerate(x))
    return x


def _leaves(x: Any) -> Iterator[Any]:
    """Tensors and arrays of the tree below x, in the order of definition."""
    if isinstance(x, Module):
        x = vars(x)
    if isinstance(x, dict):
        x = tuple(x.values())
    if type(x) in (list, tuple):
        for part in x:
            yield from _leaves(part)
    elif hasattr(x, "dtype"):
        yield x


class Sequential(Module):
    """One layer after the other; a plain function may stand between."""

    def __init__(self, *layers: Callable[[Any], Any]) -> None:
        self.layers = list(layers)

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
