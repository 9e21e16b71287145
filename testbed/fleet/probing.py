"""Trying the way to a board, and the broker, before a long run.

* :func:`probe`       clock and rates of a board, by bytes that it sends back
* :func:`try_broker`  whether the broker keeps messages, and takes full-size ones

The difference of two clocks follows from four times, as in NTP: a question leaves here, arrives
there, the reply leaves there, arrives here. Half of the time under way is what is not known of it;
of several tries the fastest counts. The rate of one way is that of a chunk as large as runs send
them, between its two times, by the clocks so compared.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import statistics
import threading
import time

from msgspec import Struct

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.console import Console
from fimi.messaging.errors import NotAnswered
from fimi.messaging.link import Link
from fimi.messaging.questions import Check, Echo, Echoed, encode
from fimi.messaging.topics import COORDINATOR

CLOCK_TRIES = 8
CHUNK_TRIES = 3

CHUNK_S = 60.0
"""How long a chunk there and back may take, s: longer than at 33 kbit/s."""

_KEPT_S = 5.0
_NOTHING_S = 0.5
_AROUND_BYTES = 1000  # of an answer besides the chunk
PROBE_BYTES = 120 * 1024
"""Size of a chunk that is sent to a board and back, bytes."""
_SURE = 3.0
"""A time that is not this often its uncertainty gives the least rate only."""


class Rate(Struct, frozen=True, kw_only=True):
    """Payload of a chunk per time.

    Attributes:
        bps: bit/s.
        at_least: whether it may be more: the chunk was too fast for the clocks.
    """

    bps: float
    at_least: bool


class Probe(Struct, frozen=True, kw_only=True):
    """The way to a board.

    Attributes:
        ahead_s: by how much its clock is ahead of the clock here, s.
        uncertainty_s: at most so far from the truth, if both ways take less than all of the time
            under way: half of that time, s.
        chunk_bytes: bytes of the chunk.
        there: rate from here to it.
        back: rate from it to here.
        damaged: how many of the chunks came back changed.
    """

    ahead_s: float
    uncertainty_s: float
    chunk_bytes: int
    there: Rate
    back: Rate
    damaged: int


class _Times(Struct, frozen=True, kw_only=True):
    """The four times of one question, UNIX time of the respective clock, s."""

    sent_s: float
    received_s: float
    replied_s: float
    back_s: float
    intact: bool

    @property
    def under_way_s(self) -> float:
        """Time that both ways took, s."""
        return (self.back_s - self.sent_s) - (self.replied_s - self.received_s)

    @property
    def ahead_s(self) -> float:
        """By how much the other clock is ahead if both ways take as long, s."""
        return ((self.received_s - self.sent_s) + (self.replied_s - self.back_s)) / 2.0


def probe(console: Console, board: str) -> Probe:
    """Try the way to a board.

    Raises:
        NotAnswered: it does not answer.
        BoardDeclines: it does not do that.
    """
    best = min(
        (_there_and_back(console, board, b"") for _ in range(CLOCK_TRIES)),
        key=lambda times: times.under_way_s,
    )
    ahead_s, uncertainty_s = best.ahead_s, max(0.0, best.under_way_s / 2.0)
    limit = console.largest_payload() or PROBE_BYTES
    size = min(PROBE_BYTES, max(0, limit - _AROUND_BYTES))
    payload = os.urandom(size * 3 // 4)  # as JSON it is a third larger
    chunks = [_there_and_back(console, board, payload) for _ in range(CHUNK_TRIES)]
    size_bytes = len(encode(Echo(payload=payload)))
    there_s = statistics.median(each.received_s - ahead_s - each.sent_s for each in chunks)
    back_s = statistics.median(each.back_s + ahead_s - each.replied_s for each in chunks)
    return Probe(
        ahead_s=ahead_s,
        uncertainty_s=uncertainty_s,
        chunk_bytes=size_bytes,
        there=_rate(size_bytes, there_s, uncertainty_s),
        back=_rate(size_bytes, back_s, uncertainty_s),
        damaged=sum(not each.intact for each in chunks),
    )


def _there_and_back(console: Console, board: str, payload: bytes) -> _Times:
    before_s, began_s = time.time(), time.monotonic()
    reply = console.ask(board, Echo(payload=payload), CHUNK_S)
    back_s = before_s + time.monotonic() - began_s  # a clock that is set meanwhile does no harm
    if not isinstance(reply, Echoed):
        raise NotAnswered(f"{board} answers with {type(reply).__name__}")
    return _Times(
        sent_s=before_s,
        received_s=reply.received_unix_s,
        replied_s=reply.sent_unix_s,
        back_s=back_s,
        intact=_digest(reply.payload) == _digest(payload),
    )


def _rate(size_bytes: int, duration_s: float, uncertainty_s: float) -> Rate:
    sure = duration_s >= _SURE * uncertainty_s
    longest_s = duration_s if sure else max(duration_s, 0.0) + uncertainty_s
    return Rate(bps=8.0 * size_bytes / max(longest_s, 1e-6), at_least=not sure)


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def try_broker(address: BrokerAddress, fleet: str, timeout_s: float = _KEPT_S) -> tuple[Check, ...]:
    """Whether the broker keeps a message as large as a chunk for who comes later, and forgets it.

    It is published in the coordinator's place to itself, where nobody acts on it.

    Raises:
        BrokerError: the broker cannot be reached.
    """
    small, forgets, _ = _keeps(address, fleet, secrets.token_bytes(8), timeout_s)
    retained = _retained(small, forgets)
    if not small:
        return (retained,)
    large, _, limit = _keeps(address, fleet, os.urandom(PROBE_BYTES), timeout_s)
    return retained, _packets(large, limit)


def _retained(keeps: bool, forgets: bool) -> Check:
    if keeps and forgets:
        return Check(name="retained", status="ok", found="keeps messages, and forgets them")
    found = "does not forget a message" if keeps else "does not keep a message for who comes later"
    return Check(
        name="retained",
        status="failure",
        found=f"the broker {found}: who connects later would not learn what is wanted",
        fix="allow retained messages (mosquitto: retain_available true), and let the coordinator "
        "write and read below its own id",
    )


def _packets(takes: bool, limit: int | None) -> Check:
    fix = (
        "raise its limit (mosquitto: max_packet_size and message_size_limit) to "
        f"{2 * PROBE_BYTES} or more"
    )
    if limit is not None and limit < PROBE_BYTES:
        found = f"the broker takes {limit} B at once: chunks are that small, and transfers slower"
        return Check(name="packets", status="warning", found=found, fix=fix)
    if not takes:
        found = f"the broker drops a message of {PROBE_BYTES} B, as chunks are"
        return Check(name="packets", status="failure", found=found, fix=fix)
    return Check(name="packets", status="ok", found=f"takes chunks of {PROBE_BYTES} B")


def _keeps(
    address: BrokerAddress, fleet: str, payload: bytes, timeout_s: float
) -> tuple[bool, bool, int | None]:
    """Whether a message is given to who comes later, and is forgotten when it is cleared.

    Returns:
        Both, and the largest payload that the broker says that it takes, bytes.
    """
    topic = topics.topic(fleet, COORDINATOR, COORDINATOR, "trial")
    keeps = forgets = False
    link = Link(address, f"{fleet}:writer-{secrets.token_hex(16)}", clean_session=True)
    link.connect(10.0)
    try:
        limit = link.largest_payload(topic)
        link.publish(topic, payload, qos=1, retain=True)
        limit_s = time.monotonic() + timeout_s
        while not keeps and time.monotonic() < limit_s:
            keeps = _read(address, fleet, topic, min(1.0, timeout_s)) == payload
        if keeps:
            link.publish(topic, b"", qos=1, retain=True)
            limit_s = time.monotonic() + timeout_s
            while not forgets and time.monotonic() < limit_s:
                forgets = _read(address, fleet, topic, _NOTHING_S) is None
    finally:
        link.close()
    return keeps, forgets, limit


def _read(address: BrokerAddress, fleet: str, topic: str, timeout_s: float) -> bytes | None:
    """What a new connection is given of a topic; ``None`` for nothing within the time."""
    given: list[bytes] = []
    came = threading.Event()

    def take(_: str, payload: bytes, retained: bool) -> None:
        if retained and payload:
            given.append(payload)
            came.set()

    reader = Link(
        address,
        f"{fleet}:reader-{secrets.token_hex(16)}",
        clean_session=True,
        subscriptions=(topic,),
        on_message=take,
    )
    reader.connect(10.0)
    try:
        came.wait(timeout_s)
    finally:
        reader.close()
    return given[0] if given else None
