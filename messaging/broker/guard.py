"""Ends a broker's child process when the process that started it ends or is killed.

The parent holds the writing end of the child's standard input. When the parent closes it or dies,
the child reads the end of file and ends itself. If a third process has inherited that end by a
fork, the child still notices that its parent has changed.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable

import msgspec
from msgspec import Struct

POLL_S = 1.0


class ChildConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The child's configuration; the parent writes it as the first line of its standard input.

    Attributes:
        directory: temporary directory; the child removes it if the parent dies.
        command: program to run, for mosquitto.
        bind: IP address to listen on, for amqtt.
        port: TCP port, for amqtt.
        username: user name of all clients, for amqtt.
        password: password of all clients, for amqtt.
    """

    directory: str
    command: tuple[str, ...] = ()
    bind: str = ""
    port: int = 0
    username: str = ""
    password: str = ""


def read_config() -> ChildConfig:
    """The child's configuration."""
    return msgspec.json.decode(sys.stdin.buffer.readline(), type=ChildConfig)


def watch_parent(on_lost: Callable[[], None]) -> None:
    """Call ``on_lost`` once, on another thread, when the parent closes the pipe or dies."""
    parent = os.getppid()
    over = threading.Event()

    def read() -> None:
        while sys.stdin.buffer.read(1):
            pass
        over.set()

    def wait() -> None:
        while not over.wait(POLL_S):
            if os.getppid() != parent:
                break
        on_lost()

    threading.Thread(target=read, name="life-line", daemon=True).start()
    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def remove_directory(directory: str) -> None:
    """Remove the temporary directory; no effect if the parent already has."""
    shutil.rmtree(directory, ignore_errors=True)
