"""English text that comes with Python itself: what `help("topics")` shows, the language reference in 79 chapters.

A text is a row of symbols out of a fixed alphabet, the line's end and the printable characters of ASCII, so that no
version of Python's documentation can change what a network reads and writes.  Typographic quotes and dashes become the
plain ones; what has no place in the alphabet is left out.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from scratchgen.data.dataset import DataError, Dataset

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
PLAIN = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "−": "-", "…": "...", "\t": "    ", "\xa0": " "}
PIECE = 4096  # characters, at least, that are held out or not together
ROW = 256  # symbols in an example


def topics() -> Dataset:
    """(N, 256) int64 for fitting and (M, 256) held out, M ≈ N/9: rows of one text each, to be read one after the other.

    The split is a rule and not a draw.  Chapters are taken from the longest to the shortest, and of a paragraph that
    stands in several (most stand in two) the first alone is kept, so that nothing held out was seen in training.  The
    text is cut, at ends of paragraphs, into pieces of 4,096 characters or a little more; every tenth is held out, the
    fifth, the fifteenth, ….

    Raises DataError if this Python came without its documentation.
    """
    if importlib.util.find_spec("pydoc_data") is None:
        raise DataError("topics: this Python came without pydoc_data, the documentation of its language")
    from pydoc_data.topics import topics as chapters

    train, heldout = "", ""
    for i, piece in enumerate(pieces(paragraphs(chapters.values()))):
        if i % 10 == 4:
            heldout += piece
        else:
            train += piece
    if min(len(train), len(heldout)) < ROW:
        raise DataError("topics: the documentation of this Python holds too little text")
    return Dataset("topics", rows(encode(train)), rows(encode(heldout)), alphabet=ALPHABET)


def paragraphs(chapters: object) -> list[str]:
    """What is between blank lines, from the longest chapter on; what was there before, however indented, once."""
    found: dict[str, str] = {}
    for text in sorted(map(plain, chapters), key=lambda text: (-len(text), text)):  # type: ignore[call-overload]
        for paragraph in text.split("\n\n"):
            found.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    return [paragraph for words, paragraph in found.items() if words]


def pieces(parts: list[str]) -> list[str]:
    """Paragraphs, each with a blank line after it, joined to pieces of PIECE characters or more; the rest is cut."""
    found, piece = [], ""
    for part in parts:
        piece += part + "\n\n"
        if len(piece) >= PIECE:
            found.append(piece)
            piece = ""
    return found


def plain(text: str) -> str:
    """The text in the alphabet."""
    text = "".join(PLAIN.get(c, c) for c in text)
    return "".join(c for c in text if c in ALPHABET)


def encode(text: str) -> np.ndarray:
    """The places of the characters in the alphabet, (N,) int64.  Raises DataError for one that is not there."""
    strange = next((c for c in text if c not in ALPHABET), None)
    if strange is not None:
        raise DataError(f"the character {strange!r} is not in the alphabet: the line's end and printable ASCII")
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64)
    return np.where(codes == ord("\n"), 0, codes - 31)


def decode(symbols: np.ndarray) -> str:
    """The characters of symbols (N,)."""
    return "".join(ALPHABET[k] for k in symbols)


def rows(symbols: np.ndarray) -> np.ndarray:
    """Symbols (N·256 + r,) as (N, 256); the last r are dropped."""
    return symbols[: len(symbols) // ROW * ROW].reshape(-1, ROW)
