"""CuPy's factorisations, with NumPy's answer to a matrix that has none."""

from __future__ import annotations

from typing import Any

import cupy


class Linalg:
    """`cupy.linalg`, whose `cholesky` raises for a matrix that is not positive definite, as NumPy's does.

    Left to itself CuPy returns what cuSOLVER had got to.  To ask whether it came to the end is to wait for the device:
    that is done where the result would be wrong without a word.  Singular matrices give inf and nan to `inv` and
    `solve`, which needs no asking.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(cupy.linalg, name)

    def cholesky(self, x: Any) -> Any:
        """L lower triangular with L·Lᵀ = x.  Raises LinAlgError."""
        from cupyx import errstate

        with errstate(linalg="raise"):
            return cupy.linalg.cholesky(x)
