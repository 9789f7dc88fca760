"""What a trainer needs to know of a system: who plays, with which parameters, for which loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from scratchgen.autograd.tensor import Tensor
from scratchgen.nn.module import Module


class Player(NamedTuple):
    """One side of the game: its parameters descend its own loss, `steps` minibatches a turn.

    loss(batch, rng) returns a named tuple of per-example terms (B,), the first of them called `loss`.
    after(batch, rng), where there is one, follows every step of the optimiser: what is not learnt by descent.
    """

    name: str
    parameters: dict[str, Tensor]
    loss: Callable[[Any, Any], Any]
    steps: int = 1
    after: Callable[[Any, Any], None] | None = None


class System(Module):
    """A generative model: a module with a loss.  Most have one player; a GAN returns two.

    A tensor that no player has is the system's memory: saved with it, and set by `Tensor.assign`, in `start`, in a
    player's `after`, or, in one shard, in its loss.
    """

    def start(self, batch: Any, rng: Any) -> None:
        """What the first minibatch decides before the first step (an actnorm's scale, a list of codes); by default
        nothing."""

    def loss(self, batch: Any, rng: Any) -> Any:
        """A named tuple of per-example terms (B,), the first of them called `loss`."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def players(self) -> list[Player]:
        """Those who move in turn.  By default one, with all parameters and `self.loss`."""
        return [Player("model", dict(self.named_parameters()), self.loss)]
