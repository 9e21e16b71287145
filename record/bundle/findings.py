"""What looking at a bundle has found, and how two values are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.record.recount import Recount

Verdict = Literal["holds", "fails", "unknown"]

_MOST = 20
"""Faults of a kind that are named one by one."""


class BundleCheck(Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        what: its name, one word.
        verdict: whether it holds; ``unknown`` where it cannot be checked.
        words: what was found, in a sentence.
        details: what is wrong, worst first, a sentence each.
    """

    what: str
    verdict: Verdict
    words: str
    details: tuple[str, ...] = ()


class Verified(Struct, frozen=True, kw_only=True):
    """What is known of a bundle.

    Attributes:
        checks: in the order in which they were made.
        digest: SHA-256 of the zip; empty for a folder.
        recount: its phases; ``None`` where the store cannot be read.
        not_checked: what no check computes again, in words.
    """

    checks: tuple[BundleCheck, ...]
    digest: str = ""
    recount: Recount | None = None
    not_checked: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing that can be checked is wrong."""
        return all(check.verdict != "fails" for check in self.checks)


def few(said: Sequence[str]) -> tuple[str, ...]:
    """The first sentences, and how many more there are."""
    more = len(said) - _MOST
    return (*said[:_MOST], *((f"and {more} more",) if more > 0 else ()))


def plain(value: Any) -> Any:
    """A value as its JSON is read again, for :func:`unlike`."""
    return msgspec.json.decode(msgspec.json.encode(value))


def unlike(one: Any, other: Any, at: str = "") -> str | None:
    """Where two JSON values differ, but for the last digits of numbers; ``None``: nowhere."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            place = f"{at}.{key}" if at else key
            if key not in one or key not in other:
                return f"{place} is in one of both only"
            if (said := unlike(one[key], other[key], place)) is not None:
                return said
        return None
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{at} has {len(one)} and {len(other)} entries"
        pairs = enumerate(zip(one, other, strict=True))
        found = (unlike(a, b, f"{at}[{place}]") for place, (a, b) in pairs)
        return next((said for said in found if said is not None), None)
    if type(one) is type(other) and one == other:
        return None
    numbers = not isinstance(one, bool) and not isinstance(other, bool)
    if (
        numbers
        and isinstance(one, int | float)
        and isinstance(other, int | float)
        and math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    ):
        return None
    return f"{at} is {one!r}, not {other!r}"
