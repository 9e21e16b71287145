"""The web server on a thread of its own, in the process of a coordinator.

It never hurts the run: where its port is taken it looks for another one, and if it cannot start or
ends by an error, the run goes on without it and says so. Whoever can reach it takes no more of the
process than a few connections and two threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import uvicorn

from fimi.monitor.feed import Feed
from fimi.monitor.server import door
from fimi.monitor.server.access import Access
from fimi.monitor.server.app import app
from fimi.monitor.server.hooks import Hooks
from fimi.monitor.snapshot import Snapshot

log = logging.getLogger(__name__)

CONNECTIONS_MOST = 200
"""Connections at a time; a further one is closed at once. Each takes a file of the coordinator."""
ASKS_S = 10.0
"""How long a connection may be open without having asked for anything, s."""
_QUEUE = 128
"""Connections that are taken in one go, before those that are too many are closed."""
_THREADS = 2
"""For traces, metrics and requests: more would take the coordinator's thread its turns."""
_STARTS_S = 10.0
_ENDS_S = 5.0


class Watched(Protocol):
    """What is looked at: a run, or an experiment."""

    def snapshot(self) -> Snapshot:
        """It as it is now; called on a thread of its own."""


class Dashboard:
    """Serves one run or experiment. A context manager: inside it, it does.

    Args:
        watcher: of it.
        hooks: what the run gives beside snapshots.
        folder: the run's folder, for the file that says where the dashboard is; ``None``: nowhere.
        host: address to listen on.
        port: port to listen on; if it is taken, or 0, a free one.
        say: called with a line for the person at the terminal.
        failed: called, on the server's thread, if it ends by an error: nobody can ask any more.
        keeps_up: whether snapshots are taken now and then while nobody looks: of what adds up, and
            would have all of it to do when the first one comes.

    Attributes:
        url: of the page, with its key; empty while there is none. Where the server listens at all
            addresses, it has the machine's name.
    """

    def __init__(
        self,
        watcher: Watched,
        hooks: Hooks,
        *,
        folder: Path | None,
        host: str = "127.0.0.1",
        port: int = 0,
        say: Callable[[str], None] = lambda text: None,
        failed: Callable[[], None] = lambda: None,
        keeps_up: bool = False,
    ) -> None:
        self._keeps_up = keeps_up
        self._watcher, self._hooks = watcher, hooks
        self._folder, self._host, self._port, self._say = folder, host, port, say
        self._failed = failed
        self._server: uvicorn.Server | None = None
        self._feed: Feed | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self.url = ""

    def __enter__(self) -> Dashboard:
        try:
            self._start()
        except OSError as error:
            self._say(
                f"no dashboard: {self._host} port {self._port}: {error.strerror or error}; the run "
                "goes on without it, and nothing can be asked of it (--dashboard HOST:PORT)"
            )
        return self

    def __exit__(self, *_: object) -> None:
        server, thread = self._server, self._thread
        if self._folder is not None:
            door.take_down(self._folder)
        if server is not None and thread is not None:
            server.should_exit = True
            thread.join(_ENDS_S)
            if thread.is_alive():
                server.force_exit = True
                thread.join(_ENDS_S)
        self.url = ""

    def _start(self) -> None:
        sock = _listening(self._host, self._port)
        port = sock.getsockname()[1]
        access = Access(self._host, port)
        self._feed = Feed(self._watcher.snapshot)
        config = uvicorn.Config(
            app(self._feed, access, self._hooks),
            log_config=None,
            log_level="error",  # what others send is no concern of who runs the coordinator
            access_log=False,
            backlog=_QUEUE,
            lifespan="off",
            timeout_graceful_shutdown=2,
            server_header=False,
            ws="none",
        )
        config.load()
        config.http_protocol_class = _bounded(config.http_protocol_class)
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._run, args=(server, sock), name="dashboard", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(_STARTS_S) or not server.started:
            self._say("no dashboard: it did not start; the run goes on without it")
            return
        near, far = _names(self._host)
        base = f"http://{near}:{port}/"
        self.url = f"http://{far}:{port}/?key={access.key}"
        if self._folder is not None:
            try:
                door.put_up(self._folder, base, access.key)
            except OSError as error:
                self._say(f"{self._folder / door.NAME} cannot be written: {error.strerror}")

    def _run(self, server: uvicorn.Server, sock: socket.socket) -> None:
        try:
            asyncio.run(self._serve(server, sock))
        except BaseException:
            log.exception("the dashboard has ended; the run goes on without it")
            if self._folder is not None:
                door.take_down(self._folder)
            self._failed()
        finally:
            self._ready.set()
            sock.close()

    async def _serve(self, server: uvicorn.Server, sock: socket.socket) -> None:
        assert self._feed is not None
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dashboard")
        asyncio.get_running_loop().set_default_executor(threads)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        self._ready.set()
        keeping = asyncio.create_task(self._feed.keep_up()) if self._keeps_up else None
        while not server.should_exit and not serving.done():
            await asyncio.sleep(0.1)
        if keeping is not None:
            keeping.cancel()
        with contextlib.suppress(Exception):
            await self._feed.close()
        await serving


def _names(host: str) -> tuple[str, str]:
    """How an address is called on this machine, and where a person may be elsewhere."""
    shown = f"[{host}]" if ":" in host else host
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:  # all addresses of this machine: none to open
            return "[::1]" if ":" in host else "127.0.0.1", socket.gethostname()
    return shown, shown


def _bounded(protocol: Any) -> Any:
    """The same protocol, of which not too many connections are open, and none for nothing."""

    class Bounded(protocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS_MOST:
                transport.abort()
            else:
                asyncio.get_running_loop().call_later(ASKS_S, self._close_unasked)

        def _close_unasked(self) -> None:
            if self.cycle is None:
                self.transport.abort()

    return Bounded


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there, or at a free port where that one is taken.

    Raises:
        OSError: it cannot.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_QUEUE)
        sock.setblocking(False)
    except OSError:
        sock.close()
        if port == 0:
            raise
        return _listening(host, 0)
    return sock
