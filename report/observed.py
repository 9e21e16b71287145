"""The observations of :mod:`fimi.record.observed`, as sentences and as a table.

* :func:`unusual`           sentences about unusual observations
* :func:`observed_table`    the table of the page
"""

from __future__ import annotations

from collections.abc import Sequence

from fimi.energy.observe.link import LinkState
from fimi.plural import plural
from fimi.record.clean import clean, enumerated
from fimi.record.observed import DeviceObserved
from fimi.report.markup import Column, Html, table
from fimi.report.words import MISSING, bits_per_second, cell, hertz, percent, percent_value

CLOCK_TOLERANCE = 0.05
"""A clock that is further from its cap than this share of it was not held."""

RATE_TOLERANCE = 0.1
"""Uploads that are further from the planned rate than this share of it did not hold it."""


FAILED_SHARE = 0.05
"""More looks than this share of them that gave nothing are worth a line."""


def unusual(each: DeviceObserved) -> list[tuple[str, str]]:
    """A term and a sentence for everything that did not go as it was set."""
    said = []
    clock = ""
    if each.frequency_hz is not None and each.cap_hz:
        clock = f"ran at {hertz(each.frequency_hz)} under a cap of {hertz(each.cap_hz)}"
        if each.frequency_source:
            clock += f" ({clean(each.frequency_source)})"
    if each.throttled_times:
        times = plural(each.throttled_times, "time")
        words = f"{times}, {_causes(each)}{'; ' if clock else ''}{clock}"
        said.append(("throttled", f"{each.device}: {words}"))
    elif clock and _off(each.frequency_hz, each.cap_hz, CLOCK_TOLERANCE):
        said.append(("clock not held", f"{each.device}: {clock}"))
    if _off(each.up_bps, each.planned_up_bps, RATE_TOLERANCE):
        rates = f"at {bits_per_second(each.up_bps)}, planned {bits_per_second(each.planned_up_bps)}"
        said.append(("rate not held", f"{each.device}: uploads {rates}"))
    said += [("meter doubted", f"{each.device}: {words}") for words in _doubts(each)]
    if each.monitor is not None and each.monitor.failed > FAILED_SHARE * each.monitor.looks:
        failed = f"{each.monitor.failed} of {each.monitor.looks} looks gave nothing"
        said.append(("meter", f"{each.device}: {failed}"))
    return said


def observed_table(found: Sequence[DeviceObserved]) -> Html | None:
    """One row per device; nothing where no device reported anything, as in older runs."""
    if not any(each.anything for each in found):
        return None
    kinds = dict.fromkeys(e.monitor_energy.kind for e in found if e.monitor_energy is not None)
    bare, kind = len(kinds) <= 1, next(iter(kinds)) if len(kinds) == 1 else "energy"
    columns: list[Column[DeviceObserved]] = [
        Column("Device", "", lambda e: e.device, "name"),
        Column("Clock", "achieved", lambda e: hertz(e.frequency_hz)),
        Column("Clock", "cap", lambda e: hertz(e.cap_hz)),
        Column("Clock", "set by", _set_by, "name"),
        Column("Throttled", "times", _throttled, "text"),
        Column("Goodput", "down", lambda e: bits_per_second(e.down_bps)),
        Column("Goodput", "up", lambda e: bits_per_second(e.up_bps)),
        Column("Goodput", "up, planned", lambda e: bits_per_second(e.planned_up_bps)),
        Column("Rate limit", "read back", lambda e: bits_per_second(e.limit_bps)),
        Column("Link", "", lambda e: _link_words(e.link), "text"),
        Column("Processor", "of the joules", lambda e: percent(e.cpu_share)),
        Column(
            "Monitor",
            "of one core",
            _watching,
        ),
        Column("Monitor", kind, lambda e: cell(e.monitor_energy, bare=bare)),
    ]
    if any(each.doubts for each in found):
        columns.append(Column("Meter doubted", "", lambda e: "; ".join(_doubts(e)) or "0", "text"))
    there = [c for c in columns if any(c.of(each) != MISSING for each in found)]
    lacking = dict.fromkeys(f"{c.title} {c.unit}".lower() for c in columns if c not in there)
    caption = "As the devices observed themselves"
    if lacking:
        caption += f"; no device told of {enumerated([name.strip() for name in lacking], 20)}"
    return table(there, found, caption=caption)


def _doubts(each: DeviceObserved) -> list[str]:
    """What spoke against the meter, with the number of rounds."""
    return [f"{clean(words, 300)} ({plural(rounds, 'round')})" for words, rounds in each.doubts]


def _set_by(each: DeviceObserved) -> str:
    return each.applied.frequency_control if each.applied else MISSING


def _throttled(each: DeviceObserved) -> str:
    if each.throttled is None:
        return MISSING
    return _causes(each) if each.throttled_times else "0"


def _causes(each: DeviceObserved) -> str:
    causes = (each.throttled or {}).items()
    return ", ".join(f"{clean(cause, 40)} {times}" for cause, times in sorted(causes) if times)


def _watching(each: DeviceObserved) -> str:
    return percent_value(each.monitor.cpu_percent if each.monitor else None, 2)


def _link_words(link: LinkState | None) -> str:
    if link is None:
        return MISSING
    signal = f"{link.signal_dbm:.0f} dBm".replace("-", "−") if link.signal_dbm is not None else None
    rate = bits_per_second(link.rate_bps) if link.rate_bps is not None else None
    return ", ".join(word for word in (link.interface, rate, signal) if word)


def _off(value: float | None, set_to: float | None, tolerance: float) -> bool:
    if value is None or not set_to:
        return False
    return abs(value - set_to) > tolerance * set_to
