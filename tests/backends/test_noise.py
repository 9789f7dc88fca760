"""Noise from a counter: the published numbers, the right laws, streams that do not meet, and states that come back.

Statistical tests: fixed seeds, n as stated, thresholds for a family-wise error of 1e-6 over the family's
tests, and for each kind a wrong generator that the test must reject.
"""

import copy
import json
import pickle

import numpy as np
import pytest
from replay_tools import assert_same_bits
from scipy import stats

import reference.philox as oracle
import scratchgen as sg
from scratchgen import philox, strict
from scratchgen.backend import backend_of, get
from scratchgen.random import Generator

N = 200_000
FAMILY = 1e-6 / 40  # fewer than 40 tests share the error
PUBLISHED = (  # counter, key, block: the known answers of Random123, the library of Salmon et al.
    ((0, 0, 0, 0), (0, 0), "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    ((2**64 - 1,) * 4, (2**64 - 1,) * 2, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    ((0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
     (0x452821E638D01377, 0xBE5466CF34E90C6C), "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6"),
)  # fmt: skip


def counter(seed):
    return Generator(seed, mode="counter")


def draws(rng):
    return [
        rng.standard_normal((3, 2)),
        rng.standard_normal((5,), sg.float64),
        rng.random((5,)),
        rng.random((2, 3), sg.float64),
        rng.integers(-3, 7, (6,)),
        rng.permutation(8),
        rng.choice(5, (4,)),
        rng.choice(6, (3, 2), replace=False),
        rng.exponential((3,)),
        rng.exponential((3,), sg.float64),
        rng.standard_normal(),
        rng.random(7),
        rng.standard_normal((0, 3)),
        rng.choice(3, (20,), p=[0.5, 0.25, 0.25]),
    ]


def host(arrays):
    return [np.asarray(backend_of(a).to_numpy(a)) for a in arrays]


# --- words and their numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("block", "key", "answer"), PUBLISHED)
def test_the_oracle_gives_the_published_blocks(block, key, answer):
    assert oracle.block(block, key) == [int(word, 16) for word in answer.split()]
    assert oracle.block(block, key, rounds=9) != oracle.block(block, key)


@pytest.mark.parametrize("first", [0, 1, 5, 2**32 - 1, 2**63])
def test_words_are_those_of_the_oracle(first):
    key = (0x452821E638D01377, 0xBE5466CF34E90C6C)
    ours = philox.words(first, np.array(key, np.uint64), 22)
    assert ours.tolist() == oracle.words(key, first, 22)
    if first == 0:
        assert ours.tolist() == np.random.Philox(key=np.array(key, np.uint64)).random_raw(22).tolist()


def test_numbers_are_what_the_words_say(backend):
    """In Python's own integers and floats; a draw begins with a new block."""
    with sg.backend(backend.name):
        rng = counter(3)
        drawn = [rng.random((3,), sg.float64), rng.random((2,)), rng.integers(-5, 12, (6,)),
                 rng.exponential((1,), sg.float64), rng.standard_normal((3,), sg.float64)]  # fmt: skip
    key = np.random.SeedSequence(3).generate_state(2, np.uint64).tolist()
    words = [oracle.words(key, first, 8) for first in (0, 1, 2, 4, 5)]
    u, cut, whole, e, z = host(drawn)
    assert u.tolist() == [(w >> 11) / 2**53 for w in words[0][:3]]
    assert cut.tolist() == [(w >> 40) / 2**24 for w in words[1][:2]]
    assert whole.tolist() == [-5 + 17 * w // 2**64 for w in words[2][:6]]
    np.testing.assert_allclose(e, [-np.log1p(-(words[3][0] >> 11) / 2**53)], rtol=1e-14)
    a, b, c, d = [(w >> 11) / 2**53 for w in words[4][:4]]
    complex_pairs = [np.sqrt(-2 * np.log1p(-r)) * np.exp(2j * np.pi * t) for r, t in ((a, b), (c, d))]
    np.testing.assert_allclose(z, [complex_pairs[0].real, complex_pairs[0].imag, complex_pairs[1].real], rtol=1e-12)


def test_the_same_seed_gives_the_same_bits_on_every_backend():
    with sg.backend("strict"):
        there = draws(counter(7))
        assert {type(a).__name__ for a in there} == {"StrictArray"}
    here = draws(counter(7))
    for a, b in zip(host(here), host(there), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    assert [a.shape for a in here[:4]] == [(3, 2), (5,), (5,), (2, 3)]
    assert here[10].shape == ()


def test_float32_is_float64_rounded():
    """So a run in float32 has the noise of one in float64."""
    for name in ("random", "standard_normal", "exponential"):
        single = getattr(counter(4), name)((1000,))
        double = getattr(counter(4), name)((1000,), sg.float64)
        assert single.dtype == np.float32
        wanted = np.floor(double * 2**24) / 2**24 if name == "random" else double.astype(np.float32)
        np.testing.assert_array_equal(single, wanted)


def test_the_ends_of_the_range():
    """No word makes a uniform number of 1, an infinite one, or an integer out of its range."""
    ends = np.array([0, 2**64 - 1, 0, 2**64 - 1], np.uint64)
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        u = philox.uniform(ends, dtype)
        assert u.min() == 0
        assert u.max() < 1
        for law in (philox.normal, philox.exponential):
            assert np.isfinite(law(ends, dtype)).all()
            assert np.abs(law(ends, dtype)).max() < 37
    for count in (1, 2, 3, 2**31 + 1, 2**32 - 1, 2**32):
        assert philox.integers(ends, np.dtype(np.int64), -1, count - 1).tolist() == [-1, count - 2] * 2
        words = philox.words(0, np.array([1, 2], np.uint64), 64)
        exact = [(int(w) * count >> 64) - 1 for w in words]
        assert philox.integers(words, np.dtype(np.int64), -1, count - 1).tolist() == exact


def test_what_cannot_be_drawn():
    rng = counter(0)
    for low, high in ((3, 3), (4, 1), (0, 2**32 + 1)):
        with pytest.raises(ValueError, match=rf"integers in \[{low}, {high}\): between 1 and 2\*\*32 of them"):
            rng.integers(low, high, (2,))
    with pytest.raises(ValueError, match="5 different integers out of 4"):
        rng.choice(4, (5,), replace=False)
    with pytest.raises(TypeError, match="float16 numbers"):
        rng.random((2,), np.float16)
    with pytest.raises(TypeError, match="float32 numbers for an array of float64"):
        rng.random(out=np.empty(3))


def test_draws_into_an_array_of_ones_own(backend):
    with sg.backend(backend.name):
        for name in ("standard_normal", "random", "exponential"):
            wanted = getattr(counter(1), name)((4, 3))
            place = backend.zeros((4, 6), np.float32)
            part = place[:, ::2]
            assert getattr(counter(1), name)(out=part) is part
            np.testing.assert_array_equal(*host([place[:, ::2], wanted]))
            assert not host([place])[0][:, 1::2].any()


# --- streams and states ---------------------------------------------------------------------------------------------


def test_the_state_survives_json(backend):
    with sg.backend(backend.name):
        rng = counter(5)
        assert rng.state()["counter"] == 0
        draws(rng)
        children = rng.spawn(2)
        children[1].random((9,))
        state = json.loads(json.dumps(rng.state()))
        deep, again, pickled = copy.deepcopy(rng), Generator.from_state(state), pickle.loads(pickle.dumps(rng))
        restored = counter(99)
        restored.random((1,))
        restored.restore(state)
        wanted, grandchild = draws(rng), children[1].state()
        for other in (deep, again, restored, pickled):
            for a, b in zip(host(draws(other)), host(wanted), strict=True):
                assert a.tobytes() == b.tobytes()
            assert other.state() == rng.state()
        for a, b in zip(rng.spawn(2), again.spawn(2), strict=True):
            np.testing.assert_array_equal(*host([a.random((4,)), b.random((4,))]))
        a, b = Generator.from_state(json.loads(json.dumps(grandchild))).random((3,)), children[1].random((3,))
        np.testing.assert_array_equal(*host([a, b]))


def test_back_to_a_mark(backend):
    with sg.backend(backend.name):
        for mode in ("host", "counter"):
            for before in (0, 3):
                rng = Generator(2, mode)
                for _ in range(before):
                    rng.random((before,))
                wanted, mark = rng.state(), rng.mark()
                for back, where in ((rng.back, mark), (rng.back, mark), (rng.restore, wanted)):
                    draws(rng)
                    rng.spawn(3)
                    stream = rng.stream()
                    back(where)
                    assert rng.state() == wanted
                    assert rng.stream() is stream  # which a recorded graph may hold
                    again = Generator.from_state(wanted)
                    np.testing.assert_array_equal(*host([rng.random((3,)), again.random((3,))]))


@pytest.mark.parametrize("mode", ["host", "counter"])
def test_one_of_several_children(mode):
    one, all_of_them = Generator(3, mode).spawn(2)[1], Generator(3, mode).spawn(2)[1]
    for n in (1, 3, 8):
        assert one.spawn_one(n // 2, n).state() == all_of_them.spawn(n)[n // 2].state()
        assert one.state() == all_of_them.state()


@pytest.mark.parametrize("mode", ["host", "counter"])
def test_a_generator_becomes_another_and_its_stream_stays(backend, mode):
    with sg.backend(backend.name):
        rng, wanted = Generator(1, mode), Generator(2, mode).spawn(2)
        stream = rng.stream() if mode == "counter" else None
        for begun in (0, 3):
            for child in wanted:
                child.random((begun,))
                state = child.state()
                rng.become(child)
                assert rng.state() == state
                assert rng.stream() is stream or mode == "host"
                np.testing.assert_array_equal(*host([rng.random((7,)), Generator.from_state(state).random((7,))]))
                wanted = [Generator.from_state(state)]


def test_a_stream_goes_on_on_another_backend():
    wanted = counter(8)
    rng, parts = counter(8), []
    for name in ("numpy", "strict", "strict", "numpy"):
        with sg.backend(name):
            parts.append(rng.random((5,)))
            assert backend_of(rng.stream()) is get(name)
    np.testing.assert_array_equal(np.concatenate(host(parts)), np.concatenate([wanted.random((5,)) for _ in range(4)]))


def test_streams_do_not_meet():
    """2 × 10⁵ words of a parent, its children and theirs: were they one stream at other places, words would recur."""
    parent = counter(9)
    children = parent.spawn(3)
    streams = [parent, *children, *children[0].spawn(2), counter(10)]
    words = np.concatenate([g._counted("words", (30_000,), np.uint64) for g in streams])
    assert len(np.unique(words)) == len(words)
    assert len({tuple(g.stream()[1:3].tolist()) for g in streams}) == len(streams)
    wrong = np.concatenate([words[:30_000], counter(9)._counted("words", (40_000,), np.uint64)[10_000:]])
    assert len(np.unique(wrong)) < len(wrong)  # the control: the parent's own stream, at another place


def test_two_draws_share_no_word():
    rng = counter(1)
    words = np.concatenate([rng._counted("words", (n,), np.uint64) for n in (1, 2, 3, 4, 5, 8, 9)])
    assert len(np.unique(words)) == len(words)
    assert rng.state()["counter"] == 1 + 1 + 1 + 1 + 2 + 2 + 3


def test_a_replayed_step_draws_anew():
    def step(x, rng):
        return x + rng.standard_normal((4,)) * rng.random((4,)), rng.integers(0, 9, (3,)), rng.permutation(5)

    eager, rng = counter(6), counter(6)
    replayed = sg.replay(step)
    seen = []
    for i in range(6):
        x = np.full(4, i, np.float32)
        mine = replayed(x, rng)
        for a, b in zip(step(x, eager), mine, strict=True):
            assert_same_bits(a, b)
        seen.append(mine[0] - x)
    assert len(np.unique(seen)) == 24
    assert rng.state() == eager.state()


def test_a_captured_step_draws_anew_and_copies_nothing():
    """What the strict backend tells of a draw: no copy in either direction, and the same call every time."""
    with sg.backend("strict"):
        rng = counter(6)
        rng.stream()
        with strict.watched() as seen:
            draws = [rng.standard_normal((4,)), rng.random((4,)), rng.permutation(5), rng.choice(9, (2,)),
                     *(child.random((2,)) for child in rng.spawn(2))]  # fmt: skip
        assert not seen.times, seen
        captures = []
        for _ in range(2):
            with strict.capturing() as calls:
                draws.append(rng.standard_normal((4,)))
            captures.append(calls)
        strict.compare(*captures)
        assert not np.array_equal(*host(draws[-2:]))
        with strict.capturing(), pytest.raises(strict.CaptureError, match="noise drawn on the host"):
            Generator(6).standard_normal((4,))  # the control
        with strict.capturing(), pytest.raises(strict.CaptureError, match="to_numpy"):
            rng.state()
        with strict.capturing():
            rng.back(rng.mark())


def test_two_generators_on_two_threads_do_not_mix():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: np.stack([g.random((64,)) for g in [counter(seed)] * 200]), range(8)))
    for seed, rows in enumerate(found):
        rng = counter(seed)
        np.testing.assert_array_equal(rows, np.stack([rng.random((64,)) for _ in range(200)]))


# --- laws -------------------------------------------------------------------------------------------------------------


def rejects(p_value):
    return p_value < FAMILY


@pytest.mark.parametrize("dtype", [sg.float32, sg.float64])
def test_normal_uniform_and_exponential_numbers(dtype):
    """Kolmogorov and Smirnov's test, n = 200,000: sees a shift of 0.02σ with power > 0.99."""
    rng = counter(11)
    for sample, law in (
        (rng.standard_normal((N,), dtype), stats.norm),
        (rng.random((N,), dtype), stats.uniform),
        (rng.exponential((N,), dtype), stats.expon),
    ):
        x = np.asarray(sample, np.float64)
        assert not rejects(stats.kstest(x, law.cdf).pvalue)
        assert rejects(stats.kstest(x + 0.02, law.cdf).pvalue)  # the control
        assert rejects(stats.kstest(x * 1.03, law.cdf).pvalue)


def test_moments():
    """The first four, n = 200,000, within what they scatter by; 1 % of scale is seen."""
    rng = counter(12)
    for x, law in ((rng.standard_normal((N,), sg.float64), stats.norm), (rng.random((N,), sg.float64), stats.uniform),
                   (rng.exponential((N,), sg.float64), stats.expon)):  # fmt: skip
        bound = stats.norm.isf(FAMILY / 2)

        def error(x, k, law=law):
            """How many standard errors the k-th moment is off."""
            mean, spread = law.moment(k), np.sqrt(law.moment(2 * k) - law.moment(k) ** 2)
            return abs(np.mean(x**k) - mean) / spread * np.sqrt(N)

        assert all(error(x, k) < bound for k in (1, 2, 3, 4))
        assert error(x * 1.02, 2) > bound


def test_the_two_normals_of_a_pair_are_independent():
    z = counter(13).standard_normal((N, 2), sg.float64)
    bound = stats.norm.isf(FAMILY / 2) / np.sqrt(N)
    for f in (lambda x: x, np.square, np.abs):
        a, b = f(z[:, 0]), f(z[:, 1])
        assert abs(np.corrcoef(a, b)[0, 1]) < bound
    wrong = z[:, 0] * np.array([[1.0], [-1.0]])  # an angle drawn among four
    assert abs(np.corrcoef(*np.square(wrong))[0, 1]) > bound


def test_integers_choices_and_permutations_are_uniform():
    """Pearson's χ², n = 200,000: sees one value in ten that is 5 % too frequent."""
    rng = counter(14)
    first = np.array([int(rng.permutation(10)[0]) for _ in range(20_000)])
    some = np.array([rng.choice(10, (2,), replace=False) for _ in range(20_000)])
    assert (some[:, 0] != some[:, 1]).all()
    for sample in (rng.integers(0, 10, (N,)), rng.choice(10, (N,)), first, some[:, 1]):
        counts = np.bincount(sample, minlength=10)
        assert not rejects(stats.chisquare(counts).pvalue)
    loaded = np.where(rng.random((N,)) < 0.01, 0, rng.integers(0, 10, (N,)))
    assert rejects(stats.chisquare(np.bincount(loaded)).pvalue)


def test_parents_and_children_are_uncorrelated():
    """Pairs of streams, n = 200,000: 3 % of one stream in another are seen."""
    parent = counter(15)
    streams = [g.standard_normal((N,), sg.float64) for g in (parent, *parent.spawn(3))]
    bound = stats.norm.isf(FAMILY / 2) / np.sqrt(N)
    for i in range(4):
        for j in range(i):
            assert abs(np.mean(streams[i] * streams[j])) < bound
    assert abs(np.mean((streams[0] + 0.03 * streams[1]) * streams[1])) > bound
