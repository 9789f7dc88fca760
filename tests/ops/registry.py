"""One row per primitive and per public function of ops, ops.linalg and functional: what the checks need to know.

A row gives an independent NumPy reference, where the arguments may lie (domains stay away from kinks by
construction), their shapes, settings, and which of the special checks apply.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from scratchgen import functional, ops

UNARY = (((),), ((0,),), ((1,),), ((3,),), ((2, 3),))
BINARY = (
    ((), ()), ((0,), (1,)), ((1,), (1,)), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((2, 2), ()),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """name: the public name.  function: what is called, the named function by default."""

    name: str
    reference: Callable[..., Any]
    domains: Sequence[Callable[..., np.ndarray]]
    shapes: Sequence[tuple[tuple[int, ...], ...]]
    variants: Sequence[dict[str, Any]] = ({},)
    function: Callable[..., Any] | None = None
    analytic: bool = False  # the complex step applies
    exponential: bool = False  # finite at ±700
    saturates: bool = False  # finite at ±700 in float32 too
    constant: bool = False  # gives a plain array
    elementwise: bool = False
    tolerance: float = 1e-12
    compare32: float = 2e-4

    @property
    def call(self) -> Callable[..., Any]:
        return self.function if self.function is not None else resolve(self.name)

    def cases(self) -> list[tuple[tuple[tuple[int, ...], ...], dict[str, Any]]]:
        return list(product(self.shapes, self.variants))

    def arguments(self, shapes: Sequence[tuple[int, ...]], seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng([seed, *map(ord, self.name)])
        return [np.asarray(domain(rng, shape)) for domain, shape in zip(self.domains, shapes, strict=True)]


def resolve(name: str) -> Any:
    """The function behind a dotted name such as ops.linalg.inv."""
    first, *rest = name.split(".")
    found: Any = {"ops": ops, "functional": functional}[first]
    for part in rest:
        found = getattr(found, part)
    return found


def elementwise(name: str, reference: Any, *domains: Any, **settings: Any) -> Row:
    shapes = UNARY if len(domains) == 1 else BINARY
    return Row(name, reference, domains, shapes, elementwise=True, **settings)


# --- where arguments lie ------------------------------------------------------------------------------------


def normal(rng, shape):
    return rng.standard_normal(shape)


def away(rng, shape):
    """Not near 0."""
    return rng.uniform(0.3, 2.0, shape) * rng.choice([-1.0, 1.0], shape)


def between(low: float, high: float):
    return lambda rng, shape: rng.uniform(low, high, shape)


positive, inside, unit, above_one = (
    between(0.3, 2.5),
    between(-0.8, 0.8),
    between(0.1, 0.9),
    between(1.3, 3.0),
)


def on_integers(rng, shape):
    """Near an integer: 0.3 and more from anything `on_halves`."""
    return rng.integers(-3, 4, shape) + rng.uniform(-0.1, 0.1, shape)


def on_halves(rng, shape):
    return rng.integers(-3, 3, shape) + 0.5 + rng.uniform(-0.1, 0.1, shape)


def near_one(rng, shape):
    return rng.uniform(0.99, 1.01, shape) * rng.choice([-1.0, 1.0], shape)


def distinct(rng, shape):
    """No two closer than 0.2."""
    n = int(np.prod(shape))
    return (rng.permutation(n) * 0.3 + rng.uniform(-0.05, 0.05, n) - 0.15 * n).reshape(shape)


def integers(low: int, high: int):
    return lambda rng, shape: rng.integers(low, high, shape)


def booleans(rng, shape):
    return rng.random(shape) < 0.5


def well_conditioned(rng, shape):
    return 0.3 * rng.standard_normal(shape) + 2 * np.eye(shape[-2], shape[-1])


def positive_definite(rng, shape):
    a = rng.standard_normal(shape)
    return a @ np.swapaxes(a, -1, -2) + shape[-1] * np.eye(shape[-1])


def spread_symmetric(rng, shape):
    """Symmetric, with eigenvalues about 1 apart."""
    a = 0.1 * rng.standard_normal(shape)
    return a + np.swapaxes(a, -1, -2) + np.diag(np.arange(shape[-1]) - 1.0)


def spread_singular(rng, shape):
    """With singular values about 1 apart, none near 0."""
    return 0.1 * rng.standard_normal(shape) + np.eye(*shape[-2:]) * np.arange(1.0, shape[-1] + 1)
