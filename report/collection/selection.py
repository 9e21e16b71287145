"""Which runs are wanted, and in which order.

* :class:`RunFilter`  conditions on a run, all of which it must meet
* :func:`moment`   a day, a time, or how long ago, as people write it
* :func:`ordered`  runs by one of :data:`KEYS`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Any, get_args

from msgspec import Struct

from fimi.record.catalogue import Listed, when
from fimi.record.headline import Headline, Standing

BROKEN = "broken"
STANDINGS: tuple[str, ...] = (*get_args(Standing), BROKEN)
"""How a run may stand in a list."""

_AGO = re.compile(r"(\d+(?:\.\d+)?) ?(min|h|d|w)")
_HOURS = {"min": 1 / 60, "h": 1.0, "d": 24.0, "w": 168.0}


def stands(run: Listed) -> str:
    """One of :data:`STANDINGS`."""
    return run.headline.standing if run.headline else BROKEN


class RunFilter(Struct, frozen=True, kw_only=True):
    """Conditions on a run; an empty one is met by every run.

    A run that cannot be read says nothing of its strategy and its data: it meets no condition on
    these, and one on its time by when its folder was changed last.

    Attributes:
        strategy: names, with ``*`` and ``?`` for any letters; one of them must fit.
        data: data sets, likewise.
        standing: of :data:`STANDINGS`.
        since: it began then or later.
        until: it began before.
    """

    strategy: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def __call__(self, run: Listed) -> bool:
        """Whether a run is wanted."""
        return (
            _fits(self.strategy, run.headline.strategy if run.headline else None)
            and _fits(self.data, run.headline.data if run.headline else None)
            and (not self.standing or stands(run) in self.standing)
            and (self.since is None or run.began >= self.since)
            and (self.until is None or run.began < self.until)
        )


def unmet(patterns: tuple[str, ...], names: Iterable[str]) -> list[str]:
    """The patterns that fit none of these names."""
    there = tuple(names)
    return [each for each in patterns if not any(fnmatchcase(name, each) for name in there)]


def _fits(patterns: tuple[str, ...], name: str | None) -> bool:
    if not patterns:
        return True
    return name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)


def moment(text: str, now: datetime, *, end: bool = False) -> datetime:
    """What ``2026-11-30``, ``2026-11-30T14:05``, ``yesterday`` or ``3d`` stand for.

    Args:
        text: a day, a day and time of this machine's zone or another, ``today``, ``yesterday``, or
            a time ago in ``min``, ``h``, ``d`` or ``w``.
        now: the time, with a zone.
        end: whether the end of a day is meant.

    Raises:
        ValueError: it is none of these; the message says what is possible.
    """
    told = text.strip().lower()
    try:
        if found := _AGO.fullmatch(told):
            return now - timedelta(hours=float(found[1]) * _HOURS[found[2]])
        days = {"today": 0, "yesterday": 1}
        if told in days or re.fullmatch(r"\d{4}-\d\d-\d\d", told):
            day = now.date() - timedelta(days[told]) if told in days else date.fromisoformat(told)
            return datetime.combine(day + timedelta(days=end), time()).astimezone()
        found_time = when(text.strip())
    except (ValueError, OverflowError):
        found_time = None
    if found_time is None:
        raise ValueError(
            f"{text!r} is no time: write a day (2026-11-30, today, yesterday), a day and a time "
            "(2026-11-30T14:05), or how long ago (90min, 12h, 3d, 2w)"
        )
    return found_time


def _of(pick: Callable[[Headline], Any]) -> Callable[[Listed], tuple[bool, Any]]:
    """A key to sort by: what is not known comes first, so that the largest stands last."""

    def key(run: Listed) -> tuple[bool, Any]:
        value = pick(run.headline) if run.headline else None
        return value is not None, 0 if value is None else value

    return key


KEYS: dict[str, Callable[[Listed], Any]] = {
    "began": lambda run: run.began,
    "name": lambda run: run.name,
    "strategy": lambda run: run.headline.strategy if run.headline else "",
    "data": lambda run: run.headline.data if run.headline else "",
    "devices": _of(lambda h: h.devices),
    "rounds": _of(lambda h: h.rounds),
    "accuracy": _of(lambda h: h.accuracy),
    "energy": _of(lambda h: h.energy.value_j if h.energy else None),
    "wall": _of(lambda h: h.wall_s),
    "status": lambda run: STANDINGS.index(stands(run)),
}
"""What runs can be sorted by."""


def ordered(runs: Iterable[Listed], by: str, *, reverse: bool = False) -> list[Listed]:
    """Runs sorted by one of :data:`KEYS`, the newest or largest last, equal ones as they began.

    Args:
        runs: to sort.
        by: the key.
        reverse: the newest or largest first.
    """
    found = sorted(runs, key=lambda run: (run.began, run.name))
    return sorted(found, key=KEYS[by], reverse=reverse)
