"""Tells the coordinator what the board draws and does: steadily, and more often for viewers.

:class:`TelemetrySender` has a thread of its own. It reads no meter: it tells what the board was
when it was read last (:class:`~fimi.energy.hardware.Glance`). So it costs next to nothing, and a
board in a run is read often enough. An emulated board is there in a run only, and its power is
labelled emulated.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable

from msgspec.structs import replace

from fimi.edge_agent.line import Line
from fimi.energy.hardware import Hardware
from fimi.energy.ledger import Ledger
from fimi.messaging.client import Peer
from fimi.messaging.errors import MessagingError
from fimi.messaging.messages.peers import Telemetry

log = logging.getLogger(__name__)

POWER_MAX_W = 1e6
ENERGY_MAX_J = 1e15
FREQUENCY_MAX_HZ = 1e12
TEMPERATURES_C = (-300.0, 1000.0)
SHORTEST_S = 0.1
"""Shortest time between two of them, s."""
_SPREAD = 0.5
"""Those that hear of a viewer at once do not answer at once, but over this part of the time."""


class TelemetrySender:
    """Publishes telemetry. A context manager: inside it, it does.

    Args:
        peer: the connection.
        interval_s: time between two of them, s; 0 for none.
        looked_s: the same while somebody looks, s; 0 for no others.
        line: the conversation, which knows the stage.
        board: the board of the moment, if there is one.
        ledger: where its phases are metered in the run of the moment, if there is one.
    """

    def __init__(
        self,
        peer: Peer,
        interval_s: float,
        looked_s: float,
        line: Line,
        board: Callable[[], Hardware | None],
        ledger: Callable[[], Ledger | None],
    ) -> None:
        self._peer = peer
        self._steady_s = max(SHORTEST_S, interval_s) if interval_s > 0.0 else math.inf
        self._looked_s = max(SHORTEST_S, looked_s) if looked_s > 0.0 else math.inf
        self._line = line
        self._board = board
        self._ledger = ledger
        self._metered: tuple[Ledger | None, float] = (None, 0.0)
        self._used_j = 0.0
        self._number = 0
        self._sends = min(self._steady_s, self._looked_s) < math.inf
        self._stopped = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._send, name=f"telemetry-{peer.id}", daemon=True)

    def __enter__(self) -> TelemetrySender:
        if self._sends:
            self._peer.looking.on_change = self._wake.set
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._wake.set()
        if self._sends:
            self._peer.looking.on_change = None
            self._thread.join()

    def telemetry(self) -> Telemetry:
        """What there is to say now."""
        self._number += 1
        hardware, desired = self._board(), self._line.desired
        start = desired.start if desired is not None and desired.ended is None else None
        said = Telemetry(
            device=self._peer.id,
            boot_id=self._peer.boot_id,
            number=self._number,
            unix_s=time.time(),
            stage=self._line.stage,
            run=start.run if start is not None else "",
            round=start.round if start is not None else 0,
        )
        ledger = self._ledger()
        said = replace(
            said,
            phase=ledger.open_phase if ledger is not None else None,
            energy_j=self._all_used_j(ledger),
        )
        if hardware is None:
            return said
        glance, meter = hardware.glance(), hardware.describe().meter
        if ledger is not None and glance.power_w is not None:
            drawn_s = hardware.clock.now_s() - glance.power_age_s
            phase = "idle" if glance.rests else ledger.phase_at(drawn_s)
            said = replace(said, phase=phase)
        return replace(
            said,
            power_w=_within(glance.power_w, 0.0, POWER_MAX_W),
            kind=meter.kind,
            source=meter.source[:200],
            scope=meter.scope,
            temperature_c=_within(glance.temperature_c, *TEMPERATURES_C),
            frequency_hz=_within(glance.frequency_hz, 0.0, FREQUENCY_MAX_HZ),
        )

    def _all_used_j(self, ledger: Ledger | None) -> float:
        """Joules of all ledgers since the beginning; of each run's, what was seen of it."""
        before, seen_j = self._metered
        if ledger is not before:
            before, seen_j = ledger, 0.0
        now_j = ledger.used_j if ledger is not None else 0.0
        self._used_j += max(0.0, now_j - seen_j)
        self._metered = (before, max(seen_j, now_j))
        return min(self._used_j, ENERGY_MAX_J)

    def _send(self) -> None:
        due_s, looked = time.monotonic() + self._steady_s, False
        while not self._stopped:
            now_s = time.monotonic()
            if self._peer.looking.is_on != looked:
                looked = not looked
                first_s = self._looked_s * _SPREAD * random.random() if looked else self._steady_s
                due_s = min(due_s, now_s + first_s) if looked else now_s + first_s
            if now_s < due_s:
                left_s = due_s - now_s
                if looked:
                    left_s = min(left_s, self._peer.looking.left_s + 0.01)
                self._wake.wait(None if left_s == math.inf else left_s)
                self._wake.clear()
                continue
            every_s = min(self._steady_s, self._looked_s) if looked else self._steady_s
            due_s = max(due_s + every_s, now_s)
            try:
                self._peer.tell_telemetry(self.telemetry())
            except MessagingError:
                return  # the id was taken over, or the peer is closed: nobody listens any more
            except Exception:
                log.exception("%s: no telemetry this time", self._peer.id)


def _within(value: float | None, least: float, most: float) -> float | None:
    """The value if it is one that can be sent; NaN and what no board can have are unknown."""
    return value if value is not None and least <= value <= most else None
