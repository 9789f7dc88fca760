"""A table of ratings, mostly empty: people and films with tastes that are known here, for they were made up.

A person's liking of comedy, action, … times what a film has of each, and noise, rounded to 1 … 5 stars.  Most people
like one kind of film much more than the others, most films are of one kind.  Since the noise is known, so is the error
that nobody can go below.
"""

from __future__ import annotations

import numpy as np

from scratchgen.models.classical.nmf import NMF, NMFConfig
from scratchgen.random import Generator
from scratchgen.recipes.fitted import on_backend
from scratchgen.recipes.recipe import on_host
from scratchgen.train.report import Table

PEOPLE, FILMS, TASTES = 300, 60, 3
RANK = TASTES + 1  # of the factorisation: one part for the star that nobody can refuse
UPDATES = 400
NOISE = 0.4  # stars
KNOWN, ASKED = 0.3, 0.1  # of all ratings: those that are fitted to, and those that are asked for


def made(rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """(stars, what they would be without noise and rounding), both (PEOPLE, FILMS)."""
    liking, content = (on_host(rng.exponential((n, TASTES), "float64")) ** 2 for n in (PEOPLE, FILMS))
    product = liking @ content.T
    clean = 1 + 4 * product / (product + np.median(product))
    return np.clip(np.rint(clean + NOISE * on_host(rng.standard_normal(clean.shape, "float64"))), 1, 5), clean


def judged(rng: Generator) -> tuple[list[tuple[str, float]], dict[str, np.ndarray]]:
    """(name, root mean squared error on the ratings asked for), and arrays for the picture."""
    stars, clean = made(rng)
    u = on_host(rng.random(stars.shape, "float64"))
    known, asked = u < KNOWN, u > 1 - ASKED
    mask = known.astype(np.float64)
    film = (stars * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
    person = ((stars - film) * mask).sum(axis=1, keepdims=True) / (mask.sum(axis=1, keepdims=True) + 3)
    system = NMF(NMFConfig(PEOPLE, FILMS, RANK)).fit(on_backend(stars), rng, steps=UPDATES, mask=on_backend(mask))
    guess = np.clip(on_host(system.inverse_transform(system.W.array)), 1, 5)
    error = lambda guess: float(np.sqrt(((guess - stars) ** 2)[asked].mean()))  # noqa: E731
    everyone = 0 * stars
    guesses = {"the mean of all ratings": stars[known].mean() + everyone, "the film's mean": film + everyone,
               "the film's mean and the person's habit": film + person, f"NMF, {RANK} parts": guess,
               "the truth, without its noise": clean}  # fmt: skip
    found = [(name, error(guess)) for name, guess in guesses.items()]
    return found, {"stars": stars, "stars_known": known, "stars_guessed": guess, "stars_clean": clean}


def table(found: list[tuple[str, float]]) -> Table:
    """Rows of `judged`."""
    return Table(
        "Missing ratings",
        f"{PEOPLE} made-up people and {FILMS} films; {KNOWN:.0%} of the ratings are known, and others are asked for: "
        "by how many stars (root mean square) a guess is off. The first row is the ceiling, the last the floor: "
        "whoever knows every taste is still off by the noise.",
        ("guess", "stars off"), [(name, f"{e:.3f}") for name, e in found], frozenset({0, len(found) - 1}),
    )  # fmt: skip
