"""One connection through the proxy: two sockets, and a pipe for each way.

A :class:`Pipe` reads from one socket when its line has room, and writes to the other what has
arrived there. Where nothing is shaped, bytes go from socket to socket at once. All methods are
called on the proxy's thread, never wait, and raise :class:`Broken` when a socket fails.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
from collections import deque
from collections.abc import Iterator
from typing import Literal

from fimi.testbed.chaos.frames import FrameCounters, FramedTalk, Framer, MessageFaults
from fimi.testbed.chaos.line import READ_BYTES, SlowLine

Way = Literal["up", "down", "both"]
"""From the peers to the broker, back, or both."""

SINK_BYTES = 256 << 10
"""What waits for a socket that takes nothing, before no more is read from the other one."""


class Broken(Exception):  # noqa: N818
    """A socket has failed: it was reset, or could not be connected.

    Attributes:
        sock: which.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock


class Pipe:
    """One way of a connection.

    Attributes:
        connection: which it is a way of.
        source: socket that is read.
        sink: socket that is written.
        line: the link, shared with other connections.
        is_silent: whether what comes is swallowed.
        has_ended: whether the source has sent all it will.
        was_shut: whether the sink knows that.
    """

    def __init__(
        self,
        connection: Connection,
        source: socket.socket,
        sink: socket.socket,
        line: SlowLine[tuple[Pipe, bytes]],
        framer: Framer | None,
    ) -> None:
        self.connection = connection
        self.source = source
        self.sink = sink
        self.line = line
        self.is_silent = self.has_ended = self.was_shut = False
        self._framer = framer
        self._pending: deque[memoryview] = deque()
        self._pending_bytes = 0
        self._under_way = 0
        self._written_bytes = 0

    @property
    def wants_read(self) -> bool:
        """Whether its source is to be read."""
        if self.has_ended:
            return False
        return self.is_silent or (self._pending_bytes < SINK_BYTES and self.line.room_bytes > 0)

    @property
    def wants_write(self) -> bool:
        """Whether something waits for its sink."""
        return bool(self._pending)

    @property
    def waits(self) -> bool:
        """Whether only the line keeps it from reading, or from passing its end on."""
        return not (self.is_silent or self.was_shut) and self.line.room_bytes <= 0

    def read(self, now_s: float) -> int:
        """Read what the line has room for; returns how many bytes were swallowed."""
        if not self.wants_read:
            return 0
        size = READ_BYTES if self.is_silent else self.line.piece_bytes
        try:
            data = self.source.recv(size)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Broken(self.source) from error
        if not data:
            self.has_ended = True
            if self._framer is not None:
                self._put(self._framer.rest(), now_s)
            return 0
        if self.is_silent:
            return len(data)
        self._put([data] if self._framer is None else self._framer.feed(data, now_s), now_s)
        return 0

    def release(self, now_s: float) -> None:
        """Let go on what was held back for long enough."""
        if self._framer is not None:
            self._put(self._framer.due(now_s), now_s)

    def next_s(self) -> float:
        """When :meth:`release` will have something to do; infinite for never."""
        return float("inf") if self._framer is None else self._framer.next_s()

    def deliver(self, data: bytes) -> None:
        """A piece has arrived over the line."""
        self._under_way -= 1
        if not self.is_silent:
            self._append(data)

    def write(self) -> None:
        """Write what the sink takes."""
        while self._pending:
            first = self._pending[0]
            try:
                size = self.sink.send(first)
            except BlockingIOError:
                return
            except OSError as error:
                raise Broken(self.sink) from error
            self._written_bytes += size
            self._pending_bytes -= size
            if size < len(first):
                self._pending[0] = first[size:]
                return
            self._pending.popleft()

    def pass_end(self) -> None:
        """Tell the sink that the source has ended, once all has been written."""
        if (
            self.has_ended
            and not (self.was_shut or self.is_silent or self._pending or self._under_way)
            and not self.line.is_frozen
        ):
            self.was_shut = True
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError as error:
                raise Broken(self.sink) from error

    def fall_silent(self) -> None:
        """Swallow everything from now on."""
        self.is_silent = True
        self._pending.clear()
        self._pending_bytes = 0

    def taken_bytes(self) -> int:
        """How many bytes the sink has taken since the last call."""
        size, self._written_bytes = self._written_bytes, 0
        return size

    def _put(self, pieces: list[bytes], now_s: float) -> None:
        if self.is_silent:
            return
        for data in pieces:
            if self.line.is_open:
                self._append(data)
                continue
            size = self.line.piece_bytes
            for at in range(0, len(data), size):
                piece = data[at : at + size]
                self._under_way += 1
                self.line.put((self, piece), len(piece), now_s)

    def _append(self, data: bytes) -> None:
        self._pending.append(memoryview(data))
        self._pending_bytes += len(data)
        if len(self._pending) == 1:
            self.write()


class Connection:
    """One connection.

    Args:
        client: socket of the peer.
        server: socket to the broker; it is being connected.
        lines: the link, up and down.
        dice: decides what happens to messages; ``None``: it does not look into MQTT.
        frames: where to count what happens to them, up and down.

    Attributes:
        up: from the peer to the broker.
        down: back.
        is_connected: whether there is a broker at the other end.
        waited_for: by socket, what the proxy waits for.
    """

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        *,
        lines: tuple[SlowLine[tuple[Pipe, bytes]], SlowLine[tuple[Pipe, bytes]]],
        dice: random.Random | None,
        frames: tuple[FrameCounters, FrameCounters],
    ) -> None:
        self.client = client
        self.server = server
        self.is_connected = False
        self.waited_for: dict[socket.socket, int] = {}
        self._gone: set[socket.socket] = set()
        self._talk = None if dice is None else FramedTalk(dice, frames)
        up, down = (None, None) if self._talk is None else (self._talk.up, self._talk.down)
        self.up = Pipe(self, client, server, lines[0], up)
        self.down = Pipe(self, server, client, lines[1], down)

    @property
    def is_silent(self) -> bool:
        """Whether it is half-open."""
        return self.up.is_silent or self.down.is_silent

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come of it."""
        if self.is_silent:
            return self.up.has_ended and self.down.has_ended
        return self.up.was_shut and self.down.was_shut

    def out_of(self, sock: socket.socket) -> Pipe:
        """The pipe that reads from a socket."""
        return self.up if sock is self.client else self.down

    def into(self, sock: socket.socket) -> Pipe:
        """The pipe that writes to a socket."""
        return self.down if sock is self.client else self.up

    def wanted(self) -> Iterator[tuple[socket.socket, int]]:
        """For each socket, what to wait for."""
        for sock in (self.client, self.server):
            if sock in self._gone:
                continue
            if not self.is_connected:
                yield sock, selectors.EVENT_WRITE if sock is self.server else 0
                continue
            read = selectors.EVENT_READ if self.out_of(sock).wants_read else 0
            yield sock, read | (selectors.EVENT_WRITE if self.into(sock).wants_write else 0)

    def finish_connecting(self) -> None:
        """The broker has answered, or has not."""
        if error := self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise Broken(self.server) from OSError(error, os.strerror(error))
        self.is_connected = True

    def silence(self, way: Way) -> None:
        """Be half-open: swallow what comes on this way."""
        for pipe, name in ((self.up, "up"), (self.down, "down")):
            if way in (name, "both"):
                pipe.fall_silent()

    def lose(self, sock: socket.socket) -> None:
        """A socket of a half-open connection has failed; the other side is not to know."""
        self._gone.add(sock)
        self.out_of(sock).has_ended = True
        self.into(sock).fall_silent()

    def disturb(self, faults: MessageFaults) -> None:
        """Do this to its messages from now on."""
        if self._talk is not None:
            self._talk.disturb(faults)

    def release(self, now_s: float) -> None:
        """Let go on what was held back for long enough."""
        self.up.release(now_s)
        self.down.release(now_s)

    def next_s(self) -> float:
        """When :meth:`release` will have something to do."""
        return min(self.up.next_s(), self.down.next_s())

    def pass_ends(self) -> None:
        """Tell each side that the other one has ended."""
        self.up.pass_end()
        self.down.pass_end()
