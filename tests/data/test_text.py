"""The text that comes with Python: an alphabet, a rule that splits it, and nothing of one part in the other."""

import re
import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgen.data import DataError, Dataset, load, text


@pytest.fixture(scope="module")
def ds():
    return load("topics")


def chapters():
    from pydoc_data.topics import topics

    return topics


def words(paragraph):
    return " ".join(paragraph.split())


def test_shapes_and_alphabet(ds):
    assert ds.train.shape[1:] == ds.heldout.shape[1:] == (256,)
    assert ds.train.dtype == ds.heldout.dtype == np.int64
    assert ds.alphabet == text.ALPHABET == "\n" + "".join(chr(c) for c in range(32, 127))
    assert len(ds.alphabet) == 96
    for part in (ds.train, ds.heldout):
        assert part.min() == 0 and part.max() < 96
    assert 200_000 < ds.train.size < 2_000_000  # other versions of Python have another text, of much the same length
    assert 0.08 < ds.heldout.size / (ds.train.size + ds.heldout.size) < 0.12


def test_it_is_the_documentation_of_this_python(ds):
    """Whole paragraphs of both parts stand in the source, word by word."""
    source = words(text.plain("\n\n".join(chapters().values())))
    for part in (ds.train, ds.heldout):
        found = text.decode(part.ravel()).split("\n\n")[1:-1]
        assert len(found) > 100
        assert all(words(p) in source for p in found)


def test_nothing_that_is_held_out_was_read(ds):
    """No paragraph of one part is in the other, however it is indented; and none stands twice."""
    train, heldout = ({words(p) for p in text.decode(x.ravel()).split("\n\n")[1:-1]} for x in (ds.train, ds.heldout))
    assert not train & heldout
    everything = [words(p) for x in (ds.train, ds.heldout) for p in text.decode(x.ravel()).split("\n\n")[1:-1]]
    assert len(everything) == len(set(everything))
    twice = [words(p) for chapter in map(text.plain, chapters().values()) for p in chapter.split("\n\n")]
    assert len(twice) > 1.1 * len(set(twice))  # in the source many do


def test_the_split_is_a_rule(ds):
    """Again by the book: pieces of whole paragraphs in the order they are kept, of which the 5th, the 15th … go."""
    again = load("topics")
    assert np.array_equal(again.train, ds.train) and np.array_equal(again.heldout, ds.heldout)
    kept = text.paragraphs(chapters().values())
    pieces = text.pieces(kept)
    assert all(len(p) >= 4096 and p.endswith("\n\n") for p in pieces)
    assert max(map(len, pieces)) < 4096 + max(map(len, kept)) + 2
    assert "\n\n".join([*kept, ""]).startswith("".join(pieces))
    held = "".join(pieces[4::10])
    assert text.decode(ds.heldout.ravel()) == held[: ds.heldout.size]
    assert len(held) - ds.heldout.size < 256
    rest = "".join(p for i, p in enumerate(pieces) if i % 10 != 4)
    assert text.decode(ds.train.ravel()) == rest[: ds.train.size]


def test_paragraphs_are_kept_once_the_longest_chapter_first():
    assert text.paragraphs(["b b\n\nc", "a long one\n\n   b  b\n\n\n\n", "c"]) == ["a long one", "   b  b", "c"]
    assert text.paragraphs(["same", "size"]) == ["same", "size"] == text.paragraphs(["size", "same"])
    assert text.paragraphs(["", "\n\n \n\n"]) == []


@given(st.text(text.ALPHABET))
def test_decoding_undoes_encoding(characters):
    codes = text.encode(characters)
    assert codes.dtype == np.int64
    assert text.decode(codes) == characters
    assert codes.tolist() == [text.ALPHABET.index(c) for c in characters]


@given(st.text())
def test_any_text_becomes_one_of_the_alphabet(characters):
    assert set(text.plain(characters)) <= set(text.ALPHABET)
    assert text.plain(text.plain(characters)) == text.plain(characters)


def test_typography_becomes_plain():
    assert text.plain("“It’s”\t3–4 — …é") == "\"It's\"    3-4 -- ..."
    with pytest.raises(DataError, match="'é' is not in the alphabet"):
        text.encode("caf\xe9")


def test_the_last_row_is_whole():
    assert text.rows(np.arange(600)).shape == (2, 256)
    assert text.rows(np.arange(255)).shape == (0, 256)


def test_a_python_without_its_documentation_is_told_so(monkeypatch):
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="came without pydoc_data"):
        load("topics")
    monkeypatch.undo()
    short = ModuleType("topics")
    short.topics = {"a": "little"}
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", short)
    with pytest.raises(DataError, match="too little text"):
        load("topics")


def test_any_version_of_the_documentation_will_do(monkeypatch):
    """Another text: other words, characters of other scripts, chapters in another order."""
    other = ModuleType("topics")
    noise = np.random.default_rng(0)
    lines = [" ".join(f"w{k}" for k in noise.integers(0, 999, 12)) + " “ü”" for _ in range(4000)]
    other.topics = {str(i): "\n\n".join(lines[i : i + 150]) for i in range(0, 4000, 100)}  # that overlap
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", other)
    ds = load("topics")
    assert not re.search("[^\n -~]", text.decode(ds.train.ravel()))
    total = sum(len(text.plain(line)) + 2 for line in lines)
    assert abs(ds.train.size + ds.heldout.size - total) < 4096 + 2 * 256


def test_texts_are_integers_and_others_are_not():
    rows = np.zeros((3, 4), np.int64)
    assert Dataset("t", rows, rows, alphabet="ab").alphabet == "ab"
    with pytest.raises(DataError, match="must be float32"):
        Dataset("t", rows, rows)
    with pytest.raises(DataError, match="must be int64"):
        Dataset("t", rows.astype(np.float32), rows.astype(np.float32), alphabet="ab")
