"""Strategies decide which generator is opened; contradictions are errors."""

from __future__ import annotations

import pytest

from fimi.coordinator.strategies import STRATEGIES
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.scenario import Scenario


def load(**keys: object) -> Scenario:
    given = {key.replace("__", "."): (value, "--set") for key, value in keys.items()}
    return configuration.load(None, given)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_a_configuration(name: str) -> None:
    kind = load(run__strategy=name).config.generator.kind
    assert kind == {"gan": "gan", "clsd": "public", "semi": "public"}.get(name, "trained")


def test_whose_decision_it_was() -> None:
    assert load(run__strategy="clsd").origins["generator.kind"] == "run.strategy clsd"
    assert load(run__strategy="fimi").origins["generator.kind"] == "default"


def test_a_strategy_that_augments_sets_the_strength_unless_one_is_set() -> None:
    found = load(run__strategy="tfl-augmented")
    assert found.config.training.augment == 1.0
    assert found.origins["training.augment"] == "run.strategy tfl-augmented"
    own = load(run__strategy="tfl-augmented", training__augment=0.5)
    assert own.config.training.augment == 0.5
    assert load(run__strategy="tfl").config.training.augment == 0.0
    assert load(run__strategy="fimi", training__augment=0.5).config.training.augment == 0.5


def test_the_kind_may_be_said_twice() -> None:
    effective = load(run__strategy="gan", generator__kind="gan")
    assert effective.origins["generator.kind"] == "--set"


def test_other_strategies_leave_the_choice() -> None:
    assert load(run__strategy="hdc", generator__kind="bootstrap").config.generator.kind == (
        "bootstrap"
    )
    semi = load(run__strategy="semi", strategy__unlabelled="synthetic", generator__kind="bootstrap")
    assert semi.config.generator.kind == "bootstrap"
    # on the images by which this policy judges, nobody trains: the server's may be public ones
    judged = load(
        run__strategy="genfl", strategy__weights="performance", generator__kind="bootstrap"
    )
    assert judged.config.generator.kind == "bootstrap"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"run__strategy": "gan", "generator__kind": "bootstrap"},
            "'gan' (--set) works with images of generator.kind 'gan'",
        ),
        ({"run__strategy": "clsd", "generator__kind": "trained"}, "generator.kind 'public'"),
        (
            {"run__strategy": "tfl-augmented", "training__augment": 0.0},
            "training.augment 0 (--set) does not",
        ),
        ({"run__strategy": "semi", "generator__kind": "text"}, "or strategy.unlabelled"),
    ],
)
def test_contradictions(keys: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**keys)
    assert says in str(caught.value)
