"""What differs between two snapshots, as a JSON merge patch (RFC 7396).

A window gets one whole snapshot when it opens, and patches from then on. In a merge patch a key
with ``null`` is removed; a snapshot has no key whose value is ``null``, because what is unknown is
left out (:func:`as_json`). So every difference can be told.

* :func:`as_json`     a snapshot as JSON objects
* :func:`difference`  the patch from one to another
* :func:`apply`       the other one again, from the first and the patch
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec.structs import replace

from fimi.monitor.snapshot import RoundNow, Snapshot

Json = dict[str, Any]
KnownRounds = dict[str, tuple[RoundNow, Json]]
"""Rounds of an earlier snapshot, as they are and as JSON."""


def as_json(snapshot: Snapshot, known: KnownRounds | None = None) -> Json:
    """A snapshot as JSON objects, without what is ``None``, and without infinities and NaN.

    Args:
        snapshot: of the run.
        known: rounds that are JSON already; filled here. Of thousands, most are as they were.
    """
    known = {} if known is None else known
    found: Json = _known(msgspec.to_builtins(replace(snapshot, rounds={})))
    for number, now in snapshot.rounds.items():
        before = known.get(number)
        if before is None or before[0] is not now:
            known[number] = (now, _known(msgspec.to_builtins(now)))
        found["rounds"][number] = known[number][1]
    return found


def difference(before: Json, after: Json) -> Json:
    """What makes ``after`` of ``before``; empty if they are equal.

    Arrays are told as a whole where they differ.
    """
    patch: Json = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if value is old and old is not None:
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := difference(old, value):
                patch[name] = inner
        elif name not in before or old != value or type(old) is not type(value):
            patch[name] = value
    return patch


def apply(before: Json, patch: Json) -> Json:
    """What a window makes of a snapshot and a patch; ``before`` stays as it is."""
    after = dict(before)
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, dict):
            old = after.get(name)
            after[name] = apply(old if isinstance(old, dict) else {}, value)
        else:
            after[name] = value
    return after


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items() if _is_known(each)}
    if isinstance(value, list | tuple):
        return [_known(each) for each in value]
    return value


def _is_known(value: Any) -> bool:
    """Whether JSON has it: its numbers are finite."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
