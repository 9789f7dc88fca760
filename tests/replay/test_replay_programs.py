"""Random programs and their gradients: the replay's numbers are the program's own, to the last bit.

With blocks of a few bytes and no array too small for them, all that the planner does is done to small programs.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import programs, run, shapes
from replay_tools import assert_same_bits

import scratchgen as sg
from scratchgen import planning

MANY = settings(max_examples=2 * settings.default.max_examples)


def arrays(shapes, seed, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.fixture(params=[(1, 64), (1, 1), (256, 200)], ids=lambda p: f"{p[0]}-{p[1]}")
def small_blocks(request, monkeypatch):
    monkeypatch.setattr(planning, "LARGE", request.param[0])
    monkeypatch.setattr(planning, "BLOCK", request.param[1])


@pytest.mark.usefixtures("small_blocks")
def test_random_programs():
    seen = {"blocks": 0, "shared": 0, "small": 0, "parts": 0, "plans": 0}

    @MANY
    @given(programs, shapes, st.sampled_from(["float32", "float64"]))
    def check(program, shapes, dtype):
        step = lambda *xs: run(program, xs)  # noqa: E731
        replay = sg.replay(step)
        for seed in range(5):
            xs = arrays(shapes, seed, dtype)
            assert_same_bits(step(*xs), replay(*xs))
        (plans,) = replay.plans.values()
        (plan,) = plans
        seen["plans"] += 1
        seen["blocks"] += any(step.rows for step in plan.steps)
        seen["shared"] += bool(plan.home)
        seen["small"] += bool(plan.small)
        seen["parts"] += any(not step.calls for step in plan.steps)

    check()
    assert all(seen.values()), seen
