"""HIPS autograd: the other engine on plain NumPy.  Its optimisers take whole vectors only: Adam is written here."""

from __future__ import annotations

from typing import Any

import numpy as np
from autograd import numpy as anp
from autograd import value_and_grad
from threadpoolctl import threadpool_limits

from benchmarks.contenders import BETA1, BETA2, LR, TINY
from benchmarks.device import HOST, Place
from benchmarks.workload import Problem, Workload


class Autograd:
    def __init__(self, workload: Workload, problem: Problem, threads: int, place: Place = HOST) -> None:
        threadpool_limits(threads, user_api="blas")
        self.workload, self.problem = workload, problem
        loss = workload.arrays(anp)
        self.gradient = value_and_grad(lambda p, *arguments: anp.mean(loss(p, *arguments)))
        self.weights = {name: w.copy() for name, w in problem.weights.items()}
        self.m, self.v = ({name: np.zeros_like(w) for name, w in self.weights.items()} for _ in range(2))
        self.rng = np.random.default_rng(1)
        self.steps = 0

    def step(self) -> None:
        batch = self.problem.batches[self.steps % len(self.problem.batches)]
        self.steps += 1
        noise = [noise.draw(self.workload.examples, self.rng) for noise in self.workload.noise]
        _, g = self.gradient(self.weights, *batch, *noise)
        if self.workload.kind == "training":
            self.descend(g)

    def descend(self, gradient: dict[str, Any]) -> None:
        a, b = 1 - BETA1**self.steps, 1 - BETA2**self.steps
        for name, g in gradient.items():
            w, m, v = self.weights[name], self.m[name], self.v[name]
            m += (1 - BETA1) * (g - m)
            v += (1 - BETA2) * (g * g - v)
            w -= LR / a * m / (np.sqrt(v / b) + TINY)

    def answer(self) -> dict[str, np.ndarray]:
        loss, g = self.gradient(self.weights, *self.problem.batches[0], *self.problem.noise)
        return {"loss": np.asarray(loss), **g}
