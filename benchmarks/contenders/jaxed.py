"""JAX: the whole step, noise, gradients and Adam, in one compiled function.

It has no events on the device: there the host's clock goes around many steps, of which the last is waited for.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.contenders import BETA1, BETA2, LR, TINY
from benchmarks.device import HOST, Place
from benchmarks.workload import Noise, Problem, Workload

PRODUCTS = {"float32": "float32", "tf32": "tensorfloat32", "bf16": "BF16_BF16_F32"}
"""JAX's names.  Its "bfloat16" is a wish, which a GPU answers by TF32; the one here is what products do, while
convolutions leave it to the library."""


class Jax:
    ticks = None

    def __init__(self, workload: Workload, problem: Problem, threads: int, place: Place = HOST) -> None:
        self.workload, self.place, self.out = workload, place, None
        self.device = jax.devices()[0]
        if place.on_device:
            if self.device.platform != place.jax:
                raise RuntimeError(f"this JAX computes on the {self.device.platform}: pip install 'jax[cuda13]'")
            jax.config.update("jax_default_matmul_precision", PRODUCTS[place.precision])
        function = workload.arrays(jnp)
        self.batches = [tuple(map(jnp.asarray, batch)) for batch in problem.batches]
        self.noise = tuple(map(jnp.asarray, problem.noise))
        weights = {name: jnp.asarray(w) for name, w in problem.weights.items()}
        zeros = [{name: jnp.zeros_like(w) for name, w in weights.items()} for _ in range(2)]
        self.state = (jax.random.key(1), weights, *zeros, jnp.zeros((), jnp.int32))
        self.steps = 0

        def mean(p: Any, *arguments: Any) -> Any:
            return jnp.mean(function(p, *arguments))

        def draw(key: Any) -> list[Any]:
            keys = jax.random.split(key, max(1, len(workload.noise)))
            return [self.draw(noise, k) for noise, k in zip(workload.noise, keys, strict=False)]

        def train(state: Any, *batch: Any) -> Any:
            key, p, m, v, k = state
            key, fresh = jax.random.split(key)
            loss, g = jax.value_and_grad(mean)(p, *batch, *draw(fresh))
            if workload.kind == "training":
                k = k + 1
                m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
                v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
                a, b = 1 - BETA1**k, 1 - BETA2**k
                p = jax.tree.map(lambda p, m, v: p - LR * (m / a) / (jnp.sqrt(v / b) + TINY), p, m, v)
                g = None
            return (key, p, m, v, k), (loss, g)

        def sample(state: Any) -> Any:
            key, p, *rest = state
            key, fresh = jax.random.split(key)
            return (key, p, *rest), function(p, *draw(fresh))

        sampling = workload.kind == "sampling"
        self.turn = jax.jit(sample if sampling else train, donate_argnums=0)
        self.ask = jax.jit(function if sampling else jax.value_and_grad(mean))

    def draw(self, noise: Noise, key: Any) -> Any:
        shape = (self.workload.examples, *noise.shape)
        if noise.kind == "integers":
            return jax.random.randint(key, shape, noise.low, noise.high)
        return (jax.random.normal if noise.kind == "normal" else jax.random.uniform)(key, shape)

    def step(self) -> None:
        batch = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        self.state, self.out = self.turn(self.state, *batch)
        if not self.place.on_device:
            self.finish()
            self.out = None

    def finish(self) -> None:
        jax.block_until_ready((self.state, self.out))

    def taken(self) -> float | None:
        """The peak that its allocator has counted; CPUs do not count."""
        found = self.device.memory_stats() or {}
        return found["peak_bytes_in_use"] / 2**20 if "peak_bytes_in_use" in found else None

    def answer(self) -> dict[str, np.ndarray]:
        found = self.ask(self.state[1], *self.batches[0], *self.noise)
        if self.workload.kind == "sampling":
            return {"images": np.array(found)}
        loss, g = found
        return {"loss": np.array(loss), **{name: np.array(value) for name, value in g.items()}}
