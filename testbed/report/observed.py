"""What boards did besides drawing power: clock, throttling, link, and what watching them took.

* :class:`DeviceObserved`   one device over the whole run
* :func:`device_observed`   the same, from a run
* :func:`unusual`           what a reader should be told without asking
* :func:`observed_table`    the table of the page

What a device did not tell is ``None`` and shown as missing: a board on which nothing counts
throttling has not been throttled zero times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from coordinator.results import DeviceRound
from energy.hardware import Applied, Observation
from energy.joules import Energy
from energy.meters.sampler import MonitorCost
from energy.observe.link import LinkState
from messaging.messages import Goodput
from testbed.report.kinds import cell
from testbed.report.markup import Child, Column, Html, table
from testbed.report.phases import correlated, mean
from testbed.report.run_data import RunData
from testbed.report.text import MISSING, bits_per_second, clean, hertz, percent

CLOCK_TOLERANCE = 0.05
"""A clock that is further from its cap than this share of it was not held."""

RATE_TOLERANCE = 0.1
"""Uploads that are further from the planned rate than this share of it did not hold it."""


FAILED_SHARE = 0.05
"""More looks than this share of them that gave nothing are worth a line."""


class DeviceObserved(Struct, frozen=True, kw_only=True):
    """One device over the whole run.

    Attributes:
        device: who.
        frequency_hz: clock it ran at, mean over its rounds.
        frequency_source: who says so.
        cap_hz: cap in force, read back, mean over the same rounds.
        throttled: how often it was slowed down, by cause; ``None`` where nothing counts it.
        down_bps: payload bits per second of all downloads, synthetic batch included.
        up_bps: of all uploads.
        planned_up_bps: what the plan expected of the same uploads.
        applied: what it set and read back for its last plan.
        limit_bps: rate limit in force in its last round, read back; ``None`` if none was.
        link: of its last round that told.
        cpu: the processor's share of the joules, by a meter of its own.
        cpu_share: that over the board's joules of the same phases, 0 to 1.
        monitor: what watching the meter took.
        monitor_energy: the joules of that; ``None`` if a part of them is unknown.
    """

    device: str
    frequency_hz: float | None = None
    frequency_source: str = ""
    cap_hz: float | None = None
    throttled: dict[str, int] | None = None
    down_bps: float | None = None
    up_bps: float | None = None
    planned_up_bps: float | None = None
    applied: Applied | None = None
    limit_bps: float | None = None
    link: LinkState | None = None
    cpu: Energy | None = None
    cpu_share: float | None = None
    monitor: MonitorCost | None = None
    monitor_energy: Energy | None = None

    @property
    def anything(self) -> bool:
        """Whether there is anything to show."""
        return self != DeviceObserved(device=self.device)

    @property
    def throttled_times(self) -> int | None:
        """All causes together."""
        return None if self.throttled is None else sum(self.throttled.values())


def device_observed(run: RunData, device: str) -> DeviceObserved:
    """What a device did over the whole run."""
    entries = [entry for r in run.rounds for entry in r.devices if entry.device == device]
    before = [p for p in run.preparations if p.device == device]
    moved = [t for p in before for t in p.transfers]
    moved += [t for entry in entries for t in entry.transfers]
    seen = [entry.observed for entry in entries if entry.observed is not None]
    clocks = [(o.frequency_hz, o.cap_hz) for o in seen if o.frequency_hz is not None]
    records = [record for p in before for record in p.phases]
    records += [record for entry in entries for record in entry.phases]
    split = [(r.cpu, r.energy) for r in records if r.cpu is not None]
    cpu = correlated(part for part, _ in split)
    whole_j = math.fsum(energy.value_j for _, energy in split if energy is not None)
    known = all(energy is not None for _, energy in split)
    monitored = [o for o in seen if o.monitor is not None]
    spent = [o.monitor_energy for o in monitored if o.monitor_energy is not None]
    return DeviceObserved(
        device=device,
        frequency_hz=mean([clock for clock, _ in clocks]),
        frequency_source=", ".join(
            dict.fromkeys(o.frequency_source for o in seen if o.frequency_source)
        ),
        cap_hz=mean([cap for _, cap in clocks if cap is not None])
        or mean([o.cap_hz for o in seen if o.cap_hz is not None]),
        throttled=_counts(seen),
        down_bps=_goodput(t for t in moved if t.phase.endswith("download")),
        up_bps=_goodput(t for t in moved if t.phase == "upload"),
        planned_up_bps=_planned_up_bps(entries),
        applied=run.applied.get(device),
        limit_bps=seen[-1].rate_limit_bps if seen else None,
        link=next((o.link for o in reversed(seen) if o.link is not None), None),
        cpu=cpu,
        cpu_share=cpu.value_j / whole_j if cpu is not None and known and whole_j > 0.0 else None,
        monitor=_cost([o.monitor for o in monitored if o.monitor is not None]),
        monitor_energy=correlated(spent) if len(spent) == len(monitored) else None,
    )


def unusual(each: DeviceObserved) -> list[tuple[str, str]]:
    """A term and a sentence for everything that did not go as it was set."""
    said = []
    clock = ""
    if each.frequency_hz is not None and each.cap_hz:
        clock = f"ran at {hertz(each.frequency_hz)} under a cap of {hertz(each.cap_hz)}"
        if each.frequency_source:
            clock += f" ({clean(each.frequency_source)})"
    if each.throttled_times:
        times = f"{each.throttled_times} time{'' if each.throttled_times == 1 else 's'}"
        said.append(
            ("throttled", f"{each.device}: {times}, {_causes(each)}{'; ' if clock else ''}{clock}")
        )
    elif clock and _off(each.frequency_hz, each.cap_hz, CLOCK_TOLERANCE):
        said.append(("clock not held", f"{each.device}: {clock}"))
    if _off(each.up_bps, each.planned_up_bps, RATE_TOLERANCE):
        said.append(
            (
                "rate not held",
                f"{each.device}: uploads at {bits_per_second(each.up_bps)}, planned "
                f"{bits_per_second(each.planned_up_bps)}",
            )
        )
    if each.monitor is not None and each.monitor.failed > FAILED_SHARE * each.monitor.looks:
        said.append(
            (
                "meter",
                f"{each.device}: {each.monitor.failed} of {each.monitor.looks} looks gave nothing",
            )
        )
    return said


def observed_table(found: Sequence[DeviceObserved]) -> Html | None:
    """One row per device; nothing for a run of before devices told."""
    if not any(each.anything for each in found):
        return None
    kinds = dict.fromkeys(e.monitor_energy.kind for e in found if e.monitor_energy is not None)
    return table(
        [
            Column("Device", css="name"),
            Column("Clock", "achieved"),
            Column("Clock", "cap"),
            Column("Clock", "set by", css="name"),
            Column("Throttled", "times", css="text"),
            Column("Goodput", "down"),
            Column("Goodput", "up"),
            Column("Goodput", "up, planned"),
            Column("Rate limit", "read back"),
            Column("Link", css="text"),
            Column("Processor", "of the joules"),
            Column("Monitor", "of one core"),
            Column("Monitor", next(iter(kinds)) if len(kinds) == 1 else "energy"),
        ],
        (_row(each, bare=len(kinds) <= 1) for each in found),
        caption="As the devices observed themselves",
    )


def _row(each: DeviceObserved, *, bare: bool) -> list[Child]:
    applied, monitor = each.applied, each.monitor
    return [
        each.device,
        hertz(each.frequency_hz),
        hertz(each.cap_hz),
        applied.frequency_control if applied else MISSING,
        MISSING if each.throttled is None else _causes(each) if each.throttled_times else "0",
        bits_per_second(each.down_bps),
        bits_per_second(each.up_bps),
        bits_per_second(each.planned_up_bps),
        bits_per_second(each.limit_bps),
        _link_words(each.link),
        percent(each.cpu_share),
        MISSING if monitor is None else _small(monitor.cpu_percent),
        cell(each.monitor_energy, bare=bare),
    ]


def _causes(each: DeviceObserved) -> str:
    causes = (each.throttled or {}).items()
    return ", ".join(f"{clean(cause, 40)} {times}" for cause, times in sorted(causes) if times)


def _link_words(link: LinkState | None) -> str:
    if link is None:
        return MISSING
    signal = f"{link.signal_dbm:.0f} dBm".replace("-", "−") if link.signal_dbm is not None else None
    rate = bits_per_second(link.rate_bps) if link.rate_bps is not None else None
    return ", ".join(word for word in (link.interface, rate, signal) if word)


def _small(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f} %"


def _off(value: float | None, set_to: float | None, tolerance: float) -> bool:
    if value is None or not set_to:
        return False
    return abs(value - set_to) > tolerance * set_to


def _counts(seen: Iterable[Observation]) -> dict[str, int] | None:
    told = [o.throttled for o in seen if o.throttled is not None]
    causes = dict.fromkeys(cause for counts in told for cause in counts)
    return {c: sum(counts.get(c, 0) for counts in told) for c in causes} if told else None


def _goodput(moved: Iterable[Goodput]) -> float | None:
    timed = [t for t in moved if t.duration_s > 0.0]
    if not timed:
        return None
    return 8.0 * sum(t.size_bytes for t in timed) / math.fsum(t.duration_s for t in timed)


def _planned_up_bps(entries: Iterable[DeviceRound]) -> float | None:
    """Bits of the uploads over the time that the plans of their rounds gave them."""
    planned = [
        (sum(t.size_bytes for t in sent), cost.duration_s)
        for entry in entries
        if (sent := [t for t in entry.transfers if t.phase == "upload"])
        for cost in entry.predicted
        if cost.phase == "upload"
    ]
    duration_s = math.fsum(seconds for _, seconds in planned)
    return 8.0 * sum(size for size, _ in planned) / duration_s if duration_s > 0.0 else None


def _cost(costs: Sequence[MonitorCost]) -> MonitorCost | None:
    if not costs:
        return None
    return MonitorCost(
        cpu_s=math.fsum(c.cpu_s for c in costs),
        wall_s=math.fsum(c.wall_s for c in costs),
        looks=sum(c.looks for c in costs),
        failed=sum(c.failed for c in costs),
    )
