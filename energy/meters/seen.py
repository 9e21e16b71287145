"""What a meter shows now, and what speaks against it.

* :class:`Found`       a meter, or why it cannot be used
* :func:`look_at`      one look
* :func:`look_again`   the power of a counter, by a second look some time later
* :func:`doubts_now`   what speaks against a look
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.clock import Clock
from fimi.energy.meters import Look, Meter, MeterDescription
from fimi.energy.meters.plausibility import implausible, limits
from fimi.energy.meters.watch import STILL_LEAST_W

AGAIN_S = 0.5
"""Between two looks at a counter, s: five refreshes of the slowest chip that counts."""


class Found(Struct, frozen=True, kw_only=True):
    """A meter, or why it cannot be used.

    Attributes:
        name: name by which it is chosen.
        description: what it is; ``None`` if it cannot be used.
        power_w: present power, W, or a counter's mean between two looks; ``None`` if unknown.
        over_s: time between the two looks at a counter, s; 0 for a meter of power.
        problem: why it cannot be used, and what to do.
        facts: what a person may want to know of it: address, shunt, range, volts and amperes.
        doubts: what speaks against what it shows.
        ambiguous: whether it cannot be used because several parts fit.
        choices: the lines of a profile to choose from, where several parts fit.
    """

    name: str
    description: MeterDescription | None
    power_w: float | None = None
    over_s: float = 0.0
    problem: str = ""
    facts: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    ambiguous: bool = False
    choices: tuple[str, ...] = ()


def look_at(name: str, meter: Meter, look: Look, root: Path) -> Found:
    """What a meter shows, by one look at it."""
    return Found(
        name=name,
        description=meter.describe(),
        power_w=look.power_w,
        facts=meter.facts(),
        doubts=doubts_now(meter, look, root),
    )


def look_again(
    found: Found, meter: Meter, before: Look, then_s: float, root: Path, clock: Clock
) -> Found:
    """What a meter shows that counts: its mean power since the look ``before``.

    One that stands still is doubted. A file below another root than ``/`` stands still as a rule;
    that is said as a fact.
    """
    now_s = clock.now_s()
    look = meter.look(now_s)
    if look.power_w is not None:  # a sum with counters in it, which needed some time
        return replace(found, power_w=look.power_w, doubts=doubts_now(meter, look, root))
    if look.counter_j is None or before.counter_j is None or look.reset:
        return found
    if meter.describe().kind != "measured":
        return found  # a recording
    passed_s = look.reading(now_s).time_s - before.reading(then_s).time_s
    refresh_s, step_j = meter.describe().response.refresh_s, meter.step_j
    if passed_s <= 2.0 * refresh_s or step_j is None or step_j > STILL_LEAST_W * passed_s:
        return replace(found, facts=(*found.facts, "too coarse a counter to show its power now"))
    energy_j = look.counter_j - before.counter_j
    if energy_j or meter.may_rest:
        power_w = energy_j / passed_s
        look = Look(power_w=power_w)
        doubts = doubts_now(meter, look, root)
        return replace(found, power_w=power_w, over_s=passed_s, doubts=doubts)
    still = f"0 J in {passed_s:.2g} s"
    if root != Path("/"):
        copied = f"{still}: a copy of files does not count on; if it is none, the counter is dead"
        return replace(found, facts=(*found.facts, copied))
    dead = f"{still}: its counter stands still, as in a virtual machine"
    return replace(found, power_w=0.0, over_s=passed_s, doubts=(*found.doubts, dead))


def doubts_now(meter: Meter, look: Look, root: Path) -> tuple[str, ...]:
    """What speaks against what a meter has just shown, a sentence each."""
    power_w = None if meter.may_rest and look.power_w == 0.0 else look.power_w
    return (*implausible(meter.describe(), power_w, limits(root)), *meter.doubts())
