"""What differs between experiments besides their numbers, and whether these are the same.

* :func:`differences`  kinds of joules, target, configuration, data, versions, cells: sentences
* :func:`unequal`      where two tables are not equal to the last digit
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fimi.record.clean import clean, enumerated
from fimi.report.comparison.runs import point_text
from fimi.report.comparison.stored import StoredResult, StoredRun
from fimi.report.words import percent

_OF_THE_CELL = ("run.name", "run.directory", "run.seed", "broker.kind", "broker.port")
"""Keys of the configuration that say which cell a run is of, and where it was run."""
_MOST = 12
"""Of one sort, after which the rest is counted."""

Cell = tuple[str, str, str, int]
"""Side, grid point, strategy and seed."""

_WALLS = (
    *("series.wall_s", "series.generator", "series.server", "series.total", "series.resumed"),
    *("series.warnings", "series.first_temperature_c", "total_at_least_j_to_target"),
    *(f"to_target.{cost}_j" for cost in ("generator", "server", "total")),
    *("run", "config", "versions"),
)
"""What is not of the table, or real time and real joules of the machine that ran it."""
_SERVERS_CLOCK = (
    "series.duration_s",
    "series.measured_and_predicted.round_s",
    "to_target.duration_s",
)
"""Real time as well, where no device takes part."""


def differences(letters: Sequence[str], results: Sequence[StoredResult]) -> list[str]:
    """A sentence for everything that the others have otherwise than the first."""
    cells = [dict(_cells(result)) for result in results]
    said = _joules(letters, results, cells)
    for what, values in (
        ("target", [result.target for result in results]),
        ("baseline", [result.baseline for result in results]),
        ("confidence of the intervals", [f"{100 * r.confidence:g} %" for r in results]),
    ):
        if len(set(values)) > 1:
            said.append(f"{what}: {_each(letters, values)}")
    for letter, result, own in zip(letters[1:], results[1:], cells[1:], strict=True):
        both = [
            (cells[0][cell], run)
            for cell, run in own.items()
            if cell in cells[0] and run.series and cells[0][cell].series
        ]
        named = (letters[0], letter)
        said += _targets(named, both)
        said += _configuration(named, both, (results[0].config, result.config))
        said += _data(named, both)
        said += _versions(named, both, (results[0].versions, result.versions))
    return said + _left_out(letters, cells) + _missing(letters, cells)


def _cells(result: StoredResult) -> Iterator[tuple[Cell, StoredRun]]:
    for side, each in result.sides.items():
        for run in each.runs:
            yield (side, *run.place, run.seed), run


def _each(letters: Sequence[str], values: Sequence[str]) -> str:
    pairs = zip(letters, values, strict=True)
    return ", ".join(f"{clean(value, 300)} in {letter}" for letter, value in pairs)


def _joules(
    letters: Sequence[str],
    results: Sequence[StoredResult],
    cells: Sequence[Mapping[Cell, StoredRun]],
) -> list[str]:
    said = []
    kinds = [result.energy_kind for result in results]
    if len(set(kinds)) > 1:
        said.append(
            f"joules are {_each(letters, kinds)}: a ratio between them says how far one is from "
            "the other, and nothing of what is saved"
        )
    scopes = [
        "+".join(sorted({r.series.scope for r in own.values() if r.series and r.series.scope}))
        for own in cells
    ]
    if len({scope for scope in scopes if scope}) > 1:
        said.append(f"meters see: {_each(letters, [scope or 'nothing' for scope in scopes])}")
    return said


Pairs = Sequence[tuple[StoredRun, StoredRun]]


def _targets(letters: tuple[str, str], both: Pairs) -> list[str]:
    asked = [(a.target_accuracy, b.target_accuracy) for a, b in both]
    known = [(a, b) for a, b in asked if a is not None and b is not None]
    other = [(a, b) for a, b in known if a != b]
    if not other:
        return []
    means = [f"{100 * math.fsum(each) / len(known):.1f} %" for each in zip(*known, strict=True)]
    return [
        f"the target is another accuracy in {_of(len(other), len(known))}, on average "
        f"{_each(letters, means)}: costs are those of reaching it"
    ]


def _configuration(
    letters: tuple[str, str], both: Pairs, shared: tuple[dict[str, Any], dict[str, Any]]
) -> list[str]:
    pairs = [({**shared[0], **a.config}, {**shared[1], **b.config}) for a, b in both]
    found: Counter[str] = Counter()
    for a, b in pairs:
        for key in dict.fromkeys((*a, *b)):
            if key not in _OF_THE_CELL and a.get(key) != b.get(key):
                values = [_value(each, key) for each in (a, b)]
                found[f"{key}: {_each(letters, values)}"] += 1
    return _counted(found, len(pairs))


def _value(config: Mapping[str, Any], key: str) -> str:
    return point_text({key: config[key]}).partition(" = ")[2] if key in config else "nothing"


def _versions(
    letters: tuple[str, str], both: Pairs, shared: tuple[dict[str, str], dict[str, str]]
) -> list[str]:
    of_each = [
        [{**common, **run.versions} for run in runs]
        for common, runs in zip(shared, zip(*both, strict=True), strict=False)
    ]
    said = []
    for key in dict.fromkeys(key for own in of_each for each in own for key in each):
        values = [" and ".join(dict.fromkeys(o.get(key, "none") for o in own)) for own in of_each]
        if len(set(values)) > 1:
            said.append(f"version of {key}: {_each(letters, values)}")
    return said


def _counted(found: Counter[str], among: int) -> list[str]:
    said = [
        text + (f" ({_of(count, among)})" if count < among else "") for text, count in found.items()
    ]
    return said[:_MOST] + ([f"and {len(said) - _MOST} more"] if len(said) > _MOST else [])


def _data(letters: tuple[str, str], both: Pairs) -> list[str]:
    other = [
        [part for part in a.series.data if a.series.data[part] != b.series.data.get(part)]
        for a, b in both
        if a.series and b.series
    ]
    parts = list(dict.fromkeys(part for found in other for part in found))
    if not parts:
        return []
    return [
        f"data of {' and '.join(letters)} differ ({', '.join(parts)}) in "
        f"{_of(sum(map(bool, other)), len(other))}: so do accuracies and costs for that reason"
    ]


def _left_out(letters: Sequence[str], cells: Sequence[Mapping[Cell, StoredRun]]) -> list[str]:
    """Where joules of all rounds are those of a part of the devices' rounds only."""
    said = []
    for letter, own in zip(letters, cells, strict=True):
        shares: dict[tuple[str, str, str], list[float]] = {}
        for (*place, _), run in own.items():
            left_out = run.series and run.series.measured_and_predicted["board_j"].left_out
            if left_out is not None:
                shares.setdefault(tuple(place), []).append(left_out)  # type: ignore[arg-type]
        said += [
            f"{letter}: {percent(share)} of the device-rounds of {_name(*place)} are in neither "
            "the metered nor the predicted joules of all rounds"
            for place, found in shares.items()
            if 0.0 < (share := math.fsum(found) / len(found)) < 1.0
        ]
    return said


def _missing(letters: Sequence[str], cells: Sequence[Mapping[Cell, StoredRun]]) -> list[str]:
    every = dict.fromkeys(cell for own in cells for cell in own)
    said = []
    for letter, own in zip(letters, cells, strict=True):
        lacking: dict[tuple[str, str, str], list[str]] = {}
        for *place, seed in (cell for cell in every if cell not in own):
            lacking.setdefault(tuple(place), []).append(str(seed))  # type: ignore[arg-type]
        said += [
            f"{letter} has no {_name(*place)}, seed{'s' if len(seeds) > 1 else ''} "
            f"{enumerated(seeds)}"
            for place, seeds in lacking.items()
        ]
        said += [
            f"{letter}: {_name(*place)}, seed {seed} has no run: {clean(run.problem, 200)}"
            for (*place, seed), run in own.items()
            if run.series is None
        ]
    return said[:_MOST] + ([f"and {len(said) - _MOST} more"] if len(said) > _MOST else [])


def _name(side: str, point: str, label: str) -> str:
    return " ".join(filter(None, (side, label, point and f"at {point}")))


def _of(count: int, among: int) -> str:
    return f"{count} of {among} runs that both have"


def unequal(first: StoredResult, other: StoredResult) -> list[str]:
    """Where two tables differ by as much as a digit; empty if nowhere.

    Wall times, joules of generator node and server (real work of the machine that ran it), and what
    is not in the tables (names of runs, versions, configuration) are left out.
    """
    ours, theirs = dict(_values(first)), dict(_values(other))
    return [
        f"{key} is {_shown(ours, key)} and {_shown(theirs, key)}"
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key, _ABSENT) != theirs.get(key, _ABSENT)
    ]


_ABSENT = object()


def _shown(values: Mapping[str, Any], key: str) -> str:
    return msgspec.json.encode(values[key]).decode() if key in values else "not there"


def _values(result: StoredResult) -> Iterator[tuple[str, Any]]:
    """Every value of a table with its name."""
    raw = result.raw
    for key in ("baseline", "target", "confidence", "energy_kind"):
        yield key, raw[key]
    for choice in result.choices:
        name = _name("", point_text(choice.point), choice.strategy)
        yield f"setting taken for {name}", choice.taken
    for side in ("", "tuned"):
        for run in (raw[side] or {"runs": ()} if side else raw)["runs"]:
            name = f"{_name(side, point_text(run['point']), run['strategy'])}, seed {run['seed']}"
            apart = _WALLS if run["devices_train"] else (*_WALLS, *_SERVERS_CLOCK)
            told = {**run, "problem": bool(run["problem"])}
            for path, value in _leaves(told, ""):
                if not any(
                    path == each or path.startswith((f"{each}.", f"{each}[")) for each in apart
                ):
                    yield f"{name}: {path}", value


def _leaves(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{path}[{number}]")
    else:
        yield path, value
