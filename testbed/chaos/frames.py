"""MQTT packets in a stream of bytes: repeated and put out of order, each one whole.

:class:`FramedTalk` belongs to one connection, and has a :class:`Framer` for each way. It reads
MQTT 3.1, 3.1.1 and 5 as far as it must: the fixed header of every packet, the version in
``CONNECT``, quality of service, packet id and topic alias of ``PUBLISH``. What is no MQTT goes on
as it is.

What is done to ``PUBLISH`` packets keeps the connection valid, so that no side ends it:

* A copy with quality of service 1 or 2 has the id of the packet and the flag *duplicate*. It is
  acknowledged twice; the second acknowledgement is swallowed, because the sender may have given
  the id to another packet by then.
* A copy that comes late is given up when the id is used again. A copy of quality of service 2
  comes at once: after its handshake it would begin another one.
* A packet with a topic alias (MQTT 5) is not held back: what the alias means may change.
* Nothing is held back beyond ``DISCONNECT`` or the end of the stream.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Annotated

from msgspec import Meta, Struct

WHOLE_BYTES = 4 << 20
"""Larger packets are passed on as they come, bytes: nothing is done to them."""

_CONNECT, _PUBLISH, _PUBACK, _PUBREC, _DISCONNECT = 1, 3, 4, 5, 14
_FIRST_UP, _FIRST_DOWN = (0x10,), (0x20, 0xF0)  # CONNECT; CONNACK or AUTH
_DUPLICATE_FLAG = 0x08
_ALIAS = 0x23
_FIXED_SIZES = {0x01: 1, 0x02: 4, 0x23: 2}
"""Sizes of the properties of PUBLISH that have one (MQTT 5, 3.3.2.3); the others say theirs."""


class MessageFaults(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens to published messages.

    Attributes:
        duplicate: the share of them that comes twice.
        reorder: the share of them that later ones overtake.
        depth: how many packets overtake one at most; a late copy comes after as many.
        hold_s: how long one is held back at most, s.
    """

    duplicate: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    reorder: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    depth: Annotated[int, Meta(ge=1, le=1000)] = 3
    hold_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.3


class FrameCounters(Struct):
    """What was done to the packets of one way.

    Attributes:
        published: ``PUBLISH`` packets that came.
        duplicated: copies that were made of them.
        reordered: of them, those that were held back.
    """

    published: int = 0
    duplicated: int = 0
    reordered: int = 0


class _Held(Struct, eq=False):
    """A packet, or a copy, that is held back until others have overtaken it."""

    packet: bytes
    number: int | None
    overtakers: int
    due_s: float
    is_copy: bool


class FramedTalk:
    """The packets of one connection.

    Args:
        dice: decides what happens to which packet.
        counters: where to count, up and down.

    Attributes:
        version: of MQTT, 4 for 3.1.1.
        up: from the client to the broker.
        down: from the broker to the client.
    """

    def __init__(self, dice: random.Random, counters: tuple[FrameCounters, FrameCounters]) -> None:
        self.version = 4
        self.up = Framer(self, dice, counters[0])
        self.down = Framer(self, dice, counters[1])
        self.up.other, self.down.other = self.down, self.up

    def disturb(self, faults: MessageFaults) -> None:
        """Do this to packets of both ways from now on."""
        self.up.faults = self.down.faults = faults


class Framer:
    """One way of a connection.

    Attributes:
        faults: what is to happen to packets from now on.
        counters: what has happened.
        other: the other way.
    """

    other: Framer

    def __init__(
        self, conversation: FramedTalk, dice: random.Random, counters: FrameCounters
    ) -> None:
        self.faults = MessageFaults()
        self.counters = counters
        self._conversation = conversation
        self._dice = dice
        self._buffer = bytearray()
        self._passing = 0  # bytes of a large packet that are still to come
        self._foreign = False  # no MQTT
        self._begun = False
        self._held: list[_Held] = []
        self._due: dict[int, deque[bool]] = {}
        """By packet id, for each acknowledgement to come: whether the sender is to have it."""

    def feed(self, data: bytes | memoryview, now_s: float) -> list[bytes]:
        """Bytes that have come; returns what goes on, in order."""
        if self._foreign:
            return [bytes(data)]
        out: list[bytes] = []
        self._buffer += data
        at, size = 0, self._step(0, out, now_s)
        while size:
            at += size
            size = self._step(at, out, now_s)
        del self._buffer[:at]
        return [each for each in out if each]

    def due(self, now_s: float) -> list[bytes]:
        """What was held back for long enough."""
        out: list[bytes] = []
        for held in [each for each in self._held if each.due_s <= now_s]:
            self._release(held, out)
        return out

    def next_s(self) -> float:
        """When :meth:`due` will have something; infinite for never."""
        return min((held.due_s for held in self._held), default=math.inf)

    def flush(self) -> list[bytes]:
        """Everything that is held back; late copies are given up."""
        out: list[bytes] = []
        held, self._held = self._held, []
        for each in held:
            if not each.is_copy:
                self._emit(each.packet, each.number, True, out)
        return out

    def rest(self) -> list[bytes]:
        """All that is left, where the stream is over: held packets, and half a packet."""
        out = [*self.flush(), bytes(self._buffer)]
        self._buffer.clear()
        return [each for each in out if each]

    def acknowledged(self, number: int) -> bool:
        """The receiver acknowledges a packet id; returns whether the sender is to know."""
        due = self._due.get(number)
        if due is None:
            return True
        through = due.popleft()
        if not due:
            del self._due[number]
        return through

    def _step(self, at: int, out: list[bytes], now_s: float) -> int:
        """Deal with what begins at ``at``; returns its size, 0 if more is needed."""
        buffer = self._buffer
        there = len(buffer) - at
        if not there:
            return 0
        if not self._begun:
            first = _FIRST_UP if self is self._conversation.up else _FIRST_DOWN
            self._foreign = buffer[at] not in first
            self._begun = True
        size = min(self._passing, there)
        if self._foreign:
            size = there
        if size:
            out.append(bytes(buffer[at : at + size]))
            self._passing = max(0, self._passing - size)
            return size
        head = _head(buffer, at)
        if head is None:
            return 0
        begin, body = head
        if body < 0:
            self._foreign = True
            out += self.flush()
            return self._step(at, out, now_s)
        size = begin - at + body
        if size > WHOLE_BYTES:
            out += [*self.flush(), bytes(buffer[at:begin])]
            self._passing = body
            return begin - at
        if size > there:
            return 0
        self._packet(bytes(buffer[at : at + size]), begin - at, out, now_s)
        return size

    def _packet(self, packet: bytes, body: int, out: list[bytes], now_s: float) -> None:
        kind = packet[0] >> 4
        if kind == _PUBLISH:
            self._published(packet, body, out, now_s)
            return
        if kind == _CONNECT:
            self._conversation.version = _version_of(packet, body)
        elif kind == _DISCONNECT:
            out += self.flush()
        elif kind in (_PUBACK, _PUBREC) and len(packet) >= body + 2:
            number = int.from_bytes(packet[body : body + 2], "big")
            if not self.other.acknowledged(number):
                return
        out.append(packet)

    def _published(self, packet: bytes, body: int, out: list[bytes], now_s: float) -> None:
        self.counters.published += 1
        faults, dice = self.faults, self._dice
        quality, number, movable = _publish_parts(packet, body, self._conversation.version)
        if number is not None:  # what has this id goes before it, or not at all
            for held in [each for each in self._held if each.number == number]:
                if held.is_copy:
                    self._held.remove(held)
                else:
                    self._release(held, out)
        overtaken = list(self._held)
        if movable and faults.reorder and dice.random() < faults.reorder:
            self.counters.reordered += 1
            self._hold(packet, number, now_s, is_copy=False)
        else:
            self._emit(packet, number, True, out)
            if faults.duplicate and dice.random() < faults.duplicate:
                copy = packet
                if number is not None:
                    copy = bytes((packet[0] | _DUPLICATE_FLAG,)) + packet[1:]
                if quality < 2 and movable and dice.random() < 0.5:
                    self._hold(copy, number, now_s, is_copy=True)
                else:
                    self.counters.duplicated += 1
                    self._emit(copy, number, False, out)
        for held in overtaken:
            held.overtakers -= 1
            if held.overtakers <= 0:
                self._release(held, out)

    def _hold(self, packet: bytes, number: int | None, now_s: float, *, is_copy: bool) -> None:
        self._held.append(
            _Held(
                packet=packet,
                number=number,
                overtakers=self._dice.randint(1, self.faults.depth),
                due_s=now_s + self.faults.hold_s,
                is_copy=is_copy,
            )
        )

    def _release(self, held: _Held, out: list[bytes]) -> None:
        self._held.remove(held)
        self.counters.duplicated += held.is_copy
        self._emit(held.packet, held.number, not held.is_copy, out)

    def _emit(self, packet: bytes, number: int | None, through: bool, out: list[bytes]) -> None:
        if number is not None:
            self._due.setdefault(number, deque()).append(through)
        out.append(packet)


def _head(buffer: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Where a packet's body begins, and its size; ``None``: more is needed, size -1: no MQTT."""
    size = 0
    for place in range(4):
        where = at + 1 + place
        if where >= len(buffer):
            return None
        size |= (buffer[where] & 0x7F) << (7 * place)
        if not buffer[where] & 0x80:
            return where + 1, size
    return at, -1


def _version_of(packet: bytes, body: int) -> int:
    """The version that CONNECT names; 4 if it is damaged."""
    place = body + 2 + int.from_bytes(packet[body : body + 2], "big")
    return packet[place] if place < len(packet) else 4


def _publish_parts(packet: bytes, body: int, version: int) -> tuple[int, int | None, bool]:
    """Quality of service and packet id of a PUBLISH, and whether it may be held back."""
    quality, number = (packet[0] >> 1) & 3, None
    place = body + 2 + int.from_bytes(packet[body : body + 2], "big")
    if quality:
        number = int.from_bytes(packet[place : place + 2], "big")
        place += 2
    if place > len(packet) or quality == 3:
        return quality, None, False  # damaged: whoever receives it will say so
    return quality, number, version < 5 or not _has_alias(packet, place)


def _has_alias(packet: bytes, place: int) -> bool:
    """Whether the properties at ``place`` name a topic alias; true if they are damaged."""
    head = _head(packet, place - 1)
    if head is None or head[1] < 0 or sum(head) > len(packet):
        return True
    place, end = head[0], sum(head)
    while place < end:
        name = packet[place]
        place += 1
        if name == _ALIAS:
            return True
        if name in _FIXED_SIZES:
            place += _FIXED_SIZES[name]
        elif name == 0x0B:  # a number of variable length
            while place < end and packet[place] & 0x80:
                place += 1
            place += 1
        elif name in (0x03, 0x08, 0x09, 0x26):  # texts and bytes with their sizes; 0x26 has two
            for _ in range(2 if name == 0x26 else 1):
                place += 2 + int.from_bytes(packet[place : place + 2], "big")
        else:
            return True
    return False
