"""The phases of a device in a run, and the part of them in which it only waits.

:class:`Metering` begins and ends phases in a :class:`~fimi.energy.ledger.Ledger`. A transfer may be
paused: its peer or the broker is away. Then the phase is split, and the seconds and joules until it
goes on are of phase ``waiting``: they are no transfer's, and say nothing about the link. On an
emulated board no time passes meanwhile, and nothing is split.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fimi.energy.cost_model import Phase
from fimi.energy.hardware import Hardware
from fimi.energy.ledger import Evidence, Ledger, PhaseRecord
from fimi.energy.ledger_log import LedgerLog
from fimi.energy.ledger_parts import BYTES_MOST, PARTS_MOST, ReadingsPart
from fimi.energy.resting import When, enough_s

log = logging.getLogger(__name__)

_WAITS: tuple[Phase, ...] = ("idle", "waiting")
"""Phases that are not reported where they took no time."""


class Metering:
    """The phases of one device.

    Args:
        device: its id, for the log.
        hardware: its board.
        keeps: whether readings are kept, to be reported.
    """

    def __init__(self, device: str, hardware: Hardware, *, keeps: bool = False) -> None:
        self._device = device
        self.hardware = hardware
        self._log = LedgerLog() if keeps else None
        self.ledger = Ledger(hardware.clock, hardware.recorder, self._log)
        """For who meters a phase of his own; no phase may be open."""
        self._real = hardware.describe().kind == "physical"
        self._interrupted: Phase | None = None
        self._open: Phase | None = None
        self._faults: list[str] = []

    @property
    def waits_count(self) -> bool:
        """Whether time passes while the device waits for others."""
        return self._real

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Meter a ``with`` block as a phase, which :meth:`pause` interrupts."""
        self.begin(phase)
        try:
            yield
        finally:
            self.close()

    def begin(self, phase: Phase) -> None:
        """A phase begins; the one that is open ends."""
        self.close()
        self.ledger.begin(phase)
        self._open = phase

    def pause(self) -> None:
        """The open phase is interrupted: the device waits for somebody."""
        if self._real and self._open not in (None, *_WAITS):
            interrupted = self._open
            self.begin("waiting")
            self._interrupted = interrupted

    def resume(self) -> None:
        """The interrupted phase goes on."""
        if (interrupted := self._interrupted) is not None:
            self.begin(interrupted)

    def close(self) -> None:
        """End the open phase if there is one."""
        self._open = self._interrupted = None
        try:
            self.ledger.close()
        except ValueError as error:  # the phase is there, without energy
            self._faults.append(str(error))

    def faults(self) -> str:
        """What was wrong with readings since the last call, in words; empty if nothing was."""
        faults, self._faults = self._faults, []
        return "; ".join(faults)

    def timer(self) -> Callable[[], float]:
        """A function that gives the seconds from now on, without those that were waited."""
        began_s, waited_s = self.hardware.clock.now_s(), self.seconds("waiting")

        def elapsed_s() -> float:
            waited_since_s = self.seconds("waiting") - waited_s
            return max(0.0, self.hardware.clock.now_s() - began_s - waited_since_s)

        return elapsed_s

    def seconds(self, phase: Phase) -> float:
        """Seconds of this phase since the last :meth:`take`; it is not open."""
        return self.ledger.seconds(phase)

    def rest(self, when: When, over: Callable[[], bool]) -> None:
        """Let the board rest until its meter can tell its power; no phase of a round.

        Args:
            when: before or after the work of a run.
            over: ends it early, when it returns true.
        """
        seconds = enough_s(self.hardware.recorder.describe())
        if seconds > 0.0:
            self.close()
            level = logging.INFO if self._real else logging.DEBUG
            log.log(level, "%s rests %s the run, %.0f s", self._device, when, seconds)
            began_s = self.hardware.clock.now_s()
            with self.ledger.resting(when):
                self.hardware.rest(seconds, over)
            self.hardware.join_fleet(began_s)  # nobody waits for an emulated board to rest

    def corrections(self) -> dict[int, tuple[PhaseRecord, ...]]:
        """Reported phases of which later readings say more, by round, once."""
        return self.ledger.corrections()

    def evidence(self) -> Evidence | None:
        """What readings said since the last call, beside the energy of phases."""
        return self.ledger.take_evidence()

    def readings(
        self, earlier: tuple[ReadingsPart, ...] = (), *, cut: bool = True
    ) -> tuple[ReadingsPart, ...]:
        """What the ledger was told since the last call, behind that of earlier starts.

        Args:
            earlier: of those; the oldest go where there are too many.
            cut: whether the next call begins here.
        """
        if self._log is None:
            return earlier
        earlier = earlier[-(PARTS_MOST - 1) :]
        room_bytes = BYTES_MOST - sum(len(part.body or b"") for part in earlier)
        return (*earlier, *self._log.part(max(0, room_bytes), cut=cut))

    def take(self, number: int) -> tuple[PhaseRecord, ...]:
        """The phases that ended since the last call, without those of waiting for zero seconds.

        Args:
            number: of the round, for the log; 0 for none.
        """
        records = _told(self.ledger.take(number))
        for record in records:
            log.debug(
                "%s, round %d: %s %.3g %s, %s",
                self._device,
                number,
                record.phase,
                record.duration_s,
                "s" if self._real else "virtual s",
                record.energy or "not metered",
            )
        return records

    def so_far(self) -> tuple[PhaseRecord, ...]:
        """The phases that the next :meth:`take` will give, as they are now."""
        return _told(self.ledger.so_far())

    def drop(self) -> None:
        """End the open phase; it and those before it are reported nowhere."""
        self.close()
        self.ledger.drop()
        self._faults = []


def _told(records: tuple[PhaseRecord, ...]) -> tuple[PhaseRecord, ...]:
    return tuple(r for r in records if r.phase not in _WAITS or r.duration_s > 0)
