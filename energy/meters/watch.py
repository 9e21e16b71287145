"""A meter watched during a run: silent, frozen, at zero, at the end of its range.

A :class:`Watch` sees every look and every edge of a phase. What it doubts is logged when it begins
(once), and kept for the next report of the device. It reads when it is asked to.

=============  ===================================================================================
doubt          when
=============  ===================================================================================
silent         three looks in a row gave nothing, for a second or longer; and when it reads again
zero           0 W in three looks in a row, for a second or longer
stands still   a counter with the same value for ten seconds and twenty refreshes
frozen         the same power to the last digit for 30 s, a hundred looks and a hundred
               refreshes, over six edges of phases, by a meter whose steps are finer than a 200th of
               it: a load that changes by less than a step of the meter is not doubted
of the board   three looks in a row that the board cannot draw; of a counter, three stretches of
               five seconds and longer
of the meter   what it says itself in three looks in a row: the end of its range, a reversed
               current, mirrored parts
=============  ===================================================================================
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator

from fimi.energy.meters import NOTHING, Look, Meter
from fimi.energy.meters.plausibility import AT_ZERO, BoardLimits, implausible

log = logging.getLogger(__name__)

DOUBTS_MAX = 8
"""Most doubts in one report."""
DOUBT_CHARACTERS = 300
"""Most characters of one."""

IN_A_ROW, FOR_S = 3, 1.0
COUNTED_S = 5.0
"""Least time over which the power of a counter is judged, s."""
STILL_S, STILL_REFRESHES, STILL_LEAST_W = 10.0, 20.0, 0.1
FROZEN_S, FROZEN_LOOKS, FROZEN_REFRESHES, FROZEN_EDGES = 30.0, 100, 100.0, 6
_NUMBERS = re.compile(r"[\d.,]+(e[+-]?\d+)?(?= ?(W|mW|A|mA|V|s|J|%|mΩ)\b)")
QUIET_S = 60.0
"""A doubt is logged again if it has been away for so long, s."""
FINE = 0.005
"""A step of the meter over its power, below which noise alone would change a reading."""


class _Row:
    """Looks in a row that have something in common."""

    def __init__(self) -> None:
        self.looks = 0
        self.since_s = self.until_s = 0.0
        self.edges = 0

    def see(self, time_s: float, *, holds: bool) -> None:
        """One more look; the row ends if it ``holds`` no longer."""
        if not holds:
            self.looks = self.edges = 0
            return
        self.since_s = time_s if self.looks == 0 else self.since_s
        self.until_s = time_s
        self.looks += 1

    @property
    def seconds(self) -> float:
        return self.until_s - self.since_s if self.looks else 0.0

    def lasts(self) -> bool:
        return self.looks >= IN_A_ROW and self.seconds >= FOR_S


class Watch:
    """What is doubtful about one meter.

    Args:
        meter: the meter, asked for its own doubts after each look.
        board: what the board can draw; ``None`` if nothing is known.
    """

    def __init__(self, meter: Meter, board: BoardLimits | None = None) -> None:
        self._meter = meter
        self._board = board
        self._described = meter.describe()
        self._silent, self._zero, self._odd, self._same = _Row(), _Row(), _Row(), _Row()
        self._own: dict[str, int] = {}
        self._value: float | None = None
        self._counted: tuple[float, float] | None = None
        self._out_since_s: float | None = None
        self._why_out = ""
        self.raised = ""
        """What the last reading raised, where it did."""
        self.trouble = ""
        """That the meter shows nothing, or that it reads again; empty if it always did."""
        self._doubts: dict[str, str] = {}
        self._said_s: dict[str, float] = {}

    def read(self, time_s: float) -> Look:
        """Read the meter; what it raises costs this reading, and not the thread."""
        try:
            look = self._meter.look(time_s)
        except Exception as error:
            if not self.raised:
                log.exception("the meter %s cannot be read", self._described.source)
            self.raised = f"{type(error).__name__}: {error}"
            return NOTHING
        self.raised = ""
        return look

    def edge(self) -> None:
        """A phase ends and another begins: the load changes."""
        self._same.edges += 1

    def see(self, time_s: float, look: Look) -> None:
        """A look, and its time, s."""
        value = look.power_w if look.counter_j is None else look.counter_j
        self._silent.see(time_s, holds=value is None)
        if value is None:
            if self._silent.lasts():
                self._out(time_s)
            return
        if self._out_since_s is not None:
            self._back(time_s)
        self._zero.see(time_s, holds=look.power_w == 0.0 and not self._meter.may_rest)
        same = value == self._value
        self._value = value
        if not same:
            self._same.see(time_s, holds=False)
        self._same.see(time_s, holds=True)
        power_w = (
            look.power_w
            if look.counter_j is None
            else self._counted_w(time_s, look, moved=not same)
        )
        for kind, words in self._now(look, power_w):
            self._doubt(kind, words, time_s)

    def _counted_w(self, time_s: float, look: Look, *, moved: bool) -> float | None:
        """Mean power by a counter since the stretch began, W; ``None`` until it has ended."""
        assert look.counter_j is not None
        now = (time_s if look.time_s is None else look.time_s, look.counter_j)
        begun, described = self._counted, self._described
        if begun is None or look.reset or now[0] < begun[0]:
            self._counted = now
            return None
        seconds, grown_j = now[0] - begun[0], now[1] - begun[1]
        least_s = max(COUNTED_S, STILL_REFRESHES * described.response.refresh_s)
        # From one move of the counter to another.
        if not moved or seconds < least_s or grown_j < STILL_REFRESHES * described.resolution_j:
            return None
        self._counted = now
        return grown_j / seconds

    def take(self) -> tuple[str, ...]:
        """Doubts since the last call, at most :data:`DOUBTS_MAX`."""
        found = tuple(self._doubts.values())
        self._doubts = {}
        if self._out_since_s is not None:
            self._out(self._silent.until_s)  # it goes on
        return found[:DOUBTS_MAX]

    def _now(self, look: Look, power_w: float | None) -> Iterator[tuple[str, str]]:
        described = self._described
        if described.kind != "measured":
            return
        if self._board is not None and power_w is not None:
            words = implausible(described, power_w, self._board) if power_w else ()
            self._odd.see(self._same.until_s, holds=bool(words))
            if self._odd.lasts():
                yield "board", words[0]
        if self._zero.lasts():
            yield "zero", AT_ZERO
        elif look.counter_j is not None and self._stands_still():
            yield "still", f"its counter stands still for {STILL_S:g} s and more"
        elif look.power_w and self._frozen(look.power_w):
            shown = f"{look.power_w:.6g} W to the last digit"
            yield "frozen", f"it shows {shown} for {FROZEN_S:g} s and more, over several phases"
        # The numbers in a doubt move with the readings.
        own = {_NUMBERS.sub("", doubt): doubt for doubt in self._meter.doubts()}
        self._own = {kind: self._own.get(kind, 0) + 1 for kind in own}
        for kind, doubt in own.items():
            if self._own[kind] >= IN_A_ROW:
                yield kind, doubt

    def _stands_still(self) -> bool:
        if (step_j := self._meter.step_j) is None or self._meter.may_rest:
            return False  # one that counts watt-hours stands for minutes
        refresh_s = self._described.response.refresh_s
        least_s = max(STILL_S, STILL_REFRESHES * refresh_s, step_j / STILL_LEAST_W)
        return self._same.looks >= IN_A_ROW and self._same.seconds >= least_s

    def _frozen(self, power_w: float) -> bool:
        same, described = self._same, self._described
        refresh_s = max(
            described.response.refresh_s, 1.0 / described.rate_hz if described.rate_hz else 0.0
        )
        return (
            same.edges >= FROZEN_EDGES
            and same.looks >= FROZEN_LOOKS
            and same.seconds >= max(FROZEN_S, FROZEN_REFRESHES * refresh_s)
            and 0.0 < described.resolution_w <= FINE * power_w
        )

    def _out(self, time_s: float) -> None:
        source = self._described.source
        if self._out_since_s is None:
            self._out_since_s = self._silent.since_s
            self._why_out = self.raised or self._meter.why_nothing() or "it shows no number"
            self.trouble = f"the meter {source} shows nothing any more: {self._why_out}"
            log.warning("%s", self.trouble)
        lasted_s = time_s - self._out_since_s
        self._keep("silent", f"it showed nothing for {lasted_s:.3g} s and longer: {self._why_out}")

    def _back(self, time_s: float) -> None:
        assert self._out_since_s is not None
        lasted_s, self._out_since_s = time_s - self._out_since_s, None
        source = self._described.source
        self.trouble = f"the meter {source} reads again, after {lasted_s:.3g} s without a reading"
        log.warning("%s", self.trouble)
        self._keep("silent", f"it showed nothing for {lasted_s:.3g} s: {self._why_out}")

    def _doubt(self, kind: str, words: str, time_s: float) -> None:
        before_s, self._said_s[kind] = self._said_s.get(kind, -math.inf), time_s
        if time_s - before_s > QUIET_S:
            log.warning("the meter %s is doubtful: %s", self._described.source, words)
        self._keep(kind, words)

    def _keep(self, kind: str, words: str) -> None:
        if kind in self._doubts or len(self._doubts) < DOUBTS_MAX:
            self._doubts[kind] = f"{self._described.source}: {words}"[:DOUBT_CHARACTERS]
