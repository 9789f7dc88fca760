"""A `cudnn` that computes on the host, with the names of NVIDIA's Python package: graphs of one convolution, carried
out in NumPy by what its documentation says of them.

    y[n,k,p,q] = Σ_{c,u,v} x[n, g·C + c, p·s₀ + u·d₀ − pre₀, q·s₁ + v·d₁ − pre₁] · w[k,c,u,v]        g: the group of k

A tensor is dimensions and strides, in numbers, from an address.  w has C channels, x has C in each group.  Several
plans are offered, the first by tensor cores, which cut float32 to TF32, the last without notes.  An execution makes
nonsense of the memory to work in before it reads anything.
"""

from __future__ import annotations

import enum
import itertools
import sys
import types

import numpy as np
from host_cublas import at, bfloat

NOTES = "TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION FFT NONDETERMINISTIC WINOGRAD WINOGRAD_TILE_4x4 " \
        "WINOGRAD_TILE_6x6 WINOGRAD_TILE_13x13"  # fmt: skip
Type = enum.Enum("data_type", "FLOAT DOUBLE BFLOAT16")
Note = enum.Enum("numerical_note", NOTES)
Mode = enum.Enum("heur_mode", "A FALLBACK")
DTYPES = {Type.FLOAT: np.dtype("f4"), Type.DOUBLE: np.dtype("f8"), Type.BFLOAT16: np.dtype("u2")}
WORKSPACE = 1000


class NotSupported(Exception):
    """`cudnn.cudnnGraphNotSupportedError`: like NVIDIA's, no RuntimeError."""


class Tensor:
    """`cudnn.Tensor`."""

    def __init__(self, dim, stride, data_type) -> None:
        self.dim, self.stride, self.data_type, self.output = dim, stride, data_type, False

    def set_output(self, output: bool) -> Tensor:
        self.output = output
        return self

    def set_data_type(self, data_type) -> Tensor:
        self.data_type = data_type
        return self

    def set_dim(self, dim) -> Tensor:
        self.dim = dim
        return self

    def set_stride(self, stride) -> Tensor:
        self.stride = stride
        return self

    def numbers(self, address: int) -> np.ndarray:
        """Its numbers in memory, as a view."""
        if address % 16:
            raise RuntimeError(f"CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER\n{address}")
        dtype = DTYPES[self.data_type]
        count = 1 + sum((n - 1) * step for n, step in zip(self.dim, self.stride, strict=True))
        steps = [step * dtype.itemsize for step in self.stride]
        return np.ndarray(self.dim, dtype, at(address, dtype, count), 0, steps)


def pieces(x, w, y, pre_padding, post_padding, stride, dilation):
    """For each number of a kernel: what of x it meets, where it lies in w, and which channels of y it makes.
    x: (N, C·groups, H, W), framed.  w, y: the shapes of the others."""
    (k, c, rows, columns), (p, q), groups = w, y[2:], x.shape[1] // w[1]
    for g, u, v in itertools.product(range(groups), range(rows), range(columns)):
        top, left, own = u * dilation[0], v * dilation[1], slice(g * k // groups, (g + 1) * k // groups)
        met = x[:, g * c : (g + 1) * c, top : top + (p - 1) * stride[0] + 1 : stride[0],
                left : left + (q - 1) * stride[1] + 1 : stride[1]]  # fmt: skip
        yield met, (own, slice(None), u, v), (slice(None), own)


class Graph:
    """`cudnn.pygraph`, of one convolution."""

    STAGES = ("validate", "build_operation_graph", "create_execution_plans", "build_plans", "execute")

    def __init__(self, library, io_data_type=None, compute_data_type=None, handle=None) -> None:
        assert handle in library.streams, "a graph of another library"
        self.library, self.io, self.compute = library, io_data_type, compute_data_type
        self.done = 0
        self.plans: list[tuple[str, set[Note]]] = []

    def tensor(self, dim, stride, data_type) -> Tensor:
        if min(dim) < 1:
            raise RuntimeError(f"CUDNN_BACKEND_TENSOR_DESCRIPTOR: CUDNN_STATUS_BAD_PARAM: {dim}")
        return Tensor(dim, stride, data_type)

    def conv_fprop(self, image, weight, **how) -> Tensor:
        return self._operation("conv_fprop", how, image, weight, None)

    def conv_dgrad(self, loss, filter, **how) -> Tensor:
        return self._operation("conv_dgrad", how, None, filter, loss)

    def conv_wgrad(self, image, loss, **how) -> Tensor:
        return self._operation("conv_wgrad", how, image, None, loss)

    def _operation(self, name, how, x, w, y) -> Tensor:
        assert set(how) == {"pre_padding", "post_padding", "stride", "dilation"}
        self.name, self.how, self.made = name, how, Tensor(None, None, self.io)
        self.tensors = [self.made if tensor is None else tensor for tensor in (x, w, y)]  # x, w, y
        return self.made

    def _stage(self, name: str) -> None:
        assert self.STAGES[self.done] == name, f"{name} before {self.STAGES[self.done]}"
        self.done = min(self.done + 1, len(self.STAGES) - 1)

    def validate(self) -> None:
        self._stage("validate")
        x, w, y = (tensor.dim for tensor in self.tensors)
        assert self.made.output
        sizes = [(n + a + b - (k - 1) * d - 1) // s + 1 for n, k, a, b, s, d in zip(x[2:], w[2:], *self.how.values(),
                                                                                   strict=True)]  # fmt: skip
        if y != [x[0], w[0], *sizes] or x[1] % w[1] or w[0] % (x[1] // w[1]):
            raise RuntimeError(f"CUDNN_STATUS_BAD_PARAM: {x}, {w} and {y} do not fit")

    def build_operation_graph(self) -> None:
        self._stage("build_operation_graph")

    def create_execution_plans(self, modes) -> None:
        self._stage("create_execution_plans")
        assert modes == [Mode.A, Mode.FALLBACK]
        types_ = {tensor.data_type for tensor in self.tensors if tensor is not self.made}, self.made.data_type
        assert self.compute is self.made.data_type
        if types_ == ({Type.BFLOAT16}, Type.FLOAT):
            if any(n % 8 for n in self.tensors[1].dim[:2]):
                raise NotSupported("No valid engine configs")
            self.plans = [("tensor cores", {Note.TENSOR_CORE})]
        elif types_ == ({Type.FLOAT}, Type.FLOAT):
            self.plans = [("tensor cores", {Note.TENSOR_CORE}), ("atomic", {Note.NONDETERMINISTIC}), ("plain", set())]
        elif types_ == ({Type.DOUBLE}, Type.DOUBLE):
            self.plans = [("plain", set())]
        else:
            raise NotSupported(f"No valid engine configs for {types_}")

    def deselect_numeric_notes(self, notes) -> None:
        assert self.done == 3, "plans that are not there are not deselected"
        self.plans = [(name, its) for name, its in self.plans if not its & set(notes)]

    def build_plans(self) -> None:
        self._stage("build_plans")
        if not self.plans:
            raise NotSupported("no plan in the list could be built")
        self.library.built.append((self.name, self.plans[0][0]))

    def get_workspace_size(self) -> int:
        return WORKSPACE if self.plans[0][0] == "plain" else 0

    def execute(self, pointers, workspace, handle) -> None:
        """Carry it out."""
        self._stage("execute")
        self.library.executed.append((self.name, self.plans[0][0], handle, self.library.streams[handle]))
        if size := self.get_workspace_size():
            at(workspace, np.dtype("u1"), size)[:] = 0xEE
        made = self.made.numbers(pointers[self.made])
        x, w, y = (np.zeros(tensor.dim) if tensor is self.made else self._read(tensor, pointers[tensor])
                   for tensor in self.tensors)  # fmt: skip
        frame = ((0, 0), (0, 0), *zip(self.how["pre_padding"], self.how["post_padding"], strict=True))
        framed = np.pad(x, frame)
        for met, of_w, of_y in pieces(framed, w.shape, y.shape, **self.how):
            if self.name == "conv_fprop":
                y[of_y] += np.einsum("ncpq,kc->nkpq", met, w[of_w])
            elif self.name == "conv_dgrad":
                met += np.einsum("nkpq,kc->ncpq", y[of_y], w[of_w])
            else:
                w[of_w] = np.einsum("nkpq,ncpq->kc", y[of_y], met)
        cut = framed[:, :, frame[2][0] : frame[2][0] + x.shape[2], frame[3][0] : frame[3][0] + x.shape[3]]
        made[...] = {"conv_fprop": y, "conv_dgrad": cut, "conv_wgrad": w}[self.name]

    def _read(self, tensor: Tensor, address: int) -> np.ndarray:
        numbers = tensor.numbers(address)
        if tensor.data_type is Type.BFLOAT16:
            numbers = bfloat(numbers)
        elif self.plans[0][0] == "tensor cores":
            numbers = (numbers.copy().view("u4") & 0xFFFFE000).view("f4")
        return numbers.astype("f8")


class Library:
    """What has been asked of it.  streams: of each handle.  built: operations and plans.  executed: these, handles and
    streams."""

    def __init__(self) -> None:
        self.streams: dict[int, int] = {}
        self.built: list[tuple[str, str]] = []
        self.executed: list[tuple] = []

    def create_handle(self) -> int:
        handle = 100 + len(self.streams)
        self.streams[handle] = 0
        return handle

    def set_stream(self, handle, stream) -> None:
        self.streams[handle] = stream


def installed(monkeypatch) -> Library:
    """The package is this one from now on."""
    library, cudnn = Library(), types.ModuleType("cudnn")
    vars(cudnn).update(
        data_type=Type, numerical_note=Note, heur_mode=Mode, cudnnGraphNotSupportedError=NotSupported,
        backend_version_string=lambda: "9.28.0", create_handle=library.create_handle, set_stream=library.set_stream,
        pygraph=lambda **options: Graph(library, **options),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cudnn", cudnn)
    return library
