"""A step load, the meters that are read meanwhile, and what is learned of each.

* :func:`try_meters`  runs the load as long as the slowest of the meters needs
* :func:`kept_of`     what is learned, as a profile keeps it
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

from fimi.energy.clock import Clock
from fimi.energy.meters import Meter
from fimi.energy.meters.response import MeterResponse
from fimi.energy.step_load.compare import Tried
from fimi.energy.step_load.fit import Learned, learn
from fimi.energy.step_load.kept import KeptResponse
from fimi.energy.step_load.load import START_S, Edges, StepLoadError, pattern, run_load, turn_s
from fimi.energy.step_load.looks import looking

WORKS = 8
"""How often the load works in a step load."""
_LONGER = 1.5
"""A meter that turns out slower than assumed by this factor is tried once more."""


def try_meters(
    meters: Sequence[Meter],
    clock: Clock,
    *,
    cores: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    announce: Callable[[float, bool], None] = lambda about_s, again: None,
    progress: Callable[[float], None] = lambda left_s: None,
) -> tuple[Edges, tuple[Tried, ...]]:
    """Run a step load and learn the response of every meter.

    Args:
        meters: they are read by this call alone until it returns.
        clock: of their readings.
        cores: how many are to work; all that this process may use if left out.
        cancelled: called a few times a second; the load ends when it returns true.
        announce: called before a load with about how long it takes, s, and whether it is another
            one, because a meter turned out to be later than it was taken for.
        progress: called as often, with the time that is left, s.

    Raises:
        StepLoadError: the load was disturbed or cancelled. What cannot be learned of one meter is
            said in its result.
    """
    shortest_s = turn_s([meter.describe().response for meter in meters])
    for last in (False, True):
        settle_s = 2.0 * shortest_s
        turns = pattern(shortest_s, WORKS)
        announce(sum(map(sum, turns)) + settle_s + START_S, last)
        with looking(meters, clock) as looks:
            edges = run_load(
                turns,
                clock,
                settle_s=settle_s,
                cores=cores,
                cancelled=cancelled,
                progress=progress,
            )
        tried = []
        for each in looks:
            found, problem = None, ""
            try:
                found = learn(edges, each.readings, each.description)
            except StepLoadError as error:
                problem = str(error)
            tried.append(
                Tried(
                    meter=each.description,
                    learned=found,
                    problem=problem,
                    readings=tuple(each.readings),
                )
            )
        needed_s = turn_s([each.learned.response for each in tried if each.learned is not None])
        if last or needed_s <= _LONGER * shortest_s:
            break
        shortest_s = needed_s
    return edges, tuple(tried)


def kept_of(learned: Learned, stated: MeterResponse) -> KeptResponse:
    """What was learned, as a profile keeps it, with what the chip's settings said meanwhile."""
    response = learned.response
    return KeptResponse(
        delay_s=response.delay_s,
        window_s=response.window_s,
        refresh_s=response.refresh_s,
        delay_sd_s=response.delay_sd_s,
        noise_w=float(f"{learned.noise_w:.3g}"),
        learned_at=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        chip_refresh_s=stated.refresh_s if stated.origin == "chip" else None,
    )
