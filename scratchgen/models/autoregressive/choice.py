"""What a sampler makes of a network's logits before it draws from them.

    p_τ(k) = p_k^(1/τ) / Σ_j p_j^(1/τ) = softmax(l/τ)_k                                 (1)  choice.temperature
    p_k' = p_k / Σ_{j ∈ S} p_j for k ∈ S, else 0;   S: the n likeliest                  (2)  choice.top_k

(1) with τ < 1 favours what is likely anyway, and with τ → 0 leaves the likeliest alone.  (2) is Fan, Lewis & Dauphin
(2018, §5.4): the many unlikely symbols together are likely enough to spoil a long sample.  Both change what each symbol
is drawn from, and not whole sequences in the same way: drawn symbol by symbol at τ, a sequence x has no probability
∝ p(x)^(1/τ).

Logits are (…, K), plain arrays or tensors; so are the answers, in which −inf says "never".
"""

from __future__ import annotations

from typing import Any

from scratchgen import ops
from scratchgen.autograd.tensor import value_of
from scratchgen.backend import backend_of


def temper(logits: Any, temperature: float) -> Any:
    """Logits of p_τ, eq. (1); τ = 0 is the limit.  Raises ValueError for a negative temperature."""
    if temperature < 0:
        raise ValueError(f"choice.temper: a temperature is not negative, as {temperature}")
    return top_k(logits, 1) if temperature == 0 else logits / temperature


def top_k(logits: Any, n: int) -> Any:
    """Logits of p', eq. (2); all that are as likely as the n-th remain.  Raises ValueError unless n ≥ 1."""
    if n < 1:
        raise ValueError(f"choice.top_k: of the {n} likeliest there is nothing to choose")
    plain = value_of(logits)
    order = backend_of(plain).sort(plain, axis=-1)
    least = order[..., max(plain.shape[-1] - n, 0), None]
    return ops.where(plain >= least, logits, -float("inf"))
