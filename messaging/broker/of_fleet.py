"""The broker of a fleet's folder: Mosquitto with the folder's configuration, in a child process.

::

    with FleetBroker(FleetFolder.open(path)) as broker:
        while broker.alive:
            broker.follow()

It keeps what it holds in the folder, and ends with this process. :meth:`FleetBroker.follow` brings
a change of the folder into force:

* Mosquitto reads its files again, at once, without ending connections. Those of revoked passwords
  it ends, and those of revoked certificates can say and hear nothing any more.
* A connection with a certificate that was revoked or replaced stays open all the same, and speaks
  again as soon as its name has credentials. So Mosquitto is ended in order and started again, once
  the folder has been quiet for :data:`QUIET_S`: forty changes are one restart. What it keeps and
  what waits for others is on the disk then; everybody with a valid certificate comes back.

A peer whose credentials have ended cannot say that it is gone. The keeper says it in its place
(:mod:`fimi.messaging.farewell`).

amqtt is no broker for a fleet: it has no access rules, and takes clients without a certificate.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import ssl
import tempfile
import time
from pathlib import Path
from typing import Literal

import msgspec

from fimi import children
from fimi.children import Child
from fimi.files import FileInUse, FileLock
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import (
    START_S,
    find_mosquitto,
    program_version,
    unused_port,
)
from fimi.messaging.broker.orders import BrokerOrders
from fimi.messaging.credentials.folder import FleetFolder, FolderError
from fimi.messaging.credentials.ownership import ROOT_UID, is_root
from fimi.messaging.credentials.settings import CONFIGURATION
from fimi.messaging.errors import BrokerError, BrokerFailed, BrokerMissing, PortTaken
from fimi.messaging.farewell import say_goodbye_for
from fimi.messaging.link import probe

QUIET_S = 2.0
"""So long nothing must have changed in the folder before Mosquitto is started again, s."""
MOST_S = 10.0
"""It is started again after this time at the latest, s, however much changes."""
FAREWELL_S = 1.0
"""So long Mosquitto may take to read its files and to cut who was revoked, s."""
AGAIN_S = 30.0
"""For so long it is tried to start it again, s."""
SAVING_S = 30.0
"""How long Mosquitto may take to write what it keeps when it ends, s."""
_NOISE = ("does not contain '%c' or '%u'", "Loading config file")
"""What Mosquitto says of the rules for all, and of own lines, each time that it reads them."""
_OF_CLIENTS = "OpenSSL Error"
"""What Mosquitto says of each client whose certificate it refuses, too."""
_TRY_S = 2.0
_LOCK_S = 1.0

log = logging.getLogger(__name__)

Followed = Literal["nothing", "reread", "restarted"]
"""What :meth:`FleetBroker.follow` has let Mosquitto do."""


class FleetBroker:
    """A fleet's broker in a child process. A context manager; ``start`` and ``close`` do the same.

    Args:
        folder: of the fleet.

    Raises:
        BrokerMissing: mosquitto is not installed.
    """

    def __init__(self, folder: FleetFolder) -> None:
        program = find_mosquitto()
        if program is None:
            raise BrokerMissing(
                "the broker of a fleet is mosquitto, which is not installed here; install it (for "
                "example 'apt install mosquitto'). amqtt has no access rules and takes clients "
                "without a certificate"
            )
        self.folder = folder
        self.version = program_version(program)
        self._program = program
        self._lock: FileLock | None = None
        self._directory: Path | None = None
        self._child: Child | None = None
        self._seen = self._stamps()
        self._refuses: frozenset[str] = frozenset()  # since Mosquitto was started
        self._changed_s = 0.0
        self._due_s: float | None = None
        self._gone: frozenset[str] = frozenset()  # of whom the broker knows that
        self._farewell_due = True  # for those who were revoked while it was down

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.code is None

    def start(self) -> None:
        """Write its files, start the process, and wait until it lets the keeper in.

        Raises:
            PortTaken: a broker of this folder runs, or another program listens on the port.
            BrokerFailed: it did not start; the message has its output.
            fimi.messaging.credentials.folder.FolderError: the folder is in use, or damaged.
        """
        self._take_lock()
        try:
            with self.folder.changed() as folder:
                folder.write_broker_files()
            self._launch()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process; may be called again."""
        self._end()
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def __enter__(self) -> FleetBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def follow(self) -> Followed:
        """Bring what has changed in the folder into force; to be called a few times a second.

        Raises:
            PortTaken, BrokerFailed, FolderError: as :meth:`start`; it did not start again for
                :data:`AGAIN_S`.
        """
        if self._child is None:
            return "nothing"
        now_s = time.monotonic()
        seen = self._stamps()
        if seen != self._seen:
            self._seen = seen
            self._changed_s = now_s
            self._farewell_due = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGHUP)
            if self._due_s is None and self._has_ended_some():
                self._due_s = now_s + MOST_S
            return "reread"
        if self._due_s is None:
            if self._farewell_due and now_s >= self._changed_s + FAREWELL_S:
                self._farewell_due = False
                self._say_goodbye()
            return "nothing"
        if now_s < min(self._due_s, self._changed_s + QUIET_S):
            return "nothing"
        self._end()
        self._launch_again(now_s + AGAIN_S)
        return "restarted"

    def said(self) -> str:
        """The last errors and warnings of its output."""
        if self._directory is None:
            return ""
        with contextlib.suppress(OSError):
            text = (self._directory / "log").read_text(errors="replace")
            lines = [line for line in text.splitlines() if not any(map(line.__contains__, _NOISE))]
            errors = [line for line in lines if "rror" in line]
            own = [line for line in errors if _OF_CLIENTS not in line]
            return "; ".join((own or errors or lines)[-3:])
        return ""

    def _has_ended_some(self) -> bool:
        """Whether certificates were revoked since Mosquitto was started."""
        try:
            return bool(self.folder.revoked_serials() - self._refuses)
        except FolderError as error:  # Mosquitto goes on with what it has read before
            log.error("%s", error)
            return False

    def _say_goodbye(self) -> None:
        """Say that those are gone who are not let in any more, once for each of them."""
        try:
            decided = FleetFolder.open(self.folder.path).decided
            gone = frozenset(each.name for each in decided.revoked)
            gone -= {peer.name for peer in decided.peers}
            new, self._gone = gone - self._gone, gone
            if new:
                keeper = self.folder.keeper(self.folder.local_host())
                say_goodbye_for(keeper, fleet=decided.fleet, names=sorted(new))
        except (FolderError, BrokerError) as error:  # it is seen as silent, and can be forgotten
            log.warning("who was revoked may be shown as online: %s", error)

    def _take_lock(self) -> None:
        limit_s = time.monotonic() + _LOCK_S
        while True:
            try:
                self._lock = self.folder.run_lock()
                return
            except FileInUse as error:  # for a moment also while a command looks whether it is
                if time.monotonic() > limit_s:
                    raise PortTaken(
                        f"the broker of {self.folder.path} runs already ({error}): end that one"
                    ) from error
                time.sleep(0.05)

    def _launch_again(self, until_s: float) -> None:
        """Start it again; a fleet needs its broker, so what stands in the way may go away."""
        while True:
            try:
                self._launch()
                return
            except (PortTaken, BrokerFailed, FolderError) as error:
                self._end()
                if time.monotonic() > until_s:
                    raise
                log.warning("the broker does not start again yet: %s", error)
                time.sleep(1.0)

    def _launch(self) -> None:
        self._seen, self._due_s = self._stamps(), None
        self._refuses = self.folder.revoked_serials()
        decided = self.folder.decided
        try:
            unused_port(decided.bind or "0.0.0.0", decided.port)
        except PortTaken as error:
            raise PortTaken(
                f"port {decided.port}, which bundles of {self.folder.path} name, is taken by "
                "another program, perhaps the broker of another fleet: end that one "
                f"('ss -ltnp sport = :{decided.port}' names it to root)"
            ) from error
        self._directory = Path(tempfile.mkdtemp(prefix="fimi-broker-"))
        account = self.folder.ownership.account
        changes = is_root() and account is not None and account.uid != ROOT_UID
        orders = BrokerOrders(
            bind=decided.bind,
            port=decided.port,
            username="",
            password="",
            directory=str(self._directory),  # of its log; nothing of the folder is removed
            command=(self._program, "-c", str(self.folder.path.resolve() / CONFIGURATION)),
            grace_s=SAVING_S,
            # ports below 1024 are root's: mosquitto itself changes its user after it has listened
            account=(account.uid, account.gid, account.groups)
            if changes and account is not None and decided.port >= 1024
            else None,
        )
        self._child = children.start(
            "fimi.messaging.broker.mosquitto_main",
            msgspec.json.encode(orders),
            log=self._directory / "log",
        )
        self._await_ready(self.folder.keeper(self.folder.local_host()))

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(SAVING_S)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        """What shows that one of its files was replaced."""
        found = []
        for path in self.folder.read_by_broker():
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns))
            except OSError:
                found.append((0, 0))
        return tuple(found)

    def _await_ready(self, keeper: BrokerAddress) -> None:
        """Wait until whoever has the folder is let in: an orderly client, of which nothing is said.

        Raises:
            BrokerFailed: it does not come to that.
        """
        deadline_s = time.monotonic() + START_S
        problem = ""
        while time.monotonic() < deadline_s:
            if not self.alive:
                raise BrokerFailed(
                    f"mosquitto {self.version} did not start with {self.folder.path}: "
                    f"{self.said() or 'it said nothing'}"
                )
            try:
                probe(keeper, timeout_s=_TRY_S)
                return
            except BrokerError as error:
                cause = error.__cause__
                if isinstance(cause, ssl.SSLCertVerificationError):
                    return  # TLS is spoken; what peers will say of its certificate is theirs
                problem = str(error)
                time.sleep(0.03)
        raise BrokerFailed(
            f"mosquitto {self.version} lets nobody in on port {keeper.port} within "
            f"{START_S:g} s ({problem}); it said: {self.said() or 'nothing'}"
        )
