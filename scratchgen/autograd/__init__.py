"""The tape and its transforms: `tensor` records and walks back, `transforms` makes derivatives of functions."""

from scratchgen.autograd.tensor import Tensor, from_dlpack, gradients, primitive, tensor, value_of
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
    "GradientError", "Tensor", "check_grads", "from_dlpack", "grad", "gradients", "hessian", "hvp", "jacobian",
    "jvp", "primitive", "stop_gradient", "tensor", "value_and_grad", "value_of", "vjp",
]  # fmt: skip
