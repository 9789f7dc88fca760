"""What a trainer needs to know of a system: who plays, with which parameters, for which loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from scratchgen.autograd.tensor import Tensor
from scratchgen.nn.module import Module


class Player(NamedTuple):
    """One side of the game: its parameters descend its own loss, `steps` minibatches a turn.

    loss(batch, rng) returns a named tuple of per-example terms (B,), the first of them called `loss`.
    """

    name: str
    parameters: dict[str, Tensor]
    loss: Callable[[Any, Any], Any]
    steps: int = 1


class System(Module):
    """A generative model: a module with a loss.  Most have one player; a GAN returns two."""

    def loss(self, batch: Any, rng: Any) -> Any:
        """A named tuple of per-example terms (B,), the first of them called `loss`."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def players(self) -> list[Player]:
        """Those who move in turn.  By default one, with all parameters and `self.loss`."""
        return [Player("model", dict(self.named_parameters()), self.loss)]
