"""Values that change nothing, because another value decides that they are not looked at.

They are no error: one file serves several runs, and an experiment may vary what decides. Whoever
has set such a value may still wait for its effect, so it is said.

* :class:`Effect`     keys, and when they have an effect
* :data:`EFFECTS`     all of them
* :func:`idle`        what was set in a configuration and has none
* :func:`idle_in_all` what has none in any of several configurations
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from fimi.testbed.configuration.rules import told
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config


class Effect(Struct, frozen=True):
    """When some keys have an effect.

    Attributes:
        keys: dotted.
        there: whether they have one in a configuration.
        sentence: why they have none and what to do. ``{}`` is the key that was set, with value and
            origin, ``{section.key}`` another one.
    """

    keys: tuple[str, ...]
    there: Callable[[Config], bool]
    sentence: str


_NO_WEIGHTS = "{} has no effect: {rounds.aggregation} counts each device once"

EFFECTS = (
    Effect(
        ("transfer.top_k_share", "transfer.error_feedback"),
        lambda c: c.transfer.update_coding == "top-k",
        '{} has no effect with {transfer.update_coding}; it belongs to "top-k"',
    ),
    Effect(
        ("transfer.rounding",),
        lambda c: c.transfer.update_coding == "int8",
        '{} has no effect with {transfer.update_coding}; it belongs to "int8"',
    ),
    Effect(
        ("rounds.late_exponent", "rounds.late_rounds"),
        lambda c: c.rounds.late_updates == "add",
        '{} has no effect with {rounds.late_updates}; it belongs to "add"',
    ),
    Effect(
        ("rounds.round_quorum_grace_s",),
        lambda c: c.rounds.round_quorum > 0,
        "{} has no effect: it begins with {rounds.round_quorum}, which is not set; give a number "
        "of updates or a share",
    ),
    Effect(
        ("rounds.trimmed_share",),
        lambda c: c.rounds.aggregation == "trimmed-mean",
        '{} has no effect with {rounds.aggregation}; it belongs to "trimmed-mean"',
    ),
    Effect(
        ("rounds.byzantine", "rounds.krum_kept"),
        lambda c: c.rounds.aggregation == "krum",
        '{} has no effect with {rounds.aggregation}; it belongs to "krum"',
    ),
    Effect(
        ("strategy.client_weights",),
        lambda c: c.rounds.aggregation == "krum" or c.rounds.rule.weighs,
        _NO_WEIGHTS,
    ),
    Effect(
        ("strategy.client_weights",),
        lambda c: c.rounds.aggregation != "krum" or c.rounds.rule.weighs,
        f"{_NO_WEIGHTS} and takes one update, by {{rounds.krum_kept}}",
    ),
    Effect(
        ("rounds.clip_to",),
        lambda c: c.rounds.clip_factor > 0,
        "{} has no effect: nothing is clipped with {rounds.clip_factor}",
    ),
)
"""For each key the conditions that must all hold."""


def idle(config: Config, origins: Mapping[str, str]) -> dict[str, str]:
    """What was set to another value than the default, and changes nothing.

    Args:
        config: the configuration.
        origins: dotted key to the origin of its value.

    Returns:
        Key to a sentence that says why, in the order of :data:`EFFECTS`.
    """
    found: dict[str, str] = {}
    for effect in EFFECTS:
        if not effect.there(config):
            for key in filter(lambda key: _is_set(config, origins, key), effect.keys):
                sentence = effect.sentence.replace("{}", f"{{{key}}}")
                found.setdefault(key, told(sentence, config, origins))
    return found


def idle_in_all(scenarios: Iterable[Scenario]) -> dict[str, str]:
    """The same for several configurations: what has an effect in one of them has one."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for scenario in scenarios:
        here = idle(scenario.config, scenario.origins)
        found = here | found
        used |= {
            key
            for effect in EFFECTS
            for key in effect.keys
            if key not in here and _is_set(scenario.config, scenario.origins, key)
        }
    return {key: sentence for key, sentence in found.items() if key not in used}


def _is_set(config: Config, origins: Mapping[str, str], key: str) -> bool:
    section, name = key.split(".")
    value, default = (getattr(getattr(c, section), name) for c in (config, Config()))
    return value != default and origins.get(key, "default") != "default"
