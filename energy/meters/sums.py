"""Several meters added up, and those that may not be.

* :class:`MeterSum`              a meter that adds the looks of others
* :func:`why_not_together`  why two meters may not be added: one contains the other, or both see the
                            same
* :func:`is_part`           whether one meter sees a part of what another one sees

A sum of which one part cannot be read is no reading. Energy counters are added as counters. Where
counters and powers are added, each counter is made a power: its mean over a short window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import combinations

from fimi.energy.joules import SCOPE_WIDTH, Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.counter import Adder
from fimi.energy.meters.names import family
from fimi.energy.meters.response import MeterResponse, uniform_sd_s
from fimi.energy.sysfs import complete

MIRRORED_LOOKS = 20
"""Two parts that change so often, and always to the same value, are one thing read twice."""

_WINDOW_S = 0.2
_REFRESHES = 10.0
_APART = frozenset({"rapl", "nvml"})
"""Families of which none sees what the other sees, but for the platform's zone of RAPL."""


class MeterSum(Meter):
    """The sum of some meters, which belong to it: it closes them.

    Args:
        meters: at least two.
        scope: what their user says that they see together.

    Raises:
        MeterUnavailableError: two of them may not be added.
    """

    def __init__(self, meters: Sequence[Meter], scope: Scope | None = None) -> None:
        for one, other in combinations(meters, 2):
            if why := why_not_together(one, other):
                raise MeterUnavailableError(
                    f"{one.describe().source} and {other.describe().source} cannot be added: "
                    f"{why}. Leave one of them out of the list"
                )
        self._meters = tuple(meters)
        described = [meter.describe() for meter in meters]
        counts = all(each.counts for each in described)
        self._speeds = {
            place: _Speed(max(_WINDOW_S, _REFRESHES * each.response.refresh_s))
            for place, each in enumerate(described)
            if each.counts and not counts
        }
        responses = [
            MeterResponse(window_s=self._speeds[place].window_s, origin=each.response.origin)
            if place in self._speeds
            else each.response
            for place, each in enumerate(described)
        ]
        self._alike = dict.fromkeys(combinations(range(len(meters)), 2), 0)
        self._last: list[Look] = []
        self._sum = Adder()
        self.made_of = frozenset().union(*(meter.made_of for meter in meters))
        self.inside = frozenset.intersection(*(meter.inside for meter in meters))
        self.may_rest = all(meter.may_rest for meter in meters)
        self.step_j = max(complete(meter.step_j for meter in meters), default=None)
        self._description = MeterDescription(
            source="+".join(each.source for each in described),
            kind=described[0].kind,
            scope=scope or _scope([each.scope for each in described]),
            rate_hz=min(each.rate_hz for each in described),
            resolution_w=0.0 if counts else math.hypot(*(each.resolution_w for each in described)),
            # Gains are independent; no sum of parts is less certain than the least certain part.
            relative_uncertainty=max(each.relative_uncertainty for each in described),
            counts=counts,
            response=_slowest(responses),
        )

    @property
    def longest_period_s(self) -> float:
        """The shortest of the parts."""
        return min(meter.longest_period_s for meter in self._meters)

    def look(self, time_s: float) -> Look:
        """The sum; empty if one part cannot be read."""
        looks = [meter.look(time_s) for meter in self._meters]
        self._compare(looks)
        if self._description.counts:
            return self._sum.add(looks)
        for place, speed in self._speeds.items():
            looks[place] = speed.advance(looks[place], time_s)
        powers_w = complete(look.power_w for look in looks)
        return Look(power_w=math.fsum(powers_w)) if powers_w else NOTHING

    def facts(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(
            f"{meter.describe().source}: {', '.join(told)}"
            for meter in self._meters
            if (told := meter.facts())
        )

    def doubts(self) -> tuple[str, ...]:
        """Those of the parts, and parts that always show the same."""
        found = [
            f"{meter.describe().source}: {doubt}"
            for meter in self._meters
            for doubt in meter.doubts()
        ]
        for (one, other), times in self._alike.items():
            if times >= MIRRORED_LOOKS:
                sources = (self._meters[place].describe().source for place in (one, other))
                found.append(
                    f"{' and '.join(sources)} show the same number whenever it changes: one thing "
                    "is counted twice"
                )
        return tuple(found)

    def why_nothing(self) -> str:
        """The parts that give nothing, and why."""
        reasons = [(meter.describe().source, meter.why_nothing()) for meter in self._meters]
        return "; ".join(f"{source}: {why}" for source, why in reasons if why)

    def close(self) -> None:
        """Close every part."""
        for meter in self._meters:
            meter.close()

    def _compare(self, looks: list[Look]) -> None:
        """Count how often two parts changed to the same value; −1 once they differed."""
        values = [look.power_w if look.counter_j is None else look.counter_j for look in looks]
        before = [look.power_w if look.counter_j is None else look.counter_j for look in self._last]
        self._last = looks
        for one, other in self._alike if before else ():
            if values[one] is None or values[other] is None or self._alike[one, other] < 0:
                continue
            if values[one] != values[other]:
                self._alike[one, other] = -1
            elif values[one] != before[one]:
                self._alike[one, other] += 1


class _Speed:
    """A counter as a power: its mean over the last ``window_s``, or a little more."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._seen: deque[tuple[float, float]] = deque()

    def advance(self, look: Look, time_s: float) -> Look:
        """The power of that time; empty until enough of it has passed."""
        if look.counter_j is None:
            return NOTHING
        if look.reset:
            self._seen.clear()
        self._seen.append((time_s, look.counter_j))
        while len(self._seen) > 2 and time_s - self._seen[1][0] >= self.window_s:
            self._seen.popleft()
        since_s, then_j = self._seen[0]
        if time_s - since_s < self.window_s or time_s <= since_s:
            return NOTHING
        return Look(power_w=(look.counter_j - then_j) / (time_s - since_s))


def why_not_together(one: Meter, other: Meter) -> str:
    """Why two meters may not be added, as the end of a sentence; empty if they may be."""
    seen, also = one.describe(), other.describe()
    if seen.kind != also.kind:
        return f"the joules of one are {seen.kind}, those of the other {also.kind}"
    if twice := one.made_of & other.made_of:
        return f"{', '.join(sorted(twice))} would be counted twice"
    for wide, narrow in ((one, other), (other, one)):
        if wide.made_of & narrow.inside:
            return f"{narrow.describe().source} is a part of {wide.describe().source}"
    families = {_family(one), _family(other)}
    platform = any("psys" in name for name in one.made_of | other.made_of)
    if len(families) == 1 or (families == _APART and not platform):
        return ""
    if SCOPE_WIDTH[seen.scope] != SCOPE_WIDTH[also.scope]:
        wide_first = SCOPE_WIDTH[seen.scope] > SCOPE_WIDTH[also.scope]
        wide_one, narrow_one = (seen, also) if wide_first else (also, seen)
        return (
            f"{narrow_one.source} ({narrow_one.scope}) is a part of what {wide_one.source} "
            f"({wide_one.scope}) sees"
        )
    return f"both see the same, the {seen.scope}" if seen.scope == also.scope else ""


def is_part(narrow: Meter, wide: Meter) -> bool:
    """Whether what one meter sees is a part of what the other sees, as far as is known.

    Within a family, names decide; between families, the scope.
    """
    if _family(narrow) != _family(wide) or not narrow.made_of or not wide.made_of:
        return True
    return bool(narrow.made_of < wide.made_of or narrow.inside & wide.made_of)


def _family(meter: Meter) -> str:
    return family(next(iter(sorted(meter.made_of)), meter.describe().source))


def _scope(scopes: Sequence[Scope]) -> Scope:
    """The widest; processor and graphics together are more than either."""
    different = set(scopes)
    return "module" if different == {"cpu", "gpu"} else max(scopes, key=SCOPE_WIDTH.__getitem__)


def _slowest(responses: Sequence[MeterResponse]) -> MeterResponse:
    """The response of a sum, whose parts show a step at different times."""
    lags_s = [response.lag_s for response in responses]
    apart_s = uniform_sd_s(max(lags_s) - min(lags_s))
    return MeterResponse(
        delay_s=max(response.delay_s for response in responses),
        window_s=max(response.window_s for response in responses),
        refresh_s=max(response.refresh_s for response in responses),
        delay_sd_s=math.hypot(apart_s, *(response.delay_sd_s for response in responses)),
        origin=next((r.origin for r in responses if r.origin == "assumed"), responses[0].origin),
    )
