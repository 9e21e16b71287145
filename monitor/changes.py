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

from fimi.monitor.snapshot import Snapshot

Json = dict[str, Any]


def as_json(snapshot: Snapshot) -> Json:
    """A snapshot as JSON objects, without what is ``None``, and without infinities and NaN."""
    found = _known(msgspec.to_builtins(snapshot))
    assert isinstance(found, dict)
    return found


def difference(before: Json, after: Json) -> Json:
    """What makes ``after`` of ``before``; empty if they are equal.

    Arrays are told as a whole where they differ.
    """
    patch: Json = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
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
