"""Optimisers, on one flat buffer.

`Flat` lays all parameters of a player side by side in one array and lets each parameter be a view of it.
An optimiser's step, an average or a norm is then a handful of passes over one array, however many layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import backend_of, inf
from scratchgen.cores import shared
from scratchgen.tracing import effect


class Flat:
    """Parameters θ as one array; `buffer` is written by optimisers only.

    Raises ValueError if there are none, or if they differ in dtype.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        if not parameters:
            raise ValueError("Flat: no parameters")
        self.names = list(parameters)
        self.parameters = list(parameters.values())
        dtypes = {str(p.dtype) for p in self.parameters}
        if len(dtypes) > 1:
            raise ValueError(f"Flat: parameters of {' and '.join(sorted(dtypes))}; convert them to one dtype")
        self.xp = backend_of(*(p.value for p in self.parameters))
        self.size = sum(int(p.size) for p in self.parameters)
        self.buffer = room(self.xp, self.size, self.parameters[0].dtype)
        for p, view in zip(self.parameters, self.views(self.buffer).values(), strict=True):
            view[...] = p.value
            p.value = view

    def views(self, buffer: Any) -> dict[str, Any]:
        """A buffer of this layout, as one array per parameter name."""
        views, start = {}, 0
        for name, p in zip(self.names, self.parameters, strict=True):
            stop = start + int(p.size)
            views[name] = buffer[start:stop].reshape(p.shape)
            start = stop
        return views

    def gather(self, gradients: Sequence[Any]) -> Any:
        """One gradient per parameter, in order, as one new buffer.  Raises ValueError if one does not fit."""
        for name, p, g in zip(self.names, self.parameters, gradients, strict=True):
            if g.shape != p.shape or g.dtype != p.dtype:
                raise ValueError(f"Flat: {name} is {p.shape} {p.dtype}, its gradient {g.shape} {g.dtype}")
        return self.xp.joined([g.reshape(-1) for g in gradients])

    def write(self, values: Any) -> None:
        """Set all parameters from a buffer (or host array) of this layout."""
        if values.shape != self.buffer.shape or values.dtype != self.buffer.dtype:
            raise ValueError(
                f"Flat: {values.shape} {values.dtype} does not fit {self.buffer.shape} {self.buffer.dtype}"
            )
        self.buffer[...] = self.xp.asarray(values)
        self.touched()

    def touched(self) -> None:
        """The buffer was written to: values computed before can no longer be differentiated."""
        for p in self.parameters:
            p.touched()


def norm(buffer: Any) -> Any:
    """‖g‖₂, an array of no dimensions where g lives: on a GPU reading it would wait for the whole step."""
    return backend_of(buffer).sqrt((buffer * buffer).sum())


def clip_by_norm(buffer: Any, max_norm: float) -> Any:
    """Scale g in place to ‖g‖₂ ≤ max_norm, ∞ for no limit.  Returns the norm it had (Pascanu et al. 2013)."""
    xp, before = backend_of(buffer), norm(buffer)
    if max_norm < inf:
        buffer *= xp.where(before > max_norm, max_norm / xp.where(before > 0, before, 1.0), 1.0).astype(buffer.dtype)
    return before


def _check_state(owner: Any, state: Mapping[str, np.ndarray], slots: Sequence[str]) -> None:
    """Raises ValueError unless the state has a step count, and every slot in the buffer's shape and dtype."""
    buffer = owner.flat.buffer
    for name in ("steps", *slots):
        if name not in state:
            raise ValueError(f"{type(owner).__name__}: the saved state has no {name!r}")
    for name in slots:
        if (state[name].shape, state[name].dtype) != (buffer.shape, buffer.dtype):
            raise ValueError(
                f"{type(owner).__name__}: the saved {name!r} is {state[name].shape} {state[name].dtype}, "
                f"the parameters are {buffer.shape} {buffer.dtype}"
            )


BLOCK = 1 << 15
"""Numbers in a block: a step goes over the buffers in blocks that stay in the processor's cache."""


def room(xp: Any, size: int, dtype: Any) -> Any:
    """An empty buffer.  On the host it begins with a page, where NumPy's loops take half the time that they take at an
    odd address, and processes that run parts of a step share it."""
    if xp.name != "numpy":
        return xp.empty((size,), dtype)
    return shared(size * xp.dtype(dtype).itemsize).view(dtype)[:size]


def by_blocks(f: Callable[..., None], xp: Any, *buffers: Any) -> None:
    """f(*blocks, scratch) for blocks of flat buffers of one length; on a device all at once, and without scratch."""
    if xp.on_device:
        return f(*buffers, None)
    n = len(buffers[0])
    scratch = room(xp, min(BLOCK, n), buffers[0].dtype)
    for i in range(0, n, BLOCK):
        parts = [b[i : i + BLOCK] for b in buffers]
        f(*parts, scratch[: len(parts[0])])


def no_steps(xp: Any) -> Any:
    """A count of steps, from 0 on.  On a device an array of no dimensions, which a step itself moves on: so may a graph
    of kernels, in which a number of the host would stay what it was."""
    return xp.zeros((), np.int64) if xp.on_device else 0


def steps_of(owner: Any) -> np.ndarray:
    """The count on the host: on a device this waits for it."""
    return np.array(owner.flat.xp.to_numpy(owner.steps), np.int64)


def set_steps(owner: Any, steps: int) -> None:
    """Count on from there; an array stays where it is, since a graph may know it by its address."""
    if owner.flat.xp.on_device:
        owner.steps.fill(steps)
    else:
        owner.steps = steps


class SGD:
    """v ← μ·v + g,  θ ← θ − lr·v: gradient descent, with momentum μ (Polyak 1964)."""

    slots: tuple[str, ...] = ("velocity",)

    def __init__(self, flat: Flat, lr: float = 1e-2, momentum: float = 0.0) -> None:
        self.flat, self.lr, self.momentum = flat, lr, momentum
        self.velocity = room(flat.xp, flat.size, flat.buffer.dtype)
        self.velocity[...] = 0
        self.steps = no_steps(flat.xp)

    @effect
    def step(self, gradient: Any, lr: Any = None) -> None:
        """One step along a flat gradient.  lr: a number, or on a device an array of no dimensions, float64."""
        self.steps += 1
        xp, lr = self.flat.xp, self.lr if lr is None else lr

        def block(theta: Any, velocity: Any, g: Any, scratch: Any) -> None:
            xp.sgd(theta, velocity, g, scratch, lr, self.momentum)

        by_blocks(block, xp, self.flat.buffer, self.velocity, gradient)
        self.flat.touched()

    def state(self) -> dict[str, np.ndarray]:
        """Everything but θ and the settings, in host memory."""
        slots = {name: np.array(self.flat.xp.to_numpy(getattr(self, name))) for name in self.slots}
        return {"steps": steps_of(self), **slots}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """What `state` returned.  Raises ValueError, and changes nothing, if it does not fit."""
        _check_state(self, state, self.slots)
        set_steps(self, int(state["steps"]))
        for name in self.slots:
            getattr(self, name)[...] = self.flat.xp.asarray(state[name])


class Adam(SGD):
    """Adam, and AdamW where weight_decay is not 0.

        m ← β₁m + (1−β₁)g       v ← β₂v + (1−β₂)g²
        θ ← θ − lr·( m̂/(√v̂ + tiny) + λθ ),    m̂ = m/(1−β₁ᵏ),  v̂ = v/(1−β₂ᵏ)

    Kingma & Ba (2015), Algorithm 1; Loshchilov & Hutter (2019) for the decay λ outside of the average.
    """

    slots = ("m", "v")

    def __init__(
        self, flat: Flat, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, tiny: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        self.flat, self.lr, self.beta1, self.beta2, self.tiny = flat, lr, beta1, beta2, tiny
        self.weight_decay = weight_decay
        self.m, self.v = (room(flat.xp, flat.size, flat.buffer.dtype) for _ in self.slots)
        self.m[...] = self.v[...] = 0
        self.steps = no_steps(flat.xp)

    @effect
    def step(self, gradient: Any, lr: Any = None) -> None:
        """One step along a flat gradient.  lr: a number, or on a device an array of no dimensions, float64."""
        xp, lr = self.flat.xp, self.lr if lr is None else lr
        self.steps += 1
        settings = self.beta1, self.beta2, self.tiny, self.weight_decay

        def block(theta: Any, m: Any, v: Any, g: Any, scratch: Any) -> None:
            xp.adam(theta, m, v, g, scratch, self.steps, lr, *settings)

        by_blocks(block, xp, self.flat.buffer, self.m, self.v, gradient)
        self.flat.touched()


class EMA:
    """θ̄ ← d·θ̄ + (1−d)·θ after every step: the average that samplers use (Ho et al. 2020, App. B).

    d grows with the number of steps k, min(decay, (1 + k)/(10 + k)), so that early values are
    forgotten (the rule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, flat: Flat, decay: float = 0.999) -> None:
        self.flat, self.decay, self.steps = flat, decay, no_steps(flat.xp)
        self.buffer = room(flat.xp, flat.size, flat.buffer.dtype)
        self.buffer[...] = flat.buffer

    @effect
    def update(self) -> None:
        self.steps += 1
        xp, decay = self.flat.xp, (1 + self.steps) / (10 + self.steps)
        decay = xp.minimum(decay, self.decay) if xp.on_device else min(decay, self.decay)

        def block(average: Any, theta: Any, scratch: Any) -> None:
            xp.ema(average, theta, scratch, 1 - decay)

        by_blocks(block, xp, self.buffer, self.flat.buffer)

    def arrays(self) -> dict[str, Any]:
        """The averages by parameter name: `module.frozen(ema.arrays())` is the averaged network."""
        return self.flat.views(self.buffer)

    def state(self) -> dict[str, np.ndarray]:
        """Everything but the settings, in host memory."""
        return {"steps": steps_of(self), "buffer": np.array(self.flat.xp.to_numpy(self.buffer))}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """What `state` returned.  Raises ValueError, and changes nothing, if it does not fit."""
        _check_state(self, state, ("buffer",))
        set_steps(self, int(state["steps"]))
        self.buffer[...] = self.flat.xp.asarray(state["buffer"])
