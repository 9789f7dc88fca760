"""Metropolis–Hastings: samples of p from ratios of p alone, so that its constant Z is never needed.
Metropolis et al. (1953); Hastings (1970).

A proposal x' is drawn near x, and taken or refused:

    a(x → x') = min(1, p(x')/p(x))                        q symmetric                  (1)  mcmc.accept
    a(x → x') = min(1, p(x')·q(x|x') / (p(x)·q(x'|x)))    any q                        (2)  mcmc.hastings
    x ← x' where u < a, else x stays and counts again,    u ~ U[0, 1)                  (3)  mcmc.step

Why p stays p: of any two states, p(x)·q(x'|x)·a(x → x') is the smaller of p(x)·q(x'|x) and p(x')·q(x|x'), the same
seen from either side.  As much flows from x to x' as back (detailed balance), so nothing changes: pK = p.

Everywhere: x (B, …), B chains side by side; log p and log q (B,), in nats, log p up to a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import backend_of
from scratchgen.random import Generator

LogP = Callable[[Any], Any]
"""x (B, …) ↦ log p(x) + constant, (B,).  For an energy model: f = −E."""


class State(NamedTuple):
    """Where the chains are: x (B, …), log p(x) (B,), and whether the last proposal was taken, (B,) of bool."""

    x: Any
    log_p: Any
    accepted: Any


def log_accept(log_p: Any, log_p_new: Any) -> Any:
    """log a(x → x') for a symmetric proposal, eq. (1).

    log_p, log_p_new: log p at x and at x', (B,); −∞ where p(x') = 0, but p(x) > 0.  Returns (B,), at most 0.
    """
    return ops.minimum(log_p_new - log_p, 0.0)


def log_hastings(log_p: Any, log_p_new: Any, log_q: Any, log_q_back: Any) -> Any:
    """log a(x → x') for any proposal, eq. (2).

    log_p, log_p_new: as in `log_accept`.  log_q: log q(x'|x), there; log_q_back: log q(x|x'), and back again, (B,).
    """
    return log_accept(log_p + log_q, log_p_new + log_q_back)


def start(log_p: LogP, x: Any) -> State:
    """Chains at x (B, …), where p(x) > 0.  Raises ValueError if log_p does not give (B,)."""
    return State(x, _density(log_p, x), backend_of(value_of(x)).ones((x.shape[0],), bool))


def step(
    log_p: LogP, state: State, x_new: Any, u: Any, log_q: Callable[[Any, Any], Any] | None = None
) -> State:
    """One step of every chain, eq. (3).

    x_new: the proposals, drawn from q(· | x), in x's shape.  u: U[0, 1), (B,).
    log_q: (to, from) ↦ log q(to | from), (B,); None: q is symmetric.
    Raises ValueError if the shapes do not fit.
    """
    fits(state, x_new, u)
    log_p_new = _density(log_p, x_new)
    if log_q is None:
        log_a = log_accept(state.log_p, log_p_new)
    else:
        log_a = log_hastings(state.log_p, log_p_new, log_q(x_new, state.x), log_q(state.x, x_new))
    return choose(state, x_new, log_p_new, log_a, u)


def fits(state: State, x_new: Any, u: Any) -> None:
    """Raises ValueError unless there is one proposal, in x's shape, and one u for every chain."""
    if x_new.shape != state.x.shape or u.shape != (state.x.shape[0],):
        raise ValueError(f"metropolis: x_new {x_new.shape}, u {u.shape} do not fit chains {state.x.shape}")


def choose(state: State, x_new: Any, log_p_new: Any, log_a: Any, u: Any) -> State:
    """x' where u < a, x elsewhere, eq. (3).  With u in [0, 1), a = 1 is always taken and a = 0 never."""
    accepted = u < ops.exp(log_a)
    rows = accepted.reshape((-1,) + (1,) * (x_new.ndim - 1))
    return State(ops.where(rows, x_new, state.x), ops.where(accepted, log_p_new, state.log_p), accepted)


def random_walk(log_p: LogP, x: Any, sigma: float, steps: int, rng: Generator) -> Iterator[State]:
    """`steps` steps with x' = x + σ·z, z ~ N(0, I), one state at a time.  x: (B, …), where p > 0."""
    state = start(log_p, x)
    for _ in range(steps):
        z = rng.standard_normal(x.shape, x.dtype)
        state = step(log_p, state, state.x + sigma * z, rng.random((x.shape[0],), x.dtype))
        yield state


def _density(log_p: LogP, x: Any) -> Any:
    found = log_p(x)
    if found.shape != (x.shape[0],):
        raise ValueError(f"metropolis: log_p gives {found.shape} for x {x.shape}; it should be one number per chain")
    return found
