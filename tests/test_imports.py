"""Every module of the models can be the first that somebody imports."""

import subprocess
import sys

ONE_BY_ONE = """
import importlib, pkgutil, sys
import numpy, scipy.special, scipy.linalg, scratchgen.models

names = [m.name for m in pkgutil.walk_packages(scratchgen.models.__path__, "scratchgen.models.")]
for name in names:
    for old in [old for old in sys.modules if old.partition(".")[0] == "scratchgen"]:
        del sys.modules[old]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
print(len(names))
"""


def test_no_import_goes_in_a_circle():
    found = subprocess.run([sys.executable, "-c", ONE_BY_ONE], capture_output=True, text=True, check=True)
    *failed, count = found.stdout.splitlines()
    assert not failed
    assert int(count) > 50
