"""Joules of work on this machine, whoever does it: whatever can be read, or nothing.

The generator node and a server that trains have no phases to account for, only stretches of work.
The figure is what the meters see meanwhile, idle power included. Missing is missing: without a
meter there are seconds and no joules. A part of a stretch gets its :func:`share`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fimi.energy.clock import Clock, MonotonicClock
from fimi.energy.integration import integrate
from fimi.energy.joules import Energy, total
from fimi.energy.meters import Meter, MeterUnavailableError, Recorder
from fimi.energy.meters.detect import MeterRecorder, MeterSettings, open_recorder
from fimi.energy.meters.nvml import open_nvml
from fimi.energy.meters.sampler import DEFAULT_RATE_HZ, Sampler

log = logging.getLogger(__name__)


class Span:
    """A stretch of work, filled in when it is over.

    Attributes:
        seconds: how long it took.
        energy: what it took, or ``None`` where nothing could be read.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.energy: Energy | None = None


class Metered:
    """Meters stretches of work with all meters of a machine together.

    Args:
        recorders: meters of parts that do not overlap, for example processor and GPU; each reads
            ``clock``.
        clock: of all durations.
    """

    def __init__(self, recorders: Sequence[Recorder] = (), clock: Clock | None = None) -> None:
        self._recorders = tuple(recorders)
        self._clock = clock or MonotonicClock()

    @property
    def sources(self) -> tuple[str, ...]:
        """What is read, for people."""
        return tuple(recorder.describe().source for recorder in self._recorders)

    @contextlib.contextmanager
    def span(self) -> Iterator[Span]:
        """Meter a ``with`` block."""
        span = Span()
        for recorder in self._recorders:
            recorder.mark()
        start_s = self._clock.now_s()
        try:
            yield span
        finally:
            end_s = self._clock.now_s()
            span.seconds = end_s - start_s
            parts = [
                integrate(recorder.mark(), start_s, end_s, recorder.describe())
                for recorder in self._recorders
            ]
            known = [part for part in parts if part is not None]
            span.energy = total(known) if known and len(known) == len(parts) else None

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
    """The meters of this machine: the widest one, and the graphics cards where it misses them.

    Args:
        say: told once what is metered, or that nothing is; the log has why.
        whose: energy it is, for ``say``.
        root: of the file system.
        clock: of all durations.
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


def share(energy: Energy, part: float) -> Energy:
    """A part of an energy, 0 to 1: of the same meter, with as large a relative uncertainty."""
    return Energy(
        value_j=energy.value_j * part,
        kind=energy.kind,
        source=energy.source,
        scope=energy.scope,
        uncertainty_j=energy.uncertainty_j * part,
    )
