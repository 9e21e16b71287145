"""What boards did besides drawing power: clock, throttling, link, and the cost of metering.

* :class:`DeviceObserved`   one device over the whole run
* :func:`device_observed`   the same, from a run

A value that a device did not report is ``None``, never zero: a board without a counter of
throttling may have been throttled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from fimi.energy.hardware import Applied, Observation
from fimi.energy.joules import Energy, total
from fimi.energy.meters.sampler import MonitorCost
from fimi.energy.observe.link import LinkState
from fimi.messaging.messages.basis import Goodput
from fimi.record.record import RunData
from fimi.record.sums import mean


class DeviceObserved(Struct, frozen=True, kw_only=True):
    """One device over the whole run.

    Attributes:
        device: its id.
        frequency_hz: clock it ran at, mean over its rounds.
        frequency_source: what that clock was read from.
        cap_hz: cap in force, read back, mean over the same rounds.
        throttled: how often it was slowed down, by cause; ``None`` where nothing counts it.
        down_bps: payload bits per second of all downloads, synthetic batch included.
        up_bps: of all uploads.
        planned_up_bps: what the plan expected of the same uploads.
        applied: what it set and read back for its last plan.
        limit_bps: rate limit in force in its last round, read back; ``None`` if none was.
        link: of its last round that reported one.
        cpu: the processor's share of the joules, by a meter of its own.
        cpu_share: that over the board's joules of the same phases, 0 to 1.
        monitor: time that metering took.
        monitor_energy: joules that it took; ``None`` if a part of them is unknown.
        doubts: what spoke against the readings of its meter, and in how many rounds; sentences
            that differ in their numbers only are one, as it was said first.
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
    doubts: tuple[tuple[str, int], ...] = ()

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
    entries = [entry for _, entry in run.rounds_of(device)]
    stretches = run.stretches_of(device)
    moved = [transfer for each in stretches for transfer in each.transfers]
    seen = [entry.observed for entry in entries if entry.observed is not None]
    clocks = [(o.frequency_hz, o.cap_hz) for o in seen if o.frequency_hz is not None]
    split = [(r.cpu, r.energy) for each in stretches for r in each.phases if r.cpu is not None]
    cpu = total((part for part, _ in split), one_meter=True)
    whole_j = math.fsum(energy.value_j for _, energy in split if energy is not None)
    known = all(energy is not None for _, energy in split)
    monitored = [o for o in seen if o.monitor is not None]
    spent = [o.monitor_energy for o in monitored if o.monitor_energy is not None]
    return DeviceObserved(
        device=device,
        frequency_hz=mean(clock for clock, _ in clocks),
        frequency_source=", ".join(
            dict.fromkeys(o.frequency_source for o in seen if o.frequency_source)
        ),
        cap_hz=mean(cap for _, cap in clocks) or mean(o.cap_hz for o in seen),
        throttled=_counts(seen),
        down_bps=_goodput(t for t in moved if t.phase.endswith("download")),
        up_bps=_goodput(t for t in moved if t.phase == "upload"),
        planned_up_bps=_planned_up_bps(run, device),
        applied=run.applied.get(device),
        limit_bps=seen[-1].rate_limit_bps if seen else None,
        link=next((o.link for o in reversed(seen) if o.link is not None), None),
        cpu=cpu,
        cpu_share=cpu.value_j / whole_j if cpu is not None and known and whole_j > 0.0 else None,
        monitor=_cost([o.monitor for o in monitored if o.monitor is not None]),
        monitor_energy=total(spent, one_meter=True) if len(spent) == len(monitored) else None,
        doubts=_doubts(seen),
    )


def _counts(seen: Iterable[Observation]) -> dict[str, int] | None:
    told = [o.throttled for o in seen if o.throttled is not None]
    causes = dict.fromkeys(cause for counts in told for cause in counts)
    return {c: sum(counts.get(c, 0) for counts in told) for c in causes} if told else None


def _doubts(seen: Iterable[Observation]) -> tuple[tuple[str, int], ...]:
    """Sentences without regard to their numbers, and the rounds in which each was said."""
    first: dict[str, str] = {}
    rounds: dict[str, int] = {}
    for observation in seen:
        kinds = {_NUMBER.sub("#", sentence): sentence for sentence in observation.doubts}
        for kind, sentence in kinds.items():
            first.setdefault(kind, sentence)
            rounds[kind] = rounds.get(kind, 0) + 1
    return tuple((sentence, rounds[kind]) for kind, sentence in first.items())


_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def _goodput(moved: Iterable[Goodput]) -> float | None:
    timed = [t for t in moved if t.duration_s > 0.0]
    if not timed:
        return None
    return 8.0 * sum(t.size_bytes for t in timed) / math.fsum(t.duration_s for t in timed)


def _planned_up_bps(run: RunData, device: str) -> float | None:
    """Bits of the uploads, as planned, over the time that the plans of their rounds gave them."""
    sizes = {each.number: each.planned_update_bytes for each in run.rounds}
    planned = [
        (sizes.get(number) or sum(t.size_bytes for t in sent), cost.duration_s)
        for number, entry in run.rounds_of(device)
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
