"""Child process that runs mosquitto, and ends it when the parent ends or is killed.

Started by :mod:`fimi.messaging.broker.embedded` (:mod:`fimi.children`).
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from fimi.children import when_parent_is_gone
from fimi.messaging.broker.orders import BrokerOrders

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(orders: bytes) -> int:
    """Run mosquitto until it ends, a signal comes or the parent has ended; its exit status."""
    config = msgspec.json.decode(orders, type=BrokerOrders)
    _raise_file_limit()
    user: dict[str, Any] = {}
    if config.account is not None:
        user = dict(zip(("user", "group", "extra_groups"), config.account, strict=True))
    # no other thread runs yet, so a function before exec is safe; it comes after the change of
    # user, at which Linux forgets what it asks for
    broker = subprocess.Popen(
        config.command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent(), **user
    )
    lost = threading.Event()

    def orphaned() -> None:
        lost.set()
        broker.terminate()

    told = threading.Event()

    def end() -> None:
        told.set()
        broker.terminate()

    signal.signal(signal.SIGTERM, lambda *_: end())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # it reads passwords, rules and certificates again
        signal.signal(signal.SIGHUP, lambda *_: broker.send_signal(signal.SIGHUP))
    when_parent_is_gone(orphaned, config.grace_s)
    code = broker.wait()
    if code < 0 and not (told.is_set() or lost.is_set()):
        print(f"Error: mosquitto was ended by {signal.Signals(-code).name}", file=sys.stderr)
    if lost.is_set():
        shutil.rmtree(config.directory, ignore_errors=True)
    return code


def _raise_file_limit() -> None:
    """As many connections as the system allows: each takes a file."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _die_with_parent() -> Callable[[], None] | None:
    """Makes the kernel end mosquitto if this process is killed; ``None`` except on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
