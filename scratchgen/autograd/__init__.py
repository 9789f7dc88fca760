"""The tape (`tensor`), operations (`primitive`), the walk back (`backward`), derivatives as functions."""

from scratchgen.autograd.backward import gradients
from scratchgen.autograd.primitive import primitive
from scratchgen.autograd.tensor import Tensor, from_dlpack, tensor, value_of
from scratchgen.autograd.transforms import (
    GradientError,
    check_grads,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
)

__all__ = [
    "GradientError", "Tensor", "check_grads", "from_dlpack", "grad", "gradients", "hessian", "hvp",
    "jacobian", "jvp", "primitive", "stop_gradient", "tensor", "value_and_grad", "value_of", "vjp",
]  # fmt: skip
