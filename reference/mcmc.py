"""Markov chains on a few states, written out as matrices, and energy models whose constant is a sum over all states.

A chain is judged by linear algebra: its matrix K is put together from the probabilities with which it accepts, and the
distribution it settles at is K's left eigenvector. Which acceptance is the right one is asked of a linear programme:
the largest that keeps detailed balance. No ratio, minimum or exponential of an energy difference is taken.
"""

import itertools
from collections.abc import Callable

import numpy as np
from scipy import optimize

# --- chains -------------------------------------------------------------------------------------------------


def acceptance(pi, proposal) -> np.ndarray:
    """a (n, n): of all acceptances in detailed balance with π, the largest (Peskun 1973).

        maximise Σ a_ij   subject to   π_i q_ij a_ij = π_j q_ji a_ji,   0 ≤ a ≤ 1

    pi: (n,), need not sum to 1. proposal: q (n, n). Solved as a linear programme; a is 1 where nothing is proposed
    in either direction.
    """
    n = len(pi)
    flow = np.asarray(pi, dtype=np.float64)[:, None] * proposal
    pairs = [(i, j) for i, j in itertools.combinations(range(n), 2) if flow[i, j] > 0 or flow[j, i] > 0]
    balance = np.zeros((len(pairs), 2 * len(pairs)))
    for row, (i, j) in enumerate(pairs):
        scale = max(flow[i, j], flow[j, i])
        balance[row, 2 * row], balance[row, 2 * row + 1] = flow[i, j] / scale, -flow[j, i] / scale
    a = np.ones((n, n))
    if pairs:
        found = optimize.linprog(-np.ones(2 * len(pairs)), A_eq=balance, b_eq=np.zeros(len(pairs)), bounds=(0, 1))
        for row, (i, j) in enumerate(pairs):
            a[i, j], a[j, i] = found.x[2 * row : 2 * row + 2]
    return a


def threshold(accepts: Callable[[np.ndarray], np.ndarray], shape, rounds: int = 60) -> np.ndarray:
    """The acceptance probabilities behind decisions: the u below which `accepts(u)` says yes, by bisection.

    accepts: u (…) ↦ bool (…), for many decisions at once, each yes up to some u in [0, 1] and no beyond.
    """
    low, high = np.zeros(shape), np.ones(shape)
    for _ in range(rounds):
        middle = (low + high) / 2
        yes = accepts(middle)
        low, high = np.where(yes, middle, low), np.where(yes, high, middle)
    return (low + high) / 2


def transition_matrix(proposal, accepted) -> np.ndarray:
    """K_ij = q_ij a_ij for j ≠ i; what is refused stays, so that rows sum to 1."""
    K = np.asarray(proposal) * accepted
    np.fill_diagonal(K, 0.0)
    return K + np.diag(1 - K.sum(axis=1))


def stationary(K) -> np.ndarray:
    """π with πK = π and sum 1: the left eigenvector of the eigenvalue 1, which must be the only one."""
    values, vectors = np.linalg.eig(np.asarray(K).T)
    order = np.argsort(np.abs(values - 1))
    if len(values) > 1 and abs(values[order[1]] - 1) < 1e-9:
        raise ValueError("the chain does not connect all states: several distributions are stationary")
    pi = np.real(vectors[:, order[0]])
    return pi / pi.sum()


def net_flow(flow) -> np.ndarray:
    """Detailed balance: flow_ij − flow_ji, for flow_ij = π_i K_ij or a density of it; zero where it holds."""
    return np.asarray(flow) - np.asarray(flow).T


# --- energy models on {0, 1}^n ------------------------------------------------------------------------------------


def binary_states(n: int) -> np.ndarray:
    """All 2ⁿ states, (2ⁿ, n), as floats 0 and 1."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def place(x) -> np.ndarray:
    """The row of `binary_states` that each x (…, n) is."""
    x = np.asarray(x)
    return (x @ 2.0 ** np.arange(x.shape[-1])[::-1]).astype(int)


def pair_potential(theta, x) -> np.ndarray:
    """f(x) = Σ_i b_i x_i + Σ_{i<j} w_ij x_i x_j for x (N, n): a visible Boltzmann machine.

    theta: b_1 … b_n, then w_12, w_13, …; complex numbers allowed.
    """
    n = x.shape[-1]
    pairs = [x[:, i] * x[:, j] for i, j in itertools.combinations(range(n), 2)]
    return np.stack([*x.T, *pairs], axis=-1) @ theta


def log_probs(f: Callable, states, theta) -> np.ndarray:
    """log p of every state, with Z summed over all of them; analytic in θ."""
    logs = f(theta, states)
    top = logs.real.max()
    return logs - top - np.log(np.exp(logs - top).sum())


def log_likelihood(f: Callable, states, theta, data) -> np.ndarray:
    """The mean of log p over rows of data, given by their places among the states; analytic in θ."""
    return log_probs(f, states, theta)[data].mean()


def flips(n: int) -> np.ndarray:
    """The proposal (2ⁿ, 2ⁿ) that flips one of the n bits, each as likely."""
    states = binary_states(n)
    return (np.abs(states[:, None] - states[None]).sum(axis=-1) == 1) / n


def mean_feature_gap(data, model, features) -> np.ndarray:
    """E_data φ − E_model φ, for distributions over states and features φ (states, parameters).

    It is the direction in which contrastive divergence ascends when f = θ·φ and its samples follow `model`.
    """
    return (np.asarray(data) - np.asarray(model)) @ features
