"""The child processes of a dry run, which end with their parent.

They share the modules that are loaded once. A child runs ``main(orders, stop)`` of a module;
``stop`` is set when the parent asks it to end or has died (:mod:`fimi.children`,
:mod:`fimi.fork_server`).
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fimi import children
from fimi.children import Child
from fimi.errors import RunFailedError
from fimi.fork_server import ForkServer
from fimi.testbed import logs

GRACE_S = 8.0
"""How long a child may take to stop before it is killed, s."""
LEFT_OVER_S = GRACE_S + 6.0
"""For how long there may be children of a parent that was killed, s."""


class ChildFailedError(RunFailedError, RuntimeError):
    """A child process ended by itself; the message holds the end of its log.

    Args:
        what: what happened, in one line.
        tail: end of its log.
    """

    code = "R012"

    def __init__(self, what: str, tail: str) -> None:
        last_words = f"; the end of its output:\n{tail}" if tail else " and said nothing"
        super().__init__(what + last_words)
        self.what = what


class Nursery:
    """Starts children; a context manager that ends them all.

    Args:
        log_folder: folder for their output, as ``<name>.log``.
        preload: modules that are loaded once for all children.
    """

    def __init__(self, log_folder: Path, preload: Sequence[str] = ()) -> None:
        self._log_folder = log_folder
        self._server = ForkServer(preload)
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        with self._server:
            children.end(list(self._children.values()), GRACE_S)

    def start(self, name: str, module: str, orders: msgspec.Struct) -> Child:
        """Start a child.

        Args:
            name: name for messages and the log file.
            module: a module with ``main(orders, stop)`` and the type of its orders as ``ORDERS``.
            orders: its orders.
        """
        told = _Orders(
            module=module, orders=msgspec.Raw(msgspec.json.encode(orders)), logs=logs.current()
        )
        child = self._server.start(
            __name__, msgspec.json.encode(told), self._log_folder / f"{name}.log"
        )
        self._children[name] = child
        return child

    def check(self) -> None:
        """Make sure that all children are alive.

        Raises:
            ChildFailedError: one has ended.
        """
        for name, child in self._children.items():
            if (code := child.code) is not None:
                raise ChildFailedError(
                    f"the process {name!r} ended by itself (exit code {code})", child.tail()
                )


class _Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The orders of a child.

    Attributes:
        module: the module whose ``main`` it runs.
        orders: orders for that function.
        logs: its log settings.
    """

    module: str
    orders: msgspec.Raw
    logs: logs.LogSettings


def main(orders: bytes) -> None:
    """Set up the child, then run the ``main`` of its module."""
    told = msgspec.json.decode(orders, type=_Orders)
    logs.set_up(told.logs, child=True)
    stop = threading.Event()
    children.when_parent_is_gone(stop.set, GRACE_S)
    loaded = importlib.import_module(told.module)
    loaded.main(msgspec.json.decode(told.orders, type=loaded.ORDERS), stop)
