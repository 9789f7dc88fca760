"""Configurations: what makes no sense is refused, and JSON brings back what it was given."""

import json
import math
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchgen.train.config import TrainConfig, as_json, from_json, learning_rate


@pytest.mark.parametrize("wrong", [
    {"steps": 0}, {"batch_size": 0}, {"log_every": 0}, {"checkpoint_every": 0}, {"warmup": -1}, {"seed": -1},
    {"lr": 0.0}, {"lr": math.nan}, {"lr": math.inf}, {"final_lr": 1.5}, {"final_lr": -0.1}, {"clip": 0.0},
    {"ema_decay": 1.0}, {"ema_decay": -0.1}, {"beta1": 1.0}, {"momentum": 1.0}, {"weight_decay": -1.0},
    {"optimiser": "adagrad"}, {"dtype": "float16"}, {"optimiser": "sgd", "weight_decay": 0.1},
])
def test_senseless_numbers_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(reversed(wrong))) as caught:
        TrainConfig(**wrong)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Inner:
    width: int = 3
    multipliers: tuple[int, ...] = (1, 2)
    nested: tuple[tuple[int, int], ...] = ((1, 2), (3, 4))


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    rate: float | None = None
    flag: bool = False


@settings(deadline=None)
@given(st.text(), st.integers(), st.lists(st.integers(), max_size=5), st.none() | st.floats(allow_nan=False),
       st.booleans())
def test_a_nested_config_survives_json(name, width, multipliers, rate, flag):
    config = Outer(name, Inner(width, tuple(multipliers)), rate, flag)
    assert from_json(Outer, json.loads(json.dumps(as_json(config)))) == config


def test_an_integer_stands_for_a_float():
    config = from_json(Outer, {"name": "x", "rate": 1})
    assert config.rate == 1.0
    assert isinstance(config.rate, float)


@pytest.mark.parametrize(("data", "message"), [
    ({"name": "x", "colour": 1}, "Outer has no field 'colour'"),
    ({}, "Outer lacks the field 'name'"),
    ({"name": 5}, "Outer.name must be of type str, not 5"),
    ({"name": "x", "rate": "fast"}, "Outer.rate must be of type float"),
    ({"name": "x", "flag": 1}, "Outer.flag must be of type bool"),
    ({"name": "x", "inner": {"width": True}}, "Inner.width must be of type int"),
    ({"name": "x", "inner": []}, "Inner is not a JSON object"),
    ([], "Outer is not a JSON object"),
])
def test_a_wrong_field_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        from_json(Outer, data)


def test_train_config_survives_json_and_is_checked_on_the_way_in():
    config = TrainConfig(clip=1.0, ema_decay=0.99, optimiser="sgd", dtype="float64")
    assert from_json(TrainConfig, json.loads(json.dumps(as_json(config)))) == config
    assert as_json(config) == asdict(config)
    with pytest.raises(ValueError, match="optimiser is one of"):
        from_json(TrainConfig, {"optimiser": "magic"})
    with pytest.raises(ValueError, match="lr must be positive"):
        from_json(TrainConfig, {"lr": -1})


def test_the_rate_is_constant_by_default():
    config = TrainConfig(steps=10, lr=0.1)
    assert [learning_rate(config, t) for t in range(10)] == [0.1] * 10


def test_warmup_then_cosine():
    config = TrainConfig(steps=110, lr=0.2, warmup=10, final_lr=0.1)
    rates = np.array([learning_rate(config, t) for t in range(111)])
    assert np.allclose(rates[:10], 0.02 * np.arange(1, 11), rtol=1e-14)
    # an independent form: the mean of a point that turns half a circle of diameter 0.18 around 0.11
    turn = np.exp(1j * np.pi * np.arange(101) / 100)
    assert np.allclose(rates[10:], (0.11 + 0.09 * turn).real, rtol=1e-13)
    assert rates[110] == pytest.approx(0.02)
    assert np.all(np.diff(rates[10:]) < 0)


def test_warmup_as_long_as_the_run():
    assert learning_rate(TrainConfig(steps=5, warmup=5, lr=1.0), 4) == 1.0
    assert learning_rate(replace(TrainConfig(steps=5, warmup=9, lr=1.0)), 4) == pytest.approx(5 / 9)
