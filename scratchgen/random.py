"""Random numbers from explicit generators: there is no global state to seed or to disturb.

Two modes say where the numbers come from:

    host      NumPy's PCG64 on the host, copied to the active backend: the same seed gives the same numbers on
              every backend, to the last bit, and the state can be saved and restored.  The default.
    device    the active backend's own generator: on a GPU faster, since nothing is copied, but with other
              numbers than on the host, and a state that stays on the device.  On NumPy the two are one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchgen.backend import active, float32, int64
from scratchgen.tracing import effect

MODES = ("host", "device")


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
        self._device: Any = None

    def _source(self) -> Any:
        """NumPy's generator, or the device's in device mode."""
        xp = active()
        if self.mode == "host" or not xp.on_device:
            return self._host
        if self._device is None:
            words = self._seeds.generate_state(2, np.uint64)
            self._device = xp.random.default_rng(int(words[0]))
        return self._device

    def _floats(self, draw: str, shape: Any, dtype: Any, out: Any) -> Any:
        function = getattr(self._source(), draw)
        if out is None or (active().on_device and self.mode == "host"):
            made = active().asarray(function(shape, dtype=np.dtype(dtype).type))
            if out is None:
                return made
            out[...] = made
            return out
        return function(dtype=np.dtype(dtype).type, out=out)

    @effect
    def standard_normal(self, shape: Any = (), dtype: Any = float32, out: Any = None) -> Any:
        """z ~ N(0, 1), independent; written to `out`, where it is given."""
        return self._floats("standard_normal", shape, dtype, out)

    @effect
    def random(self, shape: Any = (), dtype: Any = float32, out: Any = None) -> Any:
        """u ~ U[0, 1), independent."""
        return self._floats("random", shape, dtype, out)

    @effect
    def exponential(self, shape: Any = (), dtype: Any = float32, out: Any = None) -> Any:
        """e ~ Exp(1), independent."""
        return self._floats("standard_exponential", shape, dtype, out)

    @effect
    def integers(self, low: int, high: int, shape: Any = ()) -> Any:
        """Integers in [low, high), equally likely."""
        return active().asarray(self._source().integers(low, high, shape, dtype=np.int64))

    @effect
    def permutation(self, n: int) -> Any:
        """The integers 0 … n−1 in random order; drawn on the host in both modes."""
        return active().asarray(self._host.permutation(n), dtype=int64)

    @effect
    def choice(self, n: int, shape: Any = (), replace: bool = True, p: Any = None) -> Any:
        """Integers out of 0 … n−1, with probabilities p where given; drawn on the host in both modes."""
        return active().asarray(self._host.choice(n, shape, replace=replace, p=p), dtype=int64)

    def spawn(self, n: int) -> list[Generator]:
        """n generators, independent of this one and of each other."""
        return [Generator(child, self.mode) for child in self._seeds.spawn(n)]

    def state(self) -> dict[str, Any]:
        """All there is to know, as a dictionary that JSON can hold.

        Raises RuntimeError in device mode once the device has drawn: that state cannot be read back.
        """
        if self._device is not None:
            raise RuntimeError("Generator: a device stream cannot be saved; use mode='host' to resume")
        return {
            "mode": self.mode,
            "entropy": self._seeds.entropy,
            "spawn_key": list(self._seeds.spawn_key),
            "children": self._seeds.n_children_spawned,
            "host": self._host.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Draw on from where this generator was when it had that state."""
        self.__dict__.update(vars(Generator.from_state(state)))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Generator:
        """The generator that `state` was taken from, about to draw what that one would have drawn next."""
        seeds = np.random.SeedSequence(
            state["entropy"], spawn_key=tuple(state["spawn_key"]), n_children_spawned=state["children"]
        )
        generator = cls(seeds, state["mode"])
        generator._host.bit_generator.state = state["host"]
        return generator
