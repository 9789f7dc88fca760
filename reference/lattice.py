"""Spins on a grid, few enough to write every state down: one table of 2^(rows·columns) probabilities.

The grid is a Boltzmann machine on spins whose couplings are 0 but for pixels at distance 1. Whatever is asked of it is
a sum, a share or a maximum of the table: no local field, sigmoid or transfer from row to row is used.
"""

import itertools

import numpy as np

from reference.mcmc import binary_states, pair_potential


def spins(rows: int, columns: int) -> np.ndarray:
    """All states, (2^(rows·columns), rows, columns), of −1 and 1, in the order of `binary_states`."""
    return 2 * binary_states(rows * columns).reshape(-1, rows, columns) - 1


def logs(f, beta: float) -> np.ndarray:
    """−E of every state. f: (rows, columns), the field at each pixel. beta: the coupling of neighbours."""
    rows, columns = np.shape(f)
    places = list(itertools.product(range(rows), range(columns)))
    pairs = [beta * (abs(a - c) + abs(b - d) == 1) for (a, b), (c, d) in itertools.combinations(places, 2)]
    return pair_potential(np.concatenate([np.ravel(f), pairs]), spins(rows, columns).reshape(-1, rows * columns))


def neighbour(n: int, i: int) -> np.ndarray:
    """The place of every state after its bit i is turned, (2ⁿ,)."""
    return np.arange(2**n) ^ (1 << (n - 1 - i))


def colours(rows: int, columns: int) -> list[list[int]]:
    """The places of the black and of the white squares of a chessboard, black in the corner."""
    board = [[], []]
    for place, (r, c) in enumerate(itertools.product(range(rows), range(columns))):
        board[(r + c) % 2].append(place)
    return board


def redrawn(p, n: int, places) -> np.ndarray:
    """The matrix (2ⁿ, 2ⁿ) of drawing the bits at `places` anew from the table p, given all others."""
    states = binary_states(n)
    rest = np.delete(states, places, axis=1)
    same = (rest[:, None] == rest[None]).all(axis=-1)
    shares = np.where(same, np.asarray(p)[None], 0.0)
    return shares / shares.sum(axis=1, keepdims=True)


def likeliest(p, n: int, places) -> np.ndarray:
    """For every state the one of largest p among those that differ from it at `places` only, (2ⁿ,)."""
    return redrawn(p, n, places).argmax(axis=1)
