"""No report of a device holds a number that is none.

A meter or a formula that goes wrong gives NaN, infinity, or a value outside the limits of its type.
JSON has no NaN, and the coordinator refuses a message with a value outside the limits: it would
wait for the report in vain. So :func:`sound` names each such value by its place, for example
``phases[2].energy.value_j is nan``, and takes it out: where a value may be unknown, it is unknown;
else what contains it is left out. Joules that are numbers are kept. A fact that cannot be sent
without the value becomes a failure that says so.
"""

from __future__ import annotations

import logging
import math
import re
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fimi.edge_agent.failures import failed
from fimi.energy.ledger import PhaseRecord
from fimi.messaging.messages.facts import (
    DeploymentReport,
    FactBody,
    PlanApplied,
    Profile,
    Refusal,
    RoundReport,
    RoundSettled,
)

log = logging.getLogger(__name__)

Path = tuple[str | int, ...]
"""Names of fields and indices, from the outside to a value."""

_GONE: Any = object()
_SECONDS_MAX = 1e9
_FAULTS_MAX = 1000
"""More faults than this in one fact are not looked for one by one."""


def sound(fact: FactBody) -> FactBody:
    """The same fact if all its values can be sent, else one that names those that cannot."""
    faults: list[str] = []
    seen: set[Path] = set()
    found: Any = fact
    while found is not _GONE and (fault := _fault(found)) is not None:
        path, what = fault
        faults.append(f"{_dotted(path)} {what}")
        found = _GONE if path in seen and len(path) < 2 else _without(found, path)
        if len(faults) >= _FAULTS_MAX:
            found = _GONE
        seen.add(path)
    if not faults:
        return fact
    said = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")
    log.error("%s: %s of this device cannot be sent: %s", fact.device, type(fact).__name__, said)
    if found is _GONE:
        return _failure(fact, said)
    return _marked(found, said)


def _marked(fact: Any, said: str) -> FactBody:
    """A fact without its faults, as a failure that names them."""

    def words(before: str) -> str:
        return f"{before}; {_words(fact, said)}" if before else _words(fact, said)

    if isinstance(fact, RoundReport | PlanApplied | RoundSettled):
        return replace(fact, error=words(fact.error))
    if isinstance(fact, DeploymentReport):
        return replace(fact, trials=tuple(replace(t, error=words(t.error)) for t in fact.trials))
    return _failure(fact, said) if isinstance(fact, Profile) else fact


def _words(fact: Any, said: str) -> str:
    return f"{fact.device} reports what is no number: {said}"


def _failure(fact: Any, said: str) -> FactBody:
    """What is reported instead of a fact that cannot be sent."""
    words = _words(fact, said)
    return failed(fact, words) or Refusal(run=fact.run, device=fact.device, reason=words)


def _fault(fact: Any) -> tuple[Path, str] | None:
    """The place of a value that cannot be sent, and what is wrong with it, if there is one."""
    found = _not_finite(fact)
    if found is not None:
        return found
    try:
        msgspec.convert(msgspec.to_builtins(fact), type(fact))
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        path = tuple(
            int(word) if word.isdigit() else word
            for word in re.findall(r"[^.\[\]]+", place.rstrip("`"))
        )
        return _known(fact, path), f"is {_at(fact, _known(fact, path))!r}: {said}"
    return None


def _not_finite(value: Any) -> tuple[Path, str] | None:
    if isinstance(value, float) and not math.isfinite(value):
        return (), f"is {value}"
    if isinstance(value, Struct):
        parts: Any = ((name, getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, tuple):
        parts = enumerate(value)
    elif isinstance(value, dict):
        parts = value.items()
    else:
        return None
    for name, part in parts:
        if (found := _not_finite(part)) is not None:
            return (name, *found[0]), found[1]
    return None


def _known(fact: Any, path: Path) -> Path:
    """As much of a path as names something; a dictionary's key is not named by an error."""
    value = fact
    for depth, name in enumerate(path):
        try:
            value = _part(value, name)
        except (AttributeError, IndexError, KeyError, TypeError):
            return path[:depth]
    return path


def _at(value: Any, path: Path) -> Any:
    for name in path:
        value = _part(value, name)
    return value


def _part(value: Any, name: str | int) -> Any:
    return getattr(value, str(name)) if isinstance(value, Struct) else value[name]


def _without(value: Any, path: Path) -> Any:
    """A value without what stands at a path; ``_GONE`` if it cannot be without it."""
    if not path:
        return _GONE
    name, rest = path[0], path[1:]
    part = _without(_part(value, name), rest)
    if isinstance(value, Struct):
        if part is _GONE:
            part = _instead(value, str(name))
        return _GONE if part is _GONE else replace(value, **{str(name): part})
    if isinstance(value, tuple):
        if part is _GONE and not isinstance(value[int(name)], Struct):
            return _GONE  # one of several numbers that belong together
        rest_of = () if part is _GONE else (part,)
        return (*value[: int(name)], *rest_of, *value[int(name) + 1 :])
    if part is _GONE:
        return {key: kept for key, kept in value.items() if key != name}
    return {**value, name: part}


def _instead(value: Struct, name: str) -> Any:
    """What stands for a field without a value; ``_GONE`` if nothing can."""
    if name in _optional(type(value)):
        return None
    if isinstance(value, PhaseRecord) and value.energy is not None:
        # Its joules are kept: the fault is named, and nobody takes the rest at its word.
        if name == "largest_gap_s" and value.duration_s >= 0.0:
            return value.duration_s
        if name in ("start_s", "duration_s", "largest_gap_s"):
            return 0.0
    if isinstance(value, RoundReport) and name in ("busy_s", "waited_s"):
        return _seconds(value.phases, waiting=name == "waited_s")
    if isinstance(value, DeploymentReport) and name == "seconds":
        return _seconds(tuple(trial.metered for trial in value.trials if trial.metered))
    return _GONE


def _seconds(phases: tuple[PhaseRecord, ...], *, waiting: bool = False) -> float:
    """Seconds of phases, without those that are no number."""
    known = [p.duration_s for p in phases if (p.phase == "waiting") == waiting]
    return min(_SECONDS_MAX, math.fsum(s for s in known if math.isfinite(s) and s >= 0.0))


@cache
def _optional(kind: type[Struct]) -> frozenset[str]:
    """The fields of a type that may be unknown."""
    info: Any = msgspec.inspect.type_info(kind)
    return frozenset(
        field.name
        for field in info.fields
        if isinstance(field.type, msgspec.inspect.UnionType) and field.type.includes_none
    )


def _dotted(path: Path) -> str:
    words = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in path)
    return words.removeprefix(".") or "the whole"
