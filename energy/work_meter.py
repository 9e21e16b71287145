"""Joules of work on this machine that is not a device's: of the generator node or the server.

The generator node and a server that trains have no phases, only spans of work. The energy of a span
is what the meters see in that time, idle power included, by the rule of a phase
(:mod:`fimi.energy.phase_energy`) and from the readings that there are at its end: nothing waits for
a meter that is late, and the uncertainty says so. Without a meter there are seconds and no joules.
:func:`fimi.energy.joules.share` gives the energy of a part of a span.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from fimi.energy.clock import Clock, MonotonicClock
from fimi.energy.joules import Energy, total
from fimi.energy.meters import Meter, MeterUnavailableError, Recorder
from fimi.energy.meters.detect import MeterRecorder, MeterSettings, open_recorder
from fimi.energy.meters.nvml import open_nvml
from fimi.energy.meters.sampler import DEFAULT_RATE_HZ, Sampler
from fimi.energy.phase_energy import PhaseMeter
from fimi.energy.phase_readings import Stretch
from fimi.energy.sysfs import complete

log = logging.getLogger(__name__)

_KEPT_S = 60.0


class Span(Struct):
    """A span of work; its values are set when it is over.

    Attributes:
        seconds: how long it took, s.
        energy: its energy, or ``None`` where nothing could be read.
    """

    seconds: float = 0.0
    energy: Energy | None = None


class Metered:
    """Meters spans of work with all meters of a machine together.

    Args:
        recorders: recorders of parts that do not overlap, for example processor and GPU; each uses
            ``clock``.
        clock: clock of all durations.
    """

    def __init__(self, recorders: Sequence[Recorder] = (), clock: Clock | None = None) -> None:
        self._recorders = tuple(recorders)
        self._meters = tuple(PhaseMeter(recorder.describe()) for recorder in recorders)
        self._said_short: set[str] = set()
        self._clock = clock or MonotonicClock()

    @property
    def sources(self) -> tuple[str, ...]:
        """The meters that are read, as text for people."""
        return tuple(recorder.describe().source for recorder in self._recorders)

    @contextlib.contextmanager
    def span(self) -> Iterator[Span]:
        """Meter a ``with`` block."""
        span = Span()
        self._mark()
        first = [meter.count for meter in self._meters]
        start_s = self._clock.now_s()
        try:
            yield span
        finally:
            end_s = self._clock.now_s()
            span.seconds = end_s - start_s
            self._mark()
            parts = []
            for meter, begun in zip(self._meters, first, strict=True):
                found = meter.end(Stretch("work", start_s, end_s, begun, meter.count))
                # Without readings of its own, all that is known is the power around it.
                parts.append(found.energy if found.sample_count else None)
                if found.energy is not None and parts[-1] is None:
                    self._say_short(meter, span.seconds)
                meter.forget(start_s - _KEPT_S)
            span.energy = total(complete(parts))

    def _mark(self) -> None:
        for recorder, meter in zip(self._recorders, self._meters, strict=True):
            meter.add(recorder.mark())

    def _say_short(self, meter: PhaseMeter, seconds: float) -> None:
        described = meter.described
        if described.source not in self._said_short:
            self._said_short.add(described.source)
            log.warning(
                "%s (%s) cannot tell work of %.2g s from what is before and after it: the joules "
                "of such short work are left out",
                described.source,
                described.response,
                seconds,
            )

    def close(self) -> None:
        """Stop reading."""
        for recorder in self._recorders:
            if isinstance(recorder, MeterRecorder):
                recorder.close()


def open_meters(
    say: Callable[[str], None],
    *,
    whose: str,
    root: Path = Path("/"),
    clock: Clock | None = None,
    cards: Callable[[], Meter] = open_nvml,
) -> Metered:
    """The meters of this machine: the widest one, and the graphics cards if it does not see them.

    Args:
        say: called once with a sentence that says what is metered, or that nothing is; the log
            has the reason.
        whose: owner of the energy, for that sentence.
        root: root of the file system.
        clock: clock of all durations.
        cards: opens the meter of the graphics cards.
    """
    clock = clock or MonotonicClock()
    recorders: list[MeterRecorder] = []
    problems = []
    try:
        recorders.append(open_recorder(MeterSettings(), root, clock))
    except MeterUnavailableError as error:
        problems.append(str(error))
    if not recorders or recorders[0].describe().scope == "cpu":
        try:
            recorders.append(Sampler(cards(), clock, rate_hz=DEFAULT_RATE_HZ))
        except MeterUnavailableError as error:
            problems.append(f"nvml: {error}")
    metered = Metered(recorders, clock)
    if recorders:
        say(f"the {whose}'s own energy is metered by {', '.join(metered.sources)}")
    else:
        log.debug("no meter: %s", "; ".join(problems))
        say(
            f"the {whose}'s own energy is not metered: no meter of this machine can be read; "
            "'fimi agent doctor' says what each of them lacks"
        )
    return metered
