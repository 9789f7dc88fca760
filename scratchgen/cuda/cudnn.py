"""Convolution by cuDNN, where SCRATCHGEN_CONVOLUTION=cudnn asks for it: the functions of `convolution`.

    correlate    conv_fprop    y[b,o,i,j] = Σ_{c,u,v} x[b, c, i·s+u−top, j·s+v−left] · w[o,c,u,v]
    adjoint_x    conv_dgrad    the x̄ with ⟨y(x), h⟩ = ⟨x, x̄⟩ for every x
    adjoint_w    conv_wgrad    the w̄ with ⟨y(w), h⟩ = ⟨w, w̄⟩ for every w

So cuDNN counts dimensions; how they lie in memory is told by strides.  Images lie as they do here, (B, H, W, C).
Kernels are copied to that order, (O, kh, kw, c), in every call, and w̄ from it to ours: kh·kw·c·O numbers read and
written.  cuDNN knows groups by x having more channels than w, and takes uneven frames.

    dtype, precision       reads       adds in    makes      not by
    float64, any           float64     float64    float64    NEVER
    float32, "float32"     float32     float32    float32    NEVER, and no tensor cores: they would read TF32
    float32, "tf32"        float32     float32    float32    NEVER
    uint16, "bf16"         bfloat16    float32    float32    NEVER

A plan is made once for every shape, on each thread and device; those for bfloat16 are compiled then, which takes a
second or so.  Before a capture, the calls that warm up do that.  What cuDNN has no plan for goes to `convolution`: no
images at all, mixed dtypes, and, since bfloat16 with results in float32 is rare, most of bf16 that has channels in no
multiples of 8.  Memory to work in, up to some times that of the images, is CuPy's; in a capture, the graph's own.

https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Convolutions.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cudnn
import cupy

from scratchgen.backend import BackendError
from scratchgen.convolution import Frame, output_size
from scratchgen.cuda import convolution
from scratchgen.cuda.handles import Handles
from scratchgen.tracing import filled

NAME = f"cuDNN {cudnn.backend_version_string()}"
Shape = tuple[int, ...]
ALIGNED = 16
"""Bytes: the addresses of operands are multiples, as cuDNN is told unless one says otherwise."""
OPERATIONS = {
    "conv_fprop": ({"image": "x", "weight": "w"}, "y"),
    "conv_dgrad": ({"loss": "y", "filter": "w"}, "x"),
    "conv_wgrad": ({"image": "x", "loss": "y"}, "w"),
}
"""What each reads, by cuDNN's names for it, and what it makes."""
Notes = cudnn.numerical_note
NEVER = (Notes.DOWN_CONVERT_INPUTS, Notes.REDUCED_PRECISION_REDUCTION, Notes.NONDETERMINISTIC, Notes.FFT,
         Notes.WINOGRAD, Notes.WINOGRAD_TILE_4x4, Notes.WINOGRAD_TILE_6x6, Notes.WINOGRAD_TILE_13x13)  # fmt: skip
"""Plans that are not taken: of fewer bits, of sums in another order each time, of transforms instead of products."""


class Kind(NamedTuple):
    """The types of a convolution: of what is read, and of sums and the result; and the plans that are not taken."""

    read: Any
    made: Any
    result: str
    refused: tuple[Any, ...] = NEVER


FLOAT, DOUBLE, BFLOAT16 = cudnn.data_type.FLOAT, cudnn.data_type.DOUBLE, cudnn.data_type.BFLOAT16
KINDS = {
    ("float32", "float32"): Kind(FLOAT, FLOAT, "float32", (*NEVER, Notes.TENSOR_CORE)),
    ("float32", "tf32"): Kind(FLOAT, FLOAT, "float32"),
    ("uint16", "bf16"): Kind(BFLOAT16, FLOAT, "float32"),
    **{("float64", precision): Kind(DOUBLE, DOUBLE, "float64") for precision in ("float32", "tf32", "bf16")},
}


class Asked(NamedTuple):
    """All that a plan depends on.  x, y: (B, H, W, C).  w: (O, kh, kw, c)."""

    operation: str
    dtype: str
    precision: str
    x: Shape
    w: Shape
    y: Shape
    stride: int
    frame: Frame


def correlate(xp: Any, x: Any, w: Any, stride: int, frame: Frame, groups: int, out: Any = None) -> Any:
    """As `convolution.correlate`, the result in `out` if there is one.  xp: whose precision is asked for."""
    kh, kw, _, o = w.shape
    y = (len(x), *output_size(x.shape, kh, kw, stride, frame), o)
    found = done(xp, "conv_fprop", (x, w), (x.shape, w.shape, y), stride, frame)
    return convolution.correlate(xp, x, w, stride, frame, groups, out) if found is None else filled(out, found)


def adjoint_x(xp: Any, h: Any, w: Any, shape: Shape, stride: int, frame: Frame, groups: int, out: Any = None) -> Any:
    """As `convolution.adjoint_x`."""
    found = done(xp, "conv_dgrad", (h, w), (shape, w.shape, h.shape), stride, frame)
    return convolution.adjoint_x(xp, h, w, shape, stride, frame, groups, out) if found is None else filled(out, found)


def adjoint_w(xp: Any, x: Any, h: Any, shape: Shape, stride: int, frame: Frame, groups: int, out: Any = None) -> Any:
    """As `convolution.adjoint_w`."""
    found = done(xp, "conv_wgrad", (x, h), (x.shape, shape, h.shape), stride, frame)
    return convolution.adjoint_w(xp, x, h, shape, stride, frame, groups, out) if found is None else filled(out, found)


def done(
    xp: Any, operation: str, operands: tuple[Any, Any], shapes: tuple[Shape, Shape, Shape], stride: int, frame: Frame
) -> Any:
    """The result of an operation, laid out as ours; None where cuDNN has no plan for it.  shapes: of x, w and y."""
    (a, b), (x, w, y) = operands, shapes
    if a.dtype != b.dtype or (a.dtype.name, xp.precision) not in KINDS or 0 in (*x, *w, *y):
        return None
    plan = current().plan(Asked(operation, a.dtype.name, xp.precision, x, (w[3], *w[:3]), y, stride, frame))
    if plan is None:
        return None
    reads, makes = OPERATIONS[operation]
    a, b = (cupy.moveaxis(operand, 3, 0).copy() if which == "w" else packed(operand)
            for which, operand in zip(reads.values(), operands, strict=True))  # fmt: skip
    made, workspace = cupy.empty(plan.shape, plan.dtype), cupy.empty(plan.workspace, "uint8")
    call(plan, a, b, made, workspace)
    return cupy.moveaxis(made, 0, 3).copy() if makes == "w" else made


def packed(x: Any) -> Any:
    """x in one piece, at an address that cuDNN takes: itself, if it lies so."""
    return x if x.flags.c_contiguous and x.data.ptr % ALIGNED == 0 else x.copy()


# --- plans --------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """How cuDNN will do it.  tensors: its names for the operands and the result.  shape, dtype: of the result.
    workspace: bytes of memory to work in."""

    graph: Any
    handle: Any
    tensors: tuple[Any, Any, Any]
    shape: Shape
    dtype: str
    workspace: int


def call(plan: Plan, a: Any, b: Any, made: Any, workspace: Any) -> None:
    """Hand it to cuDNN."""
    pointers = {tensor: array.data.ptr for tensor, array in zip(plan.tensors, (a, b, made), strict=True)}
    with reported():
        plan.graph.execute(pointers, workspace.data.ptr, plan.handle)


def described(asked: Asked, **where: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """cuDNN's graph of the one operation, and the tensors of its operands and its result.  where: it is to run."""
    kind, (top, left), (bottom, right) = KINDS[asked.dtype, asked.precision], *zip(*asked.frame, strict=True)
    reads, makes = OPERATIONS[asked.operation]
    graph = cudnn.pygraph(io_data_type=kind.read, compute_data_type=kind.made, **where)
    operands = {name: graph.tensor(*channels_second(getattr(asked, which)), data_type=kind.read)
                for name, which in reads.items()}  # fmt: skip
    made = getattr(graph, asked.operation)(
        **operands, pre_padding=[top, left], post_padding=[bottom, right], stride=[asked.stride] * 2, dilation=[1, 1]
    )
    dim, stride = channels_second(getattr(asked, makes))
    made.set_output(True).set_data_type(kind.made).set_dim(dim).set_stride(stride)
    return graph, (*operands.values(), made)


def channels_second(shape: Shape) -> tuple[list[int], list[int]]:
    """The dimensions (N, C, H, W), as cuDNN counts them, of an array (N, H, W, C) in one piece, and their strides."""
    n, h, w, c = shape
    return [n, c, h, w], [h * w * c, 1, w * c, c]


def build(graph: Any, refused: tuple[Any, ...]) -> bool:
    """Choose and compile a plan without those numerical notes; False if there is none."""
    try:
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.deselect_numeric_notes(list(refused))
        graph.build_plans()
    except cudnn.cudnnGraphNotSupportedError:
        return False
    return True


# --- the library --------------------------------------------------------------------------------------------


class Cudnn:
    """A handle of cuDNN, of one thread on one device, and its plans."""

    def __init__(self) -> None:
        with reported():
            self.handle = cudnn.create_handle()
        self.stream: int | None = None
        self.plans: dict[Asked, Plan | None] = {}

    def plan(self, asked: Asked) -> Plan | None:
        """The plan, made when it is first asked for; None where cuDNN has none."""
        if asked not in self.plans:
            kind, (graph, tensors) = KINDS[asked.dtype, asked.precision], described(asked, handle=self.handle)
            shape = getattr(asked, OPERATIONS[asked.operation][1])
            with reported():
                found = build(graph, kind.refused)
                size = max(1, graph.get_workspace_size()) if found else 0
            self.plans[asked] = Plan(graph, self.handle, tensors, shape, kind.result, size) if found else None
        return self.plans[asked]

    def follow(self, stream: int) -> None:
        """Work on that stream from now on."""
        if stream != self.stream:
            with reported():
                cudnn.set_stream(self.handle, stream)
            self.stream = stream


@contextmanager
def reported() -> Iterator[None]:
    """What cuDNN reports, as one line."""
    try:
        yield
    except RuntimeError as error:
        raise BackendError(f"cuDNN: {' '.join(str(error).split())}") from error


_handles = Handles(Cudnn)


def current() -> Cudnn:
    """This thread's cuDNN for the current device, on the current stream."""
    return _handles.current()
