"""Whether the connection to the broker is alive in both directions, and not only not closed.

A link that breaks without a word (a cable pulled, a router restarted, a proxy that swallows) leaves
a connection that looks sound for as long as TCP hopes. So a peer sends itself a small message over
the broker, its *pulse*, on the topic from itself to itself, and the connection is given up when it
does not come back. Every pulse proves both directions, and that the broker lets its topics through.

:class:`Pulse` decides, without clock, network or thread; :class:`Pulsing` has them. What makes a
pulse late without anything being broken is told apart:

========================  ==========================================================================
it waits to leave         behind bulk data on a slow link: as long as the other end's kernel takes
                          bytes in, the link moves (:mod:`fimi.messaging.traffic`)
it has left               behind bulk in a proxy's or broker's buffers: it may come later by as long
                          as what was sent before it takes, at the rate that earlier pulses proved;
                          and as long as payloads are arriving that this peer has asked for
this process stood still  what has come in lies unread; and after a look that comes late, patience
                          begins again
========================  ==========================================================================

A dead connection is noticed after :data:`PULSE_S` + :data:`PATIENCE_S` and one look at most; where
it carries bulk, later by up to twice as long as what lies in its buffers takes. Idle, a pulse costs
about 250 bytes with all headers in both directions together: 100 B/s, 9 MB a day. TCP's own limit
(``TCP_USER_TIMEOUT``) is not used beside it: it takes a receiver that reads slowly for a dead one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from paho.mqtt.client import MQTTMessageInfo

from fimi.messaging.link import Link
from fimi.messaging.traffic import Traffic

PULSE_S = 2.5
"""Time between two pulses of a connection without much traffic, s."""
BUSY_PULSE_S = 0.5
"""The same where more than :data:`BULK_BYTES` have moved since the last one, s: the fewer bytes are
between two pulses, the better is known how late the next one may be."""
BULK_BYTES = 65_536
PATIENCE_S = 6.5
"""A connection on which nothing moves for so long while a pulse is on its way is given up, s."""
UNKNOWN_PATIENCE_S = 20.0
"""The same where the operating system does not tell what moves, s."""
SLOWEST_BPS = 100_000.0
"""Bulk data are taken to pass at this rate at least where no pulse has proved more, bit/s."""
HANDSHAKE_S = 8.0
"""A connection that was opened again and is not ready after so long is given up, s."""

_LOOK_S = 0.25
_STOOD_STILL_S = 1.5

log = logging.getLogger(__name__)

Verdict = Literal["wait", "send", "dead"]


class Signs(NamedTuple):
    """What is known of the connection at one moment.

    Attributes:
        written: whether the pulse that is on its way was handed to the kernel.
        traffic: what the kernel knows; ``None`` where it does not tell.
        expected_bytes: of payloads that this peer has asked for and that have not come.
    """

    written: bool = True
    traffic: Traffic | None = None
    expected_bytes: int = 0


class Pulse:
    """The pulses of one connection. Times are arguments, on a monotonic clock, s.

    :meth:`look` is to be called at least every half second while a pulse is on its way, and at
    :attr:`due_s` otherwise.

    Attributes:
        number: of the pulse that was sent last.
        due_s: when the next one is to be sent, if none is on its way.
        why: why the connection was found dead, as the end of a sentence.
    """

    def __init__(self, now_s: float) -> None:
        self.number = 0
        self.due_s = now_s
        self.why = ""
        self._looked_s = now_s
        self._rate_bps = SLOWEST_BPS
        self._echo_s = now_s  # when the last pulse came back
        self._echo_at = 0  # bytes that had been acknowledged when that pulse had left
        self._on_its_way = False
        self._left = False
        self._before = 0  # bytes that were handed to the kernel before the last pulse
        self._target: int | None = None  # the same, with the pulse, once it was
        self._moved_s = now_s  # when something moved last in the direction that counts
        self._left_s = now_s
        self._acked = self._received = self._received_then = self._expected = 0

    @property
    def on_its_way(self) -> bool:
        """Whether a pulse was sent that has not come back."""
        return self._on_its_way

    def sent(self, now_s: float, traffic: Traffic | None = None) -> None:
        """The next pulse is handed to the network thread; the traffic is that before it."""
        self.number += 1
        self._on_its_way, self._left, self._target = True, False, None
        self._looked_s = self._moved_s = now_s
        if traffic is not None:
            self._before = traffic.acked + traffic.unacked

    def came_back(self, number: int, now_s: float) -> None:
        """A pulse came back; one that is not on its way changes nothing."""
        if not self._on_its_way or number != self.number:
            return
        self._on_its_way = False
        at = self._before if self._target is None else self._target
        moved, took_s = at - self._echo_at, max(now_s - self._echo_s, 1e-3)
        self._rate_bps = max(SLOWEST_BPS, 8.0 * moved / took_s, self._rate_bps / 2.0)
        self._echo_s, self._echo_at = now_s, at
        self.due_s = now_s + (BUSY_PULSE_S if moved > BULK_BYTES else PULSE_S)

    def look(self, now_s: float, seen: Signs) -> Verdict:
        """What is to be done now: nothing, send a pulse, or give the connection up."""
        stood_still = now_s - self._looked_s > _STOOD_STILL_S
        self._looked_s = now_s
        if not self._on_its_way:
            return "send" if now_s >= self.due_s else "wait"
        if stood_still:
            self._moved_s = self._left_s = now_s
        if seen.traffic is None:
            return self._blind(now_s, seen)
        if not self._left:
            return self._leaving(now_s, seen, seen.traffic)
        return self._returning(now_s, seen, seen.traffic)

    def _blind(self, now_s: float, seen: Signs) -> Verdict:
        if now_s - self._moved_s < UNKNOWN_PATIENCE_S:
            return "wait"
        return self._dead(f"no pulse has come back for {UNKNOWN_PATIENCE_S:g} s")

    def _leaving(self, now_s: float, seen: Signs, traffic: Traffic) -> Verdict:
        """The pulse is still here, or on its way to the kernel of the other end."""
        if self._target is None and seen.written:
            self._target = traffic.acked + traffic.unacked
        if self._target is not None and traffic.acked >= self._target:
            self._left, self._left_s, self._moved_s = True, now_s, now_s
            self._received = self._received_then = traffic.received
            self._expected = seen.expected_bytes
        elif traffic.acked > self._acked or not traffic.unacked:
            self._moved_s = now_s
        self._acked = traffic.acked
        if now_s - self._moved_s < PATIENCE_S:
            return "wait"
        return self._dead(
            f"{traffic.unacked} B were sent, and nothing was acknowledged for {PATIENCE_S:g} s"
        )

    def _returning(self, now_s: float, seen: Signs, traffic: Traffic) -> Verdict:
        """The pulse has reached the next machine at least; its echo is to come."""
        if traffic.received > self._received or traffic.unread:
            self._moved_s = now_s
        self._received = traffic.received
        self._expected = max(self._expected, seen.expected_bytes)
        if now_s - self._moved_s >= PATIENCE_S:
            return self._dead(f"nothing has come for {PATIENCE_S:g} s, not even its own pulse")
        if now_s - self._left_s < PATIENCE_S + self._behind_s():
            return "wait"
        if traffic.unread or traffic.received - self._received_then < self._expected:
            return "wait"  # it is behind what lies here, or behind payloads that are coming
        late_s = now_s - self._left_s
        return self._dead(f"messages come, but its own pulse has not for {late_s:.1f} s")

    def _behind_s(self) -> float:
        """How much later an echo may come for what was sent since the last pulse that came back."""
        assert self._target is not None  # it has left
        return 8.0 * max(0, self._target - self._echo_at) / self._rate_bps

    def _dead(self, why: str) -> Verdict:
        self.why = why
        return "dead"


class Pulsing:
    """Keeps the pulse of a link, on a thread of its own, and gives up a connection without one.

    Args:
        link: the link; it connects again.
        topic: from this peer to itself, to which the link is subscribed.
        expected_bytes: tells how many bytes of payloads this peer has asked for.
    """

    def __init__(
        self, link: Link, topic: str, expected_bytes: Callable[[], int] = lambda: 0
    ) -> None:
        self._link = link
        self._topic = topic
        self._expected_bytes = expected_bytes
        self._wake = threading.Event()
        self._closing = False
        self._lock = threading.Lock()
        self._pulse: Pulse | None = None
        self._session = 0
        self._sent: MQTTMessageInfo | None = None
        self._thread = threading.Thread(target=self._run, name=f"pulse {topic}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; may be called again, also before :meth:`start`."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def on_echo(self, payload: bytes) -> None:
        """A pulse came back, on the network thread; anything else on its topic is ignored."""
        if len(payload) > 40 or not payload.isascii():
            return
        session, _, number = payload.decode().partition(".")
        with self._lock:
            pulse = self._pulse
            if pulse is not None and session == str(self._session) and number.isdecimal():
                pulse.came_back(int(number), time.monotonic())
        self._wake.set()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._look())
            self._wake.clear()

    def _look(self) -> float:
        """Do what is due; returns the time until the next look, s."""
        now_s = time.monotonic()
        link = self._link
        if not link.ready:
            self._pulse = None
            if (for_s := link.opening_s()) is not None and for_s >= HANDSHAKE_S:
                link.cut(f"it was opened again {for_s:.0f} s ago, and the broker does not answer")
            return 4 * _LOOK_S
        if self._pulse is None or self._session != link.sessions:
            with self._lock:
                self._pulse, self._session, self._sent = Pulse(now_s), link.sessions, None
        seen = Signs(
            written=self._sent is None or _is_written(self._sent),
            traffic=link.traffic(),
            expected_bytes=self._expected_bytes(),
        )
        with self._lock:
            pulse = self._pulse
            verdict = pulse.look(now_s, seen)
            if verdict == "send":
                pulse.sent(now_s, seen.traffic)
        if verdict == "send":
            payload = f"{self._session}.{pulse.number}".encode()
            self._sent = link.publish(self._topic, payload, qos=0)
        elif verdict == "dead":
            self._pulse = None
            link.cut(pulse.why)
        return _LOOK_S if pulse.on_its_way else max(0.01, pulse.due_s - now_s)


def _is_written(info: MQTTMessageInfo) -> bool:
    try:
        return info.is_published()
    except (ValueError, RuntimeError):  # it was not queued: the connection has just ended
        return True
