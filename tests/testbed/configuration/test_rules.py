"""What keys must be together: every rule can be broken, and says which keys break it."""

from __future__ import annotations

from typing import Any

import pytest

from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.rules import RULES, Rule
from fimi.testbed.configuration.sections import Config

GIVEN = {"plan.curve_alpha": 2.0, "plan.curve_beta": 0.5, "plan.curve_delta0": 0.02}
BREAKS: list[dict[str, Any]] = [
    {"fleet.boards": ["abacus"]},
    {"fleet.devices": 3, "fleet.members": ["a", "b"]},
    {"fleet.devices": 2, "fleet.members": ["a", "a"]},
    {"fleet.devices": 2, "fleet.members": ["a", "generator"]},
    {"data.public_fraction": 0.8},
    {"data.partition": "file"},
    {"data.overlap_max": 0.01},
    {"training.backend": "onnx", "training.amp": "bf16"},
    {"plan.curve_alpha": 2.0},
    {"plan.curve": "given"},
    {"plan.curve_alpha": 2.0, "plan.curve_beta": 0.5, "plan.curve": "fit"},
    {**GIVEN, "plan.error_max": 0.01},
    {"plan.bandwidth_hz": 20},
    {"generator.images_max": 5},
    {"rounds.participants": 11},
    {"rounds.clip_to": 31.0},
    {"rounds.refuse_factor": 10.0},
    {"rounds.aggregation": "krum", "rounds.late_updates": "add"},
    {"rounds.participants": 2, "rounds.min_devices": 3},
    {"run.strategy": "semi", "training.steps": 5},
    {"plan.target_accuracy": 0.9, "training.steps": 5},
    {"rounds.min_devices": 11},
    {"rounds.round_quorum": 2.5},
    {"rounds.round_quorum": 3, "rounds.participants": 2},
    {"carbon.intensity_g_per_kwh": 380.0},
    {"carbon.embodied_kg": 12.0, "carbon.lifetime_years": 4.0},
    {
        "carbon.intensity_g_per_kwh": 380.0,
        "carbon.source": "a report",
        "carbon.embodied_of": ["mini-pc=80"],
    },
]
"""For each rule, in its order, what breaks it and no rule before it."""


def test_there_is_an_example_for_every_rule() -> None:
    assert len(BREAKS) == len(RULES)


@pytest.mark.parametrize(
    ("rule", "given"), [*zip(RULES, BREAKS, strict=True)], ids=[rule.sentence for rule in RULES]
)
def test_a_broken_rule_names_its_keys_their_values_and_where_they_come_from(
    rule: Rule, given: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        configuration.load(None, {key: (value, "--here") for key, value in given.items()})
    said = str(caught.value)
    assert rule.keys
    assert "{" not in said
    for key in rule.keys:
        section, name = key.split(".")
        default = getattr(getattr(Config(), section), name)
        values = given.get(key, default)
        for value in values if isinstance(values, list | tuple) else [values]:
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            assert shown in said
        assert f"({'--here' if key in given else 'default'})" in said.split(f"{key} ", 1)[1]


def test_an_empty_list_is_shown_as_one() -> None:
    given = {"carbon.embodied_kg": 12.0, "carbon.lifetime_years": 4.0}
    with pytest.raises(ConfigError, match=r"carbon\.embodied_of \[\] \(default\) need"):
        configuration.load(None, {key: (value, "--here") for key, value in given.items()})


def test_the_defaults_break_no_rule() -> None:
    assert not [rule.sentence for rule in RULES if rule.broken(Config())]


def test_rules_speak_of_keys_that_there_are() -> None:
    known = dict(configuration.fields())
    assert all(key in known for rule in RULES for key in rule.keys)
