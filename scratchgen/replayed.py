"""What samplers ask of a system over and over, recorded once and replayed.

    model = sg.replayed(model, "net")           model.sample(64, rng) draws what it drew before, in less time

A sampler asks the same of its network in every step and for every minibatch: ε_θ(x, t), a score, the next pixel.  So
the network, or a method, is recorded (`replay`), and the samplers stay as they are.  Between two calls only arrays
change:

    weights       are reached for where they are, and may be trained on, or assigned to, between calls
    a new shape   is asked FIRST times as it is, in which time a recording would have paid off; so what is asked but a
                  few times is never recorded.  Likewise another number among the arguments: a time is an array
    a tensor      wants a gradient: it is asked as it is, as inside of other recordings

What cannot be replayed is asked as it is from then on, and one line in the log says why.  It may draw no noise.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

from scratchgen import tracing
from scratchgen.backend import active, owns
from scratchgen.nn.module import Module
from scratchgen.precision import asked
from scratchgen.recorded import ReplayError, leaves
from scratchgen.replay import KEPT, Nested, kind, replay

FIRST = 20
"""Calls of one kind that are asked as they are: two recordings and a plan take about as long as 20 calls save (U-Nets
of 8×8 pixels: 18 … 27)."""
CONSTANTS = (bool, int, float, str, type(None))
S = TypeVar("S", bound=Module)
log = logging.getLogger(__name__)


def replayed(system: S, *names: str) -> S:
    """The system frozen, its networks or methods of these names replayed: "net", or "net.last", a method of its net.

    Each takes arrays, numbers and words, and gives arrays; of the same arguments always the same.
    """
    bare, twin = system.frozen(), system.frozen()  # what is asked is not the twin's, which may then be dropped
    for name in names:
        *path, last = name.split(".")
        part = reduce(getattr, [*path, last], bare)
        setattr(reduce(getattr, path, twin), last, Replayed(part) if isinstance(part, Module) else Asked(part))
    return twin


class Asked:
    """A function that is replayed once it has been asked often enough."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.fast = replay(lambda arguments, options: function(*arguments, **options))
        self.seen: Counter[Any] = Counter()  # calls, by the arguments' kinds
        self.recorded: set[Any] = set()  # kinds
        self.refused: ReplayError | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.pays(arguments, options):
            try:
                return self.fast(arguments, options)
            except ReplayError as error:
                self.refuse(error)
        return self.function(*arguments, **options)

    def pays(self, *given: Any) -> bool:
        """Whether a call may be replayed, and there have been enough like it."""
        busy = tracing.listener() is not None or Nested.running
        if busy or self.refused or not all(owns(active(), x) or type(x) in CONSTANTS for x in leaves(given)):
            return False
        key = asked(), kind(given)
        self.seen[key] += 1
        if self.seen[key] > FIRST and len(self.recorded) < KEPT:
            self.recorded.add(key)
        return key in self.recorded

    def refuse(self, error: ReplayError) -> None:
        """Replay no more, and say so once."""
        if self.refused is None:
            self.refused = error
            log.warning("%s; asked without replay, which gives the same numbers", error)


class Replayed(Module):
    """A network that is replayed; whatever else it is asked for is the network's."""

    def __init__(self, net: Module) -> None:
        self.net, self.asked = net, Asked(net)  # type: ignore[arg-type]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.asked(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name in ("net", "asked"):  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.net, name)
