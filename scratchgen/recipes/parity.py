"""Whether another backend gives NumPy's numbers: the same weights and the same noise, one system at a time.

    float64        the terms of the loss and the gradient of one minibatch, after WARM steps: TIGHT relative
    float32        the same, within what the system is ALLOWED
    way            float32 weights over 100 steps: ‖θ_t − θ'_t‖ / ‖θ_t − θ_0‖, beside what NumPy itself differs by when
                   it sums in another order (`reordered`): rounding grows from step to step, so two orders part as well
    fitted         systems that are not trained by descent: the numbers of their fit, in float64

A term's error is relative to its largest value, a parameter's gradient to its norm, where these are not below SMALL of
the loss and of the whole gradient: what is zero but for rounding has no relative error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchgen import data
from scratchgen.backend import Backend, NumpyBackend, backend, backend_of, get
from scratchgen.random import Generator
from scratchgen.recipes.fitted import FittedRecipe
from scratchgen.recipes.recipe import Recipe
from scratchgen.train import TrainConfig
from scratchgen.train.loop import Source, begin, descent, take_turn
from scratchgen.train.state import State

TIGHT = 1e-10
WARM = 3
"""Steps before numbers are compared: layers that begin at zero have none of their own before."""
SMALL = 0.01
APART = 30.0
"""The way may part by so many times what another order of summation does, and by `Allowed.way`."""


class Allowed(NamedTuple):
    """What a system may differ by.

    float32    some hundred roundings of 6e-8.  Sums in another order differ by some ten (1e-7 … 1e-6 of most systems),
               a library's exp and log by one or two each; products in TF32 by thousands, 5e-4 and more
    way        of the way gone, besides APART times what another order does
    """

    float32: float = 2e-5
    way: float = 1e-3
    why: str = ""


USUAL = Allowed()
FLIPS = "chooses by comparing: a last bit can turn a choice now and then, and all that follows from it"
ALLOWED = {
    "wgan": Allowed(float32=2e-4, why="the critic's gradient is what two means leave of each other: another order "
                                      "alone makes 1e-5"),
    "rbm": Allowed(way=0.1, why=FLIPS),
    "vqvae": Allowed(way=0.1, why=FLIPS),
    "vqvae_ema": Allowed(way=0.1, why=FLIPS),
}  # fmt: skip
"""Where the usual will not do, and why."""


@dataclass
class Finding:
    """What was found of one system.  errors: by "float64 loss" and so on.  way: (step, there, reordered)."""

    id: str
    errors: dict[str, float] = field(default_factory=dict)
    worst: dict[str, str] = field(default_factory=dict)
    """Of what the largest error was."""
    order: dict[str, float] = field(default_factory=dict)
    """The errors of NumPy itself, in another order of summation."""
    way: list[tuple[int, float, float]] = field(default_factory=list)
    bounds: Allowed = USUAL

    def note(self, dtype: str, what: str, errors: dict[Any, float]) -> None:
        """Keep the largest of the errors."""
        name = max(errors, key=lambda k: errors[k])
        self.errors[f"{dtype} {what}"] = errors[name]
        self.worst[f"{dtype} {what}"] = name if isinstance(name, str) else ".".join(name[1:])

    def allowed(self, what: str) -> float:
        return self.bounds.float32 if what.startswith("float32") else TIGHT

    def parted(self) -> tuple[float, float]:
        """How far apart the way ended at most: there, and in another order."""
        there, other = np.max([row[1:] for row in self.way], axis=0)
        return float(there), float(other)

    def way_holds(self) -> bool:
        if not self.way:
            return True
        there, other = self.parted()
        return there <= APART * other + self.bounds.way

    def holds(self) -> bool:
        return self.way_holds() and all(error <= self.allowed(what) for what, error in self.errors.items())


def measure(recipe: Recipe, there: str, steps: int, batch_size: int, told: Callable[[int], None]) -> Finding:
    """Compare NumPy with the backend `there`.  told: is told of every step that is done, of `work(recipe, steps)`."""
    dataset = data.load(recipe.dataset, None)
    found = Finding(recipe.id, bounds=ALLOWED.get(recipe.id, USUAL))
    if isinstance(recipe, FittedRecipe):
        fit, other = (_fitted(recipe, dataset, name, steps) for name in ("numpy", there))
        found.note("float64", "fit", {k: difference(fit[k], other.get(k)) for k in fit})
        told(1)
        return found
    with backend("numpy"):
        examples = recipe.examples(dataset)
        model = recipe.configure(dataset)
    count = len(examples[0] if isinstance(examples, tuple) else examples)
    plain = replace(recipe.train, batch_size=min(batch_size, recipe.train.batch_size, count), shards=1,
                    noise="counter", replay=False)  # fmt: skip
    trial = Trial(recipe, model, examples)
    for dtype in ("float64", "float32"):
        ours, theirs, again = trial.one_step(replace(plain, dtype=dtype), there, told)
        for what, kind, error in (("loss", "term", term_error), ("gradient", "gradient", gradient_error)):
            found.note(dtype, what, {k: error(ours, theirs, k) for k in ours if k[0] == kind})
            found.order[f"{dtype} {what}"] = max(error(ours, again, k) for k in ours if k[0] == kind)
    found.way = list(trial.way(plain, there, steps, told))
    return found


def work(recipe: Recipe, steps: int) -> int:
    """Steps that `measure` tells of."""
    return 1 if isinstance(recipe, FittedRecipe) else 2 * (WARM + 3) + 3 * steps


def difference(a: np.ndarray, b: Any, scale: float | None = None) -> float:
    """max |a − b|, relative to the largest |a| or to a scale; infinite where a number is none, or the shapes differ."""
    if b is None or a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    error = float(np.abs(a - b).max(initial=0.0))
    scale = float(np.abs(a).max(initial=0.0)) if scale is None else scale
    return error / scale if scale else error


Key = tuple[str, str, str]
"""("term" or "gradient", player, name)."""


def term_error(ours: dict[Key, np.ndarray], theirs: dict[Key, np.ndarray], key: Key) -> float:
    loss = np.abs(ours["term", key[1], "loss"]).max()
    return difference(ours[key], theirs.get(key), max(np.abs(ours[key]).max(), SMALL * loss))


def gradient_error(ours: dict[Key, np.ndarray], theirs: dict[Key, np.ndarray], key: Key) -> float:
    if difference(ours[key], theirs.get(key)) == float("inf"):
        return float("inf")
    whole = np.sqrt(sum(np.sum(g * g) for k, g in ours.items() if k[:2] == key[:2]))
    scale = max(np.linalg.norm(ours[key]), SMALL * whole)
    error = np.linalg.norm(ours[key] - theirs[key])
    return float(error / scale) if scale else float(error)


class Trial:
    """One system, made anew as often as needed: the same weights, data and noise."""

    def __init__(self, recipe: Recipe, model: Any, examples: Any) -> None:
        self.recipe, self.model, self.examples = recipe, model, examples

    def system(self, config: TrainConfig) -> Any:
        """The untrained system on the active backend; its weights are drawn on the host, in float32."""
        system = self.recipe.build(self.model, Generator(config.seed))
        return system if config.dtype == "float32" else system.astype(np.dtype(config.dtype))

    def one_step(self, config: TrainConfig, there: str, told: Callable[[int], None]) -> list[dict[Key, np.ndarray]]:
        """The terms and gradients of all players at the three `places`, from the state that WARM steps of NumPy lead
        to."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.safetensors"
            with backend("numpy"):
                source = Source(self.examples, config)
                state = begin(self.system(config), source, config, None, self.recipe.id)
                for _ in range(WARM):
                    take_turn(state, source)
                    told(1)
                state.save(path)
            found = []
            for name, block in places(there):
                with backend(name), block(), np.errstate(all="ignore"):
                    state = State.load(path, self.system(config), config, self.recipe.id)
                    found.append(_numbers(state, Source(self.examples, config)))
                told(1)
        return found

    def way(
        self, config: TrainConfig, there: str, steps: int, told: Callable[[int], None]
    ) -> Iterator[tuple[int, float, float]]:
        """Weights over `steps` steps of NumPy, of the other backend, and of NumPy summing in another order."""
        runs = []
        for name, block in places(there):
            with backend(name), block():
                mine = replace(config, replay=block is not reordered)
                source = Source(self.examples, mine)
                runs.append((name, block, begin(self.system(mine), source, mine, None, self.recipe.id), source))
        start = _weights(runs[0][2])
        for step in range(1, steps + 1):
            for name, block, state, source in runs:
                with backend(name), block():
                    take_turn(state, source)
                told(1)
            here, other, again = (_weights(state) for _, _, state, _ in runs)
            gone = np.linalg.norm(here - start)
            yield step, float(np.linalg.norm(other - here) / gone), float(np.linalg.norm(again - here) / gone)
        for _, _, state, _ in runs:
            state.close()


def places(there: str) -> list[tuple[str, Any]]:
    """NumPy, the other backend, and NumPy in another order of summation."""
    return [("numpy", nullcontext), (there, nullcontext), ("numpy", reordered)]


def _numbers(state: State, source: Source) -> dict[Key, np.ndarray]:
    """The terms and the gradient of a minibatch of each player, on the host, by player and name."""
    found: dict[Key, np.ndarray] = {}
    for player in state.players:
        terms, gradient = descent(player, source(state.cursor), state)
        state.cursor += 1
        for name, term in zip(player.fields, terms, strict=True):
            found["term", player.name, name] = _host(term)
        for name, part in player.flat.views(gradient).items():
            found["gradient", player.name, name] = _host(part)
    return found


def _host(x: Any) -> np.ndarray:
    x = getattr(x, "value", x)
    return backend_of(x).to_numpy(x).astype(np.float64)


def _weights(state: State) -> np.ndarray:
    """All weights as one vector."""
    return np.concatenate([_host(player.flat.buffer) for player in state.players])


def _fitted(recipe: FittedRecipe, dataset: Any, name: str, steps: int) -> dict[str, np.ndarray]:
    """The last row and the numbers that a fit ends with, or that it has after so many iterations."""
    with backend(name):
        system = recipe.build(recipe.configure(dataset), Generator(recipe.train.seed))
        iterations = recipe.iterations(system, dataset, steps, Generator(recipe.train.seed, "counter"))
        row = list(iterations)[-1]
        return {**{k: np.asarray(v, np.float64) for k, v in row.items()}, **system.state_dict()}


@contextmanager
def reordered() -> Iterator[None]:
    """NumPy with another order of summation: products and sums go backwards, convolutions the plain way."""
    xp: Any = get("numpy")

    def matmul(a: Any, b: Any, **options: Any) -> Any:
        if min(a.ndim, b.ndim) < 2:
            return np.matmul(a, b, **options)
        return np.matmul(a[..., ::-1], b[..., ::-1, :], **options)

    def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return NumpyBackend.sum(xp, np.ascontiguousarray(np.flip(x, axis)), axis, keepdims)

    changed = {"matmul": matmul, "sum": sum}
    for name in ("correlate", "correlate_adjoint_x", "correlate_adjoint_w"):
        changed[name] = getattr(Backend, name).__get__(xp)
    before = {name: xp.__dict__[name] for name in changed if name in xp.__dict__}
    xp.__dict__.update(changed)
    try:
        yield
    finally:
        for name in changed:
            del xp.__dict__[name]
        xp.__dict__.update(before)
