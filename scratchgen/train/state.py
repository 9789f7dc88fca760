"""Everything a training run depends on, as one object that can be written down and read back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen import ops, optim
from scratchgen.autograd import gradients, stop_gradient
from scratchgen.autograd.tensor import Tensor
from scratchgen.backend import backend_of
from scratchgen.cores import cores
from scratchgen.models.system import Player, System
from scratchgen.precision import precision
from scratchgen.random import Generator
from scratchgen.replay import replay
from scratchgen.train import checkpoint
from scratchgen.train.checkpoint import CheckpointError
from scratchgen.train.config import TrainConfig, as_json, generator
from scratchgen.train.group import ALONE, Group, GroupError, split

MAY_CHANGE = ("steps", "checkpoint_every", "replay")  # between a run and its continuation
NOISE = 1 << 31  # this child of the seed makes the noise; its first children shuffle the data, epoch by epoch


class DivergedError(ArithmeticError):
    """A loss, a gradient or a parameter that is not finite.  One line: system, what, step, player.

    On a GPU the numbers are looked at only when a row is logged or a checkpoint saved; the step is then the
    one at which it was found out.
    """

    exit_code = 3

    def __init__(self, name: str, what: str, step: int, player: str, saved: int | None) -> None:
        message = f"{name}: {what} at step {step} of player {player!r}"
        super().__init__(message if saved is None else f"{message}; the checkpoint of step {saved} stays")
        self.name, self.what, self.step, self.player, self.saved = name, what, step, player, saved


class PlayerState:
    """One player at work: its parameters in one buffer, its optimiser, its average, and its sums for the log.

    The sums run over the minibatches since the last row of the log, and stay where the arrays live.
    Of a minibatch's shards it works on those that are this process's; a device works on its part as one shard.
    """

    def __init__(self, player: Player, config: TrainConfig, group: Group = ALONE) -> None:
        self.name, self.loss, self.steps, self.after = player.name, player.loss, player.steps, player.after
        self.tensors = list(player.parameters.values())
        self.flat = optim.Flat(player.parameters)
        self.xp = backend_of(self.flat.buffer)
        self.max_norm = math.inf if config.clip is None else config.clip
        self.precision = config.precision
        self.optimiser = make_optimiser(self.flat, config)
        self.is_spread = False
        self.group, own, on_device = group, len(group.share(range(config.shards))), self.xp.on_device
        step, shards = (self.update, 1) if on_device else (self.gradient, own)
        recorded = config.replay and (group.captures or not on_device)
        self.replays = [replay(step, copy=False, agree=group.concur) for _ in range(shards if recorded else 0)]
        self.rate: Any = self.xp.full((), config.lr, np.float64) if on_device else config.lr
        self.rate_now = config.lr  # the number, wherever `rate` lives
        self.untouchable: list[Tensor] = []  # what the loss may not set
        self.ema = None if config.ema_decay is None else optim.EMA(self.flat, config.ema_decay)
        self.fields: tuple[str, ...] = ()
        self.count = 0
        self.sums: Any = None  # (fields + 1,) float64: Σ of the batch mean of each term, Σ of gradient norms
        self.latest: Any = None  # the same of the last minibatch alone

    def spread(self) -> None:
        """Once the shards are ready to be replayed, give all but the first a process of their own."""
        if not self.is_spread and cores() > 1 and self.is_recorded():
            self.is_spread = True
            for other in self.replays[1:]:
                other.move()

    def is_recorded(self) -> bool:
        """Whether every shard has been replayed already."""
        return all(any(one.plans.values()) for one in self.replays)

    def close(self) -> None:
        """End those processes, and replay no more."""
        for one in self.replays:
            one.close()
        self.replays = []

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next update; on a device an array, which a graph knows by its place."""
        if not self.xp.on_device:
            self.rate = rate
        elif rate != self.rate_now:
            self.rate.fill(rate)
        self.rate_now = rate

    def update(self, batch: Any, rng: Generator, own: Generator) -> None:
        """All that a minibatch does to the player on a device.  This is the call that is replayed: it reads nothing,
        and what it changes stays in its place.  own: the noise of this process's part of the minibatch."""
        size = self.group.size
        (part,) = self.group.share(split(batch, size))
        terms, gradient = self.gradient(part, own)
        if size > 1:
            found, gradient = self.group.add_up(terms, gradient)
            terms = type(terms)(*found)
            gradient /= size
        self.clip(terms, gradient)
        self.move(batch, rng, gradient)

    def clip(self, terms: Any, gradient: Any) -> None:
        """Clip a gradient, in place, and add to the sums for the log."""
        self.note(terms, optim.clip_by_norm(gradient, self.max_norm))

    def move(self, batch: Any, rng: Generator, gradient: Any) -> None:
        """One step of the optimiser, and what follows it."""
        self.optimiser.step(gradient, lr=self.rate)
        if self.after is not None:
            self.after(batch, rng)
        if self.ema is not None:
            self.ema.update()

    def gradient(self, batch: Any, rng: Generator) -> tuple[Any, Any]:
        """The loss's terms (B,), and the gradient of its mean on the flat buffer."""
        before = [x.node for x in self.untouchable]
        with precision(self.precision):
            terms = self.loss(batch, rng)
            self.check_terms(terms, batch)
            if any(x.node is not node for x, node in zip(self.untouchable, before, strict=True)):
                raise GroupError(f"player {self.name!r}: its loss sets the system's memory, which several shards of a "
                                 "minibatch would do each in its own way: train it by one process, in one shard")
            gradient = self.flat.gather(gradients(ops.mean(terms.loss), self.tensors))
        return type(terms)(*map(stop_gradient, terms)), gradient

    def check_terms(self, terms: Any, batch: Any) -> None:
        """Raises ValueError unless `terms` is a named tuple of (B,) whose first field is `loss`."""
        self.fields = getattr(type(terms), "_fields", ())
        if self.fields[:1] != ("loss",):
            raise ValueError(f"player {self.name!r}: the loss must be a named tuple that begins with 'loss'")
        examples = len(batch[0] if isinstance(batch, tuple) else batch)
        for field, term in zip(self.fields, terms, strict=True):
            if tuple(term.shape) != (examples,):
                raise ValueError(f"player {self.name!r}: term {field!r} has shape {tuple(term.shape)}, "
                                 f"not ({examples},), one number per example")

    def note(self, terms: Any, norm: Any) -> None:
        """Add a minibatch's terms and gradient norm to the sums, in their place."""
        xp = self.xp
        found = [*(xp.mean(stop_gradient(term)) for term in terms), norm]
        if self.latest is None:
            self.latest = xp.zeros((len(found),), np.float64)
        if self.sums is None:
            self.sums = xp.full((len(found),), -0.0, np.float64)  # −0 + x is x, even where that is −0
        for i, number in enumerate(found):
            self.latest[i] = number
        self.sums += self.latest

    def means(self) -> dict[str, float]:
        """The mean of each term over the minibatches since the last call."""
        means = self.xp.to_numpy(self.sums) / self.count
        self.sums[...], self.count = -0.0, 0
        return dict(zip(self.fields, means.tolist(), strict=False))  # without the norm, which stands last

    def fault(self, parameters: bool) -> str | None:
        """What is infinite, or no number at all, in the sums or, if asked, among the parameters."""
        sums = [] if self.sums is None else self.xp.to_numpy(self.sums).tolist()
        for name, value in zip((*self.fields, "gradient norm"), sums, strict=False):
            if not math.isfinite(value):
                return f"{name} is {value}"
        if parameters and not bool(self.xp.all(self.xp.isfinite(self.flat.buffer))):
            return "a parameter is not finite"
        return None


class State:
    """The players, the noise, and the place in the data, after `step` turns."""

    def __init__(self, system: System, config: TrainConfig, name: str, group: Group = ALONE) -> None:
        self.system, self.config, self.name, self.group = system, config, name, group
        self.players = [PlayerState(player, config, group) for player in players_of(system, config.dtype)]
        learnt = {id(x) for player in self.players for x in player.tensors}
        self.memory = [optim.Flat({k: x}) for k, x in system.named_parameters() if id(x) not in learnt]
        self.on_host = not any(player.xp.on_device for player in self.players)
        self.shards = config.shards if self.on_host else group.size
        for player in self.players:
            if self.shards > 1:
                player.untouchable = [x for flat in self.memory for x in flat.parameters]
        self.rng = generator(config, NOISE)
        self.own = Generator(0, self.rng.mode)  # of a device's part of a minibatch, anew for each
        self.step = 0
        self.cursor = 0  # minibatches drawn so far
        self.saved: int | None = None  # the step of the last checkpoint
        self.notes: list[str] = []  # to be told to whoever watches
        self.row: dict[str, float] = {}  # the losses in the last row of the log, by player
        if config.shards != self.shards:
            shards = "one shard" if group.size == 1 else f"{group.size} shards"
            self.notes.append(f"a device works on its part of a minibatch as a whole: {shards}, not {config.shards}")

    def own_noise(self) -> Generator:
        """The noise of this process's part of the next minibatch, on a device: the same object each time, which a graph
        knows by the place of its stream."""
        if self.group.size == 1:
            return self.rng
        self.own.become(self.rng.spawn_one(self.group.rank, self.shards))
        return self.own

    def close(self) -> None:
        """End what runs beside."""
        for player in self.players:
            player.close()

    def check(self, parameters: bool = False) -> None:
        """Raises DivergedError if a term, a gradient norm or, if asked, a parameter is not finite."""
        for player in self.players:
            fault = player.fault(parameters)
            if fault:
                raise DivergedError(self.name, fault, self.step, player.name, self.saved)

    def compare(self) -> None:
        """Raises GroupError unless all processes have the same state, to the last bit."""
        if self.group.size > 1 and not self.group.agree(self.digest()):
            stays = "" if self.saved is None else f"; the checkpoint of step {self.saved} stays"
            raise GroupError(f"{self.name}: processes have come to different numbers by step {self.step}{stays}")

    def digest(self) -> int:
        """A number of 56 bits, another one for any other state."""
        found = hashlib.blake2b(json.dumps(self.meta()).encode(), digest_size=7)
        for name, array in sorted(self.arrays().items()):
            found.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return int.from_bytes(found.digest(), "little")

    def means(self) -> dict[str, float]:
        """The row of the log: every term of every player, named `player.term` where there are several."""
        found = {p.name: p.means() for p in self.players}
        self.row = {name: means["loss"] for name, means in found.items()}
        if len(self.players) == 1:
            return found[self.players[0].name]
        return {f"{name}.{term}": mean for name, means in found.items() for term, mean in means.items()}

    def describe(self) -> str:
        """The losses of the last minibatches, in words; on a device those of the last row of the log, which has read
        its numbers anyway."""
        if not self.on_host and not self.row:
            return "loss …"
        losses = [float(p.latest[0]) if self.on_host else self.row[p.name] for p in self.players]
        if len(losses) == 1:
            return f"loss {losses[0]:.4g}"
        return ", ".join(f"{p.name} {loss:.4g}" for p, loss in zip(self.players, losses, strict=True))

    def averages(self) -> dict[str, Any] | None:
        """The averaged weights by parameter name, on the backend; None without an average."""
        if self.config.ema_decay is None:
            return None
        return {name: a for p in self.players if p.ema is not None for name, a in p.ema.arrays().items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """All numbers of the state but the few in `meta`, on the host.

            system/NAME  average/NAME                     a parameter, its average
            optimiser/PLAYER/…  averaged/PLAYER           the optimiser's buffers, the average's step count
            log/PLAYER                                    sums since the last row of the log
        """
        found: dict[str, np.ndarray] = {f"system/{k}": v for k, v in self.system.state_dict().items()}
        for player in self.players:
            found |= {f"optimiser/{player.name}/{k}": v for k, v in player.optimiser.state().items()}
            if player.ema is not None:
                found |= {f"average/{k}": player.xp.to_numpy(v) for k, v in player.ema.arrays().items()}
                found[f"averaged/{player.name}"] = player.ema.state()["steps"]
            if player.count:
                found[f"log/{player.name}"] = player.xp.to_numpy(player.sums)
        return found

    def meta(self) -> dict[str, Any]:
        return {"system": self.name, "step": self.step, "cursor": self.cursor, "rng": self.rng.state(),
                "train": as_json(self.config), "counts": {p.name: p.count for p in self.players}}

    def contents(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, meta): all of it, on the host."""
        return self.arrays(), self.meta()

    def save(self, path: Path) -> None:
        """Write the state to `path`, atomically."""
        checkpoint.save(path, *self.contents())
        self.saved = self.step

    @classmethod
    def load(cls, path: Path, system: System, config: TrainConfig, name: str, group: Group = ALONE) -> State:
        """The state saved at `path`, with `system`'s parameters set to it.

        Raises CheckpointError for a file that is damaged, or that another system or configuration wrote.
        """
        arrays, meta = checkpoint.load(path)
        try:
            check_same_run(meta, config, name)
            return cls.restored(arrays, meta, system, config, name, group)
        except GroupError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: does not fit this run: {error}") from error

    @classmethod
    def restored(
        cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], system: System, config: TrainConfig, name: str,
        group: Group = ALONE,
    ) -> State:  # fmt: skip
        """The state of these contents, and `system`'s parameters set to them.  Raises ValueError if they do not fit."""
        system.load_state_dict(_under("system/", arrays))
        state = cls(system, config, name, group)
        state._restore(arrays, meta)
        return state

    def _restore(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        for player in self.players:
            player.optimiser.load_state(_under(f"optimiser/{player.name}/", arrays))
            if player.ema is not None:
                averages = [arrays[f"average/{name}"].ravel() for name in player.flat.names]
                steps = arrays[f"averaged/{player.name}"]
                player.ema.load_state({"steps": steps, "buffer": np.concatenate(averages)})
            sums = arrays.get(f"log/{player.name}")
            player.sums = None if sums is None else player.xp.asarray(sums)
            player.count = meta["counts"][player.name]
        self.rng = Generator.from_state(meta["rng"])
        self.step, self.cursor, self.saved = meta["step"], meta["cursor"], meta["step"]


def load_weights(system: System, path: str | Path, averaged: bool = True) -> int:
    """Give `system` the weights in a checkpoint, the averaged ones where there are any; returns their step.

    Raises CheckpointError if the file is damaged or holds another system's weights.
    """
    arrays, meta = checkpoint.load(path)
    weights = _under("system/", arrays)
    if averaged:
        weights |= _under("average/", arrays)
    try:
        system.load_state_dict(weights)
        return int(meta["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: does not fit this system: {error}") from error


def make_optimiser(flat: optim.Flat, config: TrainConfig) -> Any:
    if config.optimiser == "sgd":
        return optim.SGD(flat, lr=config.lr, momentum=config.momentum)
    return optim.Adam(flat, lr=config.lr, beta1=config.beta1, beta2=config.beta2,
                      weight_decay=config.weight_decay)


def players_of(system: System, dtype: str) -> list[Player]:
    """The system's players, after a look at what the loop and the checkpoint rely on.

    Raises ValueError for two players of one name, a parameter of two players, a name that is not the
    system's own for that parameter, or a parameter of another dtype.
    """
    players, own = list(system.players()), dict(system.named_parameters())
    seen: set[str] = set()
    if len({player.name for player in players}) < len(players):
        raise ValueError(f"two players have one name: {', '.join(player.name for player in players)}")
    for player in players:
        for name, tensor in player.parameters.items():
            if name not in own or own[name] is not tensor:
                raise ValueError(f"player {player.name!r}: the system has no such parameter {name!r}")
            if name in seen:
                raise ValueError(f"player {player.name!r}: {name!r} belongs to another player already")
            if str(tensor.dtype) != dtype:
                raise ValueError(f"{name!r} is {tensor.dtype}, to be trained in {dtype}: use system.astype")
            seen.add(name)
    return players


def check_same_run(meta: Mapping[str, Any], config: TrainConfig, name: str) -> None:
    """Raises ValueError if the checkpoint is of another system, or was trained by other numbers."""
    if meta["system"] != name:
        raise ValueError(f"it holds a run of {meta['system']}, not of {name}")
    trained = {**as_json(TrainConfig()), "noise": "host", **meta["train"]}  # runs from before there was a choice
    for key, value in as_json(config).items():
        if key not in MAY_CHANGE and trained.get(key) != value:
            raise ValueError(f"it was trained with {key} = {trained.get(key)}, not {value}")


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
