"""Every function that scratchgen asks of a backend is one of CuPy's, with the arguments that it is given.

Needs CuPy, any build for this Python, and no device: names and signatures are there without one.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import scratchgen
from scratchgen import manners, strict
from scratchgen.backend import Backend

cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
if not hasattr(cupy, "cuda"):
    pytest.skip("this CuPy is one made for tests", allow_module_level=True)
special = importlib.import_module("cupyx.scipy.special")

SOURCE = Path(scratchgen.__file__).parent
HOST_ONLY = {"fastconv.py", "fastmath.py", "planning.py", "processes.py", "recording.py", "winograd.py"}


class Use(NamedTuple):
    """A function of a backend, as some line of the source uses it.  positional: None, where it is not called."""

    where: str
    names: tuple[str, ...]
    positional: int | None
    keywords: tuple[str, ...]


def is_backend(node: ast.AST) -> bool:
    """`xp`, `self.xp`, `flat.xp`, `active()`, `xp.products(…)`."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", getattr(node.func, "attr", None)) in ("active", "products")
    return getattr(node, "id", getattr(node, "attr", None)) == "xp"


def chain(node: ast.AST) -> tuple[ast.AST, tuple[str, ...]]:
    """What `a.b.c` begins with, and its names."""
    names: list[str] = []
    while isinstance(node, ast.Attribute) and not is_backend(node):
        names.append(node.attr)
        node = node.value
    return node, tuple(reversed(names))


def uses() -> list[Use]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name in HOST_ONLY:
            continue
        tree = ast.parse(path.read_text())
        called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            start, names = chain(node)
            if not names or id(node) in inner or not is_backend(start):
                continue
            call = called.get(id(node))
            starred = call is not None and any(isinstance(a, ast.Starred) for a in call.args)
            found.append(Use(
                f"{path.relative_to(SOURCE)}:{node.lineno}", names,
                None if call is None or starred else len(call.args),
                tuple(k.arg for k in call.keywords if k.arg) if call is not None else (),
            ))  # fmt: skip
    return found


def methods_of_the_device() -> set[str]:
    """What the classes of scratchgen.cuda define themselves."""
    trees = [ast.parse(path.read_text()) for path in SOURCE.glob("cuda/*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {node.name for owner in classes for node in owner.body if isinstance(node, ast.FunctionDef)}


OWN = methods_of_the_device() | {"__dict__", "precision", "convolution"}
USES = [use for use in uses() if not hasattr(Backend, use.names[0]) and use.names[0] not in OWN]


def function_of(*names: str):
    """CuPy's function of that name: `linalg.solve`, `exp`, `erf`."""
    found = getattr(cupy, names[0], None) or getattr(special, names[0], None)
    for name in names[1:]:
        found = getattr(found, name, None)
    return found


def refuses(function, positional: int, keywords: tuple[str, ...]) -> str:
    """What CuPy's function has against such a call; nothing, if it takes it."""
    if isinstance(function, cupy.ufunc):
        if positional > function.nargs:
            return f"takes {function.nargs} arguments at most"
        extra = set(keywords) - manners.UFUNC
        return f"takes no {', '.join(sorted(extra))}" if extra else ""
    try:
        inspect.signature(function).bind(*[None] * positional, **dict.fromkeys(keywords))
    except TypeError as error:
        return str(error)
    except ValueError:  # a built-in without a signature
        return ""
    return ""


def test_the_source_is_read():
    """Uses of all four forms are found, with their arguments."""
    names = {use.names for use in USES}
    assert {("exp",), ("linalg", "solve"), ("arange",), ("tri",)} <= names and len(USES) > 200
    search = next(use for use in USES if use.names == ("searchsorted",))
    assert (search.positional, search.keywords) == (2, ("side",))


@pytest.mark.parametrize("name", sorted({use.names for use in USES}), ids=".".join)
def test_cupy_has_it_and_takes_its_arguments(name):
    function = function_of(*name)
    assert function is not None, [use.where for use in USES if use.names == name]
    if not callable(function) or isinstance(function, type):
        return
    for use in USES:
        if use.names == name and use.positional is not None:
            wrong = refuses(function, use.positional, use.keywords)
            assert not wrong, f"{use.where}: {'.'.join(name)} {wrong}"


# --- what the strict backend offers -------------------------------------------------------------------------


@pytest.mark.parametrize("name", strict.UFUNCS)
def test_the_strict_backends_elementwise_functions(name):
    ours = getattr(np, name, None) or getattr(strict.scipy_special, name)
    theirs = function_of(name)
    assert theirs is not None
    if isinstance(theirs, cupy.ufunc):
        assert (theirs.nin, theirs.nout) == (ours.nin, ours.nout)
        for keyword in ("where", "order", "subok"):  # refused before the device is asked
            with pytest.raises(TypeError, match="Wrong arguments"):
                theirs(*[1.0] * theirs.nin, **{keyword: None})


def parameters(function) -> set[str] | None:
    """Names of keywords; None, where any may be given."""
    try:
        known = inspect.signature(function).parameters.values()
    except ValueError:
        return None
    if any(p.kind is p.VAR_KEYWORD for p in known) and function is not np.clip:
        return None
    return {p.name for p in known if p.kind not in (p.VAR_POSITIONAL, p.POSITIONAL_ONLY, p.VAR_KEYWORD)}


LISTED = [(name, np, cupy) for name in strict.FUNCTIONS + strict.CREATION]
LISTED += [(name, np.linalg, cupy.linalg) for name in strict.LINALG]


@pytest.mark.parametrize("name, ours, theirs", LISTED, ids=[name for name, *_ in LISTED])
def test_what_the_strict_backend_refuses_is_what_cupy_lacks(name, ours, theirs):
    mine, other = parameters(getattr(ours, name)), parameters(getattr(theirs, name))
    if other is None or mine is None:
        assert name in ("einsum", "pad"), f"{name}: has no signature to compare"
        return
    assert manners.LACKED.get(name, set()) == mine - other


def test_arrays_have_the_strict_arrays_methods():
    own = {"_a", "__slots__", "__module__", "__doc__", "__index__"}  # `__index__` is there to refuse
    for name in set(vars(strict.StrictArray)) - own:
        assert hasattr(cupy.ndarray, name), name


METHODS = {name: getattr(cupy.ndarray, name).__doc__ for name in (*strict.METHODS.split(), "astype", "copy")}


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_axes_and_keepdims_where_numpys_do(name):
    """Their signatures are the first line of their docstrings."""
    line = (METHODS[name] or "").partition("\n")[0]
    taken = set(re.findall(r"(\w+)=", line))
    reduces = name in ("sum", "mean", "max", "min", "prod", "any", "all", "argmax", "argmin")
    assert {"axis", "keepdims"} <= taken if reduces else line
    assert "copy" in taken if name == "astype" else line


# --- what runs on a device only ------------------------------------------------------------------------------


def names_of_modules() -> list[tuple[str, str]]:
    """(place, dotted name) for each `cupy.…` and `cupyx.…` that scratchgen.cuda and train write."""
    found = []
    for path in sorted([*SOURCE.glob("cuda/*.py"), *SOURCE.glob("train/*.py"), SOURCE / "backend.py"]):
        tree = ast.parse(path.read_text())
        known = {"cupy": "cupy", "cupyx": "cupyx"}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in known:
                for alias in node.names:
                    known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    found.append((f"{path.name}:{node.lineno}", f"{node.module}.{alias.name}"))
            if isinstance(node, ast.Import):
                known |= {a.asname: a.name for a in node.names if a.asname and a.name.startswith("cupy")}
        for node in ast.walk(tree):
            start, names = chain(node)
            if names and isinstance(start, ast.Name) and known.get(start.id, "").startswith("cupy"):
                found.append((f"{path.name}:{node.lineno}", ".".join((known[start.id], *names))))
    return found


def resolve(dotted: str):
    """The object of that name, as far as modules and classes go."""
    parts = dotted.split(".")
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if not (inspect.ismodule(found) or inspect.isclass(found)):
            return found
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:i]))
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("where, name", sorted({(w.partition(":")[0], n) for w, n in names_of_modules()}))
def test_what_the_device_code_names_exists(where, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a library for several GPUs is not installed
        resolve(name)


OBJECTS = {
    "cuda.Stream": "begin_capture end_capture is_capturing wait_event record synchronize",
    "cuda.Graph": "launch",
    "cuda.Event": "record",
    "cuda.MemoryPool": "malloc total_bytes",
    "RawModule": "get_function compile",
    "cuda": "get_elapsed_time get_current_stream using_allocator is_available",
    "cuda.runtime": "deviceSynchronize getDeviceProperties getDevice driverGetVersion runtimeGetVersion",
}


@pytest.mark.parametrize("name, methods", OBJECTS.items(), ids=OBJECTS)
def test_what_is_asked_of_cupys_objects_exists(name, methods):
    """Here and in the benchmarks, by names that the source does not tell whose they are."""
    found = function_of(*name.split("."))
    assert [method for method in methods.split() if not hasattr(found, method)] == []
