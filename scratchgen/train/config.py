"""The training configuration, and configurations as readable JSON."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from scratchgen.precision import PRECISIONS, Precision
from scratchgen.random import Generator

T = TypeVar("T")


@dataclass(frozen=True)
class TrainConfig:
    """How a system is trained; every number that a run depends on besides the system and its data.

    steps            turns of the loop; in each, every player takes its own number of minibatches
    batch_size       examples in a minibatch
    shards           parts of it that are worked on side by side, one core each; part of the run's numbers.  On a
                     device there is one
    lr               the largest learning rate
    warmup           steps over which the rate rises linearly to `lr`
    final_lr         the fraction of `lr` that cosine decay ends at; 1 keeps the rate constant
    clip             largest gradient norm (of all parameters of a player together); None: no clipping
    ema_decay        of the exponential moving average of the weights; None: no average
    weight_decay     decoupled from the gradient, as in AdamW
    optimiser        "adam" (with beta1, beta2) or "sgd" (with momentum)
    checkpoint_every, log_every    in steps.  A row of the log is the mean over the steps since the last
    seed             of the order of the minibatches and of the noise
    dtype            of the parameters and of floating-point data
    precision        of products and convolutions; "bf16" and "tf32" round their operands
    replay           record a step's array calls and replay them, on a device the whole update as a graph of kernels:
                      the same numbers, faster; what samplers of the run ask over and over, too
    noise            the mode of the noise's `random.Generator`, "host" or "counter"; None: the backend's own, which is
                      "counter" on a GPU and "host" elsewhere.  Weights begin with host numbers in any case

    Raises ValueError, one line, for a value that makes no sense.
    """

    steps: int = 1000
    batch_size: int = 64
    shards: int = 1
    lr: float = 1e-3
    warmup: int = 0
    final_lr: float = 1.0
    clip: float | None = None
    ema_decay: float | None = None
    weight_decay: float = 0.0
    optimiser: Literal["adam", "sgd"] = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    momentum: float = 0.0
    checkpoint_every: int = 500
    log_every: int = 20
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    precision: Precision = "float32"
    replay: bool = True
    noise: Literal["host", "counter"] | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "shards", "checkpoint_every", "log_every"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        _require(self.batch_size % self.shards == 0, f"{self.batch_size} examples make no {self.shards} equal shards")
        for name in ("warmup", "weight_decay", "seed"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative: {getattr(self, name)}")
        for name in ("beta1", "beta2", "momentum", "ema_decay"):
            value = getattr(self, name)
            _require(value is None or 0 <= value < 1, f"{name} must lie in [0, 1), not {value}")
        _require(0 < self.lr < math.inf, f"lr must be positive and finite, not {self.lr}")
        _require(0 <= self.final_lr <= 1, f"final_lr is a fraction of lr, in [0, 1], not {self.final_lr}")
        _require(self.clip is None or self.clip > 0, f"clip must be positive, not {self.clip}")
        _require(self.optimiser in ("adam", "sgd"), f"optimiser is 'adam' or 'sgd', not {self.optimiser!r}")
        _require(self.dtype in ("float32", "float64"), f"dtype is 'float32' or 'float64', not {self.dtype!r}")
        _require(self.precision in PRECISIONS, f"precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        _require(self.precision == "float32" or self.dtype == "float32", f"precision {self.precision!r} is of float32")
        _require(self.noise in (None, "host", "counter"), f"noise is 'host' or 'counter', not {self.noise!r}")
        _require(self.optimiser == "adam" or self.weight_decay == 0, "weight_decay needs optimiser 'adam'")


def generator(config: TrainConfig, *purpose: int, seed: int | None = None) -> Generator:
    """Random numbers of a run for one purpose, a child of its seed or of another, drawn where its noise is."""
    seeds = np.random.SeedSequence(config.seed if seed is None else seed, spawn_key=purpose)
    return Generator(seeds, config.noise or "host")


def settled(config: TrainConfig, own_noise: str) -> TrainConfig:
    """The configuration as it is run on a backend with noise of its own."""
    return config if config.noise else dataclasses.replace(config, noise=typing.cast(Any, own_noise))


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate η_t of step t = 0, 1, …, T−1: linear warm-up over W steps, then cosine decay to f·η.

        η_t = η (t+1)/W                                 t < W
        η_t = η (f + ½(1−f)(1 + cos(π (t−W)/(T−W))))    t ≥ W     (Loshchilov & Hutter 2017, eq. 5)
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = min((step - config.warmup) / max(config.steps - config.warmup, 1), 1.0)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.final_lr + (1 - config.final_lr) * cosine)


def as_json(config: Any) -> dict[str, Any]:
    """A (nested) dataclass as the dictionaries, lists, strings and numbers of JSON."""
    return {f.name: _as_json(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_json(cls: type[T], data: Any) -> T:
    """The dataclass that `as_json` wrote: nested dataclasses restored by their annotation, lists as tuples.

    Raises ValueError, one line, for a field that is unknown, missing, or of the wrong type.
    """
    name = cls.__name__
    _require(isinstance(data, dict), f"{name} is not a JSON object")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    hints = typing.get_type_hints(cls)
    for key in data:
        _require(key in fields, f"{name} has no field {key!r}")
    missing = dataclasses.MISSING
    for key, field in fields.items():
        optional = field.default is not missing or field.default_factory is not missing
        _require(key in data or optional, f"{name} lacks the field {key!r}")
    values = {key: _from_json(hints[key], value, f"{name}.{key}") for key, value in data.items()}
    return cls(**values)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_json(value)
    if isinstance(value, list | tuple):
        return [_as_json(v) for v in value]
    if isinstance(value, dict):
        return {key: _as_json(v) for key, v in value.items()}
    return value


def _from_json(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotation `hint` wants it; the annotations of a config are plain ones."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        hint = next(a for a in arguments if a is not type(None))
        return _from_json(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value)
    if origin is Literal:
        _require(value in arguments, f"{where} is one of {arguments}, not {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wanted = origin or hint
    if isinstance(value, list) and wanted in (tuple, list):
        return wanted(_tuples(v) for v in value)
    if isinstance(wanted, type) and wanted is not Any:
        right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
        _require(right, f"{where} must be of type {wanted.__name__}, not {value!r}")
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
