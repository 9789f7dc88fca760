"""Einstein's sum of two operands as one product of matrices."""

from __future__ import annotations

from math import prod
from typing import Any


def suits(subscripts: str, a: Any, b: Any) -> bool:
    """Whether it is written out, with no letter twice in one operand, and for one length each."""
    sides, arrow, out = subscripts.partition("->")
    left, comma, right = sides.partition(",")
    if not (arrow and comma and (left + right + out).isalpha() and (len(left), len(right)) == (a.ndim, b.ndim)):
        return False
    lengths = set(zip(left + right, (*a.shape, *b.shape), strict=True))
    once = all(len(set(letters)) == len(letters) for letters in (left, right, out))
    return once and len(lengths) == len(set(left + right)) and set(out) <= set(left + right)


def einsum(xp: Any, subscripts: str, a: Any, b: Any) -> Any:
    """Σ over the letters that the output lacks, as xp.matmul of matrices over the letters of

        batch, both and the output  ×  (a's alone, summed)  ·  (summed, b's alone)

    after what one operand alone has and the output has not is summed; see `suits`.
    """
    sides, out = subscripts.split("->")
    left, right = sides.split(",")
    a, left = _summed(xp, a, left, right + out)
    b, right = _summed(xp, b, right, left + out)
    size = dict(zip(left + right, (*a.shape, *b.shape), strict=True))
    batch = [c for c in left if c in right and c in out]
    inner = [c for c in left if c in right and c not in out]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]
    lengths = [prod(size[c] for c in letters) for letters in (rows, inner, columns)]
    shape = [size[c] for c in batch]
    first = xp.transpose(a, [left.index(c) for c in (*batch, *rows, *inner)]).reshape(*shape, *lengths[:2])
    second = xp.transpose(b, [right.index(c) for c in (*batch, *inner, *columns)]).reshape(*shape, *lengths[1:])
    letters = [*batch, *rows, *columns]
    y = xp.matmul(first, second).reshape([size[c] for c in letters])
    return xp.transpose(y, [letters.index(c) for c in out])


def _summed(xp: Any, x: Any, letters: str, needed: str) -> tuple[Any, str]:
    """x summed over the letters that nobody needs."""
    axes = tuple(i for i, c in enumerate(letters) if c not in needed)
    return (xp.sum(x, axis=axes) if axes else x), "".join(c for c in letters if c in needed)
