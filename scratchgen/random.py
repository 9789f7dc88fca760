"""Random numbers from explicit generators: there is no global state to seed or to disturb.

Two modes say where the numbers come from.  In both, the same seed gives the same numbers on every backend, and the
state can be saved and restored:

    host      NumPy's PCG64 on the host, copied to the active backend; the same to the last bit.  The default.
    counter   Philox, made where the arrays live (`philox` says how, and how far the numbers agree): on a GPU nothing
              is copied and nobody waits.  Its counter lives there too, and every draw moves it on there, so a step
              that is recorded as a graph of kernels draws anew each time.  Only choices with probabilities are drawn
              on the host still, by PCG64.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from scratchgen import guard, philox
from scratchgen.backend import active, backend_of, float32, float64, int64
from scratchgen.tracing import effect

MODES = ("host", "counter")


class Generator:
    """A stream of random numbers.

    seed: an integer, or a numpy SeedSequence.  Arrays are made on the active backend, float32 by default.
    Raises ValueError for an unknown mode.
    """

    def __init__(self, seed: int | np.random.SeedSequence, mode: str = "host") -> None:
        if mode not in MODES:
            raise ValueError(f"Generator: mode {mode!r} is not one of {', '.join(MODES)}")
        self.mode = mode
        self._seeds = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(int(seed))
        self._host = np.random.Generator(np.random.PCG64(self._seeds))
        self._stream: Any = None  # of the counter mode, on the backend that drew last
        self._drawn = 0  # blocks, before there was a stream

    def stream(self) -> Any:
        """The counter and the key on the active backend, (4,) uint64 (`philox`); draws write to it."""
        xp = active()
        if self._stream is None or backend_of(self._stream) is not xp:
            self._drawn = self._counter()
            self._stream = self._begun(xp)
        return self._stream

    def _begun(self, xp: Any) -> Any:
        """A stream that has drawn as many blocks as `_drawn` says."""
        key = self._seeds.generate_state(2, np.uint64)
        return xp.noise_stream(self._drawn, (int(key[0]), int(key[1])))

    def _put(self, stream: Any) -> None:
        """Write to the stream in place: a recorded graph of kernels may hold it."""
        if self._stream is not None:
            self._stream[...] = self._begun(backend_of(self._stream)) if stream is None else stream

    def _counter(self) -> int:
        """Blocks drawn so far; where a device counts, this waits for it."""
        if self._stream is None:
            return self._drawn
        return int(backend_of(self._stream).to_numpy(self._stream)[0])

    def _counted(self, law: str, shape: Any, dtype: Any, *bounds: int, out: Any = None) -> Any:
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        return active().noise(law, self.stream(), shape, dtype, bounds, out)

    def _from_host(self) -> Any:
        """NumPy's generator.  No graph of kernels draws from it, so a capture refuses before anything is drawn."""
        guard.refused("noise drawn on the host", "draw it in mode counter, without probabilities")
        return self._host

    def _floats(self, law: str, shape: Any, dtype: Any, out: Any) -> Any:
        dtype, shape = np.dtype(dtype), shape if out is None else out.shape
        if dtype not in (float32, float64) or (out is not None and out.dtype != dtype):
            raise TypeError(f"Generator: {dtype} numbers{'' if out is None else f' for an array of {out.dtype}'}")
        if self.mode == "counter":
            return self._counted(law, shape, dtype, out=out)
        function = getattr(self._from_host(), HOST[law])
        if out is None or active().name != "numpy":
            made = active().asarray(function(shape, dtype=dtype.type))
            if out is None:
                return made
            out[...] = made
            return out
        return function(dtype=dtype.type, out=out)

    @effect
    def standard_normal(self, shape: Any = (), dtype: Any = float32, out: Any = None) -> Any:
        """z ~ N(0, 1), independent; written to `out`, where it is given."""
        return self._floats("normal", shape, dtype, out)

    @effect
    def random(self, shape: Any = (), dtype: Any = float32, out: Any = None) -> Any:
        """u ~ U[0, 1), independent."""
        return self._floats("uniform", shape, dtype, out)

    @effect
    def exponential(self, shape: Any = (), dtype: Any = float32, out: Any = None) -> Any:
        """e ~ Exp(1), independent."""
        return self._floats("exponential", shape, dtype, out)

    @effect
    def integers(self, low: int, high: int, shape: Any = ()) -> Any:
        """Integers in [low, high), equally likely.

        Raises ValueError if there are none, or in counter mode more than 2³².
        """
        if self.mode == "host":
            return active().asarray(self._from_host().integers(low, high, shape, dtype=np.int64))
        if not 0 < high - low <= philox.MOST:
            raise ValueError(f"Generator: integers in [{low}, {high}): between 1 and 2**32 of them")
        return self._counted("integers", shape, int64, int(low), int(high))

    @effect
    def permutation(self, n: int) -> Any:
        """The integers 0 … n−1 in random order; in counter mode the order of n random words."""
        if self.mode == "host":
            return active().asarray(self._from_host().permutation(n), dtype=int64)
        return active().argsort(self._counted("words", (n,), np.uint64))

    @effect
    def choice(self, n: int, shape: Any = (), replace: bool = True, p: Any = None) -> Any:
        """Integers out of 0 … n−1; with probabilities p, where given, drawn on the host in both modes.

        Raises ValueError for more integers than there are, unless they may come again.
        """
        if self.mode == "host" or p is not None:
            return active().asarray(self._from_host().choice(n, shape, replace=replace, p=p), dtype=int64)
        if replace:
            return self.integers(0, n, shape)
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        if prod(shape) > n:
            raise ValueError(f"Generator: {prod(shape)} different integers out of {n}")
        return self.permutation(n)[: prod(shape)].reshape(shape)

    def spawn(self, n: int) -> list[Generator]:
        """n generators, independent of this one and of each other."""
        guard.refused("a generator made in the step", "spawn it before")
        return [Generator(child, self.mode) for child in self._seeds.spawn(n)]

    def spawn_one(self, i: int, n: int) -> Generator:
        """Number i of what `spawn(n)` gives, without the others, each of which costs time."""
        guard.refused("a generator made in the step", "spawn it before")
        seeds, first = self._seeds, self._seeds.n_children_spawned
        self._seeds = np.random.SeedSequence(seeds.entropy, spawn_key=seeds.spawn_key, n_children_spawned=first + n)
        return Generator(np.random.SeedSequence(seeds.entropy, spawn_key=(*seeds.spawn_key, first + i)), self.mode)

    def mark(self) -> Any:
        """Where this generator is, for `back`; of a counter that lives on a device, without reading it."""
        stream = None if self._stream is None else self._stream.copy()
        return self._host.bit_generator.state, stream, self._drawn, self._seeds.n_children_spawned

    def back(self, mark: Any) -> None:
        """Draw on from where this generator was at the mark."""
        host, stream, self._drawn, children = mark
        self._host.bit_generator.state = host
        seeds = self._seeds
        self._seeds = np.random.SeedSequence(seeds.entropy, spawn_key=seeds.spawn_key, n_children_spawned=children)
        self._put(stream)

    def state(self) -> dict[str, Any]:
        """All there is to know, as a dictionary that JSON can hold; reads the counter, where it lives on a device."""
        counter = {"counter": self._counter()} if self.mode == "counter" else {}
        return {
            "mode": self.mode,
            "entropy": self._seeds.entropy,
            "spawn_key": list(self._seeds.spawn_key),
            "children": self._seeds.n_children_spawned,
            "host": self._host.bit_generator.state,
            **counter,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Draw on from where this generator was when it had that state."""
        self.become(Generator.from_state(state))

    def become(self, other: Generator) -> None:
        """Draw what another generator was about to draw, which is given up; a stream in use stays in its place."""
        drawn, stream = other._counter(), self._stream
        self.__dict__.update(vars(other))
        self._drawn, self._stream = drawn, stream
        self._put(None)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Generator:
        """The generator that `state` was taken from, about to draw what that one would have drawn next."""
        seeds = np.random.SeedSequence(
            state["entropy"], spawn_key=tuple(state["spawn_key"]), n_children_spawned=state["children"]
        )
        generator = cls(seeds, state["mode"])
        generator._host.bit_generator.state = state["host"]
        generator._drawn = state.get("counter", 0)
        return generator


HOST = {"normal": "standard_normal", "uniform": "random", "exponential": "standard_exponential"}
"""NumPy's names of the laws."""
