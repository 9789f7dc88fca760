"""Convolutions by cuDNN, with NVIDIA's own package where it is installed, and no device.

Its graphs are described in Python, so names and arguments are there without a driver.  Where its library can be loaded,
which takes a driver's libcuda, it is asked for plans for an H200, whose properties are written down here.
"""

from __future__ import annotations

import ast
import json
from itertools import product
from pathlib import Path

import pytest

import scratchgen

cudnn = pytest.importorskip("cudnn", reason="cuDNN is not installed", exc_type=ImportError)
try:
    cudnn.backend_version_string()
except RuntimeError:
    pytest.skip("cuDNN's Python package is installed without its library", allow_module_level=True)

H200 = {
    "maxGridSize": [2**31 - 1, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536,
    "multiProcessorCount": 132, "warpSize": 32, "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448, "oversizedSharedMemoryPerBlock": 0, "reservedSharedMemoryPerBlock": 1024,
    "maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048,
    "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1, "smClockRateKHz": 1980000,
    "memClockRateKHz": 3201000, "memoryBusWidth": 6144, "l2CacheSize": 60 * 2**20, "deviceName": "NVIDIA H200",
    "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "totalGlobalMem": 150 * 10**9,
}  # fmt: skip
NONE, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))
CASES = {  # x, w as (O, kh, kw, c), stride, frame
    "of a U-Net": ((32, 28, 28, 64), (128, 3, 3, 64), 1, SAME),
    "one channel": ((64, 28, 28, 1), (32, 3, 3, 1), 1, SAME),
    "to one channel": ((64, 28, 28, 32), (1, 3, 3, 32), 1, SAME),
    "1×1": ((16, 8, 8, 48), (96, 1, 1, 48), 1, NONE),
    "strided, a row left over": ((8, 16, 16, 32), (64, 3, 3, 32), 2, NONE),
    "an uneven frame": ((8, 9, 7, 3), (5, 2, 4, 3), 1, ((0, 1), (1, 2))),
    "a wide frame": ((8, 9, 7, 8), (8, 1, 1, 8), 1, ((2, 2), (2, 2))),
    "groups": ((8, 16, 16, 32), (64, 3, 3, 8), 1, SAME),
    "depthwise": ((8, 16, 16, 32), (32, 5, 5, 1), 1, ((2, 2), (2, 2))),
    "larger than the image": ((8, 2, 2, 3), (4, 5, 5, 3), 1, ((2, 2), (2, 2))),
    "pixels that nobody sees": ((8, 16, 16, 3), (4, 1, 1, 3), 3, NONE),
}


@pytest.fixture
def ours(cupy):
    """`scratchgen.cuda.cudnn`, beside a CuPy of the host."""
    from scratchgen.cuda import cudnn

    return cudnn


def asked(ours, operation, kind, case):
    x, w, stride, frame = CASES[case]
    rows, columns = ((n + sum(f) - k) // stride + 1 for n, f, k in zip(x[1:3], frame, w[1:3], strict=True))
    return ours.Asked(operation, *kind, x, w, (x[0], rows, columns, w[0]), stride, frame)


def test_names():
    """Each `cudnn.…` and each numerical note that the module names."""
    path = Path(scratchgen.__file__).parent / "cuda" / "cudnn.py"
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = {"cudnn": cudnn, "Notes": cudnn.numerical_note}.get(node.value.id)
            if owner is not None:
                assert hasattr(owner, node.attr), node.attr
                found.add(node.attr)
    assert {"pygraph", "create_handle", "set_stream", "TENSOR_CORE", "FFT", "data_type"} <= found and len(found) > 14
    for name in ("validate", "build_operation_graph", "create_execution_plans", "deselect_numeric_notes",
                 "build_plans", "get_workspace_size", "execute"):  # fmt: skip
        assert callable(getattr(cudnn.pygraph, name))


@pytest.mark.parametrize("operation", ["conv_fprop", "conv_dgrad", "conv_wgrad"])
def test_graphs_are_described(ours, operation):
    """By the package's own classes, which refuse names that they do not know."""
    for kind, case in product(ours.KINDS, CASES):
        question = asked(ours, operation, kind, case)
        graph, tensors = ours.described(question)
        (node,) = graph.nodes
        assert list(node.inputs.values()) == list(tensors[:2]) and list(node.outputs.values()) == [tensors[2]]
        assert node.params["pre_padding"] == [side[0] for side in question.frame]
        assert node.params["post_padding"] == [side[1] for side in question.frame]
        assert (node.params["stride"], node.params["dilation"]) == ([question.stride] * 2, [1, 1])
        shape = getattr(question, ours.OPERATIONS[operation][1])
        assert (tuple(tensors[2].dim), tuple(tensors[2].stride)) == tuple(map(tuple, ours.channels_second(shape)))


@pytest.fixture
def h200():
    """Where a plan is to run: on a device that is not here."""
    try:
        properties = cudnn.create_device_properties(json.dumps(H200))
    except RuntimeError as error:
        pytest.skip(f"cuDNN makes no plans here: {' '.join(str(error).split())}")
    return {"device_property": properties, "sm_version": 90, "sm_count": 132}


def chosen(ours, h200, question):
    graph, _ = ours.described(question, **h200)
    found = ours.build(graph, ours.KINDS[question.dtype, question.precision].refused)
    return graph.get_plan_name_at_index(graph._plan_index) if found and graph.get_workspace_size() >= 0 else None


@pytest.mark.parametrize("case", CASES)
def test_an_h200_has_plans_for_any_shape(ours, h200, case):
    """Each operation, in float32, TF32 and float64.  (Plans for bfloat16 are compiled, which takes a device.)"""
    kinds = [kind for kind in ours.KINDS if kind[0] != "uint16"]
    for operation, kind in product(ours.OPERATIONS, kinds):
        assert chosen(ours, h200, asked(ours, operation, kind, case)), (operation, kind)


def test_float32_is_not_by_tensor_cores(ours, h200):
    """What is chosen where they are refused is something else than where they are not."""
    for operation in ours.OPERATIONS:
        exact, tf32 = (chosen(ours, h200, asked(ours, operation, ("float32", precision), "of a U-Net"))
                       for precision in ("float32", "tf32"))  # fmt: skip
        assert exact.partition("_")[0] != tf32.partition("_")[0]
