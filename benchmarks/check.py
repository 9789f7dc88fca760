"""Whether contenders compute the same thing: the same loss and gradients for the same weights, batch and noise."""

from __future__ import annotations

import numpy as np

Answer = dict[str, np.ndarray]

LOSS, GRADIENT = 5e-6, 3e-5
"""The largest relative differences that float32 explains: of the loss, and of one parameter's gradient."""
SMALL = 1e-2
"""A parameter whose gradient is smaller than this share of the whole is measured against that share."""


WIDER = {"float32": 1.0, "tf32": 2.0**10, "bf16": 2.0**12}
"""How much larger they are where products round their operands: by less than 2¹³ and 2¹⁶, the ratios of the units of
rounding, since errors of many terms cancel."""


def distance(found: Answer, expected: Answer, precision: str = "float32") -> tuple[str, float]:
    """The name in which the answers differ most, and by how much of what is tolerated: above 1 they disagree."""
    if found.keys() != expected.keys():
        return "the names of the parameters", np.inf
    whole = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for name, g in expected.items() if name != "loss"))
    worst = "", 0.0
    for name, right in expected.items():
        if found[name].shape != right.shape or found[name].dtype != np.float32:
            return f"{name}: {found[name].shape} {found[name].dtype} for {right.shape} float32", np.inf
        apart = np.linalg.norm(np.ravel(found[name].astype(np.float64) - right))
        size = np.linalg.norm(np.ravel(right.astype(np.float64)))
        share = apart / (LOSS * size if name == "loss" else GRADIENT * max(size, SMALL * whole))
        if not share <= worst[1]:  # not a number is the worst
            worst = name, float(np.nan_to_num(share, nan=np.inf))
    return worst[0], worst[1] / WIDER[precision]


def disagreement(found: Answer, expected: Answer, precision: str = "float32") -> str | None:
    """What differs by more than the precision of products explains; None if nothing does."""
    name, share = distance(found, expected, precision)
    return None if share <= 1 else f"{name} differs by {share:.2g} times what {precision} explains"
