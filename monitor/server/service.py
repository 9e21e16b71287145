"""The web server on a thread of its own, in the process of a coordinator.

It never hurts the run: where its port is taken it looks for another one, and if it cannot start or
ends by an error, the run goes on without it and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import uvicorn

from fimi.monitor.feed import Feed
from fimi.monitor.server import door
from fimi.monitor.server.access import Access, is_loopback
from fimi.monitor.server.app import app
from fimi.monitor.server.hooks import Hooks
from fimi.monitor.snapshot import Snapshot

log = logging.getLogger(__name__)

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""All addresses of a machine, which nobody can open, and the one that its own commands take."""
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
        port: port to listen on; if it is taken on loopback, or 0, a free one.
        say: called with a line for the person at the terminal.

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
    ) -> None:
        self._watcher, self._hooks = watcher, hooks
        self._folder, self._host, self._port, self._say = folder, host, port, say
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
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
            server_header=False,
            ws="none",
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._run, args=(server, sock), name="dashboard", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(_STARTS_S):
            self._say("no dashboard: it did not start; the run goes on without it")
            return
        here = _EVERYWHERE.get(self._host, self._host)
        base = f"http://{_bracketed(here)}:{port}/"
        shown = socket.gethostname() if self._host in _EVERYWHERE else self._host
        self.url = f"http://{_bracketed(shown)}:{port}/?key={access.key}"
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
        finally:
            self._ready.set()
            sock.close()

    async def _serve(self, server: uvicorn.Server, sock: socket.socket) -> None:
        assert self._feed is not None
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        self._ready.set()
        while not server.should_exit and not serving.done():
            await asyncio.sleep(0.1)
        with contextlib.suppress(Exception):
            await self._feed.close()
        await serving


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for tried in dict.fromkeys((port, 0) if is_loopback(host) else (port,)):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, tried))
            sock.listen(128)
            sock.setblocking(False)
        except OSError:
            sock.close()
            if tried == 0 or port == 0 or not is_loopback(host):
                raise
        else:
            return sock
    raise OSError(f"no port of {host}")
