"""What configurations check of themselves."""

from __future__ import annotations

from typing import Any


def at_least_one(config: Any, *names: str) -> None:
    """Raises ValueError, naming the first of these settings that is below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{type(config).__name__}: {name} must be at least 1, not {getattr(config, name)}")
