"""Hypothesis profiles, and the backends that the engine's tests run on.

HYPOTHESIS_PROFILE=ci        the default: the same examples every time, no deadline, no database
                   dev       few examples, for the edit-and-run cycle
                   nightly   many examples, other ones every time
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is loaded; the workers are the parallelism

import pytest
from hypothesis import HealthCheck, settings

from scratchgen.backend import get

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("dev", max_examples=10, deadline=None, suppress_health_check=SLOW)
settings.register_profile(
    "ci", max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW
)
settings.register_profile("nightly", max_examples=1500, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "ci")


@pytest.fixture(params=["numpy", "strict"])
def backend(request):
    """A backend whose arrays the test uses; which one is active stays as it is."""
    return get(request.param)
