"""A TCP proxy between peers and a broker, whose link can be made as bad as one likes.

::

    with Proxy(("127.0.0.1", 1883)) as proxy:
        ...                                  # peers connect to proxy.address
        proxy.shape(up=LinkShape(rate_bps=2e6))  # a slow link, shared by all connections
        proxy.cut(for_s=0.5)                 # all connections are reset; nobody gets in for 0.5 s
        proxy.freeze("both")                 # nothing moves, nothing is lost, until proxy.thaw()
        proxy.go_silent("up", for_s=20.0)    # half-open: what comes is swallowed
        proxy.disturb(MessageFaults(duplicate=0.1, reorder=0.1))

One thread waits for all sockets (:mod:`fimi.testbed.chaos.connection`); the methods may be called
from any thread and return when they have taken effect. A way of the link is one
:class:`~fimi.testbed.chaos.line.SlowLine` for all connections, as a board's Wi-Fi is.

Where a way is slow, the sender must feel it as on a real one. So a socket of such a proxy offers
packets of Ethernet's size and a small window: on loopback the kernel would otherwise take megabytes
from the sender, in which everything that comes later would wait.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import math
import random
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from fimi.errors import SurroundingsError
from fimi.testbed.chaos.connection import Broken, Connection, Pipe, Way
from fimi.testbed.chaos.frames import FrameCounters, MessageFaults
from fimi.testbed.chaos.line import PIECE_BYTES, LinkShape, SlowLine

Ending = Literal["reset", "close"]

_BACKLOG = 1024
_WINDOW_BYTES = 16 << 10
_LONGEST_WAIT_S = 60.0
_RESET = struct.pack("ii", 1, 0)

Link = SlowLine[tuple[Pipe, bytes]]
Order = Callable[[float], object]


class ProxyError(SurroundingsError):
    """The proxy cannot listen, or its broker's name cannot be found."""

    code = "X009"


class ProxyCounters(Struct):
    """What a proxy has done.

    Attributes:
        accepted: connections that came.
        refused: of them, those that came while nobody was let in, or found no broker.
        cut: connections that it ended.
        silenced: connections that it made half-open.
        bytes_up: bytes passed on to the broker.
        bytes_down: bytes passed on to peers.
        swallowed: bytes swallowed on half-open connections.
    """

    accepted: int = 0
    refused: int = 0
    cut: int = 0
    silenced: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    swallowed: int = 0


class Proxy:
    """A proxy. A context manager; ``start`` and ``close`` do the same.

    Args:
        broker: host and port that it connects to.
        bind: address to listen on.
        port: port to listen on; 0 for a free one.
        up: the way from the peers to the broker.
        down: the way back.
        messages: whether it looks into MQTT, which :meth:`disturb` needs. It costs time, and finds
            nothing where the connection is encrypted.
        slow: whether a way is slow, or will be; by default whether one is now.
        seed: of jitter, and of what happens to messages.
    """

    def __init__(
        self,
        broker: tuple[str, int],
        *,
        bind: str = "127.0.0.1",
        port: int = 0,
        up: LinkShape | None = None,
        down: LinkShape | None = None,
        messages: bool = False,
        slow: bool | None = None,
        seed: int = 0,
    ) -> None:
        self.counters = ProxyCounters()
        self.frames = (FrameCounters(), FrameCounters())
        """What was done to messages, up and down."""
        self._broker, self._where = broker, (bind, port)
        self._up: Link = SlowLine(up or LinkShape(), random.Random(f"{seed} up"))
        self._down: Link = SlowLine(down or LinkShape(), random.Random(f"{seed} down"))
        shaped = any(line.shape.rate_bps is not None for line in (self._up, self._down))
        self._slow = shaped if slow is None else slow
        self._dice = random.Random(f"{seed} messages") if messages else None
        self._faults = MessageFaults()
        self._connections: dict[Connection, None] = {}
        self._waiting: dict[int, dict[Connection, None]] = {id(self._up): {}, id(self._down): {}}
        self._holding: set[Connection] = set()
        self._refuse_until_s = -math.inf
        self._orders: deque[Order] = deque()
        self._timers: list[tuple[float, int, Order]] = []
        self._count = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._listener: socket.socket | None = None
        self._upstream: tuple[socket.AddressFamily, tuple[str, int]] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)

    # From any thread.

    @property
    def address(self) -> tuple[str, int]:
        """Host and port where it listens.

        Raises:
            ProxyError: it has not been started.
        """
        if self._listener is None:
            raise ProxyError("the proxy does not listen yet: start it first")
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    @property
    def connected(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    @property
    def shapes(self) -> tuple[LinkShape, LinkShape]:
        """What the link is like, up and down."""
        return self._up.shape, self._down.shape

    def start(self) -> None:
        """Listen.

        Raises:
            ProxyError: it cannot; says why.
        """
        if self._listener is not None:
            return
        host, port = self._broker
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise ProxyError(f"the broker's host {host!r} cannot be found: {error}") from error
        self._upstream = (found[0], (str(found[4][0]), port))
        bind, port = self._where
        listener = socket.socket(
            socket.AF_INET6 if ":" in bind else socket.AF_INET, socket.SOCK_STREAM
        )
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._be_modest(listener)
            listener.bind((bind, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise ProxyError(
                f"the proxy cannot listen on {bind}:{port} ({error.strerror}); give an address of "
                "this machine and a free port, or port 0"
            ) from error
        listener.setblocking(False)
        self._wake_in.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._woken)
        self._thread.start()

    def close(self) -> None:
        """Reset all connections and end; may be called again."""
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            self._wake()
            self._thread.join()
        self._wake_in.close()
        self._wake_out.close()
        self._selector.close()
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def shape(self, *, up: LinkShape | None = None, down: LinkShape | None = None) -> None:
        """Be another link from now on; a way that is left out stays as it is."""

        def do(now_s: float) -> None:
            for line, shape in ((self._up, up), (self._down, down)):
                if shape is not None:
                    self._move(line, now_s)
                    line.reshape(shape, now_s)
                    self._resume(line)

        self._do(do)

    def cut(self, *, for_s: float = 0.0, how: Ending = "reset") -> int:
        """End all connections, and let nobody in for a time; returns how many there were.

        Args:
            for_s: how long new connections are reset at once, s.
            how: ``"reset"`` as a router that has forgotten them, ``"close"`` as a broker that ends.
        """
        before = self.counters.cut

        def do(now_s: float) -> None:
            self._refuse_until_s = max(self._refuse_until_s, now_s + for_s)
            for each in tuple(self._connections):
                self.counters.cut += 1
                self._end(each, how)

        self._do(do)
        return self.counters.cut - before

    def freeze(self, way: Way = "both") -> None:
        """Let nothing move until :meth:`thaw`, on connections old and new; nothing is lost."""

        def do(now_s: float) -> None:
            for line, name in ((self._up, "up"), (self._down, "down")):
                if way in (name, "both"):
                    self._move(line, now_s)
                    line.freeze(now_s)

        self._do(do)

    def thaw(self) -> None:
        """Let everything move again."""

        def do(now_s: float) -> None:
            for line in (self._up, self._down):
                line.thaw(now_s)
                self._resume(line)

        self._do(do)

    def go_silent(self, way: Way = "both", *, for_s: float = math.inf) -> int:
        """Make the connections of this moment half-open; returns how many there are.

        What comes on the way is acknowledged by TCP and swallowed. When one side closes, the other
        one does not hear of it. New connections work.

        Args:
            way: which is silent.
            for_s: after how long these connections are reset, s; bytes are missing in them.
        """
        before = self.counters.silenced

        def do(now_s: float) -> None:
            silenced = tuple(self._connections)
            for each in silenced:
                self.counters.silenced += 1
                each.silence(way)
                self._attend(each)
            if for_s < math.inf:
                self._at(now_s + for_s, lambda _: self._end_all(silenced))

        self._do(do)
        return self.counters.silenced - before

    def disturb(self, faults: MessageFaults) -> None:
        """Do this to messages from now on, in both ways.

        Raises:
            ValueError: the proxy was made without ``messages``.
        """
        if self._dice is None:
            raise ValueError("a proxy made without messages=True cannot tell messages apart")

        def do(_now_s: float) -> None:
            self._faults = faults
            for each in self._connections:
                each.disturb(faults)

        self._do(do)

    def _do(self, order: Order) -> None:
        """Let the proxy's thread do something, and wait until it has."""
        done = threading.Event()

        def do(now_s: float) -> None:
            try:
                order(now_s)
            finally:
                done.set()

        if not self._thread.is_alive():
            order(time.monotonic())
            return
        self._orders.append(do)
        self._wake()
        while not done.wait(0.5) and self._thread.is_alive():
            pass

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_out.send(b"!")

    # On the proxy's thread.

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        finally:
            for each in tuple(self._connections):
                self._end(each, "reset")

    def _turn(self) -> None:
        wait_s = min(self._next_s() - time.monotonic(), _LONGEST_WAIT_S)
        ready = self._selector.select(max(0.0, wait_s))
        now_s = time.monotonic()
        for key, mask in ready:
            key.data(mask, now_s)
        while self._orders:  # after the bytes that woke it were read: none is overlooked
            self._orders.popleft()(now_s)
        while self._timers and self._timers[0][0] <= now_s:
            heapq.heappop(self._timers)[2](now_s)
        for each in tuple(self._holding):
            self._handle(each, lambda each=each: each.release(now_s))  # type: ignore[misc]
        for line in (self._up, self._down):
            self._move(line, now_s)

    def _next_s(self) -> float:
        times = [self._up.next_s(), self._down.next_s()]
        times += [each.next_s() for each in self._holding]
        if self._timers:
            times.append(self._timers[0][0])
        return min(times)

    def _at(self, when_s: float, do: Order) -> None:
        heapq.heappush(self._timers, (when_s, next(self._count), do))

    def _woken(self, _mask: int, _now_s: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)

    def _be_modest(self, sock: socket.socket) -> None:
        if self._slow:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, PIECE_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW_BYTES)

    def _accept(self, _mask: int, now_s: float) -> None:
        assert self._listener is not None and self._upstream is not None
        for _ in range(_BACKLOG):
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.counters.accepted += 1
            if now_s < self._refuse_until_s:
                self.counters.refused += 1
                _end_socket(client, "reset")
                continue
            family, place = self._upstream
            server = socket.socket(family, socket.SOCK_STREAM)
            for sock in (client, server):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._be_modest(server)
            lines = (self._up, self._down)
            connection = Connection(
                client, server, lines=lines, dice=self._dice, frames=self.frames
            )
            connection.disturb(self._faults)
            self._connections[connection] = None
            if server.connect_ex(place) not in (0, errno.EINPROGRESS):
                self._lose(connection, server)
            else:
                self._attend(connection)

    def _ready(self, connection: Connection, sock: socket.socket, mask: int, now_s: float) -> None:
        def serve() -> None:
            if not connection.is_connected:
                connection.finish_connecting()
                return
            if mask & selectors.EVENT_WRITE:
                connection.into(sock).write()
            if mask & selectors.EVENT_READ:
                self.counters.swallowed += connection.out_of(sock).read(now_s)
                if self._dice is not None and connection.next_s() < math.inf:
                    self._holding.add(connection)

        self._handle(connection, serve)

    def _handle(self, connection: Connection, do: Callable[[], None]) -> None:
        """Do something with a connection that is still there, then see what it waits for."""
        if connection not in self._connections:
            return
        try:
            do()
        except Broken as broken:
            self._lose(connection, broken.sock)
            return
        self._attend(connection)

    def _move(self, line: Link, now_s: float) -> None:
        """Give what has arrived on a way to the sockets."""
        arrived = line.take(now_s)
        for pipe, data in arrived:
            self._handle(pipe.connection, lambda pipe=pipe, data=data: pipe.deliver(data))  # type: ignore[misc]
        if arrived or self._waiting[id(line)]:
            self._resume(line)

    def _resume(self, line: Link) -> None:
        """There may be room again: attend to who waits for it."""
        if line.room_bytes > 0 and (waiting := self._waiting[id(line)]):
            self._waiting[id(line)] = {}
            for each in waiting:
                self._attend(each)

    def _attend(self, connection: Connection) -> None:
        """Wait for what a connection waits for; end it if it is over."""
        if connection not in self._connections:
            return
        self.counters.bytes_up += connection.up.taken_bytes()
        self.counters.bytes_down += connection.down.taken_bytes()
        try:
            connection.pass_ends()
        except Broken as broken:
            self._lose(connection, broken.sock)
            return
        if connection.is_over:
            self._end(connection, "reset" if connection.is_silent else "close")
            return
        if self._holding and connection.next_s() == math.inf:
            self._holding.discard(connection)
        for pipe in (connection.up, connection.down):
            if pipe.waits:
                self._waiting[id(pipe.line)][connection] = None
        for sock, wanted in connection.wanted():
            self._wait_for(connection, sock, wanted)

    def _wait_for(self, connection: Connection, sock: socket.socket, wanted: int) -> None:
        before = connection.waited_for.get(sock, 0)
        if wanted == before:
            return

        def ready(mask: int, now_s: float) -> None:
            self._ready(connection, sock, mask, now_s)

        if not wanted:
            self._selector.unregister(sock)
        elif before:
            self._selector.modify(sock, wanted, ready)
        else:
            self._selector.register(sock, wanted, ready)
        connection.waited_for[sock] = wanted

    def _lose(self, connection: Connection, sock: socket.socket) -> None:
        """A socket has failed: the other side learns it, unless the connection is half-open."""
        if not connection.is_silent:
            self.counters.refused += not connection.is_connected
            self._end(connection, "reset")
            return
        self._wait_for(connection, sock, 0)
        connection.lose(sock)
        _end_socket(sock, "reset")
        self._attend(connection)

    def _end_all(self, connections: tuple[Connection, ...]) -> None:
        for each in connections:
            self._end(each, "reset")

    def _end(self, connection: Connection, how: Ending) -> None:
        if self._connections.pop(connection, self) is self:
            return  # it has ended already
        self._holding.discard(connection)
        for waiting in self._waiting.values():
            waiting.pop(connection, None)
        for sock in (connection.client, connection.server):
            self._wait_for(connection, sock, 0)
            _end_socket(sock, how)


def _end_socket(sock: socket.socket, how: Ending) -> None:
    with contextlib.suppress(OSError):
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
