"""Rules about several keys of a configuration: a table.

* :class:`Rule`    a condition on some keys, and the sentence of its error
* :data:`RULES`    all rules
* :func:`check`    checks a configuration against them
* :func:`first_twice`  a value that is listed twice
* :func:`told`     a sentence with the values of its keys, and their origins

The type of a single key limits its value (:mod:`fimi.testbed.configuration.sections`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from fimi.coordinator.strategies import STRATEGIES, Strategy
from fimi.energy.emulation.presets import PRESETS
from fimi.testbed.configuration.sections import Config, ConfigError
from fimi.testbed.nearest import hint

LEAST_BAND_HZ = 1000.0
"""A band below this was probably meant in another unit, Hz."""

_KEY = re.compile(r"\{(\w+)\.(\w+)\}")


class Rule(Struct, frozen=True):
    """A rule that a configuration must not break.

    Attributes:
        broken: whether a configuration breaks the rule; if the result is text, it replaces ``{}``
            in the sentence.
        sentence: what is wrong and what to do. ``{section.key}`` is replaced by the key with its
            value and origin.
    """

    broken: Callable[[Config], object]
    sentence: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the rule, dotted, in the order of the sentence."""
        return tuple(".".join(key) for key in _KEY.findall(self.sentence))


def _strategy(config: Config) -> Strategy:
    return STRATEGIES[config.run.strategy]


def _unknown_boards(config: Config) -> str:
    unknown = [name for name in config.fleet.boards if name not in PRESETS]
    if not unknown:
        return ""
    which = " " + ", ".join(map(repr, unknown)) if len(config.fleet.boards) > 1 else ""
    return f"{which}; {hint(unknown[0], PRESETS)}"


def first_twice(values: Iterable[Any]) -> Any:
    """The first value that comes a second time; ``None`` if none does."""
    seen: list[Any] = []
    for value in values:
        if value in seen:
            return value
        seen.append(value)
    return None


def _twice(config: Config) -> str:
    found = first_twice(config.fleet.members)
    return "" if found is None else f" {found!r}"


RULES = (
    Rule(_unknown_boards, "{fleet.boards}: unknown board{}"),
    Rule(
        lambda c: c.fleet.members and len(c.fleet.members) != c.fleet.devices,
        "{fleet.members} are not as many as {fleet.devices}; each member gets one share",
    ),
    Rule(_twice, "{fleet.members} names{} twice"),
    Rule(
        lambda c: set(c.fleet.members) & {"coordinator", "generator", "all"},
        "{fleet.members} names an id that is no device's",
    ),
    Rule(
        lambda c: c.data.public_fraction + c.data.test_fraction >= 1,
        "{data.public_fraction} and {data.test_fraction} leave no private samples for the devices; "
        "their sum must be below 1",
    ),
    Rule(
        lambda c: (c.data.partition == "file") != bool(c.data.partition_file),
        "{data.partition} and {data.partition_file} do not go together; a file is read with "
        'data.partition = "file", and only then',
    ),
    Rule(
        lambda c: c.data.overlap_max and c.data.shares != "file",
        "{data.overlap_max} is for images that devices bring themselves, and {data.shares} lets "
        "the coordinator divide its own, whose duplicates it counts; leave data.overlap_max out, "
        'or set data.shares to "file"',
    ),
    Rule(
        lambda c: (
            c.training.backend == "onnx" and (c.training.device, c.training.amp) != ("cpu", "off")
        ),
        "{training.backend} trains on the CPU in single precision, which does not go with "
        '{training.device} and {training.amp}; set backend to "auto" or "torch", or leave them out',
    ),
    Rule(
        lambda c: (
            bool(c.plan.curve_alpha) != bool(c.plan.curve_beta)
            or (c.plan.curve_delta0 and not c.plan.curve_alpha)
        ),
        "{plan.curve_alpha}, {plan.curve_beta} and {plan.curve_delta0} are one curve: give the "
        "first two, above 0, or none of them",
    ),
    Rule(
        lambda c: c.plan.curve == "given" and not c.plan.curve_alpha,
        "{plan.curve} needs plan.curve_alpha, plan.curve_beta and plan.curve_delta0",
    ),
    Rule(
        lambda c: c.plan.curve_alpha and c.plan.curve not in ("auto", "given"),
        "{plan.curve} and {plan.curve_alpha} are two curves; leave one out",
    ),
    Rule(
        lambda c: c.plan.curve_delta0 >= c.plan.error_max and _strategy(c).plans_data,
        "{plan.error_max} is not above {plan.curve_delta0}, the error that no amount of data "
        "removes; raise error_max",
    ),
    Rule(
        lambda c: 0 < c.plan.bandwidth_hz < LEAST_BAND_HZ,
        f"{{plan.bandwidth_hz}} is in Hz; less than {LEAST_BAND_HZ:g} Hz for a whole fleet looks "
        "like kHz or MHz",
    ),
    Rule(
        lambda c: _strategy(c).plans_data and c.generator.images_max < c.plan.synthetic_max,
        "{generator.images_max} is below {plan.synthetic_max}, so a plan may ask for more images "
        "than the generator node gives; raise the one or lower the other",
    ),
    Rule(
        lambda c: c.rounds.participants > c.fleet.devices,
        "{rounds.participants} is above {fleet.devices}; 0 lets all take part",
    ),
    Rule(
        lambda c: 0 < c.rounds.clip_factor < c.rounds.clip_to,
        "{rounds.clip_to} is above {rounds.clip_factor}, so that clipping would make a change "
        "larger; lower clip_to",
    ),
    Rule(
        lambda c: 0 < c.rounds.refuse_factor < c.rounds.clip_factor,
        "{rounds.refuse_factor} is below {rounds.clip_factor}, so that nothing would be clipped; "
        "raise refuse_factor, or set clip_factor to 0",
    ),
    Rule(
        lambda c: c.rounds.aggregation != "mean" and c.rounds.late_updates == "add",
        "{rounds.aggregation} counts late updates as much as others, and a device several times, "
        'with {rounds.late_updates}; set late_updates to "drop", or aggregation to "mean"',
    ),
    Rule(
        lambda c: 0 < c.rounds.participants < c.rounds.min_devices,
        "{rounds.min_devices} is above {rounds.participants}, so that no round could start",
    ),
    Rule(
        lambda c: c.training.steps and c.run.strategy == "semi",
        "{training.steps} does not go with {run.strategy}, which needs a cost for every sample; "
        "set training.steps to 0 and training.epochs instead",
    ),
    Rule(
        lambda c: c.training.steps and c.plan.target_accuracy,
        "{training.steps} does not go with {plan.target_accuracy}, which needs a cost for every "
        "sample; set training.steps to 0 and training.epochs instead",
    ),
    Rule(
        lambda c: c.rounds.min_devices > c.fleet.devices,
        "{rounds.min_devices} is above {fleet.devices}",
    ),
    Rule(
        lambda c: c.rounds.round_quorum > 1 and c.rounds.round_quorum % 1,
        "{rounds.round_quorum} is no number of updates; give a whole number, or below 1 a share of "
        "those that take part",
    ),
    Rule(
        lambda c: c.rounds.round_quorum > (c.rounds.participants or c.fleet.devices),
        "{rounds.round_quorum} is above the number of devices in a round, {rounds.participants} of "
        "{fleet.devices} (0: all); leave it out to wait for all",
    ),
    Rule(
        lambda c: c.carbon.intensity_g_per_kwh and not c.carbon.source.strip(),
        "{carbon.intensity_g_per_kwh} needs {carbon.source}: a carbon figure says where its "
        "intensity is from",
    ),
    Rule(
        lambda c: (
            (c.carbon.embodied_kg or c.carbon.embodied_of) and not c.carbon.intensity_g_per_kwh
        ),
        "{carbon.embodied_kg} and {carbon.embodied_of} need {carbon.intensity_g_per_kwh}: without "
        "an intensity there is no carbon figure",
    ),
    Rule(
        lambda c: (c.carbon.embodied_kg or c.carbon.embodied_of) and not c.carbon.lifetime_years,
        "{carbon.embodied_kg} and {carbon.embodied_of} need {carbon.lifetime_years}: how much of "
        "the hardware falls on a run follows from its lifespan",
    ),
)
"""All rules, in the order in which they are checked."""


def check(config: Config, origins: Mapping[str, str]) -> None:
    """Check a configuration against all rules.

    Args:
        config: the configuration.
        origins: dotted key to the origin of its value.

    Raises:
        ConfigError: the sentence of the first rule that it breaks.
    """
    for rule in RULES:
        if found := rule.broken(config):
            parts = (told(part, config, origins) for part in rule.sentence.split("{}"))
            raise ConfigError(str(found).join(parts))


def told(sentence: str, config: Config, origins: Mapping[str, str]) -> str:
    """A sentence with each ``{section.key}`` replaced by the key with its value and origin."""

    def shown(key: re.Match[str]) -> str:
        dotted = f"{key[1]}.{key[2]}"
        value = getattr(getattr(config, key[1]), key[2])
        items = value if isinstance(value, tuple) else (value,)
        text = ", ".join(f"{v:g}" if isinstance(v, float) else repr(v) for v in items) or "[]"
        return f"{dotted} {text} ({origins[dotted]})"

    return _KEY.sub(shown, sentence)
