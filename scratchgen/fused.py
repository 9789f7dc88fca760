"""What one pass over memory can do, as the array calls that it stands for.

`Backend` begins with these: NumPy and the strict backend compute them so, call by call.  Where each call costs a pass
over the device's memory there is a kernel for each (`cuda.kernels`), with the same results up to rounding.
`functional` and `optim` say what they are for.  g is a gradient that arrives; an adjoint returns the one that leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

Array = Any

ONE_OVER_SQRT_2PI = 0.3989422804014327


class Fused:
    """Methods of a backend, made of its own functions."""

    if TYPE_CHECKING:

        def __getattr__(self, function: str) -> Any: ...

    # --- activations ----------------------------------------------------------------------------------------

    def silu(self, x: Array) -> Array:
        """x·σ(x), σ(x) = ½ + ½·tanh(x/2): NumPy's tanh is faster than expit."""
        half = x * 0.5
        y = self.tanh(half)
        y *= half
        y += half
        return y

    def silu_slope(self, x: Array) -> Array:
        """σ·(1 + x(1 − σ))."""
        sigma = self.tanh(x * 0.5)
        sigma *= 0.5
        sigma += 0.5
        y = 1 - sigma
        y *= x
        y += 1
        y *= sigma
        return y

    def silu_adjoint(self, g: Array, x: Array) -> Array:
        """g·silu′(x)."""
        return g * self.silu_slope(x)

    def softplus(self, x: Array) -> Array:
        """max(x, 0) + ln(1 + e^−|x|)."""
        y = self.log1p(self.exp(-self.absolute(x)))
        y += self.maximum(x, 0)
        return y

    def softplus_adjoint(self, g: Array, x: Array) -> Array:
        """g·σ(x)."""
        return g * self.expit(x)

    def gelu(self, x: Array) -> tuple[Array, Array]:
        """x·Φ(x) and Φ(x)."""
        phi = self.ndtr(x)
        return x * phi, phi

    def gelu_adjoint(self, g: Array, x: Array, phi: Array) -> Array:
        """g·Φ(x) + g·x·Φ′(x)."""
        return g * phi + g * x * (ONE_OVER_SQRT_2PI * self.exp(x * x * -0.5))

    def binary_cross_entropy(self, logits: Array, x: Array) -> Array:
        """x·max(−l, 0) + (1 − x)·max(l, 0) + ln(1 + e^−|l|)."""
        above = self.maximum(logits, 0)
        below = above - logits
        y = x * below + (1 - x) * above
        y += self.log1p(self.exp(-(above + below)))
        return y

    def binary_cross_entropy_adjoint(self, g: Array, logits: Array, x: Array) -> Array:
        """The gradient of the logits, g·(σ(l) − x)."""
        return g * (self.expit(logits) - x)

    # --- softmax --------------------------------------------------------------------------------------------

    def softmax(self, x: Array, axis: int) -> Array:
        """eˣ / Σeˣ, the largest x taken out first."""
        y = x - x.max(axis=axis, keepdims=True)
        self.exp(y, out=y)
        y /= self.sum(y, axis=axis, keepdims=True)
        return y

    def softmax_adjoint(self, g: Array, y: Array, axis: int) -> Array:
        """y∘(g − ⟨g, y⟩)."""
        return y * (g - self.sum(g * y, axis=axis, keepdims=True))

    def log_softmax(self, x: Array, axis: int) -> Array:
        """x − ln Σeˣ, the largest x taken out first."""
        y = x - x.max(axis=axis, keepdims=True)
        y -= self.log(self.sum(self.exp(y), axis=axis, keepdims=True))
        return y

    def log_softmax_adjoint(self, g: Array, y: Array, axis: int) -> Array:
        """g − eʸ·Σg."""
        return g - self.exp(y) * self.sum(g, axis=axis, keepdims=True)

    # --- normalisation --------------------------------------------------------------------------------------

    def standardise(self, x: Array, axis: Any, tiny: float) -> tuple[Array, Array]:
        """y = (x − μ)·s and s = 1/√(σ² + tiny), μ and σ² over `axis`."""
        return self._standardise(x, lambda x: self.mean(x, axis=axis, keepdims=True), tiny)

    def standardise_adjoint(self, g: Array, y: Array, scale: Array, axis: Any) -> Array:
        """s·(g − mean g − y·mean(g∘y))."""
        return self._standardise_adjoint(g, y, scale, lambda x: self.mean(x, axis=axis, keepdims=True))

    def group_mean(self, x: Array, groups: int) -> Array:
        """The mean over each image's pixels and each group's channels, per channel.  (B, P, C) → (B, 1, C)."""
        b, p, c = x.shape
        k = c // groups
        sums = self.sum(x, axis=1).reshape(b * groups, k)
        return self.matmul(sums, self.full((k, k), 1 / (p * k), x.dtype)).reshape(b, 1, c)  # adds, divides and repeats

    def group_standardise(self, x: Array, groups: int, tiny: float) -> tuple[Array, Array]:
        """`standardise` of each image's groups of channels: x, y (B, P, C), s (B, 1, C)."""
        return self._standardise(x, lambda x: self.group_mean(x, groups), tiny)

    def group_standardise_adjoint(self, g: Array, y: Array, scale: Array, groups: int) -> Array:
        return self._standardise_adjoint(g, y, scale, lambda x: self.group_mean(x, groups))

    def _standardise(self, x: Array, mean: Any, tiny: float) -> tuple[Array, Array]:
        centred = x - mean(x)
        scale = 1 / self.sqrt(mean(centred * centred) + tiny)
        return centred * scale, scale

    def _standardise_adjoint(self, g: Array, y: Array, scale: Array, mean: Any) -> Array:
        return scale * (g - mean(g) - y * mean(g * y))

    # --- optimisers: in place, on flat buffers; `scratch` is room for what is between, or None: made where needed ---

    def adam(
        self, theta: Array, m: Array, v: Array, g: Array, scratch: Array, count: Any, lr: Any, beta1: float,
        beta2: float, tiny: float, weight_decay: float,
    ) -> None:  # fmt: skip
        """The step of `optim.Adam` that is the count-th.  count, lr: numbers, or arrays of no dimensions."""
        of_m = as_factor(lr / (1 - beta1**count), g.dtype)
        of_v = as_factor(1 - beta2**count, g.dtype)
        scratch = self.subtract(g, m, out=scratch)
        scratch *= 1 - beta1
        m += scratch
        self.multiply(g, g, out=scratch)
        scratch -= v
        scratch *= 1 - beta2
        v += scratch
        if weight_decay:
            theta *= as_factor(1 - lr * weight_decay, g.dtype)
        self.divide(v, of_v, out=scratch)
        self.sqrt(scratch, out=scratch)
        scratch += tiny
        self.divide(m, scratch, out=scratch)
        scratch *= of_m
        theta -= scratch

    def sgd(self, theta: Array, velocity: Array, g: Array, scratch: Array, lr: Any, momentum: float) -> None:
        """The step of `optim.SGD`."""
        velocity *= momentum
        velocity += g
        theta -= self.multiply(velocity, as_factor(lr, g.dtype), out=scratch)

    def ema(self, average: Array, theta: Array, scratch: Array, part: Any) -> None:
        """θ̄ ← θ̄ + part·(θ − θ̄)."""
        scratch = self.subtract(theta, average, out=scratch)
        scratch *= as_factor(part, theta.dtype)
        average += scratch


def as_factor(x: Any, dtype: Any) -> Any:
    """A number as it is; an array of no dimensions in the type of the array that it is to be multiplied with."""
    return x if isinstance(x, (int, float)) else x.astype(dtype)
