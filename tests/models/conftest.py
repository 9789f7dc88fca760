"""Each test that asks for `xp` runs on NumPy and on the strict backend."""

import sys
from pathlib import Path

import pytest

import scratchgen as sg

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["numpy", "strict"])
def xp(request):
    with sg.backend(request.param) as active:
        yield active
